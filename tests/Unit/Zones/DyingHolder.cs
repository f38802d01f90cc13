// A zone as two processes see it: one whose holder of the lock dies at a given write, one that comes after it. The
// dying side is a thread that ends with the robust mutex taken, which the kernel treats as it treats a killed process.
// Debug builds only: the fault points are there alone. One test's thread; owns both mappings.
#if DEBUG
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Tests.Unit.Zones;

internal sealed class DyingHolder : IDisposable
{
    private readonly ZoneSpec _spec;
    private readonly int _fd;
    private readonly List<Zone> _dead = [];

    public DyingHolder(ZoneSpec spec)
    {
        _spec = spec;
        _fd = Zone.Create(spec).Int;
        Next = Open();
    }

    /// <summary>The zone as whoever comes after the dead sees it.</summary>
    public Zone Next { get; }

    private Zone Open()
    {
        Zone.Map(_fd, _spec, out Zone? zone);
        zone!.Faults.Audits = true;
        return zone;
    }

    /// <summary>Runs the work on a thread that dies at its write number <paramref name="at"/>, holding the lock;
    /// false when the work ended before. <paramref name="prepare"/> comes first and is in no danger.</summary>
    public bool DiesAt<T>(int at, Func<Zone, T> prepare, Action<Zone, T> work)
    {
        // The kernel finds the lock through this mapping when the thread is really gone: it stays.
        Zone mine = Open();
        _dead.Add(mine);
        int writes = 0;
        bool died = false;
        var thread = new Thread(() =>
        {
            T prepared = prepare(mine);
            mine.Faults.DiesHere = () => writes++ == at;
            try
            {
                work(mine, prepared);
            }
            catch (HolderDiedException)
            {
                died = true;
            }
        });
        thread.Start();
        thread.Join();
        return died;
    }

    public bool DiesAt(int at, Action<Zone> work) => DiesAt(at, static _ => 0, (zone, _) => work(zone));

    public void Dispose()
    {
        Next.Lock().Dispose();
        _dead.ForEach(static z => z.Dispose());
        Next.Dispose();
        Descriptors.Close(_fd);
    }
}
#endif
