// What of the smaller modules cannot be compared with nginx byte by byte, because it is new every time.
using System.Globalization;
using System.Net;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class SmallModuleTests
{
    private const string UserIds = """
        userid on;
        location / { return 200 "$uid_got|$uid_set"; }
        location /service { userid_service 5; return 200 "$uid_set"; }
        location /v1 { userid v1; userid_service 5; userid_name old; return 200 "$uid_set"; }
        location /soon { userid_expires 1h; return 200 ""; }
        location /reset { set $uid_reset log; return 200 "$uid_got|$uid_set"; }
        """;

    [Fact]
    public void A_client_without_an_identity_gets_one_and_brings_it_back()
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server(UserIds));
        using RawClient client = server.Connect();
        HttpResponse first = client.Get("/");
        string cookie = first["Set-Cookie"]!;
        Assert.Matches("^uid=[A-Za-z0-9+/]{22}==; path=/$", cookie);
        string[] words = first.Text.Split('|');
        Assert.Equal("", words[0]);
        // The first word is the server's address, as it stands in memory.
        Assert.Matches("^uid=0100007F[0-9A-F]{24}$", words[1]);
        HttpResponse second = client.Get("/", "Cookie: " + cookie.Split(';')[0]);
        Assert.Null(second["Set-Cookie"]);
        Assert.Equal(words[1] + "|", second.Text);
        Assert.NotEqual(words[1], client.Get("/").Text.Split('|')[1]);
    }

    [Fact]
    public void The_service_is_the_first_word()
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server(UserIds));
        using RawClient client = server.Connect();
        Assert.StartsWith("uid=05000000", client.Get("/service").Text);
        HttpResponse old = client.Get("/v1");
        Assert.StartsWith("old=00000005", old.Text);
        Assert.EndsWith("00000001", old.Text);
        Assert.EndsWith("00000101", client.Get("/v1").Text);
    }

    [Fact]
    public void A_time_is_written_with_the_cookie()
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server(UserIds));
        using RawClient client = server.Connect();
        HttpResponse response = client.Get("/soon");
        string text = response["Set-Cookie"]!.Split("expires=")[1].Split(';')[0];
        var expires = DateTimeOffset.ParseExact(text, "ddd, dd-MMM-yy HH:mm:ss 'GMT'", CultureInfo.InvariantCulture,
            DateTimeStyles.AssumeUniversal);
        Assert.Equal(DateTimeOffset.Parse(response["Date"]!, CultureInfo.InvariantCulture).AddHours(1), expires);
    }

    [Fact]
    public void A_reset_gives_another_identity_and_tells_it_in_the_log()
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server(UserIds));
        using RawClient client = server.Connect();
        HttpResponse response = client.Get("/reset", "Cookie: uid=fwAAAWVPdXdXjg0mAwMDAg==");
        string[] words = response.Text.Split('|');
        Assert.NotEqual(words[0], words[1]);
        Assert.NotNull(response["Set-Cookie"]);
        Wait.For("the log",
            () => server.ErrorLog.Contains($"userid cookie \"{words[0]}\" was reset", StringComparison.Ordinal));
    }

    [Fact]
    public void Random_index_takes_every_file_of_the_directory()
    {
        using var files = new TempDir();
        foreach (string name in (string[])["a", "b", "c"])
        {
            files.Write($"dir/{name}.txt", name);
        }
        files.Write("dir/.hidden", "hidden");
        files.Write("dir/sub/x", "x");
        using ServerProcess server = ServerProcess.Weir(Conf.Server(
            "location / { random_index on; } location /off/ { alias %FILES%/dir/; random_index off; }"), files);
        using RawClient client = server.Connect();
        var seen = new HashSet<string>();
        // Two hundred draws miss one of three with a chance of one in 10^34.
        for (int i = 0; i < 200; i++)
        {
            seen.Add(client.Get("/dir/").Text);
        }
        Assert.Equal(["a", "b", "c"], seen.Order());
        Assert.Equal((int)HttpStatusCode.Forbidden, client.Get("/off/").Status);
    }

    [Fact]
    public void Memcached_is_asked_by_key_and_its_connection_serves_again()
    {
        using var upstream = new Upstream(static c =>
        {
            for (string line = Text(c); line.Length > 0; line = Text(c))
            {
                string key = line.Split(' ')[1].TrimEnd();
                c.Send($"VALUE {key} 0 {key.Length}\r\n{key}\r\nEND\r\n");
            }
        });
        using ServerProcess server = ServerProcess.Weir(Conf.Server("""
            location / { set $memcached_key "$uri?$args"; memcached_pass cache; }
            """, "upstream cache { server 127.0.0.1:%UPSTREAM%; keepalive 1; }"), upstreamPort: upstream.Port);
        using RawClient client = server.Connect();
        Assert.Equal("/a?b", client.Get("/a?b").Text);
        Assert.Equal("/a%20%25b?", client.Get("/a%20%25b").Text);
        Assert.Equal(1, upstream.Connections);

        static string Text(UpstreamConnection c) => System.Text.Encoding.Latin1.GetString(c.Read());
    }

    [Fact]
    public void A_body_is_read_early_where_a_condition_says_so()
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server("""
            client_body_early_read $arg_early; set $body $request_body; return 200 "[$body]";
            """));
        using RawClient client = server.Connect();
        string Post(string target)
        {
            client.Send(RawClient.Request("POST", target, [], "the body"));
            return client.ReadResponse().Text;
        }
        Assert.Equal("[the body]", Post("/?early=1"));
        Assert.Equal("[]", Post("/?early=0"));
        Assert.Equal("[]", Post("/"));
    }

    [Theory]
    [InlineData("secure_link_secret a; secure_link b;", "\"secure_link_secret\" cannot be mixed")]
    [InlineData("charset koi8-r; source_charset utf-8;", "no \"charset_map\" between the charsets")]
    [InlineData("sub_filter '' x;", "empty search pattern")]
    [InlineData("userid_mark ab;", "value must be \"off\" or a single letter, digit or \"=\"")]
    [InlineData("userid maybe;", "invalid value \"maybe\"")]
    [InlineData("userid_expires soon;", "invalid value")]
    [InlineData("modern_browser netscape 4;", "unknown browser name \"netscape\"")]
    [InlineData("location /m { memcached_pass somewhere; }", "no port in upstream \"somewhere\"")]
    [InlineData("slice x;", "invalid value")]
    public void A_wrong_value_is_refused(string line, string message)
    {
        using ServerProcess server = ServerProcess.Weir(Conf.Server(line), waitReady: false, arguments: "-t");
        Assert.True(server.Process.WaitForExit(30_000));
        Assert.Contains(message, server.Process.Errors);
    }
}
