// The zones a master holds: memfds that live as long as some configuration names them with the same size and layout.
// A reload keeps what compares equal and makes the rest fresh; nothing changes until all workers agree. The counters'
// table is one of them, always there, never fresh again. One thread.
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Process;

/// <summary>Zones by specification.</summary>
public sealed class ZoneTable : IDisposable
{
    private readonly Dictionary<ZoneSpec, int> _open = [];
    private Dictionary<ZoneSpec, int>? _prepared;

    /// <summary>The descriptor of a zone, prepared or settled, or -1.</summary>
    public int FdOf(ZoneSpec spec, bool prepared = false) =>
        (prepared && _prepared is not null ? _prepared : _open).GetValueOrDefault(spec, -1);

    public int OpenCount => _open.Count;

    public bool Prepare(IReadOnlyList<ZoneSpec> specs, Log log)
    {
        Abort();
        _prepared = [];
        foreach (ZoneSpec spec in specs)
        {
            if (_prepared.ContainsKey(spec))
            {
                continue;
            }
            if (_open.TryGetValue(spec, out int known))
            {
                _prepared.Add(spec, known);
                continue;
            }
            SysResult made = spec == CounterSlots.Spec ? CounterSlots.Create() : Zone.Create(spec);
            if (made.IsError)
            {
                log.Write(LogLevel.Emerg, $"memfd_create(\"{spec.Name}\", {spec.SizeBytes}) failed", made.Errno);
                Abort();
                return false;
            }
            _prepared.Add(spec, made.Int);
        }
        return true;
    }

    public void Commit()
    {
        if (_prepared is null)
        {
            return;
        }
        foreach ((ZoneSpec spec, int fd) in _open)
        {
            if (!_prepared.ContainsKey(spec))
            {
                Descriptors.Close(fd);
            }
        }
        _open.Clear();
        foreach ((ZoneSpec spec, int fd) in _prepared)
        {
            _open.Add(spec, fd);
        }
        _prepared = null;
    }

    public void Abort()
    {
        foreach ((ZoneSpec spec, int fd) in _prepared ?? [])
        {
            if (!_open.ContainsKey(spec))
            {
                Descriptors.Close(fd);
            }
        }
        _prepared = null;
    }

    public void Dispose()
    {
        Abort();
        foreach (int fd in _open.Values)
        {
            Descriptors.Close(fd);
        }
        _open.Clear();
    }
}
