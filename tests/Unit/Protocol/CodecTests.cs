// PROXY headers, FastCGI records and DNS messages: tables, splits and round trips.
using System.Buffers.Binary;
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Weir.Protocol.Dns;
using Weir.Protocol.FastCgi;
using Weir.Protocol.Http1;
using Weir.Protocol.Proxy;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public class CodecTests
{
    private static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    private static string Text(ProxyAddress address)
    {
        byte[] b = new byte[ProxyAddress.TextMax];
        return $"{Encoding.ASCII.GetString(b, 0, address.Format(b))} {address.Port}";
    }

    [Theory]
    [InlineData("PROXY TCP4 1.2.3.4 255.0.0.1 1 65535\r\n", "1.2.3.4 1", "255.0.0.1 65535")]
    [InlineData("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", "0.0.0.0 0", "0.0.0.0 0")]
    [InlineData("PROXY TCP6 ::1 2001:DB8::ff:0:0:1 80 443\r\n", "::1 80", "2001:db8::ff:0:0:1 443")]
    [InlineData("PROXY TCP6 ::ffff:1.2.3.4 1:2:3:4:5:6:7:8 80 443\r\n", "::ffff:1.2.3.4 80", "1:2:3:4:5:6:7:8 443")]
    [InlineData("PROXY UNKNOWN\r\n", null, null)]
    [InlineData("PROXY UNKNOWN ffff:f...f:ffff 65535\r\n", null, null)]
    public void ProxyLinesAreRead(string text, string? source, string? destination)
    {
        byte[] bytes = Bytes(text + "GET");
        for (int n = 0; n < text.Length; n++)
        {
            Assert.Equal(ParseStep.NeedMore, ProxyProtocol.Read(bytes.AsSpan(0, n), out _));
        }
        Assert.Equal(ParseStep.Done, ProxyProtocol.Read(bytes, out ProxyHeader header));
        Assert.Equal(text.Length, header.Length);
        Assert.Equal(source is null, header.Source.IsNone);
        if (source is not null)
        {
            Assert.Equal(source, Text(header.Source));
            Assert.Equal(destination, Text(header.Destination));
        }
    }

    [Theory]
    [InlineData("GET / HTTP/1.1\r\n")]
    [InlineData("proxy TCP4 1.2.3.4 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP4  1.2.3.4 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.4 1.2.3.4 1 1\n")]
    [InlineData("PROXY TCP4 1.2.3.4 1.2.3.4 1 1 \r\n")]
    [InlineData("PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.4.5 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.256 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.04 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.4 1.2.3.4 65536 1\r\n")]
    [InlineData("PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n")]
    [InlineData("PROXY TCP4 ::1 ::1 1 1\r\n")]
    [InlineData("PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n")]
    [InlineData("PROXY TCP6 ::1::2 ::1 1 1\r\n")]
    [InlineData("PROXY TCP6 1:2:3:4:5:6:7 ::1 1 1\r\n")]
    [InlineData("PROXY TCP6 1:2:3:4:5:6:7:8:9 ::1 1 1\r\n")]
    [InlineData("PROXY TCP6 12345::1 ::1 1 1\r\n")]
    [InlineData("PROXY TCP6 1:: 1: 1 1\r\n")]
    [InlineData("PROXY TCP6 fe80::1%eth0 ::1 1 1\r\n")]
    [InlineData("PROXY UNKNOWNX\r\n")]
    [InlineData("\r\n\r\n\0\r\nQUIX\n\0\0\0\0")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n\u0031\u0011\0\0")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n\u0022\u0011\0\0")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n\u0021\u0011\0\u000bxxxxxxxxxxx")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n\u0021\u0011\0\u000exxxxxxxxxxxxxx")]
    [InlineData("\r\n\r\n\0\r\nQUIT\n\u0021\u0011\u00ff\u00ff")]
    public void BrokenProxyHeadersAreRefused(string text) =>
        Assert.Equal(ParseStep.Reject, ProxyProtocol.Read(Bytes(text), out _));

    [Fact]
    public void AProxyLineEndsWithin107Bytes()
    {
        string at = "PROXY UNKNOWN " + new string('x', 91) + "\r\n";
        string over = "PROXY UNKNOWN " + new string('x', 92) + "\r\n";
        Assert.Equal(107, at.Length);
        Assert.Equal(ParseStep.Done, ProxyProtocol.Read(Bytes(at), out _));
        Assert.Equal(ParseStep.Reject, ProxyProtocol.Read(Bytes(over), out _));
    }

    [Fact]
    public void ProxyHeadersReadAsTheyWereWritten() => Prop.ForAll<byte[], ushort, ushort>((bytes, from, to) =>
    {
        byte[] raw = new byte[32];
        bytes.AsSpan(0, Math.Min(32, bytes.Length)).CopyTo(raw);
        bool four = bytes.Length % 2 == 0;
        var source = new ProxyAddress(raw.AsSpan(0, four ? 4 : 16), from);
        var destination = new ProxyAddress(raw.AsSpan(16, four ? 4 : 16), to);
        byte[] buffer = new byte[256];
        int n = ProxyProtocol.Write1(source, destination, buffer);
        bool fine = ProxyProtocol.Read(buffer.AsSpan(0, n), out ProxyHeader h) == ParseStep.Done && h.Length == n
            && h.Source == source && h.Destination == destination;
        n = ProxyProtocol.Write2(source, destination, datagram: four, [0x20, 0, 2, 7, 7], buffer);
        for (int k = 0; k < n; k++)
        {
            fine &= ProxyProtocol.Read(buffer.AsSpan(0, k), out _) == ParseStep.NeedMore;
        }
        fine &= ProxyProtocol.Read(buffer.AsSpan(0, n), out h) == ParseStep.Done && h.Length == n
            && h.Source == source && h.Destination == destination && h.IsDatagram == four;
        ReadOnlySpan<byte> tlvs = h.Tlvs.Of(buffer);
        fine &= ProxyProtocol.NextTlv(ref tlvs, out byte type, out ReadOnlySpan<byte> value) && type == 0x20
            && value.SequenceEqual("\a\a"u8) && !ProxyProtocol.NextTlv(ref tlvs, out _, out _);
        return fine;
    }).QuickCheckThrowOnFailure();

    [Fact]
    public void LocalAndForeignFamiliesSayNothing()
    {
        byte[] buffer = new byte[64];
        int n = ProxyProtocol.Write2(default, default, false, default, buffer);
        Assert.Equal(ParseStep.Done, ProxyProtocol.Read(buffer.AsSpan(0, n), out ProxyHeader header));
        Assert.True(header.IsLocal && header.Source.IsNone);
        Assert.Equal(ParseStep.Done,
            ProxyProtocol.Read(Bytes("\r\n\r\n\0\r\nQUIT\n\u0021\u0000\0\u0000"), out header));
        Assert.True(!header.IsLocal && header.Source.IsNone);
        Assert.Equal("PROXY UNKNOWN\r\n",
            Encoding.ASCII.GetString(buffer, 0, ProxyProtocol.Write1(default, default, buffer)));
    }

    [Fact]
    public void FastCgiParamsHaveShortAndLongLengths()
    {
        byte[] b = new byte[400];
        Assert.Equal(6, FastCgiWriter.WriteParam("ab"u8, "cd"u8, b));
        Assert.Equal(Bytes("\u0002\u0002abcd"), b[..6]);
        byte[] value = new byte[200];
        int n = FastCgiWriter.WriteParam("a"u8, value, b);
        Assert.Equal(1 + 4 + 1 + 200, n);
        Assert.Equal(n, FastCgiWriter.ParamLength(1, 200));
        Assert.Equal(0x800000C8u, BinaryPrimitives.ReadUInt32BigEndian(b.AsSpan(1)));
        Assert.Equal(16, FastCgiWriter.WriteBeginRequest(true, b));
        Assert.Equal(Bytes("\u0001\u0001\0\u0001\0\u0008\0\0\0\u0001\u0001\0\0\0\0\0"), b[..16]);
        Assert.Equal(7, FastCgiWriter.Padding(1));
        Assert.Equal(0, FastCgiWriter.Padding(8));
    }

    private static byte[] Record(byte type, string content, int padding, int id = 1, int version = 1)
    {
        byte[] body = Bytes(content);
        return [(byte)version, type, 0, (byte)id, (byte)(body.Length >> 8), (byte)body.Length, (byte)padding, 0,
            .. body, .. new byte[padding]];
    }

    private static string ReadRecords(byte[] bytes, int step)
    {
        var reader = new FastCgiReader();
        var output = new StringBuilder();
        int at = 0;
        for (int end = Math.Min(step, bytes.Length); ; end = Math.Min(end + step, bytes.Length))
        {
            while (true)
            {
                ReadOnlySpan<byte> input = bytes.AsSpan(at, end - at);
                FastCgiEvent e = reader.Read(input, out int consumed, out TextRange data);
                output.Append(e == FastCgiEvent.Stderr ? Encoding.Latin1.GetString(data.Of(input)).ToUpperInvariant()
                    : Encoding.Latin1.GetString(data.Of(input)));
                at += consumed;
                if (e == FastCgiEvent.StdoutEnd)
                {
                    output.Append('$');
                }
                if (e == FastCgiEvent.End)
                {
                    return $"{output} end {reader.AppStatus} {reader.ProtocolStatus} {at}";
                }
                if (e == FastCgiEvent.Reject)
                {
                    return $"{output} {reader.Fault}";
                }
                if (e == FastCgiEvent.NeedMore)
                {
                    break;
                }
            }
            if (end == bytes.Length)
            {
                return $"{output} more";
            }
        }
    }

    [Fact]
    public void FastCgiAnswersAreReadHowEverTheyArrive()
    {
        byte[] answer = [.. Record(6, "hello ", 2), .. Record(7, "oops", 4), .. Record(6, "world", 0),
            .. Record(6, "", 8), .. Record(3, "\0\0\0\u0007\u0003\0\0\0", 3), .. Bytes("rest")];
        string expected = $"hello OOPSworld$ end 7 3 {answer.Length - 4}";
        for (int step = 1; step <= answer.Length; step++)
        {
            Assert.Equal(expected, ReadRecords(answer, step));
        }
    }

    [Fact]
    public void ForeignFastCgiRecordsAreRefused()
    {
        Assert.Equal(" Version", ReadRecords(Record(6, "x", 0, version: 2), 3));
        Assert.Equal(" RequestId", ReadRecords(Record(6, "x", 0, id: 2), 3));
        Assert.Equal(" Type", ReadRecords(Record(10, "x", 0), 3));
        Assert.Equal(" Type", ReadRecords(Record(0, "x", 0), 3));
        Assert.Equal(" EndRequestLength", ReadRecords(Record(3, "1234567", 0), 3));
        Assert.Equal("x more", ReadRecords(Record(6, "x", 0), 3));
    }

    private const ushort Id = 0x1234;

    private static byte[] Answer(string name, DnsType type, int flags, params byte[][] records)
    {
        byte[] query = new byte[DnsCodec.QueryMax];
        int n = DnsCodec.WriteQuery(Id, Bytes(name), type, query);
        byte[] message = [.. query[..n], .. records.SelectMany(r => r)];
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(2), (ushort)(0x8180 | flags));
        BinaryPrimitives.WriteUInt16BigEndian(message.AsSpan(6), (ushort)records.Length);
        return message;
    }

    private static byte[] Dns(byte[] owner, DnsType type, int ttl, byte[] data) =>
        [.. owner, 0, (byte)type, 0, 1, (byte)(ttl >> 24), (byte)(ttl >> 16), (byte)(ttl >> 8), (byte)ttl,
            (byte)(data.Length >> 8), (byte)data.Length, .. data];

    private static byte[] Name(string name) =>
        [.. name.Split('.').SelectMany(l => (byte[])[(byte)l.Length, .. Bytes(l)]), 0];

    private static readonly byte[] ToQuestion = [0xC0, 12];

    [Fact]
    public void DnsAddressesAreReadThroughAliases()
    {
        byte[] message = Answer("www.example.com", DnsType.A, 0,
            Dns(ToQuestion, DnsType.Cname, 60, Name("WEB.example.net")),
            Dns(Name("web.example.net"), DnsType.A, 300, [1, 2, 3, 4]),
            Dns(Name("other.example.net"), DnsType.A, 5, [9, 9, 9, 9]),
            Dns(Name("web.example.net"), DnsType.A, 200, [5, 6, 7, 8]));
        var records = new DnsRecord[4];
        Assert.Equal(DnsOutcome.Ok,
            DnsCodec.ReadAnswer(message, Id, "WWW.Example.com."u8, DnsType.A, records, out DnsAnswer answer));
        Assert.Equal(2, answer.Count);
        Assert.Equal(60u, answer.TtlMin);
        Assert.Equal([1, 2, 3, 4], records[0].Data.Of(message).ToArray());
        Assert.Equal([5, 6, 7, 8], records[1].Data.Of(message).ToArray());
        for (int n = 0; n < message.Length; n++)
        {
            Assert.NotEqual(DnsOutcome.Ok,
                DnsCodec.ReadAnswer(message.AsSpan(0, n), Id, "www.example.com"u8, DnsType.A, records, out _));
        }
    }

    [Fact]
    public void DnsServicesNameTheirTargets()
    {
        byte[] message = Answer("_http._tcp.x", DnsType.Srv, 0,
            Dns(ToQuestion, DnsType.Srv, 9, [0, 1, 0, 2, 0x1F, 0x90, .. Name("a.b")]));
        var records = new DnsRecord[1];
        Assert.Equal(DnsOutcome.Ok, DnsCodec.ReadAnswer(message, Id, "_http._tcp.x"u8, DnsType.Srv, records, out _));
        Assert.Equal((1, 2, 8080), (records[0].Priority, records[0].Weight, records[0].Port));
        byte[] name = new byte[DnsCodec.NameMax];
        Assert.True(DnsCodec.ReadName(message, records[0].TargetOffset, name, out int length, out _));
        Assert.Equal("a.b", Encoding.ASCII.GetString(name, 0, length));
    }

    [Fact]
    public void DnsOutcomesAreToldApart()
    {
        var r = new DnsRecord[1];
        DnsOutcome Read(byte[] m, string name = "a.b") =>
            DnsCodec.ReadAnswer(m, Id, Bytes(name), DnsType.A, r, out _);
        Assert.Equal(DnsOutcome.Refused, Read(Answer("a.b", DnsType.A, 3)));
        Assert.Equal(DnsOutcome.Truncated, Read(Answer("a.b", DnsType.A, 0x200)));
        Assert.Equal(DnsOutcome.Foreign, Read(Answer("a.c", DnsType.A, 0)));
        Assert.Equal(DnsOutcome.Foreign, Read(Answer("a.b", DnsType.Aaaa, 0)));
        Assert.Equal(DnsOutcome.Ok, Read(Answer("a.b", DnsType.A, 0)));
        Assert.Equal(DnsOutcome.Alias,
            Read(Answer("a.b", DnsType.A, 0, Dns(ToQuestion, DnsType.Cname, 1, Name("c.d")))));
        Assert.Equal(DnsOutcome.Malformed, Read(Answer("a.b", DnsType.A, 0, Dns(ToQuestion, DnsType.A, 1, [1, 2, 3]))));
        Assert.Equal(DnsOutcome.Foreign,
            DnsCodec.ReadAnswer(Answer("a.b", DnsType.A, 0), Id + 1, "a.b"u8, DnsType.A, r, out _));
    }

    [Fact]
    public void DnsAliasesAndPointersThatTurnInCirclesAreRefused()
    {
        var r = new DnsRecord[1];
        byte[] circle = Answer("a.b", DnsType.A, 0, Dns(ToQuestion, DnsType.Cname, 1, Name("c.d")),
            Dns(Name("c.d"), DnsType.Cname, 1, Name("a.b")));
        Assert.Equal(DnsOutcome.Malformed, DnsCodec.ReadAnswer(circle, Id, "a.b"u8, DnsType.A, r, out _));
        int question = 12 + 5 + 4;
        foreach (int target in (int[])[question, question + 1, question + 2, 4000, 0])
        {
            byte[] self = Answer("a.b", DnsType.A, 0,
                Dns([(byte)(0xC0 | target >> 8), (byte)target], DnsType.A, 1, [1, 2, 3, 4]));
            Assert.Equal(DnsOutcome.Malformed, DnsCodec.ReadAnswer(self, Id, "a.b"u8, DnsType.A, r, out _));
        }
    }

    [Theory]
    [InlineData("", false)]
    [InlineData(".", false)]
    [InlineData("a..b", false)]
    [InlineData(".a", false)]
    [InlineData("a.b.", true)]
    [InlineData("localhost", true)]
    public void DnsNamesAreChecked(string name, bool fine) =>
        Assert.Equal(fine, DnsCodec.WriteQuery(1, Bytes(name), DnsType.A, new byte[DnsCodec.QueryMax]) > 0);

    [Fact]
    public void DnsLabelsAndNamesHaveTheirLimits()
    {
        byte[] b = new byte[DnsCodec.QueryMax + 10];
        Assert.True(DnsCodec.WriteQuery(1, Bytes(new string('a', 63)), DnsType.A, b) > 0);
        Assert.Equal(0, DnsCodec.WriteQuery(1, Bytes(new string('a', 64)), DnsType.A, b));
        string longest = string.Join('.', Enumerable.Repeat(new string('a', 49), 5)) + ".aaa";
        Assert.Equal(253, longest.Length);
        Assert.True(DnsCodec.WriteQuery(1, Bytes(longest), DnsType.A, b) > 0);
        Assert.Equal(0, DnsCodec.WriteQuery(1, Bytes(longest + "a"), DnsType.A, b));
    }
}
