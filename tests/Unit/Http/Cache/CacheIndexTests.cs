// The index of a cache in its zone: entries, sizes, locks and whose they are, what goes first.
using System.Text;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Http.Cache;

public sealed class CacheIndexTests : IDisposable
{
    private const long NowMs = 1_700_000_000_000, NowSec = NowMs / 1000;

    private readonly Zone _zone = Zone.CreatePrivate(new ZoneSpec("cache:test", 128 * 1024, CacheIndex.Layout));
    private readonly CounterSlots _slots = CounterSlots.CreatePrivate();

    public void Dispose()
    {
        _zone.Dispose();
        _slots.Dispose();
    }

    private CacheIndex Open(out int slot) => CacheIndex.Open(_zone, new ZoneOwner(_slots, slot = _slots.Claim()))!;

    private static CacheKey Key(int i) => CacheKey.Of(Encoding.ASCII.GetBytes($"key {i}"));

    [Fact]
    public void A_key_is_the_MD5_of_its_text_and_its_file_lies_in_its_levels()
    {
        var path = new CachePath { Family = "proxy", Directory = "/c", Levels = [1, 2] };
        CacheKey key = CacheKey.Of("http://127.0.0.1/"u8);
        string file = path.FileOf(key);
        string name = Convert.ToHexStringLower(
            System.Security.Cryptography.MD5.HashData(Encoding.ASCII.GetBytes("http://127.0.0.1/")));

        Assert.Equal($"/c/{name[^1]}/{name[^3..^1]}/{name}", file);
        Assert.True(CacheKey.TryParseName(Encoding.ASCII.GetBytes(name), out CacheKey parsed));
        Assert.Equal(key, parsed);
    }

    [Fact]
    public void Sizes_follow_what_is_published_replaced_and_forgotten()
    {
        CacheIndex index = Open(out int _);
        index.Publish(Key(1), 11, 100, NowSec, 0);
        index.Publish(Key(2), 21, 1000, NowSec, 0);
        index.Publish(Key(1), 12, 300, NowSec, 0);
        Assert.Equal(1300, index.Bytes);
        Assert.False(index.Forget(Key(1), 11));
        Assert.True(index.Forget(Key(1), 12));
        Assert.Equal(1000, index.Bytes);
    }

    [Fact]
    public void What_was_asked_for_before_its_key_was_forgotten_is_not_published()
    {
        CacheIndex index = Open(out int _);
        index.Use(Key(1), NowSec);
        ushort before = index.Look(Key(1), NowSec).Forgotten;
        Assert.False(index.Forget(Key(1), 0));
        Assert.False(index.Publish(Key(1), 11, 100, NowSec, 0, Key(1), before, NowMs));
        Assert.False(index.Look(Key(1), NowSec).Exists);
        Assert.True(index.Publish(Key(1), 12, 100, NowSec, 0, Key(1), index.Look(Key(1), NowSec).Forgotten, NowMs));
        Assert.True(index.Look(Key(1), NowSec).Exists);
    }

    [Fact]
    public void What_was_asked_for_before_what_is_known_is_not_published_and_neither_is_trusted()
    {
        CacheIndex index = Open(out int _);
        ulong later = (ulong)NowMs << CacheIndex.IdTimeShift, earlier = later - 1;
        Assert.True(index.Publish(Key(1), later, 100, NowSec, 0, Key(1), 0, NowMs));
        Assert.True(index.IsOvertaken(Key(1), earlier, NowMs));
        Assert.False(index.IsOvertaken(Key(1), later, NowMs));
        Assert.False(index.Publish(Key(1), earlier, 200, NowSec, 0, Key(1), 0, NowMs));
        Assert.False(index.Look(Key(1), NowSec).Exists);
        Assert.Equal(0, index.Bytes);
    }

    [Fact]
    public void A_clock_that_was_set_back_does_not_keep_answers_out()
    {
        CacheIndex index = Open(out int _);
        ulong future = (ulong)(NowMs + 3_600_000) << CacheIndex.IdTimeShift;
        ulong now = (ulong)NowMs << CacheIndex.IdTimeShift;
        Assert.True(index.Publish(Key(1), future, 100, NowSec, 0, Key(1), 0, NowMs));
        Assert.True(index.Publish(Key(1), now, 200, NowSec, 0, Key(1), 0, NowMs));
        Assert.Equal(now, index.Look(Key(1), NowSec).Id);
    }

