// What an upstream server can do wrong with TLS: new handshakes and keys without end, forged and cut records, bytes
// that are no TLS. The client has its answer in bounded time, the log one line, and the next request is served.
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class ProxyTlsBadInputTests
{
    private static readonly TestAuthority _authority = new();
    private static readonly TestCertificate _certificate = _authority.Issue(TestKey.Ecdsa, false, "back.test");

    private const string Answer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

    private static ServerProcess Serve(Upstream upstream, string location = "",
        string connectTime = "30s") => ServerProcess.Weir(Conf.Http($$"""
        upstream back { server 127.0.0.1:%UPSTREAM%; keepalive 4; }
        server {
            listen 127.0.0.1:%PORT%;
            location / {
                proxy_pass https://back; proxy_connect_timeout {{connectTime}}; proxy_read_timeout 20s; {{location}}
            }
            location = /fine { return 200 fine; }
        }
        """), upstreamPort: upstream.Port);

    /// <summary>Plays the first connection by hand, over TLS 1.2.</summary>
    private static Upstream Playing(Action<Tls12Server> script) => new(c =>
    {
        using Tls12Server server = Tls12Server.Accept(c.Socket, _certificate);
        try
        {
            script(server);
        }
        catch (IOException)
        {
            // The client has gone, which is what some of these are about.
        }
    });

    private static int Count(ServerProcess weir, string text) =>
        weir.ErrorLog.Split('\n').Count(line => line.Contains(text, StringComparison.Ordinal));

    private static void IsOneLine(ServerProcess weir, string text)
    {
        Assert.True(Wait.Until(() => Count(weir, text) == 1), weir.ErrorLog);
        string[] lines = [.. weir.ErrorLog.Split('\n').Where(static l =>
            l.Contains("[error]") || l.Contains("[info]"))];
        Assert.True(lines.Length == 1, string.Join('\n', lines));
        Assert.Equal("fine", weir.Get("/fine").Text);
    }

    /// <summary>One request for a new handshake before, in and after an answer: refused with a warning, and the
    /// connection is used again.</summary>
    [Fact]
    public void A_new_handshake_that_a_server_asks_for_is_refused_and_the_connection_goes_on()
    {
        List<string> alerts = [];
        using Upstream upstream = Playing(server =>
        {
            const int noRenegotiation = 100;
            for (int i = 0; i < 2; i++)
            {
                Assert.Equal(Tls12Client.ApplicationData, server.Read().Type);
                server.Send(Tls12Client.Handshake, Tls12Server.HelloRequest);
                (byte type, byte[] content) = server.Read();
                alerts.Add($"{type} {content[0]} {content[1] == noRenegotiation}");
                server.Send(Answer[..20]);
                server.Send(Tls12Client.Handshake, Tls12Server.HelloRequest);
                (type, content) = server.Read();
                alerts.Add($"{type} {content[0]} {content[1] == noRenegotiation}");
                server.Send(Answer[20..]);
            }
        });
        using ServerProcess weir = Serve(upstream, "proxy_http_version 1.1; proxy_set_header Connection '';");
        Assert.Equal("ok", weir.Get("/").Text);
        Assert.Equal("ok", weir.Get("/").Text);
        Assert.Equal(1, upstream.Connections);
        Assert.Equal(Enumerable.Repeat("21 1 True", 4), alerts);
        Assert.Equal(0, Count(weir, "[error]"));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(500)]
    public void A_server_that_asks_for_new_handshakes_again_and_again_is_left(int inOneWrite)
    {
        using Upstream upstream = Playing(server =>
        {
            server.Read();
            for (int i = 0; i < 100_000; i += inOneWrite)
            {
                server.SendRaw([.. Enumerable.Range(0, inOneWrite).SelectMany(_ =>
                    server.Record(Tls12Client.Handshake, Tls12Server.HelloRequest))]);
            }
        });
        using ServerProcess weir = Serve(upstream);
        Assert.Equal(502, weir.Get("/").Status);
        IsOneLine(weir, "the peer asks for new handshakes or keys again and again");
    }

    /// <summary>A connection that waits for the next request: it is closed, and the request takes another.</summary>
    [Fact]
    public void An_idle_connection_whose_server_asks_again_and_again_is_closed()
    {
        int played = 0;
        using Upstream upstream = Playing(server =>
        {
            server.Read();
            server.Send(Answer);
            if (Interlocked.Increment(ref played) == 1)
            {
                for (int i = 0; i < 100_000; i++)
                {
                    server.Send(Tls12Client.Handshake, Tls12Server.HelloRequest);
                }
            }
        });
        using ServerProcess weir = Serve(upstream, "proxy_http_version 1.1; proxy_set_header Connection '';");
        Assert.Equal("ok", weir.Get("/").Text);
        Wait.For("another connection", () => weir.Get("/").Text == "ok" && upstream.Connections > 1);
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_server_that_changes_keys_again_and_again_is_left(bool asks)
    {
        using var files = new TempDir();
        files.Write("back.crt", _certificate.Pem);
        files.Write("back.key", _certificate.KeyPem);
        using var upstream = new Upstream(c =>
        {
            using OpenSslClient server = OpenSslClient.Accept(c.Socket, files.At("back.crt"), files.At("back.key"));
            server.Read();
            while (server.UpdateKeys(asks))
            {
            }
        });
        using ServerProcess weir = Serve(upstream);
        Assert.Equal(502, weir.Get("/").Status);
        IsOneLine(weir, "the peer asks for new handshakes or keys again and again");
    }

    [Fact]
    public void A_new_handshake_inside_of_an_HTTP2_connection_ends_it()
    {
        List<byte> data = [];
        using var ended = new ManualResetEventSlim();
        using Upstream upstream = Playing(server =>
        {
            server.Read();
            server.Send(Tls12Client.ApplicationData, Http2Client.Settings());
            server.Send(Tls12Client.Handshake, Tls12Server.HelloRequest);
            while (server.Read() is { Type: > 0 } record)
            {
                data.AddRange(record.Type == Tls12Client.ApplicationData ? record.Content : []);
            }
            ended.Set();
        });
        using ServerProcess weir = Serve(upstream, "proxy_http_version 2; proxy_next_upstream off;");
        Assert.Equal(502, weir.Get("/").Status);
        Assert.True(ended.Wait(30_000));
        byte[] goaway = Http2Client.Frame(FrameType.GoAway, FrameFlags.None, 0, 0, 0, 0, 0, 0, 0, 0, 1);
        Assert.True(data.ToArray().AsSpan().IndexOf(goaway) >= 0, Convert.ToHexString([.. data]));
        // One line for the connection, and one for each request that was on it.
        Assert.True(Wait.Until(() => Count(weir, "upstream sent TLS renegotiation (RFC 9113 9.2.1)") == 1),
            weir.ErrorLog);
        Assert.Equal(1, Count(weir, "while reading response header from upstream"));
        Assert.Equal("fine", weir.Get("/fine").Text);
    }

    [Fact]
    public void A_forged_record_is_answered_with_bad_record_mac()
    {
        (byte Type, byte[] Content) told = default;
        using Upstream upstream = Playing(server =>
        {
            server.Read();
            byte[] record = server.Record(Tls12Client.ApplicationData, "HTTP/1.1 200 OK\r\n\r\n"u8);
            record[^1] ^= 1;
            server.SendRaw(record);
            told = server.Read();
        });
        using ServerProcess weir = Serve(upstream);
        Assert.Equal(502, weir.Get("/").Status);
        IsOneLine(weir, "SSL routines::decryption failed or bad record mac");
        Wait.For("the alert", () => told.Content is [2, 20]);
    }

    [Fact]
    public void A_record_that_is_cut_by_the_end_is_an_answer_too_short()
    {
        using Upstream upstream = Playing(server =>
        {
            server.Read();
            server.SendRaw(server.Record(Tls12Client.ApplicationData,
                System.Text.Encoding.ASCII.GetBytes(Answer))[..30]);
        });
        using ServerProcess weir = Serve(upstream);
        Assert.Equal(502, weir.Get("/").Status);
        IsOneLine(weir, "upstream prematurely closed connection");
    }

    [Theory]
    [InlineData("16030100", "peer closed connection in SSL handshake")]     // cut in the middle
    [InlineData("485454502F312E31203230300D0A0D0A", "SSL_do_handshake() failed (SSL: error:0A00010B")]
    [InlineData("15030300020228", "SSL_do_handshake() failed (SSL: error:0A000410")]
    public void Bytes_that_are_no_handshake_are_a_bad_gateway(string bytes, string line)
    {
        using var upstream = new Upstream(c =>
        {
            c.Read();
            c.Send(Convert.FromHexString(bytes));
        });
        using ServerProcess weir = Serve(upstream);
        Assert.Equal(502, weir.Get("/").Status);
        IsOneLine(weir, line);
    }

    [Fact]
    public void A_handshake_that_never_ends_is_given_up_after_proxy_connect_timeout()
    {
        using var upstream = new Upstream(static c =>
        {
            while (c.Read().Length > 0)
            {
            }
        });
        using ServerProcess weir = Serve(upstream, connectTime: "200ms");
        Assert.Equal(504, weir.Get("/").Status);
        IsOneLine(weir, "upstream timed out (110: Connection timed out) while SSL handshaking to upstream");
    }
}
