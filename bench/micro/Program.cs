// Single paths, timed alone: nanoseconds and allocated bytes per operation, the median of several batches after warming
// up.   dotnet run --project bench/micro -c Release
using System.Diagnostics;
using Weir.Bench.Micro;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Protocol.Http2;

byte[] head =
    ("GET /docs/page-17.html?a=1 HTTP/1.1\r\nHost: localhost\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\n"
    + "Accept: text/html,*/*;q=0.8\r\nAccept-Language: en-GB,en;q=0.9\r\nAccept-Encoding: gzip, deflate, br\r\n"
    + "Cookie: session=0123456789abcdef; theme=dark\r\n\r\n").Select(static c => (byte)c).ToArray();
var parsed = new RequestHead();
var parser = default(RequestHeadParser);
var options = new ParseOptions();
byte[] text = new byte[64];
long second = 1_790_000_000;
var pool = new BufferPool();
var wheel = new TimerWheel(1000);
var timers = Enumerable.Range(0, 1000).Select(static _ => new CallbackTimer(static () => { })).ToArray();
long now = 1000;
int next = 0;
var encoder = new HpackEncoder();
var decoder = new HpackDecoder();
byte[] block = new byte[512];
byte[] scratch = new byte[4096];
byte[] headText = new byte[2048];
int blockLength = EncodeHead();

Batches.Head();
Batches.Time("head parsing", () =>
{
    parser.Reset();
    parser.Parse(head, parsed, in options);
});
Batches.Time("date formatting", () => HttpDate.Format(second++, text));
Batches.Time("log time formatting", () => TimeFormats.WriteLocal(second++, 120, text));
Batches.Time("buffer pool", () => pool.Rent().Release());
Batches.Time("timer wheel, set", () => wheel.Set(timers[next = (next + 1) % timers.Length], now + 60_000 + next));
Batches.Time("timer wheel, advance", () => wheel.Advance(now += 1));

Batches.Time("HPACK, request", () =>
{
    var fields = new RequestFields(headText, parsed, in options, extendedConnect: false);
    decoder.Decode(block.AsSpan(0, blockLength), scratch, 65_536, ref fields);
    fields.Finish(endStream: true);
});
Batches.Time("HPACK, writing it", () => EncodeHead());

RequestPaths.Time();
Choices.Time();

int EncodeHead()
{
    Span<byte> to = block;
    int n = encoder.Begin(to);
    n += HpackEncoder.Indexed(to[n..], HpackStaticTable.MethodGet);
    n += HpackEncoder.Indexed(to[n..], HpackStaticTable.SchemeHttps);
    n += encoder.Field(to[n..], ":path"u8, "/docs/page-17.html?a=1"u8, HpackIndexing.Literal);
    n += encoder.Field(to[n..], ":authority"u8, "localhost"u8, HpackIndexing.Literal);
    n += encoder.Field(to[n..], "user-agent"u8, "Mozilla/5.0 (X11; Linux x86_64)"u8, HpackIndexing.Literal);
    n += encoder.Field(to[n..], "accept"u8, "text/html,*/*;q=0.8"u8, HpackIndexing.Literal);
    n += encoder.Field(to[n..], "accept-language"u8, "en-GB,en;q=0.9"u8, HpackIndexing.Literal);
    n += encoder.Field(to[n..], "cookie"u8, "session=0123456789abcdef; theme=dark"u8, HpackIndexing.Never);
    return n;
}