    [Fact]
    public void A_file_that_the_loader_finds_counts_although_somebody_asked_before()
    {
        CacheIndex index = Open(out int _);
        index.Use(Key(1), NowSec);
        index.Load(Key(1), 100, NowSec);
        Assert.True(index.Look(Key(1), NowSec).Exists);
        Assert.Equal(100, index.Bytes);
        index.Forget(Key(1), 0);
        index.Load(Key(1), 100, NowSec);
        Assert.False(index.Look(Key(1), NowSec).Exists);
    }

    [Fact]
    public async Task Marks_are_known_whoever_takes_their_file_aside_meanwhile()
    {
        string directory = Directory.CreateTempSubdirectory("weir-marks-").FullName;
        var path = new CachePath { Family = "proxy", Directory = directory };
        for (int i = 0; i < 200; i++)
        {
            using Zone zone = Zone.CreatePrivate(new ZoneSpec("cache:marks", 64 * 1024, CacheIndex.Layout));
#if DEBUG
            zone.Faults.Audits = true;
#endif
            CacheIndex index = CacheIndex.Open(zone, ZoneOwner.Alone)!;
            File.WriteAllText($"{directory}/purges", $"{NowMs} 2 red\n");
            Task worker = Task.Run(() => CachePurge.EnsureMarks(path, index));
            CachePurge.EnsureMarks(path, index);
            CachePurge.TakeMarks(path);
            await worker;
            Assert.True(index.IsPurged("key"u8, "red"u8, NowMs - 1, NowMs, out uint _));
            File.Delete($"{directory}/purges.taken");
        }
        Directory.Delete(directory, recursive: true);
    }

    /// <summary>However many purges there are: whoever compares with them, and whoever drops them, has the lock for a
    /// few of them at a time.</summary>
    [Fact]
    public void A_thousand_marks_are_looked_at_a_few_in_each_critical_section()
    {
        using Zone zone = Zone.CreatePrivate(new ZoneSpec("cache:marks", 4 * 1024 * 1024, CacheIndex.Layout));
        CacheIndex index = CacheIndex.Open(zone, ZoneOwner.Alone)!;
        for (int i = 0; i < 1000; i++)
        {
            Assert.NotEqual(0u, index.Mark(PurgeKind.Tag, Encoding.ASCII.GetBytes($"tag-{i:D4}"), NowMs));
        }
        index.Mark(PurgeKind.Prefix, new byte[CacheIndex.MarkBytesMax], NowMs);
        Assert.True(index.IsPurged("key"u8, "tag-0999"u8, NowMs - 1, NowMs, out uint _));
        Assert.True(index.IsPurged(new byte[CacheIndex.MarkBytesMax + 1], default, NowMs - 1, NowMs, out uint purges));
        Assert.Equal(1001u, purges);
        Assert.False(index.IsPurged("key"u8, "tag-1000"u8, NowMs - 1, NowMs, out uint _));
        Assert.False(index.IsPurged("key"u8, "tag-0999"u8, NowMs + 1, NowMs, out uint _));
        index.DropMarks(500);
        Assert.False(index.IsPurged("key"u8, "tag-0499"u8, NowMs - 1, NowMs, out uint _));
        Assert.True(index.IsPurged("key"u8, "tag-0500"u8, NowMs - 1, NowMs, out uint _));
        index.DropMarks(uint.MaxValue);
        Assert.False(index.HasMarks);
        Assert.InRange(index.MostMarksOfHold, 1, CacheIndex.MarksPerHold);
    }

    [Fact]
    public async Task Marks_that_go_meanwhile_hide_no_other()
    {
        using Zone zone = Zone.CreatePrivate(new ZoneSpec("cache:marks", 4 * 1024 * 1024, CacheIndex.Layout));
        CacheIndex index = CacheIndex.Open(zone, ZoneOwner.Alone)!;
        CacheIndex other = CacheIndex.Open(zone, ZoneOwner.Alone)!;
        uint last = 0;
        for (int i = 0; i < 500; i++)
        {
            last = index.Mark(PurgeKind.Tag, Encoding.ASCII.GetBytes($"old-{i}"), NowMs);
        }
        index.Mark(PurgeKind.Tag, "red"u8, NowMs);
        Task drops = Task.Run(() =>
        {
            for (uint i = 1; i <= last; i++)
            {
                other.DropMarks(i);
            }
        });
        bool isKnown;
        do
        {
            isKnown = index.IsPurged("key"u8, "red"u8, NowMs - 1, NowMs, out uint _);
        }
        while (isKnown && !drops.IsCompleted);
        await drops;
        Assert.True(isKnown);
    }

