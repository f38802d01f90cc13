// A `server` line of a group: what the configuration, a state file or the API says of a server, and its form in a zone.
// An immutable value; one line may lead to several peers (a name with several addresses). Texts are Latin-1.
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Weir.Kernel;

namespace Weir.Session.Upstream;

/// <summary>One `server` of a group.</summary>
public sealed record ServerLine
{
    public const int TextBytesMax = 1024;

    private const int FixedBytes = 40;

    /// <summary>The byte of the form in a zone that says that all of it is there.</summary>
    internal const int WholeAt = 36;

    [Flags]
    private enum Bits
    {
        Backup = 1,
        Down = 2,
        Drain = 4,
        Named = 8,
    }

    public int Id { get; init; }

    /// <summary>Address and port, or for a name that is looked up while running the name and its port.</summary>
    public required string Server { get; init; }

    /// <summary>The server as it was written down: what hashing places it by, and what is shown as its name.</summary>
    public required string Name { get; init; }

    /// <summary>`service=`: service records of this service lead to the servers; empty for none.</summary>
    public string Service { get; init; } = "";
    public string Route { get; init; } = "";
    public int Weight { get; init; } = 1;
    public int ConnectionsMax { get; init; }
    public int FailsMax { get; init; } = 1;
    public long FailTimeoutSec { get; init; } = 10;
    public long SlowStartMs { get; init; }
    public bool IsBackup { get; init; }
    public bool IsDown { get; init; }
    public bool IsDraining { get; init; }

    /// <summary>The addresses are looked up while running (`resolve`).</summary>
    public bool IsNamed { get; init; }

    /// <summary>The line as a state file has it.</summary>
    public string ToConf()
    {
        var text = new StringBuilder("server ");
        text.Append(Quoted(Server));
        void Number(string name, long value, long usual, string unit = "")
        {
            if (value != usual)
            {
                text.Append(CultureInfo.InvariantCulture, $" {name}={value}{unit}");
            }
        }
        Number("weight", Weight, 1);
        Number("max_conns", ConnectionsMax, 0);
        Number("max_fails", FailsMax, 1);
        Number("fail_timeout", FailTimeoutSec, 10, "s");
        Number("slow_start", SlowStartMs, 0, "ms");
        text.Append(Service.Length > 0 ? " " + Quoted("service=" + Service) : "");
        text.Append(Route.Length > 0 ? " " + Quoted("route=" + Route) : "");
        text.Append(IsNamed ? " resolve" : "").Append(IsBackup ? " backup" : "").Append(IsDown ? " down" : "");
        return text.Append(IsDraining ? " drain" : "").Append(";\n").ToString();
    }

    private static string Quoted(string text) =>
        text.Length > 0 && text.AsSpan().IndexOfAny(" \t\r\n;{}\"'\\#") < 0 && !text.Contains('$') ? text
            : "\"" + text.Replace("\\", "\\\\", StringComparison.Ordinal).Replace("\"", "\\\"",
                StringComparison.Ordinal) + "\"";

    // The form in a zone.

    internal int EncodedBytes => FixedBytes + 8 + Server.Length + Name.Length + Service.Length + Route.Length;

    internal void Encode(Span<byte> to)
    {
        BinaryPrimitives.WriteInt32LittleEndian(to, Id);
        BinaryPrimitives.WriteInt32LittleEndian(to[4..], Weight);
        BinaryPrimitives.WriteInt32LittleEndian(to[8..], ConnectionsMax);
        BinaryPrimitives.WriteInt32LittleEndian(to[12..], FailsMax);
        BinaryPrimitives.WriteInt64LittleEndian(to[16..], FailTimeoutSec);
        BinaryPrimitives.WriteInt64LittleEndian(to[24..], SlowStartMs);
        Bits bits = (IsBackup ? Bits.Backup : 0) | (IsDown ? Bits.Down : 0) | (IsDraining ? Bits.Drain : 0)
            | (IsNamed ? Bits.Named : 0);
        BinaryPrimitives.WriteInt32LittleEndian(to[32..], (int)bits);
        int at = FixedBytes;
        foreach (string text in (ReadOnlySpan<string>)[Server, Name, Service, Route])
        {
            BinaryPrimitives.WriteUInt16LittleEndian(to[at..], (ushort)text.Length);
            at += 2 + Encoding.Latin1.GetBytes(text, to[(at + 2)..]);
        }
    }

    internal static ServerLine Decode(ReadOnlySpan<byte> from)
    {
        string[] texts = ["", "", "", ""];
        int at = FixedBytes;
        for (int i = 0; i < texts.Length && at + 2 <= from.Length; i++)
        {
            int length = Math.Min(BinaryPrimitives.ReadUInt16LittleEndian(from[at..]), from.Length - at - 2);
            texts[i] = Encoding.Latin1.GetString(from.Slice(at + 2, length));
            at += 2 + length;
        }
        var bits = (Bits)BinaryPrimitives.ReadInt32LittleEndian(from[32..]);
        return new ServerLine
        {
            Id = BinaryPrimitives.ReadInt32LittleEndian(from),
            Weight = BinaryPrimitives.ReadInt32LittleEndian(from[4..]),
            ConnectionsMax = BinaryPrimitives.ReadInt32LittleEndian(from[8..]),
            FailsMax = BinaryPrimitives.ReadInt32LittleEndian(from[12..]),
            FailTimeoutSec = BinaryPrimitives.ReadInt64LittleEndian(from[16..]),
            SlowStartMs = BinaryPrimitives.ReadInt64LittleEndian(from[24..]),
            IsBackup = (bits & Bits.Backup) != 0,
            IsDown = (bits & Bits.Down) != 0,
            IsDraining = (bits & Bits.Drain) != 0,
            IsNamed = (bits & Bits.Named) != 0,
            Server = texts[0],
            Name = texts[1],
            Service = texts[2],
            Route = texts[3],
        };
    }

    // Peers.

    /// <summary>The line as the template of the peers it leads to, at an address or (empty) still at none.</summary>
    /// <param name="address">The native sockaddr.</param>
    /// <param name="store">Puts texts where they live as long as the group.</param>
    /// <param name="checksFirst">New servers have to pass a check before they serve.</param>
    public PeerSpec ToSpec(byte[] address, Func<string, NativeSlice> store, bool checksFirst) => new()
    {
        Id = Id,
        Line = this,
        Address = address,
        Name = IsNamed ? default : store(Server),
        Weight = Weight,
        ConnectionsMax = ConnectionsMax,
        FailsMax = FailsMax,
        FailTimeoutSec = FailTimeoutSec,
        Down = IsDown,
        Drain = IsDraining,
        SlowStartMs = SlowStartMs,
        Route = Route.Length == 0 ? default : store(Route),
        Server = store(Name),
        MustPassCheck = checksFirst,
    };
}
