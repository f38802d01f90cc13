// An actor: does random operations on all zones as fast as it can until it is killed, and keeps its journal. Keys of
// its own, so that what must be true of them is exact; the zones, their locks and orders are everybody's.
using Weir.Http.Cache;
using Weir.Zones;

namespace Weir.Tests.ZoneFire;

internal sealed class Actor(Arena arena, int actor, int slot, int seed)
{
    private readonly Random _random = new(seed);

    /// <summary>Never returns.</summary>
    public void Run()
    {
        Board board = arena.Board;
        ref Journal own = ref board[actor];
        Volatile.Write(ref own.Slot, slot);
        while (true)
        {
            if (Volatile.Read(ref board.Pause) != 0)
            {
                Volatile.Write(ref own.Paused, 1);
                while (Volatile.Read(ref board.Pause) != 0)
                {
                    Thread.Sleep(0);
                }
                Interlocked.Exchange(ref own.Paused, 0);
                // It may be paused again before this one has noticed.
                continue;
            }
            Step(ref own);
            own.Operations++;
        }
    }

    private void Step(ref Journal own)
    {
        int key = _random.Next(Journal.Keys);
        var work = (Work)(1 + _random.Next(5));
        own.DoingKey = key;
        own.Doing = work;
        switch (work)
        {
            case Work.Count:
                Count(ref own.Counts[key], key);
                break;
            case Work.Table:
                Table(ref own.Values[key], key);
                break;
            case Work.Cache:
                Cache(ref own.Bytes[key], key);
                break;
            case Work.Group:
                Connect(ref own.Connections[key % Arena.Servers], key % Arena.Servers);
                break;
            case Work.Sticky:
                arena.Sticky.Remember(Arena.NameOf(slot, key), Arena.ServerOf(own.Bound[key] + 1), 1000);
                own.Bound[key]++;
                break;
        }
        own.Gauge = _random.Next(100);
        arena.Slots[slot].Set(StatusCounter.Active, own.Gauge);
        arena.Slots[slot].Add(StatusCounter.Requests, 1);
        own.Doing = Work.None;
    }

    private void Count(ref long count, int key)
    {
        // Half of the keys are everybody's.
        byte[] name = Arena.NameOf(key < Journal.Keys / 2 ? 0 : slot, key);
        if (count > 0 && _random.Next(2) == 0)
        {
            arena.Counts.Remove(name);
            count--;
        }
        else if (arena.Counts.TryAdd(name, 1000) == OwnedOutcome.Added)
        {
            count++;
        }
    }

    /// <summary>The value is a length and so many bytes of it; 0 is no entry.</summary>
    private void Table(ref long value, int key)
    {
        byte[] name = Arena.NameOf(slot, key);
        uint hash = SharedTable.HashOf(name);
        int next = 1 + _random.Next(200);
        using ZoneLock held = arena.Zones[1].Lock();
        uint entry = arena.Table.Find(name, hash);
        if (entry != 0 && _random.Next(3) == 0)
        {
            arena.Table.Touch(entry);
            return;
        }
        if (entry != 0)
        {
            arena.Table.Remove(entry);
            value = 0;
            return;
        }
        entry = arena.Table.Add(name, hash, next);
        if (entry != 0)
        {
            arena.Table.Value(entry).Fill((byte)next);
            value = next;
        }
    }

    private void Cache(ref long bytes, int key)
    {
        CacheKey name = Arena.KeyOf(slot, key);
        switch (_random.Next(4))
        {
            case 0:
                arena.Cache.Forget(name, 0);
                bytes = 0;
                break;
            case 1:
                arena.Cache.TryLock(name, 1000, 1_000_000, out long token);
                if (_random.Next(2) == 0)
                {
                    arena.Cache.Unlock(name, token);
                }
                break;
            case 2:
                arena.Cache.Use(name, _random.Next(1000));
                break;
            default:
                int size = 1 + _random.Next(1000);
                arena.Cache.Publish(name, (ulong)size, size, 1, 0);
                bytes = size;
                break;
        }
    }

    private void Connect(ref long connections, int server)
    {
        using ZoneLock held = arena.Group.Lock();
        if (connections > 0 && _random.Next(2) == 0)
        {
            arena.Group.Disconnect(arena.Peers[server]);
            connections--;
        }
        else
        {
            arena.Group.Connect(arena.Peers[server]);
            connections++;
        }
    }
}
