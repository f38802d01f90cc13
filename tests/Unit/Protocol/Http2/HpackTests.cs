// HPACK: the examples of RFC 7541 appendix C, what a block may not be, and that what the encoder writes is what the
// decoder reads.
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Weir.Protocol.Http2;
using Xunit;

namespace Weir.Tests.Unit.Protocol.Http2;

internal sealed class Collected : IHpackSink
{
    public List<string> Fields { get; } = [];

    public void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int staticName, bool sensitive)
    {
        if (staticName != 0)
        {
            Assert.Equal(Encoding.Latin1.GetString(HpackStaticTable.Name(staticName)), Encoding.Latin1.GetString(name));
        }
        Fields.Add($"{Encoding.Latin1.GetString(name)}: {Encoding.Latin1.GetString(value)}{(sensitive ? " \0" : "")}");
    }
}

public class HpackTests
{
    private const string Custom = "400a637573746f6d2d6b65790d637573746f6d2d686561646572";

    private static byte[] Hex(string text) => Convert.FromHexString(text.Replace(" ", ""));

    private static Http2Reason Decode(HpackDecoder decoder, byte[] block, out string fields, int listMax = 100_000)
    {
        var sink = new Collected();
        Http2Reason reason = decoder.Decode(block, new byte[8192], listMax, ref sink);
        fields = string.Join('\n', sink.Fields);
        return reason;
    }

    private static void Decodes(HpackDecoder decoder, string block, int tableSize, params string[] fields)
    {
        Assert.Equal(Http2Reason.None, Decode(decoder, Hex(block), out string got));
        Assert.Equal(string.Join('\n', fields), got);
        Assert.Equal(tableSize, decoder.TableSize);
    }

    [Fact]
    public void An_encoder_that_begins_anew_tells_its_peer_to_forget()
    {
        var encoder = new HpackEncoder();
        var decoder = new HpackDecoder();
        byte[] to = new byte[1024];
        Assert.True(encoder.IsUntouched);
        encoder.Allow(2000);
        Assert.False(encoder.IsUntouched);
        Say();
        Assert.Equal(1, decoder.TableCount);
        Assert.False(encoder.IsUntouched);
        encoder.Restart(2000, owesUpdate: true);
        Say();
        Assert.Equal((1, 2000), (decoder.TableCount, decoder.TableSizeMax));
        // With another peer nothing is owed.
        encoder.Restart(Http2Limits.TableSizeDefault, owesUpdate: false);
        Assert.True(encoder.IsUntouched);
        Assert.Equal(0, encoder.Begin(to));

        void Say()
        {
            int n = encoder.Begin(to);
            n += encoder.Field(to.AsSpan(n), "x-a"u8, "b"u8, HpackIndexing.Add);
            var sink = new Nobody();
            Assert.Equal(Http2Reason.None, decoder.Decode(to.AsSpan(0, n), new byte[256], 4096, ref sink));
        }
    }

    private struct Nobody : IHpackSink
    {
        public readonly void Field(scoped ReadOnlySpan<byte> name, scoped ReadOnlySpan<byte> value, int staticName,
            bool sensitive)
        {
        }
    }

    [Fact]
    public void SingleFieldsOfAppendixC2()
    {
        Decodes(new(), "400a637573746f6d2d6b65790d637573746f6d2d686561646572", 55, "custom-key: custom-header");
        Decodes(new(), "040c2f73616d706c652f70617468", 0, ":path: /sample/path");
        Decodes(new(), "100870617373776f726406736563726574", 0, "password: secret \0");
        Decodes(new(), "82", 0, ":method: GET");
    }

    [Theory]
    [InlineData("828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565")]
    [InlineData("828684418cf1e3c2e5f23a6ba0ab90f4ff", "828684be5886a8eb10649cbf",
        "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf")]
    public void RequestsOfAppendixC3AndC4(string first, string second, string third)
    {
        var decoder = new HpackDecoder();
        Decodes(decoder, first, 57, ":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com");
        Decodes(decoder, second, 110, ":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com",
            "cache-control: no-cache");
        Decodes(decoder, third, 164, ":method: GET", ":scheme: https", ":path: /index.html",
            ":authority: www.example.com", "custom-key: custom-value");
    }