    /// <summary>What was opened before a purge removed its file, and what was asked for before a purge and comes to the
    /// disk after it: neither is known although the mark has gone.</summary>
    [Fact]
    public void What_met_no_mark_because_it_has_gone_is_neither_found_nor_published()
    {
        CacheIndex index = Open(out int _);
        CacheLook opened = index.Use(Key(1), NowSec), asked = index.Use(Key(2), NowSec);
        index.Publish(Key(3), 31, 100, NowSec, 0);
        CacheLook known = index.Use(Key(3), NowSec);
        uint red = index.Mark(PurgeKind.Tag, "red"u8, NowMs);
        index.DropMarks(red);

        Assert.False(index.IsPurged("key"u8, "red"u8, NowMs - 1, NowMs, out uint seen));
        Assert.False(index.Learn(Key(1), 11, 100, NowSec, seen, opened.MarkDrops));
        Assert.False(index.Look(Key(1), NowSec).Exists);
        Assert.False(index.PassedPurges(Key(3), 31, seen, known.MarkDrops));
        Assert.True(index.Look(Key(3), NowSec).LooksAtPurges);
        Assert.False(index.Publish(Key(2), 21, 100, NowSec, asked.Purges, Key(2), asked.Forgotten, NowMs));
        Assert.False(index.Look(Key(2), NowSec).Exists);

        Assert.True(index.Learn(Key(1), 12, 100, NowSec, seen, index.Look(Key(1), NowSec).MarkDrops));
        Assert.False(index.Look(Key(1), NowSec).LooksAtPurges);
        asked = index.Use(Key(2), NowSec);
        Assert.True(index.Publish(Key(2), 22, 100, NowSec, asked.Purges, Key(2), asked.Forgotten, NowMs));
    }

    [Fact]
    public void A_mark_outlives_its_purge_on_the_disk_in_memory_and_in_its_file() => Within(directory =>
    {
        var path = new CachePath
        {
            Family = "proxy", Directory = directory, ManagerFiles = 10, ManagerThresholdMs = 60_000,
            Index = Open(out int _),
        };
        File.WriteAllText($"{directory}/purges", $"{NowMs} 2 red\n");
        var manager = new CacheManager(path) { LingerMs = 300 };
        manager.Step();
        Assert.True(path.Index.IsPurged(default, "red"u8, NowMs - 1, NowMs, out uint _));
        Assert.Equal(["purges.taken"], Directory.GetFiles(directory).Select(Path.GetFileName));
        path.Index.Mark(PurgeKind.Tag, "blue"u8, NowMs);
        File.WriteAllText($"{directory}/purges", $"{NowMs} 2 blue\n");
        Assert.InRange(manager.Step(), 1, 300);

        // One after the other, each in its time.
        Assert.True(SpinWait.SpinUntil(() => manager.Step() > 0 && !File.Exists($"{directory}/purges.taken"), 30_000));
        Assert.False(path.Index.IsPurged(default, "red"u8, NowMs - 1, NowMs, out uint _));
        Assert.True(path.Index.IsPurged(default, "blue"u8, NowMs - 1, NowMs, out uint _));
        Assert.Equal(["purges"], Directory.GetFiles(directory).Select(Path.GetFileName));
        Assert.True(SpinWait.SpinUntil(() => manager.Step() > 0 && !path.Index.HasMarks, 30_000));
    });

    [Theory]
    [InlineData(true, 3, 77)]
    [InlineData(false, 1, 50)]
    public void A_purger_looks_into_so_many_files_in_a_step_and_pauses(bool purger, int steps, long sleepMs)
    {
        string directory = Directory.CreateTempSubdirectory("weir-purger-").FullName;
        var path = new CachePath
        {
            Family = "proxy", Directory = directory, HasPurger = purger, PurgerFiles = 2, PurgerSleepMs = 77,
            PurgerThresholdMs = 60_000, ManagerThresholdMs = 60_000, Index = Open(out int _),
        };
        for (int i = 0; i < 5; i++)
        {
            File.WriteAllText(path.FileOf(Key(i)), "");
        }
        var manager = new CacheManager(path) { LingerMs = 0 };
        path.Index.Mark(PurgeKind.Tag, "red"u8, NowMs);
        int taken = 0;
        while (path.Index.HasMarks)
        {
            Assert.Equal(sleepMs, manager.Step());
            taken++;
        }
        Assert.Equal(steps, taken);
        Directory.Delete(directory, recursive: true);
    }

