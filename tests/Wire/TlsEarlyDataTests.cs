// ssl_early_data: requests that come before the handshake is over (TLS 1.3's 0-RTT, RFC 8470), as openssl sends them.
using System.Net;
using System.Net.Sockets;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsEarlyDataTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve(int workers = 1, bool master = false, string more = "")
    {
        var files = new TempDir();
        _authority.Write(files, "ec");
        return ServerProcess.Weir(Conf.Http($$"""
            log_format early '$request_method $uri early=$ssl_early_data';
            server {
                listen 127.0.0.1:%PORT% ssl;
                access_log %DIR%/access.log early;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key; ssl_early_data on; {{more}}
                location / { return 200 "answered early=$ssl_early_data"; }
                location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; }
            }
            """, workers, master), files, _upstream.Port);
    }

    private static readonly Upstream _upstream =
        Upstream.Answering(static r => Upstream.Ok($"forwarded early={r.Header("Early-Data")}"));

    private static string Openssl(ServerProcess weir, string input, string options, int port = 0) => ChildProcess.Run(
        "sh", "-c", $"cd {weir.Files.Path}; {input} timeout 20 openssl s_client -connect "
            + $"127.0.0.1:{(port == 0 ? weir.Port : port)} {options} 2>&1").Output;

    /// <summary>A first connection, whose session is kept; and a request for the next ones.</summary>
    private static void Prepare(ServerProcess weir, string request)
    {
        weir.Files.Write("first", "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        weir.Files.Write("request", request);
        Assert.Contains("answered early=", Openssl(weir, "", "-sess_out session -ign_eof <first"));
    }

    // HTTP/2: a connection serves one request and ends.

    private const string Http2 = "http2 on; keepalive_requests 1; lingering_close off;";

    private static void PrepareHttp2(ServerProcess weir, params byte[][] frames)
    {
        byte[] hello = [.. Http2Limits.Preface, .. Http2Client.Settings()];
        weir.Files.Write("first", [.. hello, .. Http2Client.Headers(1, true, Http2Client.Request("/"))]);
        weir.Files.Write("request", [.. hello, .. frames.SelectMany(static f => f)]);
        Assert.Contains("answered early=", Openssl(weir, "", "-alpn h2 -sess_out session -ign_eof <first"));
    }

    private static string EarlyHttp2(ServerProcess weir, int port = 0) => Early(weir, port, "-alpn h2");

    [NeedsTheory("openssl")]
    [InlineData("/", "answered early=1")]
    [InlineData("/up", "forwarded early=1")]
    public void Over_HTTP2_a_request_in_early_data_is_answered_and_known_as_such(string path, string answer)
    {
        using ServerProcess weir = Serve(more: Http2);
        PrepareHttp2(weir, Http2Client.Headers(1, true, Http2Client.Request(path)));
        string output = EarlyHttp2(weir);
        Assert.Contains("Early data was accepted", output);
        Assert.Contains(answer, output);
        // An upstream's answer may come when the handshake is over.
        Wait.For("the log", () => weir.AccessLog.Contains($"GET {path} early="));
    }

    [NeedsFact("openssl")]
    public void Over_HTTP2_what_is_not_safe_has_to_wait_for_the_handshake()
    {
        using ServerProcess weir = Serve(more: Http2);
        PrepareHttp2(weir, Http2Client.Headers(1, false, Http2Client.Request("/up", "POST", "content-length: 2")),
            Http2Client.Data(1, "hi"));
        Assert.Contains("<title>425 Too Early</title>", EarlyHttp2(weir));
        Wait.For("the log",
            () => weir.ErrorLog.Contains("client sent a request that is not safe in early data"));
    }

    [NeedsFact("openssl")]
    public void Over_HTTP2_a_copy_of_early_data_is_not_answered_again()
    {
        using ServerProcess weir = Serve(more: Http2);
        PrepareHttp2(weir, Http2Client.Headers(1, true, Http2Client.Request("/once")));
        using var relay = new Relay(weir.Port);
        Assert.Contains("Early data was accepted", EarlyHttp2(weir, relay.Port));
        SendAgain(weir, relay.Sent);
        weir.Stop();
        Assert.Single(weir.AccessLog.Split('\n'), static line => line.StartsWith("GET /once"));
    }

    /// <summary>Without a relay of the test's own the handshake ends when the request is in the log, the second: what a
    /// server reads together with the end of the handshake is no longer early.</summary>
    private static string Early(ServerProcess weir, int port = 0, string options = "")
    {
        string client = options + " -sess_in session -early_data request -ign_eof </dev/null";
        if (port != 0)
        {
            return Openssl(weir, "", client, port);
        }
        using var relay = new Relay(weir.Port, () => weir.AccessLog.Count(static c => c == '\n') == 2);
        return Openssl(weir, "", client, relay.Port);
    }

    private static string Get(string path, string more = "") =>
        $"GET {path} HTTP/1.1\r\nHost: a\r\n{more}Connection: close\r\n\r\n";

    [NeedsFact("openssl")]
    public void A_request_in_early_data_is_answered_and_known_as_such()
    {
        using ServerProcess weir = Serve();
        Prepare(weir, Get("/"));
        string output = Early(weir);
        Assert.Contains("Early data was accepted", output);
        Assert.Contains("answered early=1", output);
    }

    [NeedsFact("openssl")]
    public void An_ordinary_request_is_not_early()
    {
        using ServerProcess weir = Serve();
        using TlsClient client = TlsClient.Connect(weir.Port);
        Assert.Equal("answered early=", client.Get("/").Text);
        Assert.Equal("forwarded early=", client.Get("/up").Text);
        Assert.Equal("forwarded early=1", client.Send("GET /up HTTP/1.1\r\nHost: a\r\nEarly-Data: 1\r\n\r\n")
            .ReadResponse().Text);
    }

    [NeedsFact("openssl")]
    public void An_upstream_server_is_told_that_a_request_came_early()
    {
        using ServerProcess weir = Serve();
        Prepare(weir, Get("/up"));
        Assert.Contains("forwarded early=1", Early(weir));
    }

    [NeedsFact("openssl")]
    public void What_is_not_safe_has_to_wait_for_the_handshake()
    {
        using ServerProcess weir = Serve();
        Prepare(weir, "POST /up HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi");
        Assert.Contains("HTTP/1.1 425 Too Early", Early(weir));
        Wait.For("the log",
            () => weir.ErrorLog.Contains("client sent a request that is not safe in early data"));
    }

    [NeedsTheory("openssl")]
    [InlineData(1, false)]
    [InlineData(2, true)]
    [Trait("Needs", "master")]
    public void A_copy_of_early_data_is_not_answered_again(int workers, bool master)
    {
        using ServerProcess weir = Serve(workers, master);
        Prepare(weir, Get("/once"));
        using var relay = new Relay(weir.Port);
        Assert.Contains("Early data was accepted", Early(weir, relay.Port));
        SendAgain(weir, relay.Sent);
        weir.Stop();
        Assert.Single(weir.AccessLog.Split('\n'), static line => line.StartsWith("GET /once"));
    }

    private static void SendAgain(ServerProcess weir, byte[] copy)
    {
        for (int i = 0; i < 4; i++)
        {
            using var again = new TcpClient();
            again.Connect(IPAddress.Loopback, weir.Port);
            NetworkStream stream = again.GetStream();
            stream.Write(copy);
            // The copy's own Finished cannot be right: nothing more can come of it.
            again.Client.Shutdown(SocketShutdown.Send);
            Relay.Copy(stream, Stream.Null, null);
        }
    }

    /// <summary>Passes one connection on and keeps what its client sent. What follows the client's first record of data
    /// waits for a condition, if there is one.</summary>
    private sealed class Relay : IDisposable
    {
        private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
        private readonly MemoryStream _sent = new();
        private readonly Thread _thread;

        internal Relay(int to, Func<bool>? until = null)
        {
            _listener.Start();
            _thread = new Thread(() => Run(to, until)) { IsBackground = true };
            _thread.Start();
        }

        internal int Port => ((IPEndPoint)_listener.LocalEndpoint).Port;

        internal byte[] Sent
        {
            get
            {
                _thread.Join();
                return _sent.ToArray();
            }
        }

        private void Run(int to, Func<bool>? until)
        {
            using TcpClient client = _listener.AcceptTcpClient();
            using var server = new TcpClient();
            server.Connect(IPAddress.Loopback, to);
            NetworkStream down = client.GetStream(), up = server.GetStream();
            var back = new Thread(() =>
            {
                Copy(up, down, null);
                Close(client);
            }) { IsBackground = true };
            back.Start();
            if (until is not null)
            {
                CopyRecords(down, up);
                SpinWait.SpinUntil(until, TimeSpan.FromSeconds(15));
            }
            Copy(down, up, _sent);
            Close(server);
            back.Join();
        }

        private static void Close(TcpClient to)
        {
            try
            {
                to.Client.Shutdown(SocketShutdown.Send);
            }
            catch (SocketException)
            {
                // It has gone by itself.
            }
        }

        /// <summary>Up to the first record of data.</summary>
        private static void CopyRecords(NetworkStream from, NetworkStream to)
        {
            const int HeadBytes = 5;
            const byte ApplicationData = 23;
            var record = new byte[HeadBytes + 65535];
            try
            {
                do
                {
                    from.ReadExactly(record, 0, HeadBytes);
                    int length = (record[3] << 8) | record[4];
                    from.ReadExactly(record, HeadBytes, length);
                    to.Write(record, 0, HeadBytes + length);
                }
                while (record[0] != ApplicationData);
            }
            catch (IOException)
            {
                // A client that sent none; what it says is the test's affair.
            }
        }

        internal static void Copy(NetworkStream from, Stream to, MemoryStream? kept)
        {
            var bytes = new byte[65536];
            try
            {
                for (int count; (count = from.Read(bytes)) > 0;)
                {
                    kept?.Write(bytes, 0, count);
                    to.Write(bytes, 0, count);
                }
            }
            catch (IOException)
            {
                // The other side has gone.
            }
        }

        public void Dispose() => _listener.Dispose();
    }
}
