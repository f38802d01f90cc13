// Fuzzing in the small, with seeds that a failure prints: frames and header blocks that are nearly right. Nothing may
// throw, cutting the input into pieces may not change what is said of it, and memory stays within its limits.
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;
using Xunit;

namespace Weir.Tests.Unit.Protocol.Http2;

public class Http2FuzzTests
{
    private const int Rounds = 20_000;

    private static readonly string[] Frames =
    [
        "000000040000000000", "0000060400000000000004000fffff", "000000040100000000",
        "0000080600000000000102030405060708", "0000040800000000000000ffff", "00000408000000000100000001",
        "0000030104000000018286be", "000003010000000001828684", "0000020904000000010f00",
        "00000500010000000168656c6c6f",
        "00000a0109000000010300000000ff8286000000", "0000040300000000030000000b",
        "0000080700000000000000000100000002",
        "00000502000000000380000000ff", "00000910000000000000000003753d312c69", "000002ee00000000070102",
        "000007000b0000000103616263000000",
    ];

    private static readonly string[] Blocks =
    [
        "828684410f7777772e6578616d706c652e636f6d", "828684be58086e6f2d6361636865",
        "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565", "828684418cf1e3c2e5f23a6ba0ab90f4ff",
        "828684be5886a8eb10649cbf", "408825a849e95ba97d7f8925a849e95bb8e8b4bf", "203fe11f82", "3f01be", "c1c0bf",
        "488264025885aec3771a4b6196d07abe941054d444a8200595040b8166e082a62d1bff", "1001610162", "0f0d0131",
    ];

    private static byte[] Mutate(Random random, string[] corpus, int most)
    {
        var bytes = new List<byte>();
        for (int i = random.Next(most) + 1; i > 0; i--)
        {
            bytes.AddRange(Convert.FromHexString(corpus[random.Next(corpus.Length)]));
        }
        for (int i = random.Next(4); i > 0 && bytes.Count > 0; i--)
        {
            int at = random.Next(bytes.Count);
            switch (random.Next(4))
            {
                case 0:
                    bytes[at] = (byte)random.Next(256);
                    break;
                case 1:
                    bytes[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 2:
                    bytes.RemoveRange(at, Math.Min(random.Next(4), bytes.Count - at));
                    break;
                default:
                    bytes.Insert(at, (byte)random.Next(256));
                    break;
            }
        }
        return [.. bytes];
    }

    private static void Fuzz(string[] corpus, int most, int salt, Action<byte[], Random> check)
    {
        for (int round = 0; round < Rounds; round++)
        {
            int seed = salt * 1_000_003 + round;
            var random = new Random(seed);
            byte[] bytes = Mutate(random, corpus, most);
            try
            {
                check(bytes, random);
            }
            catch (Exception e)
            {
                Assert.Fail($"seed {seed}, input {Convert.ToHexString(bytes)}: {e}");
            }
        }
    }

    [Fact]
    public void FramesSayTheSameInAnyPieces() => Fuzz(Frames, 6, 21, static (bytes, random) =>
    {
        byte[] all = [.. Convert.FromHexString(Frames[0]), .. bytes];
        string whole = FrameReaderTests.Say(all, () => all.Length);
        Assert.Equal(whole, FrameReaderTests.Say(all, () => random.Next(1, 9)));
    });

    [Fact]
    public void HeaderBlocksKeepTheirLimits() => Fuzz(Blocks, 3, 22, static (bytes, random) =>
    {
        int size = random.Next(300);
        var decoder = new HpackDecoder(size);
        for (int i = 0; i < 3; i++)
        {
            var head = new RequestHead();
            int room = random.Next(200);
            var sink = new RequestFields(
                new byte[room], head, new ParseOptions { MaxHeaders = random.Next(5) }, random.Next(2) == 0);
            Http2Reason reason = decoder.Decode(bytes, new byte[300], random.Next(400), ref sink);
            Assert.InRange(decoder.TableSize, 0, size);
            Assert.True(decoder.TableCount * 32 <= size);
            if (reason == Http2Reason.None && sink.Finish(true) == Http2Reason.None)
            {
                Assert.InRange(head.HeadLength, 1, room);
            }
            if (Http2Reasons.IsConnectionError(reason))
            {
                break;
            }
        }
    });

    [Fact]
    public void HuffmanCodeIsDecodedOrRefused() => Fuzz(Blocks, 4, 23, static (bytes, random) =>
    {
        byte[] to = new byte[random.Next(60)];
        int n = HpackHuffman.Instance.Decode(bytes, to);
        Assert.True(n is HpackHuffman.Invalid or HpackHuffman.NoRoom || n <= to.Length);
        if (n >= 0)
        {
            byte[] again = new byte[HpackHuffman.EncodedLength(to.AsSpan(0, n))];
            HpackHuffman.Instance.Encode(to.AsSpan(0, n), again);
            Assert.Equal(bytes, again);
        }
    });
}
