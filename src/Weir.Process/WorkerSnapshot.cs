// A snapshot on the worker's side: its content with living descriptors. Numbers of what stays over a reload do not
// change: a listening socket, a log or a zone that the worker already has is the same number and mapping as before.
// Disposed by the program when nothing uses the snapshot any more; loop thread only.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Process;

/// <summary>What a configuration is built from in a worker.</summary>
public sealed class WorkerSnapshot : IDisposable
{
    private readonly WorkerDescriptors _owner;
    private readonly Dictionary<ListenSpec, int[]> _listens;
    private readonly Dictionary<ZoneSpec, Zone> _zones;
    private readonly Dictionary<string, byte[]> _secrets;

    internal WorkerSnapshot(
        WorkerDescriptors owner,
        Snapshot content,
        Dictionary<ListenSpec, int[]> listens,
        Dictionary<ZoneSpec, Zone> zones,
        Dictionary<string, byte[]> secrets)
    {
        _owner = owner;
        Content = content;
        _listens = listens;
        _zones = zones;
        _secrets = secrets;
    }

    public Snapshot Content { get; private set; }

    public uint Generation => Content.Generation;

    /// <summary>The configuration was built: its texts are not needed any more.</summary>
    public void ForgetFiles() => Content = Content with { Files = [] };

    /// <summary>
    /// This worker's sockets of a listen; the first is its own, others are queues of removed workers.
    /// </summary>
    public IReadOnlyList<int> Listeners(ListenSpec spec) => _listens.GetValueOrDefault(spec, []);

    internal IEnumerable<int> AllListeners => _listens.Values.SelectMany(static fds => fds);

    internal IEnumerable<Zone> AllZones => _zones.Values;

    /// <summary>
    /// The descriptor of a log, the same number for as long as any snapshot names the path; -1 if none does.
    /// </summary>
    public int LogDescriptor(string path) => _owner.Logs.SinkFdOf(path);

    /// <summary>A zone of the snapshot, mapped once per process.</summary>
    public Zone? FindZone(ZoneSpec spec) => _zones.GetValueOrDefault(spec);

    public ReadOnlySpan<byte> Secret(string path) => _secrets.GetValueOrDefault(path);

    /// <summary>The main context's error log.</summary>
    public Log CreateErrorLog(params LogSink[] more) => MasterTables.CreateLog(Content.ErrorLogs, _owner.Logs, more);

    /// <summary>Nothing uses this snapshot any more: what only it named is closed.</summary>
    public void Dispose() => _owner.Retire(this);
}

/// <summary>The descriptors and mappings of a worker over all its living snapshots.</summary>
internal sealed class WorkerDescriptors : IDisposable
{
    private readonly List<WorkerSnapshot> _living = [];
    private readonly Dictionary<DescriptorIdentity, int> _listeners = [];
    private readonly Dictionary<DescriptorIdentity, Zone> _zones = [];

    public LogTable Logs { get; } = new();

    public CounterSlots? Counters { get; private set; }

    public int LivingCount => _living.Count;

