// The master's resources of a build: nothing is opened, everything that was asked for is remembered, and becomes the
// snapshot's list of what the master opens. Names are resolved here, once, for all workers.
using Weir.Http;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Process;
using Weir.Server;
using Weir.Zones;
using SocketAddress = Weir.Kernel.SocketAddress;

namespace Weir;

internal sealed class CollectResources(string prefix, string confPrefix, IReadOnlyList<ResolvedName> known)
    : IBuildResources
{
    private readonly Dictionary<string, SocketAddress[]> _names = [];

    public List<LogSpec> Logs { get; } = [];
    public List<ZoneSpec> Zones { get; } = [];
    public List<DirectorySpec> Directories { get; } = [];
    public List<SecretContent> Secrets { get; } = [];

    public IReadOnlyList<ResolvedName> Names => [.. _names.Select(static n => new ResolvedName(n.Key, n.Value))];

    public string Prefix { get; } = prefix;
    public string ConfPrefix { get; } = confPrefix;
    public string TempPrefix => "/tmp";
    public CounterSlots? Counters => null;

    public int LogDescriptor(LogSpec spec)
    {
        if (!Logs.Contains(spec))
        {
            Logs.Add(spec);
        }
        return -1;
    }

    public Zone? Zone(ZoneSpec spec)
    {
        if (!Zones.Contains(spec))
        {
            Zones.Add(spec);
        }
        return null;
    }

    public void NeedDirectory(string path)
    {
        var spec = new DirectorySpec(path);
        if (!Directories.Contains(spec))
        {
            Directories.Add(spec);
        }
    }

    public SocketAddress[]? Resolve(string host, int port, out string? error)
    {
        string name = $"{host}:{port}";
        SocketAddress[]? found = known.FirstOrDefault(k => k.Name == name) is { } before ? [.. before.Addresses] : null;
        error = null;
        found ??= HostNames.Resolve(host, port, out error);
        if (found is not null)
        {
            _names[name] = found;
        }
        return found;
    }

    public byte[]? ReadFile(string path, out string? error)
    {
        Sys.Status(path, out FileStatus seen);
        byte[]? bytes = OwnResources.Read(path, out error);
        if (bytes is not null && !Secrets.Exists(s => s.Spec.Path == path))
        {
            Secrets.Add(new SecretContent(new SecretSpec(path), bytes, seen));
        }
        return bytes;
    }
}

/// <summary>A worker's resources of a build: the snapshot answers, nothing is read or resolved.</summary>
internal sealed class SnapshotResources(WorkerSnapshot snapshot, string confPrefix,
    CounterSlots counters, ZoneOwner owner) : IBuildResources
{
    public string Prefix => snapshot.Content.Prefix;
    public string ConfPrefix { get; } = confPrefix;
    public string TempPrefix => "/tmp";
    public CounterSlots? Counters { get; } = counters;
    public ZoneOwner Owner { get; } = owner;

    // The master that began to count is part of it: after an upgrade another one counts.
    public ulong Stamp => ((ulong)Counters!.CreatedUnixMs << 20) + snapshot.Generation;

    public int LogDescriptor(LogSpec spec) => spec.IsStandardError ? 2 : snapshot.LogDescriptor(spec.Path);

    public Zone? Zone(ZoneSpec spec) => snapshot.FindZone(spec);

    public void NeedDirectory(string path)
    {
    }

    public SocketAddress[]? Resolve(string host, int port, out string? error)
    {
        string key = $"{host}:{port}";
        foreach (ResolvedName name in snapshot.Content.Names)
        {
            if (name.Name == key)
            {
                error = null;
                return [.. name.Addresses];
            }
        }
        error = "host not found";
        return null;
    }

    public byte[]? ReadFile(string path, out string? error)
    {
        ReadOnlySpan<byte> secret = snapshot.Secret(path);
        error = secret.IsEmpty ? $"open() \"{path}\" failed (2: No such file or directory)" : null;
        return secret.IsEmpty ? null : secret.ToArray();
    }
}
