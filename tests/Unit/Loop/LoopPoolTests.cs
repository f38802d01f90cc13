// Pools of a loop: what they give, their cap, and what an idle loop lets go.
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class LoopPoolTests
{
    [Fact(DisplayName = "pool: the last one back is the first one out, and an empty pool has none")]
    public void Order()
    {
        using var rig = new Rig(Rig.Memory);
        var pool = new LoopPool<object>(rig.Loop, "things");
        Assert.Null(pool.TryTake());
        object a = new(), b = new();
        pool.Return(a);
        pool.Return(b);
        Assert.Equal(2, pool.Count);
        Assert.Same(b, pool.TryTake());
        Assert.Same(a, pool.TryTake());
        Assert.Null(pool.TryTake());
        Assert.Contains(pool, rig.Loop.Pools);
    }

    [Theory(DisplayName = "pool: it keeps no more than its cap")]
    [InlineData(99, 99)]
    [InlineData(100, 100)]
    [InlineData(101, 100)]
    public void Cap(int returned, int kept)
    {
        using var rig = new Rig(Rig.Memory);
        var pool = new LoopPool<object>(rig.Loop, "things", max: 100);
        for (int i = 0; i < returned; i++)
        {
            pool.Return(new object());
        }
        Assert.Equal(kept, pool.Count);
    }

    [Fact(DisplayName = "pool: an idle loop lets go of what a busy time left, and says how many that were")]
    public void Trim()
    {
        using var rig = new Rig(Rig.Memory);
        int dropped = 0;
        rig.Loop.Trimmed = n => dropped += n;
        var pool = new LoopPool<object>(rig.Loop, "things");
        for (int i = 0; i < 1000; i++)
        {
            pool.Return(new object());
        }
        rig.Run(async () => await rig.Loop.DelayAsync(60_000));
        Assert.Equal(EventLoop.PoolKept, pool.Count);
        Assert.Equal(1000 - EventLoop.PoolKept, dropped);
        for (int i = 0; i < EventLoop.PoolKept; i++)
        {
            Assert.NotNull(pool.TryTake());
        }
        Assert.Null(pool.TryTake());
    }

    [Fact(DisplayName = "pool: boxes of suspended methods are kept up to a cap, and an idle loop lets go of them")]
    public void Boxes()
    {
        const int Suspended = SparePool.Max + 1000;
        using var rig = new Rig(Rig.Memory);
        LoopPool boxes = rig.Loop.Pools.Single(static p => p.Name.SequenceEqual("tasks"u8));
        rig.Loop.Trim();
        int before = boxes.Count;
        int done = 0;
        for (int i = 0; i < Suspended; i++)
        {
            Wait().Forget();
        }
        rig.RunUntil(() => done == Suspended);
        // One list for the method, one for those who watch over what nobody awaits.
        Assert.InRange(boxes.Count - before, SparePool.Max - EventLoop.PoolKept, 2 * SparePool.Max);

        rig.Loop.Trim();
        Assert.InRange(boxes.Count, 0, before + 2 * EventLoop.PoolKept);

        async LoopTask Wait()
        {
            await rig.Loop.DelayAsync(5);
            done++;
        }
    }

    [Fact(DisplayName = "pool: every pool of a loop has a name and is trimmed to what is kept")]
    public void AllTrimmed()
    {
        using var rig = new Rig(Rig.Memory);
        int done = 0;
        for (int i = 0; i < 1000; i++)
        {
            Wait(i % 2 == 0).Forget();
        }
        rig.RunUntil(() => done == 1000);
        rig.Loop.Trim();
        Assert.All(rig.Loop.Pools.Where(static p => !p.Name.SequenceEqual("tasks"u8)), static pool =>
        {
            Assert.False(pool.Name.IsEmpty);
            Assert.InRange(pool.Count, 0, EventLoop.PoolKept);
        });

        async LoopTask Wait(bool yields)
        {
            if (yields)
            {
                await rig.Loop.YieldAsync();
            }
            else
            {
                await rig.Loop.DelayAsync(1);
            }
            done++;
        }
    }
}
