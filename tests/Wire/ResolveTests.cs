// Servers whose names are looked up while running: addresses and service records that change, fail and come back, with
// a zone and without, and what clients see meanwhile.
using System.Globalization;
using System.Text.Json;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ResolveTests
{
    private const int PatientMs = 30_000;

    private static Upstream Named(string name) => Upstream.Answering(_ => Upstream.Ok(name));

    private static string Port(Upstream upstream) => upstream.Port.ToString(CultureInfo.InvariantCulture);

    private static Conf Pool(ScriptedNameServer dns, string group, int workers = 1, string resolver = "") =>
        Conf.Server("location / { proxy_pass http://g; proxy_next_upstream off; } location /api/ { api write=on; }",
            string.Create(CultureInfo.InvariantCulture, $"resolver 127.0.0.1:{dns.Port} ipv6=off {resolver}; ")
            + $"resolver_timeout 1s; upstream g {{ {group} }}", workers, master: workers > 1);

    private static string Asked(ServerProcess weir, int times = 8) =>
        string.Concat(Enumerable.Range(0, times).Select(_ => weir.Get("/").Text).Distinct().Order());

    [Theory]
    [InlineData(1, "")]
    [InlineData(2, "zone z 64k;")]
    [Trait("Needs", "master")]
    public void Service_records_lead_to_servers_by_priority_and_weight_and_are_followed(int workers, string zone)
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using Upstream c = Named("c");
        using var dns = new ScriptedNameServer();
        dns.Set("local.test", "127.0.0.1");
        dns.SetServices("_http._tcp.app.test", (1, 3, a.Port, "local.test"), (1, 1, b.Port, "local.test"),
            (5, 1, c.Port, "local.test"));
        using var weir = ServerProcess.Weir(Pool(dns, zone + "server app.test service=http resolve;", workers));
        string order = string.Concat(Enumerable.Range(0, 16).Select(_ => weir.Get("/").Text));
        Assert.Equal("ab", string.Concat(order.Distinct().Order()));
        if (workers == 1 || zone.Length > 0)
        {
            Assert.Equal((12, 4), (order.Count('a'.Equals), order.Count('b'.Equals)));
        }
        dns.SetServices("_http._tcp.app.test", (9, 1, c.Port, "local.test"));
        Wait.For("c alone", () => Asked(weir) == "c", PatientMs);
        dns.SetServices("_http._tcp.app.test", (2, 0, b.Port, "local.test"), (9, 1, c.Port, "local.test"));
        Wait.For("b alone, c stands by", () => Asked(weir) == "b", PatientMs);
    }

    [Fact]
    public void A_service_with_a_dot_is_put_before_the_name()
    {
        using Upstream a = Named("a");
        using var dns = new ScriptedNameServer();
        dns.Set("local.test", "127.0.0.1");
        dns.SetServices("one.two.app.test", (1, 1, a.Port, "local.test"));
        using var weir = ServerProcess.Weir(Pool(dns, "server app.test service=one.two resolve;"));
        Assert.Equal("a", weir.Get("/").Text);
    }

    [Theory]
    [InlineData(2, "zone z 64k;")]
    [Trait("Needs", "master")]
    public void A_name_server_that_fails_or_is_silent_costs_no_request(int workers, string zone)
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using var dns = new ScriptedNameServer();
        dns.Set("a.test", "127.0.0.1");
        using var weir = ServerProcess.Weir(Pool(dns, $"{zone} server a.test:{Port(a)} resolve;", workers));
        var seen = new HashSet<int>();
        void Steady(string what, Func<bool> until) => Wait.For(what, () =>
        {
            seen.Add(weir.Get("/").Status);
            return until();
        }, PatientMs);

        Steady("every worker knows the name", () => dns.Questions >= workers);
        dns.Mode = NameServerMode.Failing;
        int asked = dns.Questions;
        Steady("failures", () => dns.Questions > asked + 2);
        dns.Mode = NameServerMode.Silent;
        asked = dns.Questions;
        Steady("silence", () => dns.Questions > asked + 1);
        dns.Mode = NameServerMode.Answering;
        asked = dns.Questions;
        Steady("it is back", () => dns.Questions > asked + 1);
        Assert.True(seen.SetEquals([200]), weir.ErrorLog);
        Assert.Contains("a.test could not be resolved (2: Server failure) for upstream \"g\"", weir.ErrorLog,
            StringComparison.Ordinal);
        // A name that does not exist any more is another matter: its servers go, and come with it.
        dns.Remove("a.test");
        Wait.For("nobody is left", () => weir.Get("/").Status == 502, PatientMs);
        dns.Set("a.test", "127.0.0.1");
        Wait.For("it serves again", () => weir.Get("/").Status == 200, PatientMs);
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_server_that_the_API_adds_by_name_is_looked_up_in_all_workers()
    {
        using Upstream a = Named("a");
        using Upstream b = Named("b");
        using var dns = new ScriptedNameServer();
        dns.Set("b.test", "127.0.0.1");
        using var weir = ServerProcess.Weir(Pool(dns, $"zone z 64k; server 127.0.0.1:{Port(a)};", workers: 2));
        using (RawClient client = weir.Connect())
        {
            client.Send(RawClient.Request("POST", "/api/9/http/upstreams/g/servers/", [],
                $"{{\"server\":\"b.test:{Port(b)}\",\"weight\":2}}"));
            Assert.Equal(201, client.ReadResponse().Status);
        }
        Wait.For("both serve, in every worker", () => Asked(weir, 12) == "ab" && Asked(weir, 12) == "ab", PatientMs);
        JsonElement servers = JsonDocument.Parse(weir.Get("/api/9/http/upstreams/g/servers/").Text).RootElement;
        Assert.Equal(3, servers.GetArrayLength());
        Assert.Equal($"b.test:{Port(b)}", servers[1].GetProperty("server").GetString());
        Assert.Equal(($"127.0.0.1:{Port(b)}", 1, 2), (servers[2].GetProperty("server").GetString(),
            servers[2].GetProperty("parent").GetInt32(), servers[2].GetProperty("weight").GetInt32()));
        int child = servers[2].GetProperty("id").GetInt32();
        using RawClient other = weir.Connect();
        other.Send(RawClient.Request("DELETE",
            string.Create(CultureInfo.InvariantCulture, $"/api/9/http/upstreams/g/servers/{child}"), []));
        Assert.Contains("UpstreamServerImmutable", other.ReadResponse().Text, StringComparison.Ordinal);
        string Patch(string body)
        {
            other.Send(RawClient.Request("PATCH",
                string.Create(CultureInfo.InvariantCulture, $"/api/9/http/upstreams/g/servers/{child}"), [], body));
            return other.ReadResponse().Text;
        }
        Assert.Contains("UpstreamServerImmutable", Patch("{\"server\":\"127.0.0.1:1\"}"), StringComparison.Ordinal);
        Assert.Contains("UpstreamServerImmutable", Patch("{\"slow_start\":\"5s\"}"), StringComparison.Ordinal);
        JsonElement changed = JsonDocument.Parse(Patch("{\"down\":true,\"weight\":3,\"max_conns\":9}")).RootElement;
        Assert.Equal((true, 3, 9, 1), (changed.GetProperty("down").GetBoolean(),
            changed.GetProperty("weight").GetInt32(), changed.GetProperty("max_conns").GetInt32(),
            changed.GetProperty("parent").GetInt32()));
        Assert.Equal("a", Asked(weir, 12));
        Patch("{\"down\":false}");
        Assert.Equal("ab", Asked(weir, 12));
        other.Send(RawClient.Request("DELETE", "/api/9/http/upstreams/g/servers/1", []));
        Assert.Equal(200, other.ReadResponse().Status);
        Assert.Equal("a", Asked(weir));
    }
}