    [Theory]
    [InlineData("4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d546e1768747470"
        + "733a2f2f7777772e6578616d706c652e636f6d", "4803333037c1c0bf",
        "88c1611d4d6f6e2c203231204f637420323031332032303a31333a323220474d54c05a04677a69707738666f6f3d4153444a4b48514b"
        + "425a584f5157454f50495541585157454f49553b206d61782d6167653d333630303b2076657273696f6e3d31")]
    [InlineData("488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff6e919d29ad171863c78f0b97c8e9ae"
        + "82ae43d3", "4883640effc1c0bf",
        "88c16196d07abe941054d444a8200595040b8166e084a62d1bffc05a839bd9ab77ad94e7821dd7f2e6c7b335dfdfcd5b3960d5af2708"
        + "7f3672c1ab270fb5291f9587316065c003ed4ee5b1063d5007")]
    public void ResponsesOfAppendixC5AndC6EvictFromASmallTable(string first, string second, string third)
    {
        var decoder = new HpackDecoder(256);
        Decodes(decoder, first, 222, ":status: 302", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com");
        Decodes(decoder, second, 222, ":status: 307", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com");
        Decodes(decoder, third, 215, ":status: 200", "cache-control: private", "date: Mon, 21 Oct 2013 20:13:22 GMT",
            "location: https://www.example.com", "content-encoding: gzip",
            "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
        Assert.Equal(3, decoder.TableCount);
    }

    [Theory]
    [InlineData("80", Http2Reason.HpackIndex)]
    [InlineData("be", Http2Reason.HpackIndex)]
    [InlineData("7e0161", Http2Reason.HpackIndex)]
    [InlineData("ff", Http2Reason.HpackTruncated)]
    [InlineData("ff80", Http2Reason.HpackTruncated)]
    [InlineData("ffffffffffffffff7f", Http2Reason.HpackInteger)]
    [InlineData("ff8080808080808000", Http2Reason.HpackInteger)]
    [InlineData("4001", Http2Reason.HpackTruncated)]
    [InlineData("400161", Http2Reason.HpackTruncated)]
    [InlineData("40016105616263", Http2Reason.HpackTruncated)]
    [InlineData("40", Http2Reason.HpackTruncated)]
    [InlineData("007fffffffffffff7f", Http2Reason.HpackInteger)]
    // Padding of a whole byte, padding that is not ones, EOS within.
    [InlineData("000161821fff", Http2Reason.HpackHuffman)]
    [InlineData("0001618118", Http2Reason.HpackHuffman)]
    [InlineData("00016184ffffffff", Http2Reason.HpackHuffman)]
    [InlineData("000161843fffffff", Http2Reason.HpackHuffman)]
    [InlineData("3fe21f", Http2Reason.HpackUpdateTooLarge)]
    [InlineData("8220", Http2Reason.HpackUpdateMisplaced)]
    [InlineData("3f", Http2Reason.HpackTruncated)]
    public void ABlockThatIsNoneIsRefused(string block, Http2Reason reason)
    {
        Assert.Equal(reason, Decode(new(), Hex(block), out _));
        Assert.Equal(Http2Error.CompressionError, Http2Reasons.ErrorOf(reason));
        Assert.True(Http2Reasons.IsConnectionError(reason));
    }

    [Fact]
    public void ALoweredTableSizeHasToBeSaidByThePeer()
    {
        var decoder = new HpackDecoder();
        Decodes(decoder, Custom, 55, "custom-key: custom-header");
        decoder.Allow(0);
        Assert.Equal(Http2Reason.HpackUpdateMissing, Decode(decoder, Hex("82"), out _));
        Assert.Equal(Http2Reason.HpackUpdateTooLarge, Decode(decoder, Hex("2182"), out _));
        Assert.Equal(Http2Reason.None, Decode(decoder, Hex("2082"), out _));
        Assert.Equal(0, decoder.TableSize);
        Assert.Equal(Http2Reason.None, Decode(decoder, Hex("82"), out _));
    }

    [Fact]
    public void ALoweredAndRaisedTableSizeIsEmptiedInBetween()
    {
        var decoder = new HpackDecoder();
        Decodes(decoder, Custom, 55, "custom-key: custom-header");
        Decodes(decoder, "203fe11f 82", 0, ":method: GET");
    }

    [Fact]
    public void AListThatIsTooLargeKeepsTheTableInStep()
    {
        var decoder = new HpackDecoder();
        byte[] block = Hex("400a637573746f6d2d6b65790d637573746f6d2d68656164657282");
        Assert.Equal(Http2Reason.HeaderListTooLarge, Decode(decoder, block, out string fields, listMax: 54));
        Assert.Equal("", fields);
        Assert.Equal(Http2Reason.HeaderListTooLarge, Decode(decoder, Hex("be82"), out fields, listMax: 55));
        Assert.Equal("custom-key: custom-header", fields);
        Assert.Equal(Http2Reason.None, Decode(decoder, Hex("be"), out _, listMax: 55));
    }

    [Fact]
    public void AFieldLargerThanTheScratchMemoryEmptiesTheTableAndIsNotPassedOn()
    {
        var decoder = new HpackDecoder(100);
        Decodes(decoder, Custom, 55, "custom-key: custom-header");
        // 61 bytes of Huffman code are 97 zeros.
        byte[] block = [0x40, 0x01, (byte)'a', 0x80 | 60, .. new byte[60], 0x82];
        var sink = new Collected();
        Assert.Equal(Http2Reason.HeaderListTooLarge, decoder.Decode(block, new byte[90], 10_000, ref sink));
        Assert.Empty(sink.Fields);
        Assert.Equal(0, decoder.TableCount);
    }

    [Fact]
    public void ANameMayComeFromTheEntryThatItsFieldEvicts()
    {
        var decoder = new HpackDecoder(64);
        Decodes(decoder, Custom, 55, "custom-key: custom-header");
        Decodes(decoder, "7e0161", 43, "custom-key: a");
        Decodes(decoder, "be", 43, "custom-key: a");
    }

    [Fact]
    public void EverySymbolSurvivesTheHuffmanCode()
    {
        byte[] all = [.. Enumerable.Range(0, 256).Select(static c => (byte)c)];
        byte[] code = new byte[HpackHuffman.EncodedLength(all)];
        HpackHuffman.Instance.Encode(all, code);
        byte[] back = new byte[256];
        Assert.Equal(256, HpackHuffman.Instance.Decode(code, back));
        Assert.Equal(all, back);
        Assert.Equal(HpackHuffman.NoRoom, HpackHuffman.Instance.Decode(code, new byte[255]));
    }

    [Fact]
    public void AnyTextSurvivesTheHuffmanCode() => Prop.ForAll<byte[]>(static text =>
    {
        byte[] code = new byte[HpackHuffman.EncodedLength(text)];
        HpackHuffman.Instance.Encode(text, code);
        byte[] back = new byte[text.Length];
        return HpackHuffman.Instance.Decode(code, back) == text.Length && back.AsSpan().SequenceEqual(text);
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void RepeatedFieldsAreOneByteEach()
    {
        var encoder = new HpackEncoder();
        byte[] to = new byte[1024];
        int Block()
        {
            int n = encoder.Begin(to);
            n += encoder.Status(to.AsSpan(n), 200);
            n += encoder.Field(to.AsSpan(n), "Server"u8, "weir"u8, HpackIndexing.Add);
            n += encoder.Field(to.AsSpan(n), "Content-Type"u8, "text/html"u8, HpackIndexing.Add);
            n += encoder.Field(to.AsSpan(n), "X-Own"u8, "yes"u8, HpackIndexing.Add);
            n += encoder.Field(to.AsSpan(n), "Content-Length"u8, "1024"u8, HpackIndexing.Literal);
            return n;
        }
        int first = Block();
        int second = Block();
        Assert.True(second < first);
        Assert.Equal("88c0bfbe0f0d", Convert.ToHexStringLower(to.AsSpan(0, 6)));
        Assert.Equal(3, encoder.TableCount);
    }

    [Fact]
    public void ThePeersTableSizeIsHonouredAndSaid()
    {
        var encoder = new HpackEncoder();
        byte[] to = new byte[256];
        encoder.Field(to, "a"u8, "b"u8, HpackIndexing.Add);
        encoder.Allow(0);
        encoder.Allow(100_000);
        Assert.Equal(0, encoder.TableCount);
        Assert.Equal("203fe11f", Convert.ToHexStringLower(to.AsSpan(0, encoder.Begin(to))));
        Assert.Equal(0, encoder.Begin(to));
        encoder.Allow(64);
        Assert.Equal("3f21", Convert.ToHexStringLower(to.AsSpan(0, encoder.Begin(to))));
        Assert.Equal(64, encoder.TableSizeMax);
    }

    [Fact]
    public void WhatTheEncoderWritesTheDecoderReads()
    {
        var random = new Random(7);
        string[] names =
            ["server", "content-type", "x-a", "date", "set-cookie", ":status", "etag", "vary", "x-long-name"];
        for (int round = 0; round < 200; round++)
        {
            int size = random.Next(5) == 0 ? random.Next(200) : 4096;
            var encoder = new HpackEncoder(size);
            var decoder = new HpackDecoder();
            byte[] to = new byte[65_536];
            for (int block = 0; block < 20; block++)
            {
                if (random.Next(10) == 0)
                {
                    encoder.Allow((uint)random.Next(4097));
                }
                var expected = new List<string>();
                int n = encoder.Begin(to);
                for (int i = random.Next(20); i >= 0; i--)
                {
                    string name = names[random.Next(names.Length)];
                    int length = random.Next(random.Next(4) == 0 ? 300 : 9);
                    string value = new((char)random.Next(33, 127), length);
                    var indexing = (HpackIndexing)random.Next(3);
                    int written = encoder.Field(
                        to.AsSpan(n), Encoding.ASCII.GetBytes(name.ToUpperInvariant()), Encoding.ASCII.GetBytes(value),
                        indexing);
                    Assert.InRange(written, 1, HpackEncoder.BytesMax(name.Length, value.Length));
                    n += written;
                    expected.Add($"{name}: {value}");
                }
                Assert.Equal(Http2Reason.None, Decode(decoder, to[..n], out string got));
                Assert.Equal(string.Join('\n', expected), got.Replace(" \0", ""));
            }
            Assert.Equal(encoder.TableCount, decoder.TableCount);
        }
    }

    [Fact]
    public void NeitherDirectionAllocatesOnceItsTableStands()
    {
        var encoder = new HpackEncoder();
        var decoder = new HpackDecoder();
        var sink = default(Counting);
        byte[] to = new byte[1024];
        byte[] scratch = new byte[4096];
        Span<byte> date = stackalloc byte[30];
        long before = 0;
        for (int i = 0; i < 3000; i++)
        {
            if (i == 2000)
            {
                before = GC.GetAllocatedBytesForCurrentThread();
            }
            int n = encoder.Begin(to);
            n += encoder.Status(to.AsSpan(n), 200);
            n += encoder.Field(to.AsSpan(n), "Server"u8, "weir"u8, HpackIndexing.Add);
            date.Fill((byte)('a' + i % 26));
            date[0] = (byte)(i >> 3);
            n += encoder.Field(to.AsSpan(n), "Date"u8, date, HpackIndexing.Add);
            decoder.Decode(to.AsSpan(0, n), scratch, 10_000, ref sink);
        }
        Assert.Equal(0, GC.GetAllocatedBytesForCurrentThread() - before);
        Assert.Equal(9000, sink.Count);
    }

    private struct Counting : IHpackSink
    {
        public int Count;

        public void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int staticName, bool sensitive) => Count++;
    }
}
