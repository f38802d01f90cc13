// The driver: starts actors, kills one of them at a random moment in every round, has the others pause, and compares
// everything in the zones with the journals. What the dead one was in the middle of may have happened or not;
// everything else is exact. Throws with what is not true. One thread.
using System.Diagnostics;
using System.Globalization;
using System.Runtime.InteropServices;
using Weir.Http.Cache;
using Weir.Http.Modules;
using Weir.Zones;

namespace Weir.Tests.ZoneFire;

/// <summary>What came of it.</summary>
public sealed record FireReport(int Rounds, int KilledInLock, long Operations);

public sealed class Driver : IDisposable
{
    private const long WaitMsMax = 60_000;

    private readonly Arena _arena = Arena.Make();
    private readonly string _program;
    private readonly Random _random;
    private readonly Process?[] _actors;
    private readonly int[] _slots;
    private long _operationsOfDead;
    private long _requests;
    private int _round;

    private Driver(string program, int actors, int seed)
    {
        _program = program;
        _random = new Random(seed);
        _actors = new Process?[actors];
        _slots = new int[actors];
    }

    /// <summary>Runs so many rounds; <paramref name="program"/> is this one's executable.</summary>
    public static FireReport Run(string program, int rounds, int actors, int seed, Action<string>? tell = null)
    {
        using var driver = new Driver(program, actors, seed);
        for (int i = 0; i < actors; i++)
        {
            driver.Start(i);
        }
        for (driver._round = 1; driver._round <= rounds; driver._round++)
        {
            driver.Round();
            if (driver._round % 500 == 0)
            {
                tell?.Invoke($"{driver._round} rounds, {driver._arena.Repairs} killed holding a lock");
            }
        }
        return new FireReport(rounds, driver._arena.Repairs, driver._operationsOfDead);
    }

    public void Dispose()
    {
        foreach (Process? actor in _actors)
        {
            actor?.Kill();
            actor?.WaitForExit();
            actor?.Dispose();
        }
    }

    private void Start(int actor)
    {
        _arena.Board.Clear(actor);
        _slots[actor] = _arena.Slots.Claim();
        string fds = string.Join(',', _arena.Descriptors);
        _actors[actor] = Process.Start(new ProcessStartInfo(_program,
        [
            "actor", Text(Environment.ProcessId), fds, Text(actor), Text(_slots[actor]), Text(_random.Next()),
        ]));
    }

    private static string Text(int n) => n.ToString(CultureInfo.InvariantCulture);

    private void Round()
    {
        // Somebody must be at work; who only begins may be killed as well, now and then.
        Wait("an actor at work", () => Enumerable.Range(0, _actors.Length).Any(IsAtWork));
        long until = Stopwatch.GetTimestamp() + (_random.Next(3000) * Stopwatch.Frequency / 1_000_000);
        while (Stopwatch.GetTimestamp() < until)
        {
            Thread.SpinWait(20);
        }
        int victim = _random.Next(_actors.Length);
        while (!IsAtWork(victim) && _random.Next(10) > 0)
        {
            victim = _random.Next(_actors.Length);
        }
        Process dead = _actors[victim]!;
        if (dead.HasExited)
        {
            throw new InvalidOperationException($"round {_round}: an actor ended by itself, {dead.ExitCode}");
        }
        dead.Kill();
        dead.WaitForExit();
        dead.Dispose();
        _actors[victim] = null;
        int slot = _slots[victim];
        _arena.Slots.Release(slot);
        Interlocked.Exchange(ref _arena.Board.Pause, 1);
        for (int i = 0; i < _actors.Length; i++)
        {
            int actor = i;
            Wait("a pause", () => _actors[actor] is null || !IsAtWork(actor) || IsPaused(actor));
        }
        Check(victim, slot);
        Interlocked.Exchange(ref _arena.Board.Pause, 0);
        _operationsOfDead += _arena.Board[victim].Operations;
        Start(victim);
    }

    private bool IsAtWork(int actor) => _actors[actor] is not null && Volatile.Read(ref _arena.Board[actor].Slot) != 0;

    private bool IsPaused(int actor) => Volatile.Read(ref _arena.Board[actor].Paused) != 0;

    private void Wait(string what, Func<bool> condition)
    {
        long start = Environment.TickCount64;
        while (!condition())
        {
            if (Environment.TickCount64 - start > WaitMsMax)
            {
                throw new TimeoutException($"round {_round}: waited in vain for {what}");
            }
            Thread.Sleep(0);
        }
    }

    // What must be true.

    private void Check(int victim, int slot)
    {
        ref Journal dead = ref _arena.Board[victim];
        CheckCounts();
        CheckTable(victim, slot);
        CheckCache(victim, slot);
        CheckGroup();
        CheckSticky(victim, slot);
        long gauges = Living().Sum(a => _arena.Board[a].Gauge);
        Expect(gauges, _arena.Slots.Sum(StatusCounter.Active), "the sum of a gauge");
        long requests = _arena.Slots.Sum(StatusCounter.Requests);
        Expect(true, requests >= _requests, "a total that never goes back");
        _requests = requests;
    }

    private IEnumerable<int> Living() => Enumerable.Range(0, _actors.Length).Where(IsAtWork);

    private void Expect<T>(T expected, T found, string what)
    {
        if (!EqualityComparer<T>.Default.Equals(expected, found))
        {
            throw new InvalidOperationException(
                $"round {_round}: {what} is {found} and must be {expected} after {_arena.Repairs} repairs");
        }
    }

