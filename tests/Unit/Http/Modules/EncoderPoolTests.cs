// A loop's idle encoders: the same one comes back for the same settings, within a limit in bytes.
using Weir.Http.Modules;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Http.Modules;

public sealed class EncoderPoolTests
{
    private sealed class Counted(EncoderKey key, long bytes, bool resets = true) : PooledEncoder(key)
    {
        internal int Resets, Ends;

        internal override long Bytes => bytes;

        internal override bool Reset()
        {
            Resets++;
            return resets;
        }

        internal override void Dispose() => Ends++;
    }

    private static EncoderKey Key(int level) => new(null, level, 15, 8);

    [Fact]
    public void The_same_encoder_serves_the_same_settings_and_no_others()
    {
        using var loop = new InMemoryLoop();
        var pool = EncoderPool.Of(loop);
        var one = new Counted(Key(1), 1000);
        pool.Return(one);
        Assert.Equal(1, one.Resets);
        Assert.Null(pool.TryTake(Key(2)));
        Assert.Same(one, pool.TryTake(Key(1)));
        Assert.Null(pool.TryTake(Key(1)));
        Assert.Equal(0, pool.KeptBytes);
        Assert.Equal("encoders"u8.ToArray(), pool.Name.ToArray());
        Assert.Contains(pool, loop.Pools);
    }

    [Fact]
    public void Those_that_waited_longest_go_at_the_limit_in_bytes()
    {
        using var loop = new InMemoryLoop();
        var pool = EncoderPool.Of(loop);
        Counted[] all = [.. Enumerable.Range(0, 5).Select(static i => new Counted(Key(i), EncoderPool.BytesMax / 4))];
        foreach (Counted one in all[..4])
        {
            pool.Return(one);
        }
        Assert.Equal(EncoderPool.BytesMax, pool.KeptBytes);
        Assert.All(all, static one => Assert.Equal(0, one.Ends));
        pool.Return(all[4]);
        Assert.Equal([1, 0, 0, 0, 0], all.Select(static one => one.Ends));
        Assert.Equal(4, pool.Count);
        var large = new Counted(Key(9), EncoderPool.BytesMax + 1);
        pool.Return(large);
        Assert.Equal(1, large.Ends);
        Assert.Equal(0, pool.Count);
        Assert.Equal(0, pool.KeptBytes);
    }

    [Fact]
    public void An_idle_loop_keeps_a_little_and_a_loop_that_ends_nothing()
    {
        var small = new Counted(Key(2), EncoderPool.IdleBytesMax);
        using (var loop = new InMemoryLoop())
        {
            var pool = EncoderPool.Of(loop);
            var large = new Counted(Key(1), EncoderPool.IdleBytesMax * 3);
            pool.Return(large);
            pool.Return(small);
            loop.Trim();
            Assert.Equal(1, large.Ends);
            Assert.Equal(0, small.Ends);
        }
        Assert.Equal(1, small.Ends);
    }

    [Fact]
    public void What_cannot_be_reset_is_not_kept()
    {
        using var loop = new InMemoryLoop();
        var broken = new Counted(Key(1), 1000, resets: false);
        EncoderPool.Of(loop).Return(broken);
        Assert.Equal(1, broken.Ends);
        Assert.Null(EncoderPool.Of(loop).TryTake(Key(1)));
    }
}
