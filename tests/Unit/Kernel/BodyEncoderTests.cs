// Encoders used again: what they write after a reset is what a new one writes, and no memory is asked for anew.
using System.IO.Compression;
using System.Text;
using Weir.Kernel;
using Xunit;
using BrotliEncoder = Weir.Kernel.BrotliEncoder;

namespace Weir.Tests.Unit.Kernel;

public sealed unsafe class BodyEncoderTests
{
    private static readonly byte[] s_page = Encoding.Latin1.GetBytes(
        string.Concat(Enumerable.Range(0, 6000).Select(static i => $"line {i % 37} of {i * 7919 % 1000}\n")));

    private static byte[] Encode(BodyEncoder encoder, byte[] body, bool finish = true)
    {
        var written = new MemoryStream();
        byte[] room = new byte[4096];
        fixed (byte* input = body, output = room)
        {
            var left = new NativeSlice(input, body.Length);
            bool hasMore = true;
            while (hasMore)
            {
                Assert.True(encoder.Step(left, out int taken, new NativeSlice(output, room.Length), out int given,
                    finish ? EncoderFlush.Finish : EncoderFlush.None, out hasMore));
                written.Write(room, 0, given);
                left = left.Slice(taken);
            }
        }
        return written.ToArray();
    }

    private static BodyEncoder Create(bool brotli)
    {
        Assert.Null(brotli ? BrotliEncoder.Load() : ZstdEncoder.Load());
        return brotli ? BrotliEncoder.Create(6, 19)! : ZstdEncoder.Create(3)!;
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void An_encoder_that_was_reset_writes_what_a_new_one_writes(bool brotli)
    {
        using BodyEncoder encoder = Create(brotli);
        byte[] first = Encode(encoder, s_page);
        Assert.True(encoder.Reset());
        Assert.Equal(first, Encode(encoder, s_page));
        Assert.True(encoder.Reset());
        Encode(encoder, s_page[..9000], finish: false);
        Assert.True(encoder.Reset());
        Assert.Equal(first, Encode(encoder, s_page));
        if (brotli)
        {
            using var stream = new BrotliStream(new MemoryStream(first), CompressionMode.Decompress);
            var back = new MemoryStream();
            stream.CopyTo(back);
            Assert.Equal(s_page, back.ToArray());
        }
    }

    [Fact]
    public void A_second_body_asks_the_system_for_no_memory()
    {
        using var encoder = (BrotliEncoder)Create(brotli: true);
        Encode(encoder, s_page);
        Assert.True(encoder.Reset());
        Encode(encoder, s_page);
        long blocks = encoder.BlocksAllocated;
        long bytes = encoder.Bytes;
        Assert.InRange(bytes, 100_000, 8_000_000);
        for (int i = 0; i < 50; i++)
        {
            Assert.True(encoder.Reset());
            Encode(encoder, s_page);
        }
        Assert.Equal(blocks, encoder.BlocksAllocated);
        Assert.Equal(bytes, encoder.Bytes);
    }

    [Fact]
    public void What_zstd_holds_does_not_grow_with_the_bodies()
    {
        using BodyEncoder encoder = Create(brotli: false);
        Encode(encoder, s_page);
        long bytes = encoder.Bytes;
        for (int i = 0; i < 50; i++)
        {
            Assert.True(encoder.Reset());
            Encode(encoder, s_page);
        }
        Assert.Equal(bytes, encoder.Bytes);
    }
}
