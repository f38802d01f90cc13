// What a block shares with the block around, and what it never does: a configuration of a thousand servers is read by
// every worker at every reload.
using System.Text;
using Weir.Conf;
using Weir.Http;
using Weir.Loop;
using Weir.Server;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class SharedSettingsTests
{
    private const int AllocatedBytesPerServerMax = 8 * 1024;

    [Fact]
    public void A_thousand_servers_are_read_with_few_allocations()
    {
        using CounterSlots counters = CounterSlots.CreatePrivate();
        var text = new StringBuilder("events {} http { access_log off; ");
        for (int i = 0; i < 1000; i++)
        {
            text.Append($"server {{ listen 127.0.0.1:80; server_name s{i}.example; ")
                .Append($"location / {{ return 200 \"{i}\"; }} location = /status {{ weir_status json; }} }}\n");
        }
        byte[] bytes = Encoding.ASCII.GetBytes(text.Append('}').ToString());
        // The first reading also makes what all readings share.
        Read(bytes, counters);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Read(bytes, counters);
        long taken = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.True(taken < 1000 * AllocatedBytesPerServerMax, $"{taken} bytes");
    }

    private static void Read(byte[] text, CounterSlots counters)
    {
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add("/conf", text), "/conf");
        var build = new HttpBuild(new OwnResources("/nonexistent", "/", counters, []), tree.Errors);
        using HttpConfiguration configuration = build.Run(tree);
        Assert.False(tree.Errors.Failed);
        Assert.Equal(1000, configuration.Servers.Count);
    }

    [Fact]
    public void A_block_in_which_nothing_is_set_shares_what_is_around()
    {
        using var server = new MemoryServer(
            "server { listen 127.0.0.1:80; location @bare { } location @named { add_header X-A 1; } "
            + "location @core { etag off; } }");
        ServerConf conf = server.Http.Configuration!.Servers[0];
        LocationConf around = conf.Location;
        LocationConf bare = conf.Locations.FindNamed("@bare"u8)!;
        LocationConf named = conf.Locations.FindNamed("@named"u8)!;
        LocationConf core = conf.Locations.FindNamed("@core"u8)!;
        Assert.Same(around.Settings, bare.Settings);
        Assert.Same(around.Modules, bare.Modules);
        Assert.Same(around.Pipeline, bare.Pipeline);
        Assert.Same(around.HeadFilters, bare.HeadFilters);
        Assert.Same(around.Settings, named.Settings);
        Assert.NotSame(around.Modules, named.Modules);
        Assert.NotSame(around.HeadFilters, named.HeadFilters);
        Assert.NotSame(around.Settings, core.Settings);
        Assert.Same(around.Modules, core.Modules);
        Assert.True(around.ETag.Value);
        Assert.False(core.ETag.Value);
    }

    [Theory]
    [InlineData("location /a/ { return 200 outer; location /a/b/ { } }")]
    [InlineData("location /a/ { rewrite ^ /other; location /a/b/ { } }")]
    [InlineData("location /a/ { try_files /x =418; location /a/b/ { } }")]
    [InlineData("location /a/ { proxy_pass http://127.0.0.1:1; location /a/b/ { } }")]
    [InlineData("location /a/ { fastcgi_pass 127.0.0.1:1; location /a/b/ { } }")]
    [InlineData("location /a/ { stub_status; location /a/b/ { } }")]
    [InlineData("location /a/ { internal; return 200; location /a/b/ { } }")]
    public void What_a_location_does_is_not_what_a_location_inside_does(string locations)
    {
        using var server = new MemoryServer(
            $"server {{ listen 127.0.0.1:80; location = /other {{ return 200; }} {locations} }}");
        InMemoryPeer peer = server.Connect();
        string answer = server.Exchange(peer, "GET /a/b/c HTTP/1.1\r\nHost: h\r\n\r\n");
        Assert.StartsWith("HTTP/1.1 404", answer);
    }

    [Fact]
    public void A_header_set_inside_replaces_those_around_and_only_there()
    {
        using var server = new MemoryServer("""
            add_header X-Http 1;
            server {
                listen 127.0.0.1:80;
                location /same { return 200; }
                location /own { add_header X-Own 1; return 200; }
                location /if { if ($arg_a) { add_header X-If 1; return 200; } return 200; }
            }
            """);
        InMemoryPeer peer = server.Connect();
        string Get(string path) => server.Exchange(peer, $"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n");
        Assert.Contains("X-Http: 1", Get("/same"));
        string own = Get("/own");
        Assert.Contains("X-Own: 1", own);
        Assert.DoesNotContain("X-Http", own);
        string inside = Get("/if?a=1");
        Assert.Contains("X-If: 1", inside);
        Assert.DoesNotContain("X-Http", inside);
        string outside = Get("/if");
        Assert.Contains("X-Http: 1", outside);
        Assert.DoesNotContain("X-If", outside);
    }
}