    private void CheckCounts()
    {
        for (int key = 0; key < Journal.Keys; key++)
        {
            if (key < Journal.Keys / 2)
            {
                Expect(Living().Sum(a => _arena.Board[a].Counts[key]), _arena.Counts.Count(Arena.NameOf(0, key)),
                    $"the count of key {key}");
                continue;
            }
            foreach (int actor in Living())
            {
                Expect(_arena.Board[actor].Counts[key], _arena.Counts.Count(Arena.NameOf(_slots[actor], key)),
                    $"the count of {actor}'s key {key}");
            }
        }
    }

    private void CheckTable(int victim, int slot)
    {
        using ZoneLock held = _arena.Zones[1].Lock();
        SharedTable table = _arena.Table;
        CheckEntries(ref _arena.Board[victim], slot, isDead: true);
        foreach (int actor in Living())
        {
            CheckEntries(ref _arena.Board[actor], _slots[actor], isDead: false);
        }
        int inOrder = 0;
        for (uint entry = table.Oldest; entry != 0; entry = table.Newer(entry))
        {
            inOrder++;
            Expect(entry, table.Find(table.Key(entry), SharedTable.HashOf(table.Key(entry))), "an entry by its key");
        }
        Expect(table.Count, inOrder, "the length of the order");
        var tagged = new List<uint>();
        _arena.Zones[1].Slab.CollectTagged(tagged);
        Expect(inOrder + 1, tagged.Count, "blocks in use");
    }

    private void CheckEntries(ref Journal journal, int slot, bool isDead)
    {
        for (int key = 0; key < Journal.Keys; key++)
        {
            byte[] name = Arena.NameOf(slot, key);
            uint entry = _arena.Table.Find(name, SharedTable.HashOf(name));
            bool underWay = isDead && journal.Doing == Work.Table && journal.DoingKey == key;
            if (!underWay)
            {
                int length = entry == 0 ? 0 : _arena.Table.Value(entry).Length;
                Expect(journal.Values[key], length, $"the entry of key {key}");
                Expect(true, entry == 0 || _arena.Table.Value(entry).IndexOfAnyExcept((byte)journal.Values[key]) < 0,
                    $"all of the value of key {key}");
            }
            if (isDead && entry != 0)
            {
                _arena.Table.Remove(entry);
            }
        }
    }

    private void CheckCache(int victim, int slot)
    {
        ref Journal dead = ref _arena.Board[victim];
        for (int key = 0; key < Journal.Keys; key++)
        {
            CacheKey name = Arena.KeyOf(slot, key);
            CacheLook look = _arena.Cache.Look(name, 1);
            if (dead.Doing != Work.Cache || dead.DoingKey != key)
            {
                Expect(dead.Bytes[key], look.Exists ? (long)look.Id : 0, $"the file of key {key}");
            }
            Expect(CacheLockOutcome.Taken, _arena.Cache.TryLock(name, 1000, 1000, out long token), "a dead one's lock");
            _arena.Cache.Unlock(name, token);
            _arena.Cache.Remove(new CacheVictim(name, _arena.Cache.Look(name, 1).Id, 0));
        }
        long bytes = 0;
        foreach (int actor in Living())
        {
            for (int key = 0; key < Journal.Keys; key++)
            {
                CacheLook look = _arena.Cache.Look(Arena.KeyOf(_slots[actor], key), 1);
                Expect(_arena.Board[actor].Bytes[key], look.Exists ? (long)look.Id : 0, $"a file of key {key}");
                bytes += _arena.Board[actor].Bytes[key];
            }
        }
        Expect(bytes, _arena.Cache.Bytes, "the size of the cache");
    }

    private void CheckGroup()
    {
        using ZoneLock held = _arena.Group.Lock();
        for (int server = 0; server < Arena.Servers; server++)
        {
            long connections = Living().Sum(a => _arena.Board[a].Connections[server]);
            Expect(connections, _arena.Group.Living(_arena.Peers[server]).Connections, "living connections");
            Expect(connections, _arena.Group.Record(_arena.Peers[server]).Connections, "connections");
        }
    }

    private void CheckSticky(int victim, int slot)
    {
        CheckSessions(ref _arena.Board[victim], slot, isDead: true);
        foreach (int actor in Living())
        {
            CheckSessions(ref _arena.Board[actor], _slots[actor], isDead: false);
        }
    }

    private void CheckSessions(ref Journal journal, int slot, bool isDead)
    {
        Span<byte> found = stackalloc byte[StickySessions.NameBytesMax];
        for (int key = 0; key < Journal.Keys; key++)
        {
            ReadOnlySpan<byte> name = found[.._arena.Sticky.Find(Arena.NameOf(slot, key), 1000, found)];
            bool known = journal.Bound[key] == 0 ? name.IsEmpty
                : name.SequenceEqual(Arena.ServerOf(journal.Bound[key]));
            bool underWay = isDead && journal.Doing == Work.Sticky && journal.DoingKey == key
                && (name.IsEmpty || name.SequenceEqual(Arena.ServerOf(journal.Bound[key] + 1)));
            Expect(true, known || underWay, $"session {key}");
        }
        if (isDead)
        {
            Forget(slot);
        }
    }

    /// <summary>The next owner of a slot begins with nothing.</summary>
    private void Forget(int slot)
    {
        using ZoneLock held = _arena.Zones[4].Lock();
        SharedTable table = _arena.Sticky.Table;
        for (int key = 0; key < Journal.Keys; key++)
        {
            byte[] name = Arena.NameOf(slot, key);
            uint entry = table.Find(name, SharedTable.HashOf(name));
            if (entry != 0)
            {
                table.Remove(entry);
            }
        }
    }
}
