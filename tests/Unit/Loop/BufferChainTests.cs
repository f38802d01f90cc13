// Buffers: every reference that is taken is given back, whatever road the bytes take.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class BufferChainTests
{
    private readonly BufferPool _pool = new();

    [Theory(DisplayName = "pool: a slab has at least the size asked for, and counts while it is held")]
    [InlineData(0, 1024)]
    [InlineData(1024, 1024)]
    [InlineData(1025, 4096)]
    [InlineData(4097, 8192)]
    [InlineData(8193, 16384)]
    [InlineData(16385, 65536)]
    [InlineData(65536, 65536)]
    [InlineData(65537, 65537)]
    [InlineData(1_000_000, 1_000_000)]
    public void Sizes(int asked, int got)
    {
        BufferSlab slab = _pool.Rent(asked);
        Assert.Equal(got, slab.Capacity);
        Assert.Equal(got, slab.Span.Length);
        Assert.Equal(got, _pool.RentedBytes);
        slab.AddReference();
        Assert.False(slab.IsExclusive);
        slab.Release();
        Assert.True(slab.IsExclusive);
        Assert.Equal(got, _pool.RentedBytes);
        slab.Release();
        Assert.Equal(0, _pool.RentedBytes);
        Assert.Equal(got <= 65536 ? got : 0, _pool.FreeBytes);
    }

    [Fact(DisplayName = "pool: what came back is rented again, up to a cap, and Trim gives the rest to the system")]
    public void Reuse()
    {
        var pool = new BufferPool { KeptBytesMaxPerSize = 8192 };
        BufferSlab first = pool.Rent(4096);
        first.Release();
        Assert.Same(first, pool.Rent(4000));
        BufferSlab[] more = [first, pool.Rent(4096), pool.Rent(4096), pool.Rent(4096)];
        foreach (BufferSlab slab in more)
        {
            slab.Release();
        }
        Assert.Equal(8192, pool.FreeBytes);
        pool.Trim();
        Assert.Equal(0, pool.FreeBytes);
        Assert.Equal(0, pool.RentedBytes);
        pool.Rent(4096).Release();
    }

    [Fact(DisplayName = "chain: small appends share a slab and one segment")]
    public void SmallAppends()
    {
        var chain = new BufferChain(_pool);
        for (int i = 0; i < 100; i++)
        {
            chain.Append("0123456789"u8);
        }
        Assert.Equal(1000, chain.Length);
        Assert.Equal(1, chain.Count);
        Assert.Equal(4096, _pool.RentedBytes);
        Span<byte> space = chain.GetSpan(100);
        "tail"u8.CopyTo(space);
        chain.Advance(4);
        chain.Advance(0);
        Assert.Equal(1, chain.Count);
        Assert.EndsWith("789tail", Text(chain), StringComparison.Ordinal);
        chain.Clear();
        Assert.Equal(0, chain.Length);
        Assert.Equal(0, chain.MemoryBytes);
        Assert.Equal(0, _pool.RentedBytes);
    }

    [Fact(DisplayName = "chain: a slice with an owner keeps the slab alive, one without takes nothing")]
    public void Slices()
    {
        var chain = new BufferChain(_pool);
        BufferSlab slab = _pool.Rent(1000);
        "abcdef"u8.CopyTo(slab.Span);
        chain.AppendSlice(slab.Memory.Slice(1, 3), slab);
        chain.AppendSlice(slab.Memory.Slice(0, 2), null);
        chain.AppendSlice(slab.Memory.Slice(0, 0), slab);
        Assert.Equal("bcdab", Text(chain));
        Assert.Equal(2, chain.Count);
        slab.Release();
        Assert.Equal(1024, _pool.RentedBytes);
        chain.Consume(2);
        Assert.Equal(1024, _pool.RentedBytes);
        chain.Consume(1);
        Assert.Equal(0, _pool.RentedBytes);
        chain.Clear();
        Assert.Equal(0, _pool.RentedBytes);
    }

    [Fact(DisplayName =
        "chain: moved in any two parts and consumed in any steps, the bytes stay in order and nothing is kept")]
    public void MoveAndConsume()
    {
        byte[] expected = Rig.Pattern(300);
        for (int cut = 0; cut <= expected.Length; cut += 7)
        {
            for (int step = 1; step < 310; step += 43)
            {
                BufferChain source = Build(expected);
                var target = new BufferChain(_pool);
                target.Append("<"u8);
                source.MoveTo(target, cut);
                Assert.Equal(cut + 1, target.Length);
                Assert.Equal(expected.Length - cut, source.Length);
                Assert.Equal(source.Length, source.MemoryBytes);
                // What the source writes next must not reach what has been moved.
                source.Append("|"u8);
                source.MoveTo(target);
                Assert.True(source.IsEmpty);
                Assert.Equal(0, source.MemoryBytes);
                byte[] all = new byte[(int)target.Length];
                int at = 0;
                while (!target.IsEmpty)
                {
                    int n = (int)Math.Min(step, target.Length);
                    Assert.Equal(n, target.CopyTo(all.AsSpan(at, n)));
                    target.Consume(n);
                    at += n;
                }
                Assert.Equal([(byte)'<', .. expected, (byte)'|'], all);
                Assert.Equal(0, _pool.RentedBytes);
            }
        }
    }

    private BufferChain Build(byte[] bytes)
    {
        var chain = new BufferChain(_pool) { TailSize = 1024 };
        int at = 0;
        int part = 1;
        while (at < bytes.Length)
        {
            int n = Math.Min(part, bytes.Length - at);
            if (part % 3 == 0)
            {
                BufferSlab slab = _pool.Rent(n);
                bytes.AsSpan(at, n).CopyTo(slab.Span);
                chain.AppendSlice(slab.Memory.Slice(0, n), slab);
                slab.Release();
            }
            else
            {
                chain.Append(bytes.AsSpan(at, n));
            }
            at += n;
            part += 5;
        }
        return chain;
    }

    [Fact(DisplayName = "chain: file slices are split and moved like memory, and the last one closes the file")]
    public void Files()
    {
        string path = Path.GetTempFileName();
        FileRef file = FileRef.Own(Sys.Open(path, Sys.O_RDONLY).Int);
        File.Delete(path);
        var chain = new BufferChain(_pool);
        var target = new BufferChain(_pool);
        chain.Append("head"u8);
        chain.AppendFile(file, 100, 1000);
        chain.AppendFile(file, 0, 0);
        chain.Append("tail"u8);
        file.Release();
        Assert.Equal(1008, chain.Length);
        Assert.Equal(8, chain.MemoryBytes);
        chain.MoveTo(target, 104);
        Assert.Equal(100, target[1].Length);
        Assert.Equal(100, target[1].FileOffset);
        Assert.Equal(200, chain[0].FileOffset);
        Assert.Equal(900, chain[0].Length);
        Assert.Equal(4, target.MemoryBytes);
        target.Consume(54);
        Assert.Equal(150, target[0].FileOffset);
        Assert.True(target[0].IsFile);
        Assert.Equal(0, target.CopyTo(new byte[10]));
        target.Clear();
        Assert.NotEqual(-1, file.Fd);
        chain.Consume(900);
        Assert.Equal(-1, file.Fd);
        Assert.Equal("tail", Text(chain));
        chain.Clear();
        Assert.Equal(0, _pool.RentedBytes);
    }

    [Fact(DisplayName = "chain: an append larger than any slab is kept whole")]
    public void LargeAppend()
    {
        byte[] bytes = Rig.Pattern(300_000);
        var chain = new BufferChain(_pool);
        chain.Append(bytes);
        byte[] copy = new byte[bytes.Length];
        Assert.Equal(bytes.Length, chain.CopyTo(copy));
        Assert.True(bytes.AsSpan().SequenceEqual(copy));
        Assert.True(chain.GetSpan(65536).Length >= 65536);
        chain.Clear();
        Assert.Equal(0, _pool.RentedBytes);
    }

    [Fact(DisplayName = "chain: a loop's chains are reused and come back empty, as new")]
    public void Reused()
    {
        using var rig = new Rig(Rig.Memory);
        BufferChain chain = rig.Loop.RentChain();
        chain.TailSize = 65536;
        chain.Append("x"u8);
        rig.Loop.Return(chain);
        Assert.Equal(0, rig.Loop.Buffers.RentedBytes);
        BufferChain again = rig.Loop.RentChain();
        Assert.Same(chain, again);
        Assert.True(again.IsEmpty);
        Assert.Equal(4096, again.TailSize);
        Assert.NotSame(again, rig.Loop.RentChain());
    }

    private static string Text(BufferChain chain)
    {
        byte[] bytes = new byte[(int)chain.Length];
        Assert.Equal(bytes.Length, chain.CopyTo(bytes));
        return System.Text.Encoding.Latin1.GetString(bytes);
    }
}
