// Chunked bodies: which are accepted and what comes out, which are refused and why, and that pieces change nothing.
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Weir.Protocol.Http1;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public class ChunkedTests
{
    private static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    internal sealed record Result(string Body, string Trailers, RejectReason Reason, bool Ended, int Consumed);

    internal static Result Decode(byte[] bytes, params ReadOnlySpan<int> splits)
    {
        var decoder = new ChunkedDecoder();
        return Feed(ref decoder, bytes, splits);
    }

    private static Result Feed(ref ChunkedDecoder decoder, byte[] bytes, ReadOnlySpan<int> splits)
    {
        var body = new StringBuilder();
        var trailers = new StringBuilder();
        int at = 0;
        for (int piece = 0; piece <= splits.Length; piece++)
        {
            int end = piece == splits.Length ? bytes.Length : splits[piece];
            while (true)
            {
                ReadOnlySpan<byte> input = bytes.AsSpan(at, end - at);
                ChunkEvent e = decoder.Decode(input, out int consumed, out TextRange data, out TextRange trailer);
                body.Append(Encoding.Latin1.GetString(data.Of(input)));
                trailers.Append(Encoding.Latin1.GetString(trailer.Of(input)));
                at += consumed;
                if (e is ChunkEvent.End or ChunkEvent.Reject)
                {
                    return new Result(body.ToString(), trailers.ToString(), decoder.Reason, e == ChunkEvent.End, at);
                }
                if (e == ChunkEvent.NeedMore)
                {
                    Assert.Equal(input.Length, consumed);
                    break;
                }
                Assert.True(data.Length > 0);
            }
        }
        return new Result(body.ToString(), trailers.ToString(), decoder.Reason, false, at);
    }

    private static Result EverySplit(string text)
    {
        byte[] bytes = Bytes(text);
        Result whole = Decode(bytes);
        for (int split = 0; split <= bytes.Length; split++)
        {
            Assert.Equal(whole, Decode(bytes, split));
        }
        Assert.Equal(whole, Decode(bytes, [.. Enumerable.Range(1, Math.Max(0, bytes.Length - 1))]));
        return whole;
    }

    [Theory]
    [InlineData("0\r\n\r\n", "", "")]
    [InlineData("5\r\nhello\r\n0\r\n\r\n", "hello", "")]
    [InlineData("005\r\nhello\r\n0\r\n\r\n", "hello", "")]
    [InlineData("a\r\n0123456789\r\n00000\r\n\r\n", "0123456789", "")]
    [InlineData("A\r\n0123456789\r\n0\r\n\r\n", "0123456789", "")]
    [InlineData("1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", "abc", "")]
    [InlineData("2\r\n\r\n\r\n0\r\n\r\n", "\r\n", "")]
    [InlineData("1;x\r\na\r\n0\r\n\r\n", "a", "")]
    [InlineData("1;x=y\r\na\r\n0;z\r\n\r\n", "a", "")]
    [InlineData("1;x=\"y z;\\\"\r\na\r\n0\r\n\r\n", null, null)]
    [InlineData("1;x=\"y z;\\\"\"\r\na\r\n0\r\n\r\n", "a", "")]
    [InlineData("1; x = y ;q\r\na\r\n0\r\n\r\n", "a", "")]
    [InlineData("1 ;\tx=\"\" ;q ;r\r\na\r\n0\r\n\r\n", "a", "")]
    [InlineData("1;chunk-signature=0055627c\r\na\r\n0\r\n\r\n", "a", "")]
    [InlineData("0\r\nA: b\r\n\r\n", "", "A: b\r\n")]
    [InlineData("1\r\na\r\n0\r\nA: b\r\nC:d\r\n\r\n", "a", "A: b\r\nC:d\r\n")]
    [InlineData("0\r\nA:\r\n\r\n", "", "A:\r\n")]
    [InlineData("0\r\nA: \t\u00ff\r\n\r\n", "", "A: \t\u00ff\r\n")]
    public void Accepted(string text, string? body, string? trailers)
    {
        Result r = EverySplit(text);
        if (body is null)
        {
            Assert.False(r.Ended);
            return;
        }
        Assert.Equal(new Result(body, trailers!, RejectReason.None, true, text.Length), r);
    }

    [Theory]
    [InlineData("\r\n")]
    [InlineData("x\r\n")]
    [InlineData(" 5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("+5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("-5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("0x5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5 \r\nhello\r\n0\r\n\r\n")]
    [InlineData("5\t\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x \r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x=y \r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x y\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5_0\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5,5\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5\nhello\r\n0\r\n\r\n")]
    [InlineData("5\r\nhello\n0\r\n\r\n")]
    [InlineData("5\r\nhello0\r\n\r\n")]
    [InlineData("5\r\nhello!\r\n0\r\n\r\n")]
    [InlineData("5\r\nhello\r0\r\n\r\n")]
    [InlineData("5\rhello\r\n0\r\n\r\n")]
    [InlineData("5\r\rhello\r\n0\r\n\r\n")]
    [InlineData("5\0\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x\nhello\r\n0\r\n\r\n")]
    [InlineData("5;\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;;x\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;=x\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x=\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x=y z\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x=\"y\r\nz\"\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x=\"y\"z\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x\ry\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;\u00e9\r\nhello\r\n0\r\n\r\n")]
    [InlineData("5;x\0\r\nhello\r\n0\r\n\r\n")]
    [InlineData("0\n\n")]
    [InlineData("0\r\n\rx")]
    [InlineData("g\r\n")]
    public void RefusedAsChunk(string text) => Assert.Equal(RejectReason.InvalidChunk, Refused(text));

    [Theory]
    [InlineData("0\r\n A: b\r\n\r\n")]
    [InlineData("0\r\nA : b\r\n\r\n")]
    [InlineData("0\r\nA\r\n\r\n")]
    [InlineData("0\r\n: b\r\n\r\n")]
    [InlineData("0\r\nA: b\n\r\n")]
    [InlineData("0\r\nA: b\rc\r\n\r\n")]
    [InlineData("0\r\nA: b\0\r\n\r\n")]
    [InlineData("0\r\nA: b\r\n c\r\n\r\n")]
    [InlineData("0\r\nA\0: b\r\n\r\n")]
    [InlineData("0\r\n\n")]
    [InlineData("0\r\nA(: b\r\n\r\n")]
    public void RefusedAsTrailer(string text)
    {
        RejectReason reason = Refused(text);
        Assert.True(reason is RejectReason.InvalidTrailer or RejectReason.InvalidChunk, reason.ToString());
        Assert.Equal(400, RejectReasons.Status(reason));
    }

    [Theory]
    [InlineData("7fffffffffffffff\r\n", RejectReason.None)]
    [InlineData("8000000000000000\r\n", RejectReason.ChunkTooLarge)]
    [InlineData("ffffffffffffffff\r\n", RejectReason.ChunkTooLarge)]
    [InlineData("10000000000000000\r\n", RejectReason.ChunkTooLarge)]
    [InlineData("fffffffffffffffff1\r\n", RejectReason.ChunkTooLarge)]
    public void SizesThatDoNotFitAreRefused(string text, RejectReason reason) =>
        Assert.Equal(reason, EverySplit(text).Reason);

    private static RejectReason Refused(string text)
    {
        Result r = EverySplit(text);
        Assert.False(r.Ended);
        Assert.NotEqual(RejectReason.None, r.Reason);
        return r.Reason;
    }

    [Fact]
    public void BytesAfterTheBodyAreLeftAlone() =>
        Assert.Equal(10, Decode(Bytes("1\r\na\r\n0\r\n\r\nGET / HTTP/1.1\r\n")).Consumed - 1);

    [Fact]
    public void ExtensionsAreLimited()
    {
        string Body(int n) => "1;" + new string('x', n) + "\r\na\r\n0\r\n\r\n";
        Assert.True(Limited(Body(97)).Ended);
        Assert.True(Limited(Body(98)).Ended);
        Assert.Equal(RejectReason.ChunkExtensionTooLong, Limited(Body(99)).Reason);
        Assert.Equal(RejectReason.ChunkTooLarge, Limited(new string('0', 200)).Reason);

        // As many bytes of extensions as of data pass for ever.
        string chunk = "32;sig=" + new string('a', 40) + "\r\n" + new string('d', 50) + "\r\n";
        string signed = string.Concat(Enumerable.Repeat(chunk, 100)) + "0\r\n\r\n";
        Assert.True(Limited(signed).Ended);
    }

    [Fact]
    public void TrailersAreLimited()
    {
        string Body(int n) => "0\r\nA:" + new string('x', n - 3) + "\r\n\r\n";
        Assert.True(Limited(Body(49)).Ended);
        Assert.True(Limited(Body(50)).Ended);
        Assert.Equal(RejectReason.TrailersTooLarge, Limited(Body(51)).Reason);
    }

    private static Result Limited(string text)
    {
        var decoder = new ChunkedDecoder { ExtensionBytesMax = 99, TrailerBytesMax = 51 };
        return Feed(ref decoder, Bytes(text), default);
    }

    [Theory]
    [InlineData(1, "1\r\n")]
    [InlineData(15, "f\r\n")]
    [InlineData(16, "10\r\n")]
    [InlineData(255, "ff\r\n")]
    [InlineData(65536, "10000\r\n")]
    [InlineData(long.MaxValue, "7fffffffffffffff\r\n")]
    public void SizeLinesAreShortestHexadecimal(long size, string line)
    {
        Span<byte> buffer = stackalloc byte[ChunkedEncoder.SizeLineMax];
        int n = ChunkedEncoder.WriteSizeLine(size, buffer);
        Assert.Equal(line, Encoding.ASCII.GetString(buffer[..n]));
    }

    [Fact]
    public void WhatIsEncodedIsDecodedHowEverItIsSplit() => Prop.ForAll<byte[][], int[]>((parts, cuts) =>
    {
        var wire = new MemoryStream();
        var body = new MemoryStream();
        Span<byte> line = stackalloc byte[ChunkedEncoder.SizeLineMax];
        foreach (byte[] part in parts.Where(p => p.Length > 0))
        {
            wire.Write(line[..ChunkedEncoder.WriteSizeLine(part.Length, line)]);
            wire.Write(part);
            wire.Write(ChunkedEncoder.ChunkEnd);
            body.Write(part);
        }
        wire.Write(ChunkedEncoder.LastChunk);
        byte[] bytes = wire.ToArray();
        int[] splits = [.. cuts.Select(c => (int)((uint)c % (bytes.Length + 1))).Order()];
        Result r = Decode(bytes, splits);
        return r.Ended && r.Body == Encoding.Latin1.GetString(body.ToArray()) && r.Consumed == bytes.Length;
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void DecodingAllocatesNothing()
    {
        byte[] bytes = Bytes("5;a=b\r\nhello\r\n5\r\nworld\r\n0\r\nT: v\r\n\r\n");
        var decoder = new ChunkedDecoder();
        long before = 0;
        for (int i = 0; i < 10_100; i++)
        {
            if (i == 100)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }
            decoder.Reset();
            ReadOnlySpan<byte> rest = bytes;
            while (decoder.Decode(rest, out int consumed, out _, out _) == ChunkEvent.Data)
            {
                rest = rest[consumed..];
            }
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.True(decoder.IsEnded);
    }
}
