// The scripts of this table that are about HTTP/1.1 and nothing else, for every server that runs applications: framing
// and refusals, persistence, pipelining, HEAD, 100-continue, half-closed clients, bodies. The bytes are those that the
// differential table sends to nginx too (FramingCases, ConnectionCases); what must come back stands in
// Golden/http1.txt, a line per script: a status per answer, the text of the application's, and whether the connection
// stays. Nothing waits for silence: a connection that stays answers one request more, one that does not is at its end.
using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace Weir.Tests.Harness.Cases;

public static class SharedCases
{
    private const int Long = 30_000;

    /// <summary>The application says "METHOD path?query host" to everything; here with "+N" behind it for a body of N
    /// bytes.</summary>
    public const string Body = "/body";

    /// <summary>Here with status 299.</summary>
    public const string Last = "/last";

    public const int LastStatus = 299;

    /// <summary>What a body may have at most.</summary>
    public const int BodyBytesMax = 1000;

    /// <summary>What a head may have at most; a server may round it up to the next KiB.</summary>
    public const int HeadBytesMax = 2048;

    private static readonly Case[] _own =
    [
        One("a chunk size with a sign", Chunked("+1\r\na\r\n0\r\n\r\n")),
        One("a chunk size with a prefix", Chunked("0x1\r\na\r\n0\r\n\r\n")),
        One("a chunk that is longer than it says", Chunked("1\r\nab\r\n0\r\n\r\n")),
        One("a chunk size that overflows", Chunked(new string('f', 17) + "\r\n")),
        One("a chunk size that is no number", Chunked("xyz\r\n")),
        One("a list of lengths", "POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 1, 1\r\n\r\na"),
        One("two transfer codings", "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n"
            + "Transfer-Encoding: chunked\r\n\r\n"),
        One("a space before the first name", "GET / HTTP/1.1\r\n Host: x\r\n\r\n"),
        One("a body over the limit", RawClient.Request("POST", "/body", [], new string('b', BodyBytesMax + 1))),
        One("a body at the limit", RawClient.Request("POST", "/body", [], new string('b', BodyBytesMax))),
        One("a chunked body over the limit",
            Chunked($"{BodyBytesMax + 1:x}\r\n{new string('b', BodyBytesMax + 1)}\r\n0\r\n\r\n")),
        One("a target over the limit", Say.Line("/" + new string('t', 4 * HeadBytesMax))),
        One("a field over the limit", Say.Line("/", "A: " + new string('a', 4 * HeadBytesMax))),
        One("a head below the limit", Say.Line("/", "A: " + new string('a', HeadBytesMax / 4))),
        One("trailers behind a chunked body", Chunked("1\r\na\r\n0\r\nX-T: v\r\n\r\n")),
        One("two bodies and a request in one segment", RawClient.Request("POST", "/body", [], "abc")
            + Chunked("2\r\nde\r\n0\r\n\r\n") + Say.Line("/a")),
        new Case("shared", "a half-closed client gets the answer to its body")
        {
            Talks = [Say.Post("/body", "abc") with { HalfClose = true }],
        },
        new Case("shared", "a half-closed client gets the answers to all that it sent")
        {
            Talks = [Say.Pipeline(Say.Line("/1"), Say.Line("/2")) with { HalfClose = true }],
        },
        new Case("shared", "half a head and an end") { Talks = [Say.Raw("GET / HT") with { HalfClose = true }] },
        new Case("shared", "half a body and an end")
        {
            Talks = [Say.Raw("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab") with
            {
                HalfClose = true,
            }],
        },
        new Case("shared", "an end at once") { Talks = [Say.Raw("") with { HalfClose = true }] },
    ];

    // What the configuration of the script decides, and files.
    private static readonly string[] _configured =
    [
        "underscores_in_headers on", "a head that fits exactly, and one that does not", "HEAD of a file",
        "HEAD of something that is not there", "a body over client_max_body_size",
        "a chunked body over client_max_body_size", "keepalive_requests ends the connection",
        "keepalive_timeout 0 closes", "keepalive_timeout with a header value",
        "an idle connection is closed after keepalive_timeout", "a head that does not come is given up",
        "keepalive_disable none, server_tokens off", "a chunk size that is no number",
        "answers of one length that differ in type, tokens, fields, status, method and connection",
    ];

    public static IReadOnlyList<Case> All { get; } =
    [
        .. FramingCases.All.Concat(ConnectionCases.All).Where(static c => !_configured.Contains(c.Name)), .. _own,
    ];

