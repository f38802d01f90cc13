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
}
