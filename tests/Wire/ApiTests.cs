// The REST API under nginx Plus's names: what it shows of groups and servers, servers that are added, changed and
// removed while all workers serve, what it refuses and with which error, and the file that keeps the changes.
using System.Globalization;
using System.Text.Json;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ApiTests
{
    private const int PatientMs = 30_000;
    private const string Servers = "/api/9/http/upstreams/g/servers/";

    private static Upstream Named(string name) => Upstream.Answering(_ => Upstream.Ok(name));

    private static string Address(Upstream upstream) =>
        string.Create(CultureInfo.InvariantCulture, $"127.0.0.1:{upstream.Port}");

    private static Conf Pool(string group, int workers = 1, string server = "", string http = "") => Conf.Server(
        $"location / {{ proxy_pass http://g; }} location /api/ {{ api write=on; {server} }} "
            + "location /read/ { api; } location /shut/ { api write=on; deny all; } location = /st "
            + "{ weir_status json; }",
        $"{http} upstream g {{ {group} }} upstream static {{ server 127.0.0.1:1; }}", workers, master: workers > 1);

    private static JsonElement Json(HttpResponse response) => JsonDocument.Parse(response.Text).RootElement;

    private static JsonElement Get(ServerProcess weir, string path)
    {
        HttpResponse response = weir.Get(path);
        Assert.Equal((200, "application/json"), (response.Status, response["Content-Type"]));
        return Json(response);
    }

    private static HttpResponse Send(ServerProcess weir, string method, string path, string body = "")
    {
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request(method, path, body.Length == 0 ? [] : ["Content-Type: application/json"], body));
        return client.ReadResponse();
    }

    private static string Asked(ServerProcess weir, int times = 8) =>
        string.Concat(Enumerable.Range(0, times).Select(_ => weir.Get("/").Text).Distinct().Order());

    [Fact]
    public void The_versions_and_what_there_is_below_them()
    {
        using Upstream a = Named("a");
        using var weir = ServerProcess.Weir(Pool($"zone z 64k; server {Address(a)};"));
        Assert.Equal("[1,2,3,4,5,6,7,8,9]", weir.Get("/api/").Text);
        Assert.Equal("[\"nginx\",\"connections\",\"http\"]", weir.Get("/api/9/").Text);
        Assert.Equal("[\"requests\",\"upstreams\"]", weir.Get("/api/9/http/").Text);
        Assert.Equal("[\"g\"]", weir.Get("/api/9/http/upstreams/?fields=").Text);
        Assert.True(Get(weir, "/api/9/http/requests").GetProperty("total").GetInt64() > 0);
        Assert.True(Get(weir, "/api/9/connections").GetProperty("accepted").GetInt64() > 0);
        JsonElement server = Get(weir, "/api/9/nginx?fields=build,pid");
        Assert.Equal(["build", "pid"], server.EnumerateObject().Select(static p => p.Name));
    }

    [Fact]
    public void A_group_shows_its_servers_with_what_happened_to_them()
    {
        using Upstream a = Named("a");
        using var weir = ServerProcess.Weir(Pool(
            $"zone z 64k; server {Address(a)} weight=2 max_conns=7; server 127.0.0.1:1 backup down; queue 3;"));
        Assert.Equal("a", weir.Get("/").Text);
        weir.Get("/");
        JsonElement group = Get(weir, "/api/9/http/upstreams/g");
        Assert.Equal("z", group.GetProperty("zone").GetString());
        Assert.Equal(1, group.GetProperty("keepalive").GetInt32());
        Assert.Equal(3, group.GetProperty("queue").GetProperty("max_size").GetInt32());
        JsonElement peer = group.GetProperty("peers")[0];
        Assert.Equal((0, Address(a), "up", 2, 7, 2, 0), (peer.GetProperty("id").GetInt32(),
            peer.GetProperty("server").GetString(), peer.GetProperty("state").GetString(),
            peer.GetProperty("weight").GetInt32(), peer.GetProperty("max_conns").GetInt32(),
            peer.GetProperty("requests").GetInt32(), peer.GetProperty("active").GetInt32()));
        Assert.Equal(2, peer.GetProperty("responses").GetProperty("2xx").GetInt32());
        Assert.True(peer.GetProperty("sent").GetInt64() > 0 && peer.GetProperty("received").GetInt64() > 0);
        Assert.EndsWith("Z", peer.GetProperty("selected").GetString(), StringComparison.Ordinal);
        JsonElement spare = group.GetProperty("peers")[1];
        Assert.Equal("down", spare.GetProperty("state").GetString());
        Assert.True(spare.GetProperty("backup").GetBoolean());
        JsonElement shown = Get(weir, "/st").GetProperty("upstreams").GetProperty("g");
        Assert.Equal(2, shown.GetProperty("peers").GetArrayLength());
        Assert.Equal(204, Send(weir, "DELETE", "/api/9/http/upstreams/g").Status);
        peer = Get(weir, "/api/9/http/upstreams/g").GetProperty("peers")[0];
        Assert.Equal(0, peer.GetProperty("requests").GetInt32());
    }

    [Fact]
    [Trait("Needs", "master")]
    public void Servers_are_added_changed_and_removed_in_all_workers()
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using Upstream c = Named("c");
        using var weir = ServerProcess.Weir(Pool($"zone z 64k; server {Address(a)};", workers: 4));
        HttpResponse made = Send(weir, "POST", Servers,
            $"{{\"server\":\"{Address(b)}\",\"weight\":3,\"slow_start\":0}}");
        Assert.Equal(201, made.Status);
        Assert.Equal($$"""
            {"id":1,"server":"{{Address(b)}}","weight":3,"max_conns":0,"max_fails":1,"fail_timeout":"10s",
            """ + "\"slow_start\":\"0s\",\"route\":\"\",\"backup\":false,\"down\":false}", made.Text);
        string order = string.Concat(Enumerable.Range(0, 24).Select(_ => weir.Get("/").Text));
        Assert.Equal((6, 18), (order.Count('a'.Equals), order.Count('b'.Equals)));

        Assert.Equal(200, Send(weir, "PATCH", Servers + "0", "{\"down\":true}").Status);
        Assert.Equal("b", Asked(weir));
        Assert.Equal(200, Send(weir, "PATCH", Servers + "0", "{\"down\":false,\"drain\":true}").Status);
        Assert.Equal("b", Asked(weir));
        Assert.Equal("draining", Get(weir, "/api/9/http/upstreams/g").GetProperty("peers")[0].GetProperty("state")
            .GetString());
        Assert.Equal(200, Send(weir, "PATCH", Servers + "1", $"{{\"server\":\"{Address(c)}\"}}").Status);
        Assert.Equal("c", Asked(weir));
        Assert.Equal(200, Send(weir, "PATCH", Servers + "0", "{\"drain\":false,\"weight\":3}").Status);
        Assert.Equal("ac", Asked(weir));
        HttpResponse left = Send(weir, "DELETE", Servers + "1");
        Assert.Equal(200, left.Status);
        Assert.Equal(0, Assert.Single(Json(left).EnumerateArray()).GetProperty("id").GetInt32());
        Assert.Equal("a", Asked(weir));

        // A worker that starts later finds the list as it is.
        Assert.Equal(201, Send(weir, "POST", Servers, $"{{\"server\":\"{Address(b)}\"}}").Status);
        int[] before = weir.Workers();
        Array.ForEach(before, static w => ChildProcess.Send(w, Signal.Kill));
        Wait.For("new workers", () => weir.Workers() is { Length: 4 } now && !now.Intersect(before).Any(), PatientMs);
        Assert.Equal("ab", Asked(weir));
        Assert.Equal(2, Get(weir, Servers).GetArrayLength());
    }

    [Theory]
    [InlineData("weight", "7")]
    [InlineData("max_conns", "3")]
    [InlineData("max_fails", "4")]
    [InlineData("fail_timeout", "\"5s\"")]
    [InlineData("slow_start", "\"6s\"")]
    [InlineData("route", "\"there\"")]
    [InlineData("down", "true")]
    [InlineData("drain", "true")]
    public void A_change_of_one_parameter_is_shown_and_written_down_and_changes_no_other(string name, string value)
    {
        using Upstream a = Named("a");
        using var files = new TempDir();
        string path = files.Write("g.state", $"server {Address(a)};\n");
        using var weir = ServerProcess.Weir(Pool($"zone z 64k; state {path};"));
        JsonElement before = Get(weir, Servers + "0");
        HttpResponse changed = Send(weir, "PATCH", Servers + "0", $"{{\"{name}\":{value}}}");
        Assert.Equal(200, changed.Status);
        JsonElement after = Get(weir, Servers + "0");
        Assert.Equal(after.GetRawText(), changed.Text);
        Assert.Equal(value, after.GetProperty(name).GetRawText());
        Assert.Equal(before.EnumerateObject().Where(p => p.Name != name).Select(static p => p.ToString()),
            after.EnumerateObject().Where(p => p.Name != name).Select(static p => p.ToString()));
        // slow_start is kept in milliseconds.
        string written = value is "true" ? name : $"{name}={(name == "slow_start" ? "6000ms" : value.Trim('"'))}";
        Assert.Equal($"server {Address(a)} {written};\n", File.ReadAllText(path));
    }

    [Fact]
    public void A_changed_limit_of_connections_and_a_changed_route_hold_at_once()
    {
        using var release = new ManualResetEventSlim();
        using Upstream a = Upstream.Answering(_ =>
        {
            release.Wait(PatientMs);
            return Upstream.Ok("a");
        });
        using Upstream b = Named("b");
        using var weir = ServerProcess.Weir(Pool(
            $"zone z 64k; server {Address(a)} route=x; server {Address(b)} route=y; sticky route $arg_r;"));
        Assert.Equal(200, Send(weir, "PATCH", Servers + "0", "{\"max_conns\":1}").Status);
        using RawClient first = weir.Connect();
        first.Send(RawClient.Request("GET", "/?r=x", []));
        Wait.For("the request", () => a.Requests.Count == 1);
        Assert.Equal("b", weir.Get("/?r=x").Text);
        Assert.Equal(200, Send(weir, "PATCH", Servers + "1", "{\"route\":\"z\"}").Status);
        release.Set();
        Assert.Equal("a", first.ReadResponse().Text);
        Assert.All(Enumerable.Range(0, 3), _ => Assert.Equal("b", weir.Get("/?r=z").Text));
        Assert.All(Enumerable.Range(0, 3), _ => Assert.Equal("a", weir.Get("/?r=x").Text));
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_state_file_keeps_the_servers_over_a_reload_and_a_restart()
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using var files = new TempDir();
        string path = files.At("g.state");
        Conf conf = Pool($"zone z 64k; state {path};", workers: 2);
        using (var weir = ServerProcess.Weir(conf))
        {
            Assert.Equal(502, weir.Get("/").Status);
            Assert.Equal(201, Send(weir, "POST", Servers, $"{{\"server\":\"{Address(a)}\",\"max_fails\":3}}").Status);
            Assert.Equal(201, Send(weir, "POST", Servers,
                $"{{\"server\":\"{Address(b)}\",\"backup\":true,\"fail_timeout\":\"1m\",\"route\":\"x;y\"}}").Status);
            Assert.Equal($"server {Address(a)} max_fails=3;\n"
                + $"server {Address(b)} fail_timeout=60s \"route=x;y\" backup;\n", File.ReadAllText(path));
            Assert.Equal("a", Asked(weir));
            weir.Send(Signal.Hup);
            Wait.For("the reload", () => weir.ErrorLog.Contains("reconfigured, generation", StringComparison.Ordinal),
                PatientMs);
            Assert.Equal("a", Asked(weir));
            Assert.Equal(200, Send(weir, "PATCH", Servers + "0", "{\"down\":true}").Status);
            Assert.Equal("b", Asked(weir));
        }
        using (var weir = ServerProcess.Weir(conf))
        {
            Assert.Equal("b", Asked(weir));
            Assert.Equal("x;y", Get(weir, Servers)[1].GetProperty("route").GetString());
            Assert.Equal(200, Send(weir, "DELETE", Servers + "0").Status);
            Assert.Equal([path], Directory.GetFiles(files.Path));
            Assert.StartsWith($"server {Address(b)}", File.ReadAllText(path), StringComparison.Ordinal);
        }
    }

    private static readonly (string Method, string Path, string Body, int Status, string Code)[] s_refused =
    [
        ("GET", "/api/10/nginx", "", 404, "UnknownVersion"),
        ("GET", "/api/9/nowhere", "", 404, "PathNotFound"),
        ("GET", "/api/9/http/upstreams/none", "", 404, "UpstreamNotFound"),
        ("GET", "/api/9/http/upstreams/static", "", 404, "UpstreamNotFound"),
        ("GET", "/api/9/http/upstreams/static/servers/", "", 400, "UpstreamStatic"),
        ("GET", Servers + "7", "", 404, "UpstreamServerNotFound"),
        ("GET", Servers + "x", "", 400, "UpstreamBadServerId"),
        ("DELETE", Servers + "7", "", 404, "UpstreamServerNotFound"),
        ("POST", "/api/9/nginx", "{}", 405, "MethodNotSupported"),
        ("PUT", Servers, "{}", 405, "MethodNotSupported"),
        ("POST", "/read/9/http/upstreams/g/servers/", "{}", 405, "MethodDisabled"),
        ("DELETE", "/read/9/http/upstreams/g/servers/0", "", 405, "MethodDisabled"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:1\"}", 409, "EntryExists"),
        ("POST", Servers, "{\"server\":", 415, "JsonError"),
        ("POST", Servers, "[]", 415, "JsonError"),
        ("POST", Servers, "{}", 400, "UpstreamConfFormatError"),
        ("POST", Servers, "{\"server\":{}}", 400, "UpstreamConfFormatError"),
        ("POST", Servers, "{\"server\":1}", 400, "UpstreamConfFormatError"),
        ("POST", Servers, "{\"color\":1}", 400, "UpstreamConfFormatError"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:99999\"}", 400, "UpstreamBadAddress"),
        ("POST", Servers, "{\"server\":\"a.test\"}", 400, "UpstreamConfNoResolver"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"service\":\"x\"}", 400, "UpstreamBadAddress"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"weight\":0}", 400, "UpstreamBadWeight"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"max_conns\":-1}", 400, "UpstreamBadMaxConns"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"max_fails\":1.5}", 400, "UpstreamBadMaxFails"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"fail_timeout\":\"1x\"}", 400, "UpstreamBadFailTimeout"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"slow_start\":\"-\"}", 400, "UpstreamBadSlowStart"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"route\":\"123456789012345678901234567890123\"}", 400,
            "UpstreamBadRoute"),
        ("POST", Servers, "{\"server\":\"127.0.0.1:2\",\"service\":\"\"}", 400, "UpstreamBadService"),
        ("PATCH", Servers + "0", "{\"server\":\"a.test\"}", 400, "UpstreamServerImmutable"),
        ("PATCH", Servers + "0", "{\"backup\":true}", 400, "UpstreamConfFormatError"),
        ("POST", "/api/9/http/upstreams/h/servers/", "{\"server\":\"127.0.0.1:2\",\"backup\":true}", 400,
            "UpstreamNoBackup"),
    ];

    [Fact]
    public void What_cannot_be_done_is_refused_by_its_code()
    {
        using var weir = ServerProcess.Weir(Pool("zone z 64k; server 127.0.0.1:1;",
            http: "upstream h { zone z2 64k; hash $uri; server 127.0.0.1:1; }"));
        foreach ((string method, string path, string body, int status, string code) in s_refused)
        {
            HttpResponse answer = Send(weir, method, path, body);
            JsonElement error = Json(answer).GetProperty("error");
            Assert.Equal((path + body, status, status, code), (path + body, answer.Status,
                error.GetProperty("status").GetInt32(), error.GetProperty("code").GetString()));
            Assert.Equal(32, Json(answer).GetProperty("request_id").GetString()!.Length);
        }
        // Nothing has changed.
        Assert.Single(Get(weir, Servers).EnumerateArray());
    }

    [Fact]
    public void The_locations_access_rules_say_who_may_ask_and_who_may_change()
    {
        using var weir = ServerProcess.Weir(Pool("zone z 64k; server 127.0.0.1:1;",
            server: "limit_except GET { deny all; }"));
        Assert.Equal(403, weir.Get("/shut/9/http/upstreams/").Status);
        Assert.Equal(200, weir.Get(Servers).Status);
        Assert.Equal(403, Send(weir, "DELETE", Servers + "0").Status);
        Assert.Single(Get(weir, Servers).EnumerateArray());
    }

    [Theory]
    [InlineData("zone z 64k; state s; server 127.0.0.1:1;", "\"server\" directive is incompatible with \"state\"")]
    [InlineData("zone z 64k; server 127.0.0.1:1; state s;", "\"state\" directive is incompatible with \"server\"")]
    [InlineData("state s;", "\"state\" needs a \"zone\" in upstream \"u\"")]
    [InlineData("server a.test service=http;", "service upstream \"a.test\" requires \"resolve\" parameter")]
    [InlineData("server a.test:1 service=http resolve;", "service upstream \"a.test:1\" may not have port")]
    [InlineData("server 127.0.0.1 service=http resolve;", "service upstream \"127.0.0.1\" requires domain name")]
    [InlineData("server a.test service= resolve;", "\"service\" is empty")]
    [InlineData("server 127.0.0.1:1; sticky learn create=$uri lookup=$uri zone=s:64k sync;",
        "zones are shared by the workers of one server, not by a cluster")]
    [InlineData("} server { location / { api write=maybe; }", "invalid parameter \"write=maybe\"")]
    public void What_makes_no_sense_is_named(string group, string message)
    {
        using var weir = ServerProcess.Weir(Conf.Http($"upstream u {{ {group} }}"), waitReady: false,
            arguments: ["-t"]);
        Assert.True(weir.Process.WaitForExit(PatientMs));
        Assert.Contains(message, weir.Process.Errors + weir.ErrorLog, StringComparison.Ordinal);
    }
}
