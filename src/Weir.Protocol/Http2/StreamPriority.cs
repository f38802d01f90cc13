// A stream's priority (RFC 9218 §4): an urgency and whether its response is worth something piece by piece. Read from a
// priority header or a PRIORITY_UPDATE frame; what cannot be read leaves the defaults. A value, any thread.
namespace Weir.Protocol.Http2;

/// <summary>Urgency (0 first, 7 last) and incremental delivery.</summary>
public readonly struct StreamPriority(byte urgency, bool incremental)
{
    public const byte UrgencyDefault = 3;

    /// <summary>What a stream has that says nothing.</summary>
    public static StreamPriority Default => new(UrgencyDefault, false);

    public byte Urgency { get; } = urgency;
    public bool Incremental { get; } = incremental;

    /// <summary>Reads a structured dictionary as far as it is one that matters here: "u=0" to "u=7", "i", "i=?0",
    /// "i=?1"; later members win, unknown members and values out of range are ignored.</summary>
    public static StreamPriority Parse(ReadOnlySpan<byte> text)
    {
        byte urgency = UrgencyDefault;
        bool incremental = false;
        while (!text.IsEmpty)
        {
            int comma = text.IndexOf((byte)',');
            ReadOnlySpan<byte> member = (comma < 0 ? text : text[..comma]).Trim(" \t"u8);
            text = comma < 0 ? default : text[(comma + 1)..];
            int parameters = member.IndexOf((byte)';');
            if (parameters >= 0)
            {
                member = member[..parameters];
            }
            if (member.Length == 3 && member.StartsWith("u="u8) && member[2] is >= (byte)'0' and <= (byte)'7')
            {
                urgency = (byte)(member[2] - '0');
            }
            else if (member.SequenceEqual("i"u8) || member.SequenceEqual("i=?1"u8))
            {
                incremental = true;
            }
            else if (member.SequenceEqual("i=?0"u8))
            {
                incremental = false;
            }
        }
        return new StreamPriority(urgency, incremental);
    }
}