    private static void Within(Action<string> test)
    {
        string directory = Directory.CreateTempSubdirectory("weir-steps-").FullName;
        try
        {
            test(directory);
        }
        finally
        {
            Directory.Delete(directory, recursive: true);
        }
    }

    [Fact]
    public void The_loader_looks_at_so_many_files_in_a_step_and_opens_none() => Within(directory =>
    {
        var path = new CachePath
        {
            Family = "proxy", Directory = directory, LoaderFiles = 2, LoaderThresholdMs = 60_000,
            Index = Open(out int _),
        };
        // Whoever opened one of these would wait for somebody to write.
        string[] names = [.. Enumerable.Range(0, 5).Select(i => path.FileOf(Key(i)))];
        using (var make = System.Diagnostics.Process.Start("mkfifo", names))
        {
            Assert.True(make.WaitForExit(30_000));
        }
        var loader = new CacheLoader(path);
        Assert.False(loader.Step());
        Assert.Equal((2, 2), (loader.Count, path.Index.Count));
        Assert.False(loader.Step());
        Assert.Equal((4, 4), (loader.Count, path.Index.Count));
        Assert.False(path.Index.IsLoaded);
        Assert.True(loader.Step());
        Assert.True(path.Index.IsLoaded);
        Assert.All(Enumerable.Range(0, 5), i => Assert.True(path.Index.Look(Key(i), NowSec).Exists));
    });

    [Fact]
    public void The_manager_removes_so_many_files_in_a_step_those_used_longest_ago_first() => Within(directory =>
    {
        var path = new CachePath
        {
            Family = "proxy", Directory = directory, ManagerFiles = 2, ManagerThresholdMs = 60_000,
            ManagerSleepMs = 77, MaxBytes = 100, Index = Open(out int _), InactiveSec = long.MaxValue,
        };
        path.Index.IsLoaded = true;
        for (int i = 0; i < 6; i++)
        {
            File.WriteAllText(path.FileOf(Key(i)), "");
            path.Index.Publish(Key(i), (ulong)i + 1, 100, NowSec + i, 0);
        }
        var manager = new CacheManager(path);
        int[] left = [.. Enumerable.Range(0, 3).Select(_ =>
        {
            manager.Step();
            return Directory.GetFiles(directory).Length;
        })];
        Assert.Equal([4, 2, 1], left);
        Assert.Equal([path.FileOf(Key(5))], Directory.GetFiles(directory));
    });

#if DEBUG
    /// <summary>A hit waits for the lock at most: whatever loader and manager have to do in a step, each file is a
    /// critical section of its own, and its length does not grow with their number.</summary>
    [Fact]
    public void A_step_over_a_thousand_files_holds_the_lock_for_one_of_them_at_a_time() => Within(directory =>
    {
        var path = new CachePath
        {
            Family = "proxy", Directory = directory, LoaderFiles = 10_000, LoaderThresholdMs = 60_000,
            ManagerFiles = 10_000, ManagerThresholdMs = 60_000, MaxBytes = 0, Index = Open(out int _),
        };
        // More than the zone has room for, so that entries are evicted too.
        for (int i = 0; i < 1500; i++)
        {
            File.WriteAllText(path.FileOf(Key(i)), "x");
        }
        _zone.MostWritesOfHolder = 0;
        Assert.True(new CacheLoader(path).Step());
        Assert.InRange(path.Index.Count, 500, 1499);
        Assert.InRange(_zone.MostWritesOfHolder, 1, WritesMax);
        _zone.MostWritesOfHolder = 0;
        new CacheManager(path).Step();
        Assert.Equal(0, path.Index.Count);
        Assert.InRange(_zone.MostWritesOfHolder, 1, WritesMax);
    });

