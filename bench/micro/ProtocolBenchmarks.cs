// What stands below a request: heads, dates, buffers, timers, HPACK.
using BenchmarkDotNet.Attributes;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;

namespace Weir.Bench.Micro;

public class ProtocolBenchmarks
{
    private static readonly byte[] _head = System.Text.Encoding.Latin1.GetBytes(
        "GET /docs/page-17.html?a=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
        + "Accept: text/html,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
        + "Cookie: session=0123456789abcdef; theme=dark\r\n\r\n");

    private readonly RequestHead _parsed = new();
    private readonly ParseOptions _options = new();
    private readonly byte[] _text = new byte[64];
    private readonly BufferPool _pool = new();
    private readonly TimerWheel _wheel = new(1000);
    private readonly CallbackTimer[] _timers =
        [.. Enumerable.Range(0, 1000).Select(static _ => new CallbackTimer(static () => { }))];
    private readonly HpackEncoder _encoder = new();
    private readonly HpackDecoder _decoder = new();
    private readonly byte[] _block = new byte[512];
    private readonly byte[] _scratch = new byte[4096];
    private readonly byte[] _headText = new byte[2048];
    private RequestHeadParser _parser;
    private long _second = 1_790_000_000;
    private long _now = 1000;
    private int _next;
    private int _blockLength;

    [GlobalSetup]
    public void SetUp() => _blockLength = HpackWriting();

    [Benchmark(Description = "head parsing")]
    public ParseStep HeadParsing()
    {
        _parser.Reset();
        return _parser.Parse(_head, _parsed, in _options);
    }

    [Benchmark(Description = "date formatting")]
    public void DateFormatting() => HttpDate.Format(_second++, _text);

    [Benchmark(Description = "log time formatting")]
    public void LogTimeFormatting() => TimeFormats.WriteLocal(_second++, 120, _text);

    [Benchmark(Description = "buffer pool, rent and release")]
    public void Pool() => _pool.Rent().Release();

    [Benchmark(Description = "timer wheel, set")]
    public void TimerSet() => _wheel.Set(_timers[_next = (_next + 1) % _timers.Length], _now + 60_000 + _next);

    [Benchmark(Description = "timer wheel, advance")]
    public void TimerAdvance() => _wheel.Advance(_now += 1);

    [Benchmark(Description = "HPACK, reading a request")]
    public void HpackReading()
    {
        var fields = new RequestFields(_headText, _parsed, in _options, extendedConnect: false);
        _decoder.Decode(_block.AsSpan(0, _blockLength), _scratch, 65_536, ref fields);
        fields.Finish(endStream: true);
    }

    [Benchmark(Description = "HPACK, writing it")]
    public int HpackWriting()
    {
        Span<byte> to = _block;
        int n = _encoder.Begin(to);
        n += HpackEncoder.Indexed(to[n..], HpackStaticTable.MethodGet);
        n += HpackEncoder.Indexed(to[n..], HpackStaticTable.SchemeHttps);
        n += _encoder.Field(to[n..], ":path"u8, "/docs/page-17.html?a=1"u8, HpackIndexing.Literal);
        n += _encoder.Field(to[n..], ":authority"u8, "localhost"u8, HpackIndexing.Literal);
        n += _encoder.Field(to[n..], "user-agent"u8, "Mozilla/5.0 (X11; Linux x86_64)"u8, HpackIndexing.Literal);
        n += _encoder.Field(to[n..], "accept"u8, "text/html,*/*;q=0.8"u8, HpackIndexing.Literal);
        n += _encoder.Field(to[n..], "accept-language"u8, "en-GB,en;q=0.9"u8, HpackIndexing.Literal);
        n += _encoder.Field(to[n..], "cookie"u8, "session=0123456789abcdef; theme=dark"u8, HpackIndexing.Never);
        return n;
    }
}