    /// <summary>Puts a snapshot together from a Prepare message, whose descriptors are all taken over.</summary>
    public WorkerSnapshot Take(ChannelMessage message)
    {
        int[] fds = message.Descriptors;
        SysResult read = SharedMemory.ReadAll(fds[0], out byte[] bytes);
        Descriptors.Close(fds[0]);
        if (read.IsError)
        {
            throw new InvalidDataException($"the snapshot cannot be read {read}");
        }
        Snapshot content = Snapshot.Deserialize(bytes);
        if (fds.Length < 1 + content.DescriptorCount)
        {
            throw new InvalidDataException("the snapshot comes with too few descriptors");
        }
        int at = 1;
        var listens = content.Listens.ToDictionary(static l => l, l => new List<int> { TakeListener(fds[at++]) });
        var logs = new Dictionary<string, int>(StringComparer.Ordinal);
        foreach (LogSpec log in content.Logs.Where(static log => !log.IsStandardError))
        {
            logs.Add(log.Path, fds[at++]);
        }
        Logs.PrepareReceived(logs);
        var zones = new Dictionary<ZoneSpec, Zone>();
        foreach (ZoneSpec spec in content.Zones)
        {
            TakeZone(spec, fds[at++], zones);
        }
        var secrets = new Dictionary<string, byte[]>(StringComparer.Ordinal);
        foreach (SecretSpec secret in content.Secrets)
        {
            SharedMemory.ReadAll(fds[at], out byte[] secretBytes);
            Descriptors.Close(fds[at++]);
            secrets[secret.Path] = secretBytes;
        }
        foreach (string listen in message.Text.Split(' ').Skip(2))
        {
            listens[content.Listens[int.Parse(listen)]].Add(TakeListener(fds[at++]));
        }
        var taken = new WorkerSnapshot(
            this, content, listens.ToDictionary(static l => l.Key, static l => l.Value.ToArray()), zones, secrets);
        _living.Add(taken);
        return taken;
    }

    /// <summary>
    /// The snapshot is the running one: its logs take effect, listeners only the past knew are closed.
    /// </summary>
    public void Commit(WorkerSnapshot running)
    {
        Logs.Commit(LivingPaths());
        CloseListenersBut([.. running.AllListeners]);
    }

    /// <summary>A refused, aborted or retired snapshot.</summary>
    public void Retire(WorkerSnapshot snapshot)
    {
        if (!_living.Remove(snapshot))
        {
            return;
        }
        CloseListenersBut([.. _living.SelectMany(static s => s.AllListeners)]);
        Logs.KeepOnly(LivingPaths());
        foreach ((DescriptorIdentity identity, Zone zone) in _zones.ToList())
        {
            if (!_living.Exists(s => s.AllZones.Contains(zone)))
            {
                zone.Dispose();
                _zones.Remove(identity);
            }
        }
    }

    /// <summary>The prepared snapshot will not run: its logs go, then the rest.</summary>
    public void Abort(WorkerSnapshot snapshot)
    {
        Logs.Abort();
        Retire(snapshot);
    }

    public void Dispose()
    {
        foreach (Zone zone in _zones.Values)
        {
            zone.Dispose();
        }
        _zones.Clear();
        Counters?.Dispose();
        Counters = null;
        Logs.Dispose();
    }

    private HashSet<string> LivingPaths() =>
        [.. _living.SelectMany(static s => s.Content.Logs).Select(static log => log.Path)];

    private int TakeListener(int fd)
    {
        DescriptorIdentity identity = Descriptors.Identity(fd);
        if (_listeners.TryGetValue(identity, out int known))
        {
            Descriptors.Close(fd);
            return known;
        }
        _listeners.Add(identity, fd);
        return fd;
    }

    private void TakeZone(ZoneSpec spec, int fd, Dictionary<ZoneSpec, Zone> zones)
    {
        DescriptorIdentity identity = Descriptors.Identity(fd);
        if (spec == CounterSlots.Spec)
        {
            if (Counters is null)
            {
                CounterSlots.Map(fd, out CounterSlots? counters);
                Counters = counters;
            }
        }
        else if (_zones.TryGetValue(identity, out Zone? known))
        {
            zones[spec] = known;
        }
        else
        {
            SysResult mapped = Zone.Map(fd, spec, out Zone? zone);
            if (zone is null)
            {
                Descriptors.Close(fd);
                throw new InvalidDataException($"zone \"{spec.Name}\" cannot be mapped {mapped}");
            }
            _zones.Add(identity, zone);
            zones[spec] = zone;
        }
        Descriptors.Close(fd);
    }

    private void CloseListenersBut(HashSet<int> keep)
    {
        foreach ((DescriptorIdentity identity, int fd) in _listeners.ToList())
        {
            if (!keep.Contains(fd))
            {
                Descriptors.Close(fd);
                _listeners.Remove(identity);
            }
        }
    }
}
