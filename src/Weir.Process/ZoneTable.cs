// The zones a master holds: memfds that live as long as some configuration names them with the same size and layout.
// A reload keeps what compares equal and makes the rest fresh; nothing changes until all workers agree. The counters'
// table is one of them, always there, never fresh again. A binary that takes over from another gets its zones. One
// thread.
using System.Globalization;
using System.Text;
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Process;

/// <summary>Zones by specification.</summary>
public sealed class ZoneTable : IDisposable
{
    private readonly Dictionary<ZoneSpec, int> _open = [];
    private readonly Dictionary<ZoneSpec, int> _inherited = [];
    private Dictionary<ZoneSpec, int>? _prepared;

    /// <summary>The descriptor of a zone, prepared or settled, or -1.</summary>
    public int FdOf(ZoneSpec spec, bool prepared = false) =>
        (prepared && _prepared is not null ? _prepared : _open).GetValueOrDefault(spec, -1);

    public int OpenCount => _open.Count;

    /// <summary>What the next binary needs to know of these zones, when their descriptors begin at a number: size,
    /// layout and name of each, in the order of <paramref name="fds"/>.</summary>
    internal string Describe(int firstFd, out int[] fds)
    {
        fds = [.. _open.Values];
        return string.Concat(_open.Keys.Select((spec, i) =>
            $"{firstFd + i}:{spec.SizeBytes:x}:{spec.LayoutId:x}:"
            + $"{Convert.ToHexString(Encoding.UTF8.GetBytes(spec.Name))};"));
    }

    /// <summary>Takes over the zones of the binary before this one. Without its table of counters, which says whose a
    /// count is, none of them is of use.</summary>
    internal void Inherit(string text, Log log)
    {
        foreach (string part in text.Split(';', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] fields = part.Split(':');
            if (fields.Length == 4 && int.TryParse(fields[0], out int fd) && fd >= RoleEntry.FirstInheritedFd
                && long.TryParse(fields[1], NumberStyles.HexNumber, null, out long size)
                && ulong.TryParse(fields[2], NumberStyles.HexNumber, null, out ulong layout))
            {
                Descriptors.SetCloseOnExec(fd, on: true);
                _inherited[new ZoneSpec(Encoding.UTF8.GetString(Convert.FromHexString(fields[3])), size, layout)] = fd;
            }
        }
        bool counts = _inherited.TryGetValue(CounterSlots.Spec, out int counters)
            && CounterSlots.Map(counters, out CounterSlots? slots).IsOk && Unmapped(slots!);
        if (!counts)
        {
            log.Write(LogLevel.Notice, "the zones of the binary before are of another kind, all begin anew");
            CloseInherited();
        }
    }

    private static bool Unmapped(IDisposable mapping)
    {
        mapping.Dispose();
        return true;
    }

    /// <summary>The zone of the binary before this one, when it is what is wanted.</summary>
    private bool TryAdopt(ZoneSpec spec, out int fd)
    {
        if (!_inherited.Remove(spec, out fd))
        {
            return false;
        }
        if (spec == CounterSlots.Spec || Zone.Map(fd, spec, out Zone? zone).IsOk && Unmapped(zone!))
        {
            return true;
        }
        Descriptors.Close(fd);
        return false;
    }

    private void CloseInherited()
    {
        foreach (int fd in _inherited.Values)
        {
            Descriptors.Close(fd);
        }
        _inherited.Clear();
    }

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
            if (TryAdopt(spec, out int adopted))
            {
                _prepared.Add(spec, adopted);
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
        CloseInherited();
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
        CloseInherited();
        foreach (int fd in _open.Values)
        {
            Descriptors.Close(fd);
        }
        _open.Clear();
    }
}
