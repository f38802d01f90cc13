// A snapshot: everything from which a worker builds a configuration without reading anything itself. The master makes
// it once per reload, seals its bytes in a memfd and sends that with the descriptors it speaks of. Descriptors travel
// in one fixed order: the memfd, then one per listen, log (but standard error), zone and secret, as listed here.
// Immutable; building a configuration from it is a pure function.
using System.Text;
using Weir.Kernel;

namespace Weir.Process;

/// <summary>A name that the master looked up, and what it got.</summary>
public sealed record ResolvedName(string Name, IReadOnlyList<SocketAddress> Addresses);

/// <summary>The content of a snapshot.</summary>
public sealed record Snapshot
{
    private const uint Magic = 0x53524957; // "WIRS"

    private const int FormatVersion = 1;

    public uint Generation { get; init; }

    public required string ConfPath { get; init; }

    public required string Prefix { get; init; }

    /// <summary>The text of -g.</summary>
    public string GlobalText { get; init; } = "";

    /// <summary>Every file, failure and glob result as the configuration's recording source serialised them.</summary>
    public byte[] Files { get; init; } = [];

    public IReadOnlyList<ResolvedName> Names { get; init; } = [];

    public ProcessSettings Settings { get; init; } = new();

    public IReadOnlyList<ListenSpec> Listens { get; init; } = [];

    /// <summary>Every log file of the configuration, those of <see cref="ErrorLogs"/> included.</summary>
    public IReadOnlyList<LogSpec> Logs { get; init; } = [];

    /// <summary>The main context's error_log.</summary>
    public IReadOnlyList<ErrorLogSpec> ErrorLogs { get; init; } = [];

    public IReadOnlyList<ZoneSpec> Zones { get; init; } = [];

    public IReadOnlyList<SecretSpec> Secrets { get; init; } = [];

    /// <summary>How many descriptors travel beside the memfd.</summary>
    public int DescriptorCount =>
        Listens.Count + Logs.Count(log => !log.IsStandardError) + Zones.Count + Secrets.Count;

    public byte[] Serialize()
    {
        var w = new SnapshotWriter();
        w.Int(Magic);
        w.Int(FormatVersion);
        w.Int(Generation);
        w.Text(ConfPath);
        w.Text(Prefix);
        w.Text(GlobalText);
        w.Bytes(Files);
        w.List(Names, static (w, name) =>
        {
            w.Text(name.Name);
            w.List(name.Addresses, static (w, address) => w.Bytes(address.Native));
        });
        WriteSettings(w, Settings);
        w.List(Listens, WriteListen);
        w.List(Logs, static (w, log) => w.Text(log.Path));
        w.List(ErrorLogs, WriteErrorLog);
        w.List(Zones, static (w, zone) =>
        {
            w.Text(zone.Name);
            w.Int(zone.SizeBytes);
            w.Int((long)zone.LayoutId);
        });
        w.List(Secrets, static (w, secret) => w.Text(secret.Path));
        return w.ToArray();
    }

    /// <summary>
    /// Reads what <see cref="Serialize"/> wrote; throws on anything else (the peer is our own master).
    /// </summary>
    public static Snapshot Deserialize(byte[] bytes)
    {
        var r = new SnapshotReader(bytes);
        if (r.Int() != Magic || r.Int() != FormatVersion)
        {
            throw new InvalidDataException("the snapshot is of another format");
        }
        return new Snapshot
        {
            Generation = (uint)r.Int(),
            ConfPath = r.Text(),
            Prefix = r.Text(),
            GlobalText = r.Text(),
            Files = r.Bytes().ToArray(),
            Names = r.List(static r => new ResolvedName(
                r.Text(), r.List(static r => SocketAddress.FromNative(r.Bytes())))),
            Settings = ReadSettings(r),
            Listens = r.List(ReadListen),
            Logs = r.List(static r => new LogSpec(r.Text())),
            ErrorLogs = r.List(ReadErrorLog),
            Zones = r.List(static r => new ZoneSpec(r.Text(), r.Int(), (ulong)r.Int())),
            Secrets = r.List(static r => new SecretSpec(r.Text())),
        };
    }

    private static void WriteSettings(SnapshotWriter w, ProcessSettings s)
    {
        w.Text(s.UserName ?? "");
        w.Int(s.UserId);
        w.Int(s.GroupId);
        w.Int(s.KeepsNetRaw ? 1 : 0);
        w.Int(s.OpenFilesMax);
        w.Int(s.CoreBytesMax);
        w.Int(s.Priority);
        w.Text(s.WorkingDirectory ?? "");
        w.Int(s.WorkerCount);
        w.Int(s.ShutdownTimeoutMs);
    }

    private static ProcessSettings ReadSettings(SnapshotReader r) => new()
    {
        UserName = r.Text() is { Length: > 0 } user ? user : null,
        UserId = (uint)r.Int(),
        GroupId = (uint)r.Int(),
        KeepsNetRaw = r.Int() != 0,
        OpenFilesMax = r.Int(),
        CoreBytesMax = r.Int(),
        Priority = (int)r.Int(),
        WorkingDirectory = r.Text() is { Length: > 0 } directory ? directory : null,
        WorkerCount = (int)r.Int(),
        ShutdownTimeoutMs = r.Int(),
    };