    /// <summary>Taking one entry out and putting one in.</summary>
    private const int WritesMax = 70;
#endif

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_directory_that_has_gone_or_is_a_file_ends_no_process(bool isFile)
    {
        string directory = Directory.CreateTempSubdirectory("weir-gone-").FullName;
        var path = new CachePath
        {
            Family = "proxy", Directory = directory, ManagerFiles = 10, ManagerThresholdMs = 60_000,
            LoaderFiles = 10, LoaderThresholdMs = 60_000, Index = Open(out int _),
        };
        Directory.Delete(directory);
        if (isFile)
        {
            File.WriteAllText(directory, "no directory");
        }
        path.Index.Mark(PurgeKind.Tag, "red"u8, NowMs);
        var manager = new CacheKeeper.ManagerStep(new CacheManager(path) { LingerMs = 0 });
        manager.Run();
        manager.Run();
        var loader = new CacheKeeper.LoaderStep(new CacheLoader(path));
        loader.Run();

        Assert.Contains(directory, manager.Failure);
        Assert.Contains(directory, loader.Failure);
        Assert.True(loader.IsDone);
        Assert.True(path.Index.IsLoaded);

        File.Delete(directory);
        Directory.CreateDirectory(directory);
        manager.Run();
        Assert.Null(manager.Failure);
        Assert.False(path.Index.HasMarks);
        Directory.Delete(directory);
    }

    [Fact]
    public void One_fetches_and_the_lock_of_a_dead_worker_is_nobodys()
    {
        CacheIndex one = Open(out int slot);
        CacheIndex other = Open(out int _);
        Assert.Equal(CacheLockOutcome.Taken, one.TryLock(Key(1), NowMs, 60_000, out long token));
        Assert.Equal(CacheLockOutcome.Busy, other.TryLock(Key(1), NowMs, 60_000, out long _));
        Assert.True(other.IsFetched(Key(1), NowMs));
        _slots.Release(slot);
        Assert.False(other.IsFetched(Key(1), NowMs));
        Assert.Equal(CacheLockOutcome.Taken, other.TryLock(Key(1), NowMs, 60_000, out long second));
        one.Unlock(Key(1), token);
        Assert.True(other.IsFetched(Key(1), NowMs));
        other.Unlock(Key(1), second);
        Assert.False(other.IsFetched(Key(1), NowMs));
    }

    [Fact]
    public void A_lock_is_taken_away_when_its_time_is_over_and_passed_when_nothing_can_be_stored()
    {
        CacheIndex index = Open(out int _);
        index.TryLock(Key(1), NowMs, 5000, out long first);
        Assert.Equal(CacheLockOutcome.Busy, index.TryLock(Key(1), NowMs + 4999, 5000, out long _));
        Assert.Equal(CacheLockOutcome.Taken, index.TryLock(Key(1), NowMs + 5000, 5000, out long second));
        index.Unlock(Key(1), first);
        Assert.True(index.IsFetched(Key(1), NowMs + 5001));
        index.Unlock(Key(1), second, NowMs + 6000);
        Assert.Equal(CacheLockOutcome.Pass, index.TryLock(Key(1), NowMs + 5002, 5000, out long _));
        Assert.Equal(CacheLockOutcome.Taken, index.TryLock(Key(1), NowMs + 6000, 5000, out long _));
    }

    [Fact]
    public void A_full_zone_drops_what_was_used_longest_ago()
    {
        CacheIndex index = Open(out int _);
        for (int i = 0; i < 5000; i++)
        {
            index.Publish(Key(i), (ulong)i + 1, 10, NowSec, 0);
        }
        Assert.InRange(index.Count, 100, 4000);
        Assert.Equal(index.Count * 10, index.Bytes);
        Assert.False(index.Look(Key(0), NowSec).Exists);
        Assert.True(index.Look(Key(4999), NowSec).Exists);
        Assert.True(index.TryTakeEvicted(out CacheKey evicted));
        Assert.Equal(Key(0), evicted);
    }

    [Fact]
    public void What_was_used_longest_ago_goes_first()
    {
        CacheIndex index = Open(out int _);
        index.Publish(Key(1), 1, 10, NowSec, 0);
        index.Publish(Key(2), 2, 10, NowSec, 0);
        index.Use(Key(1), NowSec + 1);
        Assert.True(index.TryOldest(out CacheVictim victim));
        Assert.Equal(Key(2), victim.Key);
        index.Remove(victim);
        Assert.False(index.Look(Key(2), NowSec).Exists);
        Assert.Equal(10, index.Bytes);
    }
}
