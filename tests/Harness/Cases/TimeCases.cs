// What time does: timeouts of clients and origins, paces, retries, kept connections, names. Each case says what must
// come back; it is played over real sockets (Wire) and under the virtual clock (Simulation), where a second costs
// nothing.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class TimeCases
{
    private const string Area = "time";
    private const int PatientMs = 2500;

    private const string Kept = "upstream kept { server 127.0.0.1:%UPSTREAM%; keepalive 4; }";

    private const string Pass = "location / { proxy_pass http://127.0.0.1:%UPSTREAM%; ";

    private const string Late = "error_page 502 504 =200 @late; location @late { return 200 late; }";

    public static readonly Case[] All =
    [
        new(Area, "a head that trickles is given up after client_header_timeout")
        {
            Server = "client_header_timeout 1s; location / { return 200 ok; }",
            Talks = [Split("GET / HTTP/1.1\r\n", "Host: x\r\n", "A: ") with { QuietMs = PatientMs }],
            Expect = [Closed("")],
        },
        new(Area, "an idle connection is closed after keepalive_timeout")
        {
            Server = "keepalive_timeout 1s; location / { return 200 ok; }",
            Talks = [Get("/") with { QuietMs = PatientMs }],
            Expect = [Closed(Ok("ok"))],
        },
        new(Area, "half a body is given up after client_body_timeout")
        {
            Server = "client_body_timeout 1s; " + Pass + "}",
            Origin = Origin.Answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
            Talks = [Raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf") with { QuietMs = PatientMs }],
            Expect = [Closed("")],
        },
        new(Area, "a body that is refused is let in for lingering_timeout")
        {
            Server = "client_max_body_size 5; lingering_timeout 1s; error_page 413 =200 @big; "
                + "location / { return 200 never; } location @big { return 200 big; }",
            Talks = [Raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf") with { QuietMs = PatientMs }],
            Expect = [Closed(Ok("big", "close"))],
        },
        new(Area, "a silent origin is a 504 after proxy_read_timeout")
        {
            Server = Late + Pass + "proxy_read_timeout 1s; }",
            Origin = Origin.Of(Act.Read, Act.Hold),
            Talks = [Get("/") with { QuietMs = PatientMs }],
            Expect = [Open(Ok("late"))],
        },
        new(Area, "an origin that falls silent in its body ends the answer")
        {
            Server = Pass + "proxy_read_timeout 1s; }",
            Origin = Origin.Of(Act.Read,
                Act.Send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 10\r\n\r\nhalf"), Act.Hold),
            Talks = [Get("/") with { QuietMs = PatientMs }],
            Expect = [Closed(Head("10") + "half\n<incomplete>\n")],
        },
        new(Area, "an answer that comes in pieces over time is one answer")
        {
            Server = Pass + "}",
            Origin = Origin.Of(Act.Read, Act.Send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-"),
                Act.Wait(100), Act.Send("Length: 4\r\n\r\nla"), Act.Wait(100), Act.Send("te")),
            Talks = [Get("/") with { QuietMs = 600 }],
            Expect = [Open(Ok("late"))],
        },
        new(Area, "an origin that answers before it has the body")
        {
            Server = Pass + "}",
            Origin = Origin.Of(Act.ReadHead,
                Act.Send("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nearly"), Act.Hold),
            Talks = [Post("/", "body")],
            Expect = [Open(Ok("early"))],
        },
        new(Area, "an origin that ends its direction has answered")
        {
            Server = Pass + "}",
            Origin = Origin.Of(Act.Read,
                Act.Send("HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4\r\n\r\nhalf"), Act.HalfClose,
                Act.Hold),
            Talks = [Get("/")],
            Expect = [Open(Ok("half"))],
        },
        new(Area, "a kept connection that resets under a request is replaced")
        {
            Http = Kept,
            Server = "location / { proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://kept; }",
            Origin = Origin.PerConnection(
                [Act.Read, Act.Send(Answer("first")), Act.ReadHead, Act.Reset], [Act.Read, Act.Send(Answer("next"))]),
            Talks = [Split(Line("/1"), Line("/2")) with { AwaitsBetween = true }],
            MayOverlap = false,
            Expect = [Open(Ok("first") + Ok("next"))],
        },
        new(Area, "one kept connection serves one request after the other")
        {
            Http = Kept,
            Server = "location / { proxy_http_version 1.1; proxy_set_header Connection \"\"; proxy_pass http://kept; }",
            Origin = Origin.Answering(r => Answer(r.Target)),
            Talks = [Pipeline(Line("/1"), Line("/2"), Line("/3"))],
            Expect = [Open(Ok("/1") + Ok("/2") + Ok("/3"))],
        },
        new(Area, "a dead server gives way to the next")
        {
            Http = "upstream g { server 127.0.0.1:1; server 127.0.0.1:%UPSTREAM%; }",
            Server = "location / { proxy_pass http://g; }",
            Origin = Origin.Answering(Answer("alive")),
            Talks = [Get("/"), Get("/")],
            Expect = [Open(Ok("alive")), Open(Ok("alive"))],
        },
        new(Area, "a name is looked up, and one that is not known is a 502")
        {
            Server = "resolver 127.0.0.1:%DNS% ipv6=off; " + Late
                + "location / { set $h app.test; proxy_pass http://$h:%UPSTREAM%; }"
                + "location /nx { set $h nx.test; proxy_pass http://$h:%UPSTREAM%; }",
            Origin = Origin.Answering(Answer("found")),
            HasNames = true,
            Talks = [Get("/"), Get("/nx")],
            Expect = [Open(Ok("found")), Open(Ok("late"))],
        },
        new(Area, "limit_rate paces an answer")
        {
            Server = "location / { limit_rate 2k; root %FILES%; default_type text/plain; }",
            Files = [("a", new string('r', 4096))],
            Talks = [Get("/a") with { QuietMs = PatientMs }],
            Expect = [Open("HTTP/1.1 200 OK\nServer: *\nDate: *\nContent-Type: text/plain\nContent-Length: 4096\n"
                + "Last-Modified: Thu, 29 Feb 2024 12:34:56 GMT\nConnection: keep-alive\nETag: \"65e079f0-1000\"\n"
                + "Accept-Ranges: bytes\n\nr×4096\n<end of response>\n")],
        },
    ];

    private static string Answer(string body) =>
        $"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {body.Length}\r\n\r\n{body}";

    private static string Head(string length, string connection = "keep-alive") =>
        $"HTTP/1.1 200 OK\nServer: *\nDate: *\nContent-Type: text/plain\nContent-Length: {length}\n"
        + $"Connection: {connection}\n\n";

    private static string Ok(string body, string connection = "keep-alive") =>
        Head(body.Length.ToString(System.Globalization.CultureInfo.InvariantCulture), connection)
        + body + "\n<end of response>\n";

    private static string Open(string answers) => answers + "<open>\n";

    private static string Closed(string answers) => answers + "<closed>\n";
}