    private static void WriteErrorLog(SnapshotWriter w, ErrorLogSpec log)
    {
        w.Int((long)log.Level);
        w.Text(log.File?.Path ?? "");
        w.Bytes(log.Syslog is null ? [] : log.Syslog.Server.Native);
        if (log.Syslog is { } syslog)
        {
            w.Int(syslog.Facility);
            w.Text(syslog.Tag);
            w.Int(syslog.WithHostName ? 1 : 0);
        }
    }

    private static ErrorLogSpec ReadErrorLog(SnapshotReader r)
    {
        var level = (LogLevel)r.Int();
        string path = r.Text();
        ReadOnlySpan<byte> server = r.Bytes();
        SyslogTarget? syslog = server.IsEmpty ? null : new SyslogTarget
        {
            Server = SocketAddress.FromNative(server),
            Facility = (int)r.Int(),
            Tag = r.Text(),
            WithHostName = r.Int() != 0,
        };
        return new ErrorLogSpec(level, path.Length > 0 ? new LogSpec(path) : null, syslog);
    }

    private static void WriteListen(SnapshotWriter w, ListenSpec l)
    {
        w.Bytes(l.Address.Native);
        w.Int((l.Datagram ? 1 : 0) | (l.ReusePort ? 2 : 0) | (l.DeferAccept ? 4 : 0) | (l.Ipv6Only ? 8 : 0)
            | (l.Multipath ? 16 : 0) | ((int)l.KeepAlive << 8));
        w.Int(l.Backlog);
        w.Int(l.ReceiveBufferBytes);
        w.Int(l.SendBufferBytes);
        w.Int(l.KeepIdleSeconds);
        w.Int(l.KeepIntervalSeconds);
        w.Int(l.KeepCount);
        w.Int(l.FastOpenQueue);
    }

    private static ListenSpec ReadListen(SnapshotReader r)
    {
        SocketAddress address = SocketAddress.FromNative(r.Bytes());
        int flags = (int)r.Int();
        return new ListenSpec
        {
            Address = address,
            Datagram = (flags & 1) != 0,
            ReusePort = (flags & 2) != 0,
            DeferAccept = (flags & 4) != 0,
            Ipv6Only = (flags & 8) != 0,
            Multipath = (flags & 16) != 0,
            KeepAlive = (ListenKeepAlive)(flags >> 8),
            Backlog = (int)r.Int(),
            ReceiveBufferBytes = (int)r.Int(),
            SendBufferBytes = (int)r.Int(),
            KeepIdleSeconds = (int)r.Int(),
            KeepIntervalSeconds = (int)r.Int(),
            KeepCount = (int)r.Int(),
            FastOpenQueue = (int)r.Int(),
        };
    }
}

/// <summary>Integers of eight bytes, byte strings and texts with their length before them.</summary>
internal sealed class SnapshotWriter
{
    private readonly MemoryStream _bytes = new();

    public void Int(long value)
    {
        Span<byte> eight = stackalloc byte[8];
        BitConverter.TryWriteBytes(eight, value);
        _bytes.Write(eight);
    }

    public void Bytes(ReadOnlySpan<byte> bytes)
    {
        Int(bytes.Length);
        _bytes.Write(bytes);
    }

    public void Text(string text) => Bytes(Encoding.UTF8.GetBytes(text));

    public void List<T>(IReadOnlyList<T> items, Action<SnapshotWriter, T> write)
    {
        Int(items.Count);
        foreach (T item in items)
        {
            write(this, item);
        }
    }

    public byte[] ToArray() => _bytes.ToArray();
}

/// <summary>Reads what <see cref="SnapshotWriter"/> wrote; every length is checked.</summary>
internal sealed class SnapshotReader(byte[] bytes)
{
    private readonly byte[] _bytes = bytes;
    private int _at;

    public long Int() => BitConverter.ToInt64(Take(8));

    public ReadOnlySpan<byte> Bytes() => Take(Int());

    public string Text() => Encoding.UTF8.GetString(Bytes());

    public T[] List<T>(Func<SnapshotReader, T> read)
    {
        long count = Int();
        if (count < 0 || count > _bytes.Length)
        {
            throw new InvalidDataException("the snapshot has a list of impossible length");
        }
        var items = new T[count];
        for (int i = 0; i < items.Length; i++)
        {
            items[i] = read(this);
        }
        return items;
    }

    private ReadOnlySpan<byte> Take(long count)
    {
        if (count < 0 || count > _bytes.Length - _at)
        {
            throw new InvalidDataException("the snapshot ends too early");
        }
        ReadOnlySpan<byte> taken = _bytes.AsSpan(_at, (int)count);
        _at += (int)count;
        return taken;
    }
}