    /// <summary>Plays every script and returns how many there were and what was not as it must be. What a server does
    /// differently by right is in <paramref name="otherwise"/>, by the script's name.</summary>
    public static (int Played, List<string> Wrong) Play(Func<RawClient> connect,
        IReadOnlyDictionary<string, string>? otherwise = null)
    {
        Dictionary<string, string> golden = Golden();
        var wrong = new List<string>();
        foreach (Case one in All)
        {
            string? expected = otherwise?.GetValueOrDefault(one.Id) ?? golden.GetValueOrDefault(one.Id);
            string got = string.Join(" || ", one.Talks.Where(static t => !IsOfFile(t)).Select((talk, i) =>
                Play(connect, talk, expected?.Split(" || ") is { } parts && i < parts.Length ? parts[i] : null)));
            if (got != expected)
            {
                wrong.Add($"{one.Id} | {got}\n    but expected {expected ?? "nothing"}");
            }
        }
        return (All.Count, wrong);
    }

    private static bool IsOfFile(Talk talk) => talk.Pieces.Length > 0
        && Encoding.Latin1.GetString(talk.Pieces[0]).StartsWith("GET /file/", StringComparison.Ordinal);

    private static string Play(Func<RawClient> connect, Talk talk, string? expected)
    {
        using RawClient client = connect();
        var text = new StringBuilder();
        try
        {
            foreach (byte[] piece in talk.Pieces)
            {
                if (talk.AwaitsBetween && piece != talk.Pieces[0])
                {
                    client.WaitForBytes(Long);
                }
                client.SendSplit(piece);
            }
            if (talk.HalfClose)
            {
                client.HalfClose();
                return ToEnd(client, talk, text);
            }
            // Without a line of its own a script is listened to until nothing more comes.
            if (expected is null)
            {
                client.WaitForBytes(Long);
                byte[] bytes = client.ReadUntilQuiet(500);
                return Read(bytes, talk, client.Ending != Ending.Open, text)
                    + (client.Ending == Ending.Open ? "open" : "closed");
            }
            for (int i = expected.Count(static c => c == '|'); i > 0; i--)
            {
                Add(client.ReadResponse(talk.IsHead, Long), text);
            }
            if (expected.EndsWith("closed", StringComparison.Ordinal))
            {
                return ToEnd(client, talk, text);
            }
            client.Send($"{(talk.IsHead ? "HEAD" : "GET")} {Last} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            HttpResponse last = client.ReadResponse(talk.IsHead, Long);
            if (last.Status != LastStatus)
            {
                Add(last, text);
                return text.Append("and no end").ToString();
            }
            return text.Append(client.WaitClosed(Long) ? "open" : "open and no end").ToString();
        }
        catch (Exception e) when (e is EndOfStreamException or TimeoutException
            or System.Net.Sockets.SocketException)
        {
            return text.Append(e.Message).ToString();
        }
    }

    private static string ToEnd(RawClient client, Talk talk, StringBuilder text) =>
        Read(client.ReadToEnd(Long), talk, ended: true, text) + "closed";

    private static string Read(byte[] bytes, Talk talk, bool ended, StringBuilder text)
    {
        ReadOnlySpan<byte> rest = bytes;
        while (rest.Length > 0)
        {
            if (HttpResponse.Parse(rest, talk.IsHead, ended) is not { } response)
            {
                return text.Append("what is no answer, ").ToString();
            }
            Add(response, text);
            rest = rest[response.Raw.Length..];
        }
        return text.ToString();
    }

    // A page that a server writes itself is its own affair.
    private static void Add(HttpResponse response, StringBuilder text) => text
        .Append(CultureInfo.InvariantCulture, $"{response.Status} ")
        .Append(response.Status == 200 ? response.Text.Trim() : "").Append(response.IsComplete ? "" : " incomplete")
        .Append(" | ");

    private static Dictionary<string, string> Golden([CallerFilePath] string here = "") =>
        File.ReadLines(Path.Combine(Path.GetDirectoryName(here)!, "../Golden/http1.txt"))
            .Where(static l => l.Length > 0 && l[0] != '#')
            .Select(static l => l.Split(" | ", 2)).ToDictionary(static p => p[0], static p => p[1]);

    private static Case One(string name, string bytes) => new("shared", name) { Talks = [Say.Raw(bytes)] };

    private static string Chunked(string body) =>
        "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + body;
}
