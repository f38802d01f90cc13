// The zones that are fought over, as one process sees them: owned counts (limit_conn), a table with values, the keys of
// a cache, an upstream's servers, sticky sessions, and the counter slots. The driver makes them; actors open the
// driver's descriptors through /proc. Owner: the process.
using System.Globalization;
using System.Text;
using Weir.Http.Cache;
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Tests.ZoneFire;

internal sealed class Arena
{
    public const int Servers = 4;

    private static readonly ZoneSpec[] s_specs =
    [
        new("fire:counts", 64 * 1024, 1), new("fire:table", 128 * 1024, 2),
        new("fire:cache", 128 * 1024, CacheIndex.Layout), new("fire:group", 64 * 1024, GroupZone.Layout),
        new("fire:sticky", 64 * 1024, StickySessions.Layout),
    ];

    private Arena(int[] fds, Func<CounterSlots, ZoneOwner> owner)
    {
        Descriptors = fds;
        Board = Board.Map(fds[0]);
        CounterSlots.Map(fds[1], out CounterSlots? slots);
        Slots = slots!;
        Owner = owner(Slots);
        Zones = [.. s_specs.Select((spec, i) => Zone.Map(fds[i + 2], spec, out Zone? zone).IsOk ? zone! : throw
            new InvalidOperationException(spec.Name))];
        Counts = OwnedTable.Open(Zones[0], 64, Owner, Board.ActorsMax)!;
        Table = SharedTable.Open(Zones[1], 0, 256)!;
        Cache = CacheIndex.Open(Zones[2], Owner)!;
        Group = GroupZone.Open(Zones[3], Owner, Board.ActorsMax)!;
        Sticky = StickySessions.Open(Zones[4], 600)!;
        using ZoneLock held = Group.Lock();
        Peers = [.. Enumerable.Range(0, Servers).Select(i => Group.Attach(Text("server", i), s_peer))];
    }

    private static readonly PeerSpec s_peer = new() { Address = [1], Name = default };

    public int[] Descriptors { get; }
    public Board Board { get; }
    public CounterSlots Slots { get; }
    public ZoneOwner Owner { get; }
    public Zone[] Zones { get; }
    public OwnedTable Counts { get; }
    public SharedTable Table { get; }
    public CacheIndex Cache { get; }
    public GroupZone Group { get; }
    public StickySessions Sticky { get; }
    public uint[] Peers { get; }

    /// <summary>Deaths that somebody found out about by finding the lock taken.</summary>
    public int Repairs => Zones.Sum(static z => z.RepairCount);

    public static Arena Make()
    {
        var fds = new List<int> { SharedMemory.Create("fire:board", Board.Bytes).Int, CounterSlots.Create().Int };
        fds.AddRange(s_specs.Select(static spec => Zone.Create(spec).Int));
        return new Arena([.. fds], static slots => new ZoneOwner(slots, slots.Claim()));
    }

    /// <summary>The zones of another process.</summary>
    public static Arena Open(int pid, int[] fds, int slot) => new(
        [.. fds.Select(fd => Kernel.Descriptors.OpenReadWrite($"/proc/{pid}/fd/{fd}").Int)],
        slots => new ZoneOwner(slots, slot));

    public static byte[] Text(string what, long n) =>
        Encoding.ASCII.GetBytes(what + n.ToString(CultureInfo.InvariantCulture));

    public static CacheKey KeyOf(int slot, int key) => CacheKey.Of(Text("cache", slot * 1000 + key));

    public static byte[] NameOf(int slot, int key) => Text("key", slot * 1000 + key);

    /// <summary>Which server a session is bound to the n-th time.</summary>
    public static byte[] ServerOf(long n) => Text("server", n % 100);
}
