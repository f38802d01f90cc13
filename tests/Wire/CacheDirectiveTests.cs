// Every directive of a cache under both families, proxy_ and fastcgi_: what a client or the server behind sees of it.
// One server with a location for each; each test has paths of its own and says what the server behind answers there.
using System.Collections.Concurrent;
using System.Globalization;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class CacheDirectiveTests : IClassFixture<CacheDirectiveTests.Shared>
{
    private static Action? s_end;

    /// <summary>Ends what the tests share, when the last of them has run.</summary>
    public sealed class Shared : IDisposable
    {
        public void Dispose() => s_end?.Invoke();
    }

    private const string Long = "Cache-Control: max-age=1000";

    /// <summary>Stale as soon as it comes.</summary>
    private const string Stale = "Cache-Control: max-age=5";

    /// <summary>What a location says beside its cache; %F% is the family.</summary>
    private static readonly Dictionary<string, string> s_locations = new()
    {
        ["plain"] = "",
        ["key"] = "%F%_cache_key $uri;",
        ["valid"] = "%F%_cache_valid 404 1m;",
        ["uses"] = "%F%_cache_min_uses 2;",
        ["bypass"] = "%F%_cache_bypass $http_x_fresh;",
        ["private"] = "%F%_no_cache $http_x_private;",
        ["methods"] = "%F%_cache_methods GET HEAD POST;",
        ["locked"] = "%F%_cache_lock on; %F%_cache_lock_timeout 60s; %F%_cache_lock_age 60s;",
        ["timeout"] = "%F%_cache_lock on; %F%_cache_lock_timeout 1ms; %F%_cache_lock_age 60s;",
        ["age"] = "%F%_cache_lock on; %F%_cache_lock_timeout 60s; %F%_cache_lock_age 1ms;",
        ["unvalidated"] = "%F%_cache_revalidate off;",
        ["nginx"] = "%F%_cache_conformance nginx; %F%_cache_valid 1m;",
        ["validated"] = "%F%_cache_conformance nginx; %F%_cache_revalidate on; %F%_cache_valid 1s;",
        ["foreground"] = "%F%_cache_background_update off;",
        ["stale"] = "%F%_cache_use_stale http_500;",
        ["range"] = "%F%_cache_max_range_offset 5; proxy_force_ranges off;",
        ["purge"] = "%F%_cache_key $uri; %F%_cache_purge $http_x_purge; %F%_cache_purge_tags $http_x_tags;",
        ["off"] = "",
    };

    private sealed record Asked(string Method, string Target, Func<string, string?> Header);

    private static readonly ConcurrentDictionary<string, Func<Asked, string>> s_answers = new();
    private static readonly ConcurrentQueue<Asked> s_asked = new();

    private static readonly Lazy<ServerProcess> s_weir = new(() =>
    {
        Upstream http = Upstream.Answering(static r => Answer(new Asked(r.Line.Split(' ')[0], r.Target, r.Header)));
        var fastCgi = new Upstream(Serve);
        var text = new StringBuilder();
        foreach ((string name, string more) in s_locations)
        {
            text.AppendLine(CultureInfo.InvariantCulture, $$"""
                location /proxy-{{name}}/ {
                    proxy_pass http://127.0.0.1:{{http.Port}}; proxy_cache {{(name == "off" ? name : "p")}};
                    {{more.Replace("%F%", "proxy")}}
                }
                location /fastcgi-{{name}}/ {
                    fastcgi_pass 127.0.0.1:{{fastCgi.Port}}; fastcgi_cache {{(name == "off" ? name : "f")}};
                    fastcgi_param REQUEST_URI $request_uri; fastcgi_param REQUEST_METHOD $request_method;
                    {{more.Replace("%F%", "fastcgi").Replace("proxy_force_ranges off;", "")}}
                }
                """);
        }
        var weir = ServerProcess.Weir(Conf.Server($$"""
            add_header X-Cache $upstream_cache_status always;
            add_header X-Key $upstream_cache_key always;
            add_header X-Age $upstream_cache_age always;
            add_header X-Modified $upstream_cache_last_modified always;
            add_header X-Etag $upstream_cache_etag always;
            location /proxy-head/ {
                proxy_pass http://127.0.0.1:{{http.Port}}; proxy_cache p; proxy_cache_convert_head off;
                proxy_cache_key $request_method$uri;
            }
            {{text}}
            """, """
            proxy_cache_path %DIR%/cache keys_zone=p:1m use_temp_path=off;
            fastcgi_cache_path %DIR%/fastcgi-cache keys_zone=f:1m use_temp_path=off;
            fastcgi_cache_key $request_uri;
            """));
        s_end = () =>
        {
            weir.Dispose();
            http.Dispose();
            fastCgi.Dispose();
        };
        return weir;
    });

    private static string Answer(Asked asked)
    {
        s_asked.Enqueue(asked);
        return s_answers[asked.Target.Split('?')[0]](asked);
    }

    /// <summary>A responder: reads a request's records, answers what HTTP would, closes.</summary>
    private static void Serve(UpstreamConnection c)
    {
        var bytes = new List<byte>();
        var parameters = new List<byte>();
        int at = 0;
        while (true)
        {
            while (bytes.Count < at + 8 || bytes.Count < at + 8 + Length(bytes, at) + bytes[at + 6])
            {
                byte[] more = c.Read();
                if (more.Length == 0)
                {
                    return;
                }
                bytes.AddRange(more);
            }
            int length = Length(bytes, at);
            if (bytes[at + 1] == 4)
            {
                parameters.AddRange(bytes.GetRange(at + 8, length));
            }
            bool last = bytes[at + 1] == 5 && length == 0;
            at += 8 + length + bytes[at + 6];
            if (last)
            {
                break;
            }
        }
        Dictionary<string, string> given = Pairs([.. parameters]);
        string answer = Answer(new Asked(given["REQUEST_METHOD"], given["REQUEST_URI"], name =>
            given.GetValueOrDefault("HTTP_" + name.ToUpperInvariant().Replace('-', '_'))));
        byte[] text = Encoding.Latin1.GetBytes(answer.Replace("HTTP/1.1 ", "Status: "));
        c.Send([1, 6, 0, 1, (byte)(text.Length >> 8), (byte)text.Length, 0, 0, .. text, 1, 6, 0, 1, 0, 0, 0, 0,
            1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    private static int Length(List<byte> bytes, int at) => (bytes[at + 4] << 8) | bytes[at + 5];

    private static Dictionary<string, string> Pairs(byte[] bytes)
    {
        var pairs = new Dictionary<string, string>();
        int at = 0;
        int Size()
        {
            int size = bytes[at++];
            if (size > 127)
            {
                size = ((size & 127) << 24) | (bytes[at] << 16) | (bytes[at + 1] << 8) | bytes[at + 2];
                at += 3;
            }
            return size;
        }
        while (at < bytes.Length)
        {
            int name = Size(), value = Size();
            pairs[Encoding.Latin1.GetString(bytes, at, name)] = Encoding.Latin1.GetString(bytes, at + name, value);
            at += name + value;
        }
        return pairs;
    }

    /// <summary>A path of its own below a location, and what is answered there.</summary>
    private static string At(string family, string location, Func<Asked, string> answer)
    {
        string path = $"/{family}-{location}/{Guid.NewGuid():n}";
        s_answers[path] = answer;
        return path;
    }

    private static string At(string family, string location, params string[] fields) =>
        At(family, location, _ => Upstream.Ok("0123456789", fields));

    private static Asked[] AskedFor(string path) => [.. s_asked.Where(a => a.Target.Split('?')[0] == path)];

    private static string Get(string path, params string[] fields) =>
        CacheTests.CacheOf(s_weir.Value.Get(path, fields));

    /// <summary>Asks until what was fetched is stored.</summary>
    private static void Stored(string path, params string[] fields) =>
        Wait.For("a hit", () => Get(path, fields) == "HIT");

    private static HttpResponse Send(string method, string path, params string[] fields)
    {
        using RawClient client = s_weir.Value.Connect();
        client.Send(RawClient.Request(method, path, fields));
        return client.ReadResponse(answersHead: method == "HEAD");
    }

    public static TheoryData<string> Families => new("proxy", "fastcgi");

    [Theory]
    [MemberData(nameof(Families))]
    public void What_is_stored_is_served_again_and_cache_off_stores_nothing(string family)
    {
        string path = At(family, "plain", Long), off = At(family, "off", Long);
        Assert.Equal("MISS", Get(path));
        Stored(path);
        Assert.Single(AskedFor(path));
        Get(off);
        Get(off);
        Assert.Equal(2, AskedFor(off).Length);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void The_key_says_what_is_the_same(string family)
    {
        string path = At(family, "key", Long), own = At(family, "plain", Long);
        Get(path + "?x=1");
        Stored(path + "?x=2");
        Assert.Single(AskedFor(path));
        Get(own + "?x=1");
        Assert.Equal("MISS", Get(own + "?x=2"));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void Times_uses_and_predicates_decide_what_is_stored(string family)
    {
        const string missing = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
        string valid = At(family, "valid", static _ => missing);
        Assert.Equal("MISS", Get(valid));
        Stored(valid);
        string uses = At(family, "uses", Long);
        Assert.Equal(["MISS", "MISS"], [Get(uses), Get(uses)]);
        Stored(uses);
        string bypass = At(family, "bypass", Long);
        Get(bypass);
        Stored(bypass);
        Assert.Equal("BYPASS", Get(bypass, "X-Fresh: 1"));
        string own = At(family, "private", Long);
        Get(own, "X-Private: 1");
        Assert.Equal("MISS", Get(own, "X-Private: 1"));
        Assert.Equal(2, AskedFor(own).Length);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void Methods_that_are_named_are_stored(string family)
    {
        string path = At(family, "methods", Long), plain = At(family, "plain", Long);
        Send("POST", path, "Content-Length: 0");
        Wait.For("a hit", () => CacheTests.CacheOf(Send("POST", path, "Content-Length: 0")) == "HIT");
        Assert.Single(AskedFor(path));
        Send("POST", plain, "Content-Length: 0");
        Send("POST", plain, "Content-Length: 0");
        Assert.Equal(2, AskedFor(plain).Length);
    }

    [Fact]
    public void A_head_is_asked_for_as_it_is_where_it_is_not_converted()
    {
        string path = At("proxy", "head", static a => a.Method == "HEAD"
            ? "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n" + Long + "\r\n\r\n" : Upstream.Ok("0123456789", Long));
        Send("HEAD", path);
        Assert.Equal("HEAD", AskedFor(path)[0].Method);
        string converted = At("proxy", "plain", Long);
        Send("HEAD", converted);
        Assert.Equal("GET", AskedFor(converted)[0].Method);
    }

    /// <summary>Holds the first request, answers the others.</summary>
    private static string Held(string family, string location, ManualResetEventSlim go)
    {
        int asked = 0;
        return At(family, location, _ =>
        {
            int n = Interlocked.Increment(ref asked);
            if (n == 1)
            {
                go.Wait(30_000);
            }
            return Upstream.Ok(n.ToString(CultureInfo.InvariantCulture), Long);
        });
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void With_a_lock_one_asks_for_all(string family)
    {
        using var go = new ManualResetEventSlim();
        string path = Held(family, "locked", go);
        RawClient[] clients = [.. Enumerable.Range(0, 20).Select(_ => s_weir.Value.Connect())];
        foreach (RawClient client in clients)
        {
            client.Send(RawClient.Request("GET", path, []));
        }
        Wait.For("the first", () => AskedFor(path).Length == 1);
        go.Set();
        Assert.All(clients, static client => Assert.Equal("1", client.ReadResponse().Text));
        Assert.Single(AskedFor(path));
        foreach (RawClient client in clients)
        {
            client.Dispose();
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void Without_a_lock_each_asks(string family)
    {
        using var go = new ManualResetEventSlim();
        string path = Held(family, "plain", go);
        using RawClient first = s_weir.Value.Connect();
        first.Send(RawClient.Request("GET", path, []));
        Wait.For("the first", () => AskedFor(path).Length == 1);
        Assert.Equal("2", s_weir.Value.Get(path).Text);
        go.Set();
        Assert.Equal("1", first.ReadResponse().Text);
    }

    [Theory]
    [InlineData("proxy", "timeout", false)]
    [InlineData("fastcgi", "timeout", false)]
    [InlineData("proxy", "age", true)]
    [InlineData("fastcgi", "age", true)]
    public void A_lock_is_waited_for_so_long_and_taken_away_at_such_an_age(string family, string location, bool stores)
    {
        using var go = new ManualResetEventSlim();
        string path = Held(family, location, go);
        using RawClient first = s_weir.Value.Connect();
        first.Send(RawClient.Request("GET", path, []));
        Wait.For("the first", () => AskedFor(path).Length == 1);
        Assert.Equal("2", s_weir.Value.Get(path).Text);
        if (stores)
        {
            Stored(path);
        }
        else
        {
            // Whoever waited too long goes on alone, and what it gets is not stored.
            Assert.Equal("3", s_weir.Value.Get(path).Text);
        }
        go.Set();
        Assert.Equal("1", first.ReadResponse().Text);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void What_is_stale_is_validated_where_that_is_on(string family)
    {
        static string Of(Asked asked) => asked.Header("If-None-Match") is not null
            ? "HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n" + Long + "\r\n\r\n"
            : Upstream.Ok("body", Stale, "Age: 10", "ETag: \"v\"");
        string path = At(family, "plain", Of), off = At(family, "unvalidated", Of);
        Get(path);
        Wait.For("the validation", () => Get(path) == "REVALIDATED");
        Get(off);
        Wait.For("the expiry", () => Get(off) == "EXPIRED");
        Assert.All(AskedFor(off), static a => Assert.Null(a.Header("If-None-Match")));
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void Under_nginx_rules_validation_is_asked_for(string family)
    {
        string path = At(family, "validated", static a => a.Header("If-None-Match") is not null
            ? "HTTP/1.1 304 Not Modified\r\nETag: \"v\"\r\n\r\n" : Upstream.Ok("body", "ETag: \"v\""));
        Get(path);
        Wait.For("the validation", () => Get(path) == "REVALIDATED");
        string modified = At(family, "nginx", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT");
        Get(modified);
        Stored(modified, "Cache-Control: no-cache");
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void A_stale_response_is_updated_before_or_behind(string family)
    {
        Func<Asked, string> Growing()
        {
            int asked = 0;
            return _ => Interlocked.Increment(ref asked) == 1
                ? Upstream.Ok("old", Stale + ", stale-while-revalidate=1000", "Age: 10") : Upstream.Ok("new", Long);
        }
        string behind = At(family, "plain", Growing()), before = At(family, "foreground", Growing());
        Get(behind);
        Wait.For("the stale one", () => s_weir.Value.Get(behind).Text == "old");
        Stored(behind);
        Assert.Equal("new", s_weir.Value.Get(behind).Text);
        Get(before);
        Assert.Equal("new", s_weir.Value.Get(before).Text);
        Assert.Equal(2, AskedFor(before).Length);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void An_error_is_answered_with_what_is_stale_where_that_is_allowed(string family)
    {
        Func<Asked, string> Failing()
        {
            int asked = 0;
            return _ => Interlocked.Increment(ref asked) == 1 ? Upstream.Ok("old", Stale, "Age: 10", "ETag: \"v\"")
                : "HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n";
        }
        string allowed = At(family, "stale", Failing()), other = At(family, "plain", Failing());
        Get(allowed);
        Wait.For("the stale one", () => Get(allowed) == "STALE");
        Assert.Equal("old", s_weir.Value.Get(allowed).Text);
        Get(other);
        Assert.Equal(500, s_weir.Value.Get(other).Status);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void A_range_that_begins_far_is_asked_for_as_it_is(string family)
    {
        string path = At(family, "range", static a => a.Header("Range") is not null
            ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 8-9/10\r\nContent-Length: 2\r\n\r\n89"
            : Upstream.Ok("0123456789", Long));
        HttpResponse far = s_weir.Value.Get(path, "Range: bytes=8-9");
        Assert.Equal((206, "89"), (far.Status, far.Text));
        Assert.Equal("bytes=8-9", AskedFor(path)[0].Header("Range"));
        HttpResponse near = s_weir.Value.Get(path, "Range: bytes=2-3");
        Assert.Equal((206, "23"), (near.Status, near.Text));
        Assert.Null(AskedFor(path)[1].Header("Range"));
        Stored(path);
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void Purges_by_key_beginning_and_tag_remove(string family)
    {
        string path = At(family, "purge", Long, "Surrogate-Key: red");
        foreach ((string target, string field) in ((string, string)[])
            [(path, "X-Purge: 1"), (path[..^4] + "*", "X-Purge: 1"), (path, "X-Tags: red")])
        {
            Get(path);
            Stored(path);
            Assert.Equal(204, s_weir.Value.Get(target, field).Status);
            Assert.Equal("MISS", Get(path));
        }
    }

    [Theory]
    [MemberData(nameof(Families))]
    public void Variables_tell_what_was_stored(string family)
    {
        string path = At(family, "plain", Long, "ETag: \"v\"", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT",
            "Age: 7");
        Get(path);
        Stored(path);
        HttpResponse hit = s_weir.Value.Get(path);
        Assert.EndsWith(path, hit["X-Key"], StringComparison.Ordinal);
        Assert.InRange(int.Parse(hit["X-Age"]!, CultureInfo.InvariantCulture), 7, 100);
        // These two are for the request that validates: they say nothing otherwise, as nginx's.
        Assert.Null(hit["X-Modified"]);
        Assert.Null(hit["X-Etag"]);
        string stale = At(family, "plain", Stale, "ETag: \"v\"", "Last-Modified: Thu, 01 Jan 2015 00:00:00 GMT",
            "Age: 10");
        Get(stale);
        Wait.For("the validator", () => s_weir.Value.Get(stale) is var r && r["X-Etag"] == "\"v\""
            && r["X-Modified"] == "Thu, 01 Jan 2015 00:00:00 GMT");
    }

    /// <summary>What a cache's path says, and how many of three files stay, named how.</summary>
    private static readonly (string Path, int Stay, string Name)[] _paths =
    [
        ("", 3, "^[0-9a-f]{32}$"),
        ("levels=2:1", 3, "^[0-9a-f]{2}/[0-9a-f]/[0-9a-f]{32}$"),
        ("levels=1:1:2", 3, "^[0-9a-f]/[0-9a-f]/[0-9a-f]{2}/[0-9a-f]{32}$"),
        ("inactive=1s", 0, ""),
        ("max_size=1", 0, ""),
        ("min_free=1000000g", 0, ""),
    ];

    public static TheoryData<string, int> Paths
    {
        get
        {
            var all = new TheoryData<string, int>();
            for (int i = 0; i < _paths.Length; i++)
            {
                all.Add("proxy", i);
                all.Add("fastcgi", i);
            }
            return all;
        }
    }

    [Theory]
    [MemberData(nameof(Paths))]
    public void A_path_says_how_files_are_named_and_which_stay(string family, int row)
    {
        (string said, int stay, string name) = _paths[row];
        using Upstream http = Upstream.Answering(static _ => Upstream.Ok("x", Long));
        using var fastCgi = new Upstream(Serve);
        string pass = family == "proxy" ? $"proxy_pass http://127.0.0.1:{http.Port};"
            : $"fastcgi_pass 127.0.0.1:{fastCgi.Port}; fastcgi_param REQUEST_URI $uri; "
                + "fastcgi_param REQUEST_METHOD $request_method;";
        using var weir = ServerProcess.Weir(Conf.Server(
            $"location / {{ {pass} {family}_cache c; {family}_cache_key $uri; }} "
                + "add_header X-Cache $upstream_cache_status always;",
            $"{family}_cache_path %DIR%/cache keys_zone=c:1m use_temp_path=off {said};"));
        string[] targets = [.. Enumerable.Range(0, 3).Select(_ => At(family, "path", Long))];
        foreach (string target in targets)
        {
            Assert.Equal("MISS", CacheTests.CacheOf(weir.Get(target)));
        }
        if (stay > 0)
        {
            Assert.All(targets, target => Wait.For("a hit", () => CacheTests.CacheOf(weir.Get(target)) == "HIT"));
        }
        Wait.For("what stays", () => CacheTests.Files(weir).Length == stay, 30_000);
        Assert.All(CacheTests.Files(weir), file =>
            Assert.Matches(name, System.IO.Path.GetRelativePath(weir.Dir.At("cache"), file)));
        if (stay == 0)
        {
            Wait.For("its loss", () => CacheTests.CacheOf(weir.Get(targets[0])) == "MISS", 30_000);
        }
    }

    [Theory]
    [InlineData("proxy")]
    [InlineData("fastcgi")]
    public void A_zone_that_nobody_made_is_refused_also_where_no_location_uses_it(string family)
    {
        using var weir = ServerProcess.Weir(Conf.Http($"{family}_cache nowhere; server {{ listen 127.0.0.1:%PORT%; }}"),
            waitReady: false, arguments: ["-t"]);
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Contains($"\"{family}_cache\" zone \"nowhere\" is unknown in ", weir.Process.Errors + weir.ErrorLog,
            StringComparison.Ordinal);
    }
}
