// The wall clock is set by an hour, forward and back, while the server works: dates follow it, and nothing else. Rates,
// timers, keep-alive, health and the uses of cached files are timed by the monotonic clock; what a cached file says of
// itself is wall clock, and a jump costs freshness at most. On the in-memory engine, whose clocks can be moved apart.
using System.Globalization;
using System.Text.RegularExpressions;
using Weir.Http.Cache;
using Weir.Kernel;
using Weir.Loop;
using Weir.Zones;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed partial class ClockTests
{
    private const long HourMs = 3_600_000;
    private const string Get = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
    private static readonly byte[] s_origin = SocketAddress.Parse("127.0.0.1:9000").Native.ToArray();

    public static TheoryData<long> Jumps => new() { HourMs, -HourMs };

    [GeneratedRegex(@"\r\nDate: ([^\r]+)\r\n")]
    private static partial Regex DateField();

    [GeneratedRegex(@"\r\nAge: (-?\d+)\r\n")]
    private static partial Regex AgeField();

    private static string Ask(MemoryServer server) => server.Exchange(server.Connect(), Get);

    private static void Set(MemoryServer server, long jumpMs)
    {
        server.Loop.WallStepMs += jumpMs;
        server.Settle();
    }

    [Theory]
    [MemberData(nameof(Jumps))]
    public void The_date_follows_at_once(long jumpMs)
    {
        using var server = new MemoryServer("server { listen 127.0.0.1:80; location / { return 200 a; } }");
        DateTimeOffset DateOf(string answer) => DateTimeOffset.ParseExact(DateField().Match(answer).Groups[1].Value,
            "R", CultureInfo.InvariantCulture);
        DateTimeOffset before = DateOf(Ask(server));
        Set(server, jumpMs);
        Assert.Equal(before.AddMilliseconds(jumpMs), DateOf(Ask(server)));
    }

    [Theory]
    [MemberData(nameof(Jumps))]
    public void A_rate_pays_back_nothing_and_takes_nothing(long jumpMs)
    {
        using var server = new MemoryServer("limit_req_zone one zone=z:32k rate=1r/m; "
            + "server { listen 127.0.0.1:80; location / { limit_req zone=z burst=1 nodelay; root /none; } }");
        Assert.StartsWith("HTTP/1.1 404", Ask(server));
        Assert.StartsWith("HTTP/1.1 404", Ask(server));
        Set(server, jumpMs);
        Assert.StartsWith("HTTP/1.1 503", Ask(server));
        server.Loop.AdvanceClock(70_000);
        Assert.StartsWith("HTTP/1.1 404", Ask(server));
        Assert.StartsWith("HTTP/1.1 503", Ask(server));
    }

    [Theory]
    [MemberData(nameof(Jumps))]
    public void A_connection_is_kept_as_long_as_ever(long jumpMs)
    {
        using var server = new MemoryServer(
            "keepalive_timeout 10s; server { listen 127.0.0.1:80; location / { return 200 a; } }");
        InMemoryPeer peer = server.Connect();
        server.Exchange(peer, Get);
        Set(server, jumpMs);
        server.Loop.AdvanceClock(8_000);
        server.Settle();
        Assert.StartsWith("HTTP/1.1 200", server.Exchange(peer, Get));
        server.Loop.AdvanceClock(12_000);
        server.Settle();
        Assert.True(peer.IsEnded);
    }

    [Theory]
    [MemberData(nameof(Jumps))]
    public void A_server_that_failed_stays_aside_as_long_as_ever(long jumpMs)
    {
        int asked = 0;
        using var server = new MemoryServer("""
            upstream g { zone z 64k; server 127.0.0.1:9000 max_fails=1 fail_timeout=60s; server 127.0.0.1:9001 backup; }
            server { listen 127.0.0.1:80; location / { proxy_pass http://g; } }
            """);
        server.Loop.ListenPeers(s_origin, peer => peer.Arrived = p =>
        {
            if (p.ReadText().Length > 0)
            {
                asked++;
                p.Close();
            }
        });
        Answer(server, SocketAddress.Parse("127.0.0.1:9001").Native.ToArray(), static () => "");
        Assert.StartsWith("HTTP/1.1 200", Ask(server));
        Assert.Equal(1, asked);
        Set(server, jumpMs);
        Assert.StartsWith("HTTP/1.1 200", Ask(server));
        Assert.Equal(1, asked);
        server.Loop.AdvanceClock(62_000);
        Assert.StartsWith("HTTP/1.1 200", Ask(server));
        Assert.Equal(2, asked);
    }

    [GeneratedRegex("\"downtime\":\\s*(\\d+)")]
    private static partial Regex DowntimeMember();

    [Theory]
    [MemberData(nameof(Jumps))]
    public void A_server_is_down_for_as_long_as_it_was(long jumpMs)
    {
        using var server = new MemoryServer("""
            upstream g { zone z 64k; server 127.0.0.1:9000 max_fails=1 fail_timeout=5s; server 127.0.0.1:9001 backup; }
            server { listen 127.0.0.1:80; location / { proxy_pass http://g; } location /api/ { api; } }
            """);
        bool works = false;
        server.Loop.ListenPeers(s_origin, peer => peer.Arrived = p =>
        {
            if (p.ReadText().Length > 0 && works)
            {
                p.Send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            }
            else
            {
                p.Close();
            }
        });
        Answer(server, SocketAddress.Parse("127.0.0.1:9001").Native.ToArray(), static () => "");
        long Downtime() => long.Parse(DowntimeMember().Match(server.Exchange(server.Connect(),
            "GET /api/9/http/upstreams/g HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")).Groups[1].Value,
            CultureInfo.InvariantCulture);
        Assert.StartsWith("HTTP/1.1 200", Ask(server));
        server.Loop.AdvanceClock(4_000);
        Set(server, jumpMs);
        Assert.InRange(Downtime(), 4_000, 5_000);
        server.Loop.AdvanceClock(4_000);
        works = true;
        for (int i = 0; i < 3; i++)
        {
            Assert.StartsWith("HTTP/1.1 200", Ask(server));
            server.Loop.AdvanceClock(2_000);
        }
        Assert.InRange(Downtime(), 8_000, 11_000);
    }

    [Theory]
    [MemberData(nameof(Jumps))]
    public void Health_is_checked_as_often_as_ever(long jumpMs)
    {
        int asked = 0;
        using var server = new MemoryServer("""
            upstream g { zone z 64k; server 127.0.0.1:9000; }
            server { listen 127.0.0.1:80; location / { proxy_pass http://g; health_check interval=5s; } }
            """);
        Answer(server, s_origin, () =>
        {
            asked++;
            return "";
        });
        server.Loop.AdvanceClock(20_000);
        int before = asked;
        Assert.InRange(before, 3, 5);
        Set(server, jumpMs);
        Assert.Equal(before, asked);
        server.Loop.AdvanceClock(20_000);
        Assert.InRange(asked - before, 3, 5);
    }

    /// <summary>Ages of one response: stored, ten seconds later the clock is set, and set right again.</summary>
    [Theory]
    [MemberData(nameof(Jumps))]
    public void A_cached_response_loses_its_freshness_at_most_and_never_has_an_age_below_its_own(long jumpMs)
    {
        string directory = Directory.CreateTempSubdirectory("weir-clock-").FullName;
        int asked = 0;
        using (var server = new MemoryServer($$"""
            proxy_cache_path {{directory}} keys_zone=c:64k use_temp_path=off inactive=10m;
            server { listen 127.0.0.1:80; location / { proxy_pass http://127.0.0.1:9000; proxy_cache c;
                add_header X-Cache $upstream_cache_status; } }
            """))
        {
            Answer(server, s_origin, () => $"X-Count: {++asked}\r\nCache-Control: max-age=600\r\nAge: 7\r\n");
            Assert.Contains("X-Cache: MISS", Ask(server));
            server.Loop.AdvanceClock(10_000);
            string hit = Ask(server);
            Assert.Contains("X-Cache: HIT", hit);
            Assert.Equal(17, Age(hit));

            Set(server, jumpMs);
            // Whichever way, how old it is cannot be known: it is asked for anew, with a new age.
            string after = Ask(server);
            Assert.Contains("X-Count: 2", after);
            server.Loop.AdvanceClock(10_000);
            after = Ask(server);
            Assert.Contains("X-Cache: HIT", after);
            Assert.Equal(17, Age(after));

            // Nor do its files go before their time.
            server.Loop.AdvanceClock(60_000);
            Assert.Single(Directory.GetFiles(directory, "*", SearchOption.AllDirectories));

            Set(server, -jumpMs);
            after = Ask(server);
            Assert.Contains("X-Count: 3", after);
            server.Loop.AdvanceClock(1_000);
            after = Ask(server);
            Assert.Contains("X-Cache: HIT", after);
            Assert.Equal(8, Age(after));
        }
        Directory.Delete(directory, recursive: true);
    }

    [Theory]
    [MemberData(nameof(Jumps))]
    public void A_clock_set_while_a_response_is_under_way_does_not_age_it(long jumpMs)
    {
        string directory = Directory.CreateTempSubdirectory("weir-clock-").FullName;
        using (var server = new MemoryServer($$"""
            proxy_cache_path {{directory}} keys_zone=c:64k use_temp_path=off;
            server { listen 127.0.0.1:80; location / { proxy_pass http://127.0.0.1:9000; proxy_cache c; } }
            """))
        {
            Answer(server, s_origin, () =>
            {
                server.Loop.WallStepMs += jumpMs;
                return "Cache-Control: max-age=600\r\n";
            });
            Ask(server);
            server.Loop.AdvanceClock(5_000);
            Assert.Equal(5, Age(Ask(server)));
        }
        Directory.Delete(directory, recursive: true);
    }

    [Fact]
    public void A_purge_after_the_clock_was_set_back_reaches_what_was_stored_before()
    {
        using Zone zone = Zone.CreatePrivate(new ZoneSpec("cache:clock", 64 * 1024, CacheIndex.Layout));
        CacheIndex index = CacheIndex.Open(zone, ZoneOwner.Alone)!;
        const long storedMs = 1_700_000_000_000, backMs = storedMs - HourMs;
        index.Mark(PurgeKind.Tag, "red"u8, backMs);
        Assert.True(index.IsPurged("k"u8, "red"u8, storedMs, backMs + 1000, out uint _));
        // What was stored since is not meant.
        Assert.False(index.IsPurged("k"u8, "red"u8, backMs + 500, backMs + 1000, out uint _));
    }

    private static long Age(string answer) =>
        long.Parse(AgeField().Match(answer).Groups[1].Value, CultureInfo.InvariantCulture);

    /// <summary>An origin that answers 200 with these fields.</summary>
    private static void Answer(MemoryServer server, byte[] address, Func<string> fields) =>
        server.Loop.ListenPeers(address, peer => peer.Arrived = p =>
        {
            if (p.ReadText().Length > 0)
            {
                p.Send($"HTTP/1.1 200 OK\r\n{fields()}Content-Length: 2\r\n\r\nok");
            }
        });
}
