// What becomes of a resource over several requests, as a table: each row is a history, each line of it a request, what
// the server answers (or "-": it must not be asked) and what the client gets; a fourth part says what the server was
// asked. RFC 9111 from storing to invalidating, beside the pairs of CacheRuleTests.
using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class CacheHistoryTests : IClassFixture<CacheHistoryTests.Shared>
{
    private static Action? s_end;

    /// <summary>Ends what the tests share, when the last of them has run.</summary>
    public sealed class Shared : IDisposable
    {
        public void Dispose() => s_end?.Invoke();
    }

    private const string Fresh = "200 Cache-Control: max-age=60 | ETag: \"a\"";
    private const string Stale = "200 Cache-Control: max-age=5 | Age: 10 | ETag: \"a\"";
    private const string Unchanged = "304 Cache-Control: max-age=60 | ETag: \"a\"";

    /// <summary>The name of each history, and its lines.</summary>
    public static TheoryData<string, string> Histories => new()
    {
        // What is stored (RFC 9111 §3).
        { "a status that nobody knows may be stored", Twice("599 Cache-Control: max-age=60", "599 HIT") },
        { "unless it must be understood", Twice("599 Cache-Control: max-age=60, must-understand", "599 MISS") },
        { "no-store counts where the status is not understood",
            Twice("599 Cache-Control: no-store, must-understand, max-age=60", "599 MISS") },
        { "a redirection without a lifetime is not stored", Twice("302 Location: /x | ETag: \"a\"", "302 MISS") },
        { "with one it is", Twice("302 Location: /x | Cache-Control: max-age=60", "302 HIT") },
        { "404 has a heuristic lifetime", Twice("404 Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "404 HIT") },
        { "503 has none", Twice("503 Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "503 MISS") },
        { "public makes one of it",
            Twice("403 Cache-Control: public | Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT", "403 HIT") },
        { "what is between two is not stored (§3.1)", $"""
            GET > {Fresh} | Connection: X-Hop | X-Hop: 1 | Proxy-Authentication-Info: a | Proxy-Authenticate: b > 200
            GET > - > 200 HIT | !X-Hop | !Proxy-Authentication-Info | !Proxy-Authenticate
            """ },
        { "named fields are not stored, others are",
            "GET > 200 Cache-Control: no-cache=\"X-A, X-B\", max-age=60 | X-A: 1 | X-B: 2 | X-C: 3 > 200 MISS\n"
            + "GET > - > 200 HIT | !X-A | !X-B | X-C: 3" },
        { "an answer to a request with no-store stays out, one that is stored serves", $"""
            GET Cache-Control: no-store > {Fresh} > 200 MISS
            GET > {Fresh} > 200 MISS
            GET > - > 200 HIT
            GET Cache-Control: no-store > - > 200 HIT
            """ },
        { "must-revalidate stores what was authorized",
            Twice("200 Cache-Control: must-revalidate, max-age=60", "200 HIT", "Authorization: x") },
        // Lifetimes and ages (§4.2, §5.1).
        { "names of directives have no case", Twice("200 Cache-Control: MaX-aGe=60", "200 HIT") },
        { "a lifetime that fits no number is long", Twice("200 Cache-Control: max-age=99999999999999", "200 HIT") },
        { "single quotes are none", Twice("200 Cache-Control: max-age='60'", "200 MISS") },
        { "a fraction is no number", Twice("200 Cache-Control: max-age=60.5", "200 MISS") },
        { "what is quoted is not a directive", Twice("200 Cache-Control: x=\"a\\\", max-age=60\"", "200 MISS") },
        { "of two lines the stricter counts",
            Twice("200 Cache-Control: max-age=60 | Cache-Control: max-age=5 | Age: 10", "200 MISS") },
        { "an age that is no number is none", Twice("200 Cache-Control: max-age=60 | Age: abc", "200 HIT") },
        { "of two ages the first counts", Twice("200 Cache-Control: max-age=60 | Age: 0 | Age: 100", "200 HIT") },
        { "of a list of ages the first counts", Twice("200 Cache-Control: max-age=60 | Age: 100, 0", "200 MISS") },
        { "Date makes old", Twice("200 Cache-Control: max-age=60 | Date: Thu, 01 Jan 2015 00:00:00 GMT", "200 MISS") },
        { "Expires is counted from Date, and Age with it",
            Twice("200 Date: Thu, 01 Jan 2099 00:00:00 GMT | Expires: Thu, 01 Jan 2099 00:01:00 GMT", "200 HIT") },
        { "an Expires that is no date is over", Twice("200 Expires: tomorrow | ETag: \"a\"", "200 EXPIRED") },
        { "the age of a hit counts on, and one's own Date stays", """
            GET > 200 Cache-Control: max-age=6000 | Age: 30 | Date: Thu, 01 Jan 2099 00:00:00 GMT > 200 MISS
            GET > - > 200 HIT | Date: Thu, 01 Jan 2099 00:00:00 GMT | Age: 3*
            """ },
        // Variants (§4.1).
        { "absent is not empty", """
            GET > 200 Cache-Control: max-age=60 | Vary: X-A > 200 MISS
            GET X-A: > 200 Cache-Control: max-age=60 | Vary: X-A > 200 MISS
            GET > - > 200 HIT
            GET X-A: > - > 200 HIT
            """ },
        { "a name said twice does not hide another", """
            GET X-A: 1111111111 | X-B: 1 > 200 Cache-Control: max-age=60 | Vary: X-A, x-a, X-A, X-B > 200 MISS
            GET X-A: 1111111111 | X-B: 2 > 200 Cache-Control: max-age=60 | Vary: X-A, x-a, X-A, X-B > 200 MISS
            GET X-A: 1111111111 | X-B: 1 > - > 200 HIT
            """ },
        { "two lines of Vary are one", """
            GET X-A: 1 | X-B: 1 > 200 Cache-Control: max-age=60 | Vary: X-A | Vary: X-B > 200 MISS
            GET X-A: 1 | X-B: 2 > 200 Cache-Control: max-age=60 | Vary: X-A | Vary: X-B > 200 MISS
            GET X-B: 1 | X-A: 1 > - > 200 HIT
            """ },
        { "a change removes all variants", """
            GET X-A: 1 > 200 Cache-Control: max-age=60 | Vary: X-A > 200 MISS
            GET X-A: 2 > 200 Cache-Control: max-age=60 | Vary: X-A > 200 MISS
            POST > 201 > 201
            GET X-A: 1 > 200 Cache-Control: max-age=60 | Vary: X-A > 200 MISS
            GET X-A: 2 > 200 Cache-Control: max-age=60 | Vary: X-A > 200 MISS
            """ },
        // Requests (§5.2.1).
        { "max-age=0 asks", $"GET > {Fresh} > 200 MISS\nGET Cache-Control: max-age=0 > {Unchanged} > 200 REVALIDATED" },
        { "Pragma does not count beside Cache-Control",
            $"GET > {Fresh} > 200 MISS\nGET Pragma: no-cache | Cache-Control: max-stale > - > 200 HIT" },
        { "max-stale without a number takes anything",
            $"GET > {Stale} > 200 MISS\nGET Cache-Control: max-stale > - > 200 HIT" },
        { "only what is cached, and it is stale",
            $"GET > {Stale} > 200 MISS\nGET Cache-Control: only-if-cached > - > 504" },
        // Validating (§4.3).
        { "both validators are sent, and the client's stay here", """
            GET > 200 Cache-Control: no-cache | ETag: "a" | Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT > 200 MISS
            GET If-None-Match: "b" > 304 ETag: "a" > 200 REVALIDATED > If-None-Match: "a" | If-Modified-Since: Thu*
            GET If-None-Match: "a" > 304 ETag: "a" > 304
            """ },
        { "a 304 brings fields, but none that describe a body (§3.2)", $"""
            GET > {Stale} | X-Old: 1 | X-Both: old > 200 MISS
            GET > {Unchanged} | X-Both: new | Content-Encoding: gzip | Content-Length: 9 > 200 REVALIDATED
            GET > - > 200 HIT | X-Old: 1 | X-Both: new | !Content-Encoding | Content-Length: 4
            """ },
        { "a 304 of another version changes nothing (§4.3.4)", $"""
            GET > {Stale} > 200 MISS
            GET > 304 Cache-Control: max-age=60 | ETag: "b" > 200 REVALIDATED | ETag: "a"
            GET > {Fresh} > 200 MISS > !If-None-Match
            """ },
        { "weak and strong say the same to a condition", $"""
            GET > {Stale} > 200 MISS
            GET > 304 Cache-Control: max-age=60 | ETag: W/"a" > 200 REVALIDATED
            GET > - > 200 HIT
            """ },
        { "an error is passed on and what is stored stays", $"""
            GET > {Stale} > 200 MISS
            GET > 500 > 500 EXPIRED
            GET > {Unchanged} > 200 REVALIDATED > If-None-Match: "a"
            """ },
        { "an error takes what is stale where it may, so long", """
            GET > 200 Cache-Control: max-age=5, stale-if-error=60 | Age: 10 | ETag: "a" > 200 MISS
            GET > 500 > 200 STALE
            GET Cache-Control: no-cache > 500 > 500 EXPIRED
            """ },
        { "but not after that", """
            GET > 200 Cache-Control: max-age=5, stale-if-error=60 | Age: 100 | ETag: "a" > 200 MISS
            GET > 500 > 500 EXPIRED
            """ },
        { "and never where it must be asked for", """
            GET > 200 Cache-Control: max-age=5, stale-if-error=60, must-revalidate | Age: 10 | ETag: "a" > 200 MISS
            GET > 500 > 500 EXPIRED
            """ },
        { "the request may allow it", $"""
            GET > {Stale} > 200 MISS
            GET Cache-Control: stale-if-error=60 > 500 > 200 STALE
            """ },
        // HEAD (§4.3.5).
        { "a HEAD that says the same lives it up", $"""
            GET > {Stale} > 200 MISS
            HEAD > 200 Cache-Control: max-age=60 | ETag: "a" | Content-Length: 4 > 200
            GET > - > 200 HIT
            """ },
        { "one with another ETag removes it", Headed("Cache-Control: max-age=60 | ETag: \"b\"") },
        { "one with another length removes it", Headed("Cache-Control: max-age=60 | Content-Length: 5") },
        { "one with another time removes it",
            Headed("Cache-Control: max-age=60 | Last-Modified: Thu, 01 Jan 2015 00:00:01 GMT") },
        // Parts.
        { "a part of what is stored, when it is that version still", $"""
            GET > {Fresh} > 200 MISS
            GET Range: bytes=1-2 | If-Range: "a" > - > 206 HIT | Content-Range: bytes 1-2/4
            GET Range: bytes=1-2 | If-Range: "b" > - > 200 HIT
            GET Range: bytes=-1 > - > 206 HIT | Content-Range: bytes 3-3/4
            """ },
        { "a part of what is stale is asked for as a whole", $"""
            GET > {Stale} > 200 MISS
            GET Range: bytes=1-2 > {Unchanged} > 206 REVALIDATED > !Range | If-None-Match: "a"
            """ },
        { "parts that a server sends are not stored", """
            GET > 206 Cache-Control: max-age=60 | Content-Range: bytes 0-3/9 > 206 MISS
            GET > 206 Cache-Control: max-age=60 | Content-Range: bytes 0-3/9 > 206 MISS
            """ },
        // Changes (§4.4).
        { "PUT that works", Changed("PUT", "204", gone: true) },
        { "DELETE that works", Changed("DELETE", "200", gone: true) },
        { "PATCH that works", Changed("PATCH", "200", gone: true) },
        { "POST that redirects", Changed("POST", "303 Location: http://elsewhere.test/", gone: true) },
        { "a method nobody knows", Changed("FOO", "200", gone: true) },
        { "POST that fails", Changed("POST", "400", gone: false) },
        { "PUT that fails", Changed("PUT", "500", gone: false) },
        { "OPTIONS changes nothing", Changed("OPTIONS", "200", gone: false) },
        { "Location on this host", Pointed("POST", "Location: %OTHER%", gone: true) },
        { "Content-Location on this host", Pointed("POST", "Content-Location: http://%HOST%%OTHER%", gone: true) },
        { "Location on another host", Pointed("POST", "Location: http://elsewhere.test%OTHER%", gone: false) },
    };

    private static string Twice(string answer, string second, string request = "")
    {
        bool isHit = second.EndsWith("HIT", StringComparison.Ordinal);
        return $"GET {request} > {answer} > {answer[..3]} MISS\nGET {request} > {(isHit ? "-" : answer)} > {second}";
    }

    private static string Headed(string fields) => $"""
        GET > 200 Cache-Control: max-age=5 | Age: 10 | ETag: "a" | Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT > 200
        HEAD > 200 {fields} > 200
        GET > {Fresh} > 200 MISS > !If-None-Match
        """;

    private static string Changed(string method, string answer, bool gone) => $"""
        GET > {Fresh} > 200 MISS
        {method} > {answer} > {answer[..3]}
        GET > {(gone ? Fresh : "-")} > 200 {(gone ? "MISS" : "HIT")}
        """;

    private static string Pointed(string method, string field, bool gone) => $"""
        GET other > {Fresh} > 200 MISS
        {method} > 201 {field} > 201
        GET other > {(gone ? Fresh : "-")} > 200 {(gone ? "MISS" : "HIT")}
        """;

    private static readonly ConcurrentDictionary<string, string> s_answers = new();
    private static readonly ConcurrentDictionary<string, UpstreamRequest> s_asked = new();

    private static readonly Lazy<(Upstream Upstream, ServerProcess Weir)> s_shared = new(() =>
    {
        Upstream upstream = new(static c =>
        {
            while (c.ReadRequest() is { } request)
            {
                s_asked[request.Target] = request;
                string answer = s_answers.TryGetValue(request.Target, out string? text) && text != "-" ? text : "555";
                c.Send(Answer(answer, request, c.Port));
            }
        });
        var weir = ServerProcess.Weir(Conf.Server("""
            add_header X-Cache $upstream_cache_status always;
            location / { proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_cache one; proxy_cache_convert_head off; }
            location /method/ {
                proxy_pass http://127.0.0.1:%UPSTREAM%; proxy_cache one; proxy_cache_key $request_method$request_uri;
            }
            """, CacheTests.Path), upstreamPort: upstream.Port);
        s_end = () =>
        {
            weir.Dispose();
            upstream.Dispose();
        };
        return (upstream, weir);
    });

    private static string Answer(string text, UpstreamRequest request, string port)
    {
        string fields = text.Length > 3 ? string.Concat(text[4..].Split(" | ").Select(static f => f + "\r\n")) : "";
        fields = fields.Replace("%OTHER%", request.Target + "/other", StringComparison.Ordinal)
            .Replace("%HOST%", "127.0.0.1:" + port, StringComparison.Ordinal);
        bool isBare = text[..3] is "304" or "204" || request.Line.StartsWith("HEAD", StringComparison.Ordinal);
        return $"HTTP/1.1 {text[..3]} X\r\n{fields}" + (isBare ? "\r\n" : "Content-Length: 4\r\n\r\nbody");
    }

    [Theory]
    [MemberData(nameof(Histories))]
    public void A_history_goes_as_it_should(string name, string lines) => Play("/", name, lines);

    [Theory]
    [InlineData("POST", "200", true)]
    [InlineData("DELETE", "204", true)]
    [InlineData("PUT", "409", false)]
    public void A_key_with_the_method_in_it_is_found_by_a_change(string method, string answer, bool gone) =>
        Play("/method/", method, Changed(method, answer, gone));

    private static void Play(string place, string name, string lines)
    {
        string target = place + Guid.NewGuid().ToString("n", CultureInfo.InvariantCulture);
        using RawClient client = s_shared.Value.Weir.Connect();
        foreach (string line in lines.Split('\n', StringSplitOptions.RemoveEmptyEntries))
        {
            string[] parts = [.. line.Split(" > ").Select(static p => p.Trim())];
            string[] words = parts[0].Split(' ', 2);
            string rest = words.Length > 1 ? words[1].Trim() : "";
            string path = rest == "other" ? target + "/other" : target;
            s_answers[path] = parts[1];
            s_asked.TryRemove(path, out _);
            client.Send(RawClient.Request(words[0], path, rest is "" or "other" ? [] : rest.Split(" | ")));
            HttpResponse response = client.ReadResponse(answersHead: words[0] == "HEAD");
            string story = $"{name}: {line}\n{Encoding.Latin1.GetString(response.Raw)}";
            string[] expected = parts[2].Split(" | ");
            string[] status = expected[0].Split(' ');
            Assert.True(status[0] == response.Status.ToString(CultureInfo.InvariantCulture)
                && (status.Length < 2 || status[1] == CacheTests.CacheOf(response)), story);
            Assert.True(s_asked.TryGetValue(path, out UpstreamRequest? asked) == (parts[1] != "-"), story);
            Assert.All(expected.Skip(1), f => Assert.True(Holds(f, n => response[n]), $"{f} in {story}"));
            Assert.All(parts.Skip(3).SelectMany(static p => p.Split(" | ")),
                f => Assert.True(Holds(f, asked!.Header), $"{f} in {asked!.Head}\n{story}"));
        }
    }

    /// <summary>"Name: value", "Name: begins so*", or "!Name" for none.</summary>
    private static bool Holds(string field, Func<string, string?> value)
    {
        if (field[0] == '!')
        {
            return value(field[1..]) is null;
        }
        string[] parts = field.Split(": ", 2);
        return parts[1][^1] == '*' ? value(parts[0])?.StartsWith(parts[1][..^1], StringComparison.Ordinal) == true
            : value(parts[0]) == parts[1];
    }
}
