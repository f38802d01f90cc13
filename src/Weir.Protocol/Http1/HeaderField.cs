// One header field as offsets into the bytes of its head, and the hash by which names are compared. The bytes belong
// to whoever holds the head; nothing here keeps a reference to them.
namespace Weir.Protocol.Http1;

/// <summary>A header field: where its name and value stand in the head's bytes.</summary>
public struct HeaderField
{
    public int NameStart;
    public int NameLength;
    public int ValueStart;
    public int ValueLength;
    /// <summary><see cref="HeaderName.Hash"/> of the name.</summary>
    public uint Hash;
    /// <summary>Index of the next field with the same known name, or 0.</summary>
    internal ushort NextSame;
    /// <summary>A <see cref="KnownHeader"/> in a request, a <see cref="KnownResponseHeader"/> in a response.</summary>
    public byte KnownId;
    /// <summary>The name is unusual and the field is to be treated as absent (and logged).</summary>
    public bool Dropped;

    public readonly KnownHeader Known => (KnownHeader)KnownId;
    public readonly KnownResponseHeader KnownResponse => (KnownResponseHeader)KnownId;

    public readonly ReadOnlySpan<byte> Name(ReadOnlySpan<byte> head) => head.Slice(NameStart, NameLength);
    public readonly ReadOnlySpan<byte> Value(ReadOnlySpan<byte> head) => head.Slice(ValueStart, ValueLength);

    /// <summary>Where the whole line (name to end of value) stands, for logs.</summary>
    public readonly ReadOnlySpan<byte> Line(ReadOnlySpan<byte> head) =>
        head[NameStart..(ValueLength == 0 ? ValueStart : ValueStart + ValueLength)];
}

/// <summary>A range of a head's bytes.</summary>
public readonly record struct TextRange(int Start, int Length)
{
    public int End => Start + Length;
    public bool IsEmpty => Length == 0;
    public ReadOnlySpan<byte> Of(ReadOnlySpan<byte> bytes) => bytes.Slice(Start, Length);
}

/// <summary>Hashing and comparing of header names, which are ASCII and case-insensitive.</summary>
public static class HeaderName
{
    /// <summary>The hash of a name, letters taken as lower case.</summary>
    public static uint Hash(ReadOnlySpan<byte> name)
    {
        uint hash = 0;
        foreach (byte c in name)
        {
            hash = System.Numerics.BitOperations.RotateLeft(hash, 5) ^ Lower(c);
        }
        return hash;
    }

    /// <summary>ASCII letters to lower case, everything else unchanged.</summary>
    public static byte Lower(byte c) => (uint)(c - 'A') <= 'Z' - 'A' ? (byte)(c | 0x20) : c;

    /// <summary>Whether two names (or tokens) are equal without regard to ASCII case.</summary>
    public static bool Same(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b) =>
        a.Length == b.Length && System.Text.Ascii.EqualsIgnoreCase(a, b);

    /// <summary>A request header name (any case) as a known header.</summary>
    public static KnownHeader Find(ReadOnlySpan<byte> name) => (KnownHeader)KnownNames.Request.Find(name, Hash(name));

    /// <summary>A response header name (any case) as a known header.</summary>
    public static KnownResponseHeader FindResponse(ReadOnlySpan<byte> name) =>
        (KnownResponseHeader)KnownNames.Response.Find(name, Hash(name));
}
