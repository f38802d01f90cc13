// What a peer can do wrong with TLS: bounded time, one line in the log, an alert where there is somebody to tell.
using System.Globalization;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsBadInputTests
{
    private static readonly TestAuthority _authority = new();

    private static ServerProcess Serve(string server = "return 200 ok;", int upstreamPort = 0,
        string headTime = "1s")
    {
        var files = new TempDir();
        _authority.Write(files, "ec");
        return ServerProcess.Weir(Conf.Http($$"""
            server {
                listen 127.0.0.1:%PORT% ssl; client_header_timeout {{headTime}};
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key; {{server}}
            }
            """), files, upstreamPort);
    }

    private static int Count(ServerProcess weir, string text) =>
        weir.ErrorLog.Split('\n').Count(line => line.Contains(text, StringComparison.Ordinal));

    /// <summary>What was sent, and the alert that answers it, as nginx has it: nothing where the first record says
    /// that the peer does not speak TLS at all.</summary>
    public static TheoryData<string, string> Garbage => new()
    {
        { "16" + "67617262616765206F66206E6F20706172746963756C6172206C656E677468", "" },
        { "160301000401000000", "15030300020232" },                         // an empty ClientHello: decode_error
        { "160301000402000000", "1503030002020A" },                         // a ServerHello: unexpected_message
        { "160301FFFF" + "61616161616161616161", "15030300020216" },        // record_overflow
        { "802E010002" + "6161616161616161616161616161616161616161616161616161616161616161616161616161616161616161",
            "1503030002022F" },                                             // an SSLv2 hello: illegal_parameter
        { "FFFFFFFFFFFFFFFFFFFFFFFF", "" },
    };

    [Theory, MemberData(nameof(Garbage))]
    public void Garbage_instead_of_a_ClientHello_is_told_with_an_alert_and_one_line(string garbage, string alert)
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        client.Send(Convert.FromHexString(garbage));
        Assert.Equal(alert, Convert.ToHexString(client.ReadBytes(int.MaxValue)));
        Assert.NotEqual(Ending.Open, client.Ending);
        Wait.For("the line", () => Count(weir, "SSL_do_handshake() failed (SSL: error:") == 1);
    }

    [Fact]
    public void A_handshake_that_never_ends_is_ended()
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        client.Send("\u0016\u0003\u0001");
        Wait.For("the line", () => Count(weir, "client timed out") == 1);
        client.WaitForBytes(30_000);
        client.ReadUntilQuiet(500);
        Assert.NotEqual(Ending.Open, client.Ending);
    }

    /// <summary>Resident KiB of the process that serves.</summary>
    private static long ResidentKib(ServerProcess weir) => long.Parse(
        File.ReadAllLines($"/proc/{weir.Process.Pid}/status")
            .First(static l => l.StartsWith("VmRSS:", StringComparison.Ordinal))
            .Split(' ', StringSplitOptions.RemoveEmptyEntries)[1], CultureInfo.InvariantCulture);

    [Fact]
    public void Handshakes_that_never_end_hold_little_memory_and_not_for_long()
    {
        const int Many = 400, KibEachMax = 96;
        using ServerProcess weir = Serve(headTime: "4s");
        Tls12Client.Connect(weir.Port).Dispose();
        byte[] hello = Tls12Client.Hello(new byte[32]);
        byte[] half = [0x16, 3, 1, (byte)(hello.Length >> 8), (byte)hello.Length, .. hello.AsSpan(0, hello.Length / 2)];
        long before = ResidentKib(weir);
        RawClient[] clients = [.. Enumerable.Range(0, Many).Select(_ => weir.Connect().Send(half))];
        // Who comes last is served, and all before it have been read by then.
        Assert.Equal("ok", Ask(weir));
        Assert.InRange(ResidentKib(weir) - before, 0, Many * KibEachMax);
        Wait.For("their lines", () => Count(weir, "client timed out") == Many);
        Assert.All(clients, static c =>
        {
            c.ReadUntilQuiet(5000);
            Assert.NotEqual(Ending.Open, c.Ending);
            c.Dispose();
        });
        Assert.Equal("ok", Ask(weir));
    }

    [Fact]
    public void A_handshake_message_of_megabytes_is_refused_by_its_length()
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        // A ClientHello that promises 16 MiB, and a first record of it.
        client.TrySend([0x16, 3, 1, 0x40, 0, 1, 0xff, 0xff, 0xff, .. new byte[0x4000 - 4]]);
        byte[] alert = client.ReadBytes(int.MaxValue);
        Assert.Equal((0x15, 2), (alert[0], alert[5]));
        Assert.NotEqual(Ending.Open, client.Ending);
        Wait.For("the line", () => Count(weir, "SSL_do_handshake() failed (SSL: error:") == 1);
    }

    [Fact]
    public void A_record_cut_in_the_middle_is_one_line()
    {
        using ServerProcess weir = Serve();
        using RawClient client = weir.Connect();
        client.Send("\u0016\u0003\u0001\u0001\u0000\u0001\u0000");
        client.HalfClose();
        Wait.For("the line", () => Count(weir, "peer closed connection in SSL handshake") == 1);
    }

    // After the handshake.

    private const string Asks = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";

    /// <summary>Reads to the end: alerts as (level, description), and the count of other records.</summary>
    private static (List<(int Level, int What)> Alerts, int Others) ReadAll(Tls12Client client)
    {
        List<(int, int)> alerts = [];
        int others = 0;
        while (client.Read() is { Type: > 0 } record)
        {
            if (record.Type == Tls12Client.Alert)
            {
                alerts.Add((record.Content[0], record.Content[1]));
            }
            else
            {
                others++;
            }
        }
        return (alerts, others);
    }

    private const int Warning = 1, Fatal = 2, CloseNotify = 0, BadRecordMac = 20, NoRenegotiation = 100;

    [Fact]
    public void A_renegotiation_is_refused_with_a_warning_and_the_connection_goes_on()
    {
        using ServerProcess weir = Serve();
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        client.Send(Tls12Client.Handshake, Tls12Client.Hello(new byte[32]));
        Assert.Equal((Tls12Client.Alert, "0164"), Read());
        client.Send(Asks);
        (byte type, string text) = Read();
        Assert.Equal(Tls12Client.ApplicationData, type);
        Assert.StartsWith(Convert.ToHexString("HTTP/1.1 200"u8), text, StringComparison.Ordinal);

        (byte, string) Read()
        {
            (byte kind, byte[] content) = client.Read();
            return (kind, Convert.ToHexString(content));
        }
    }

    [Theory]
    [InlineData(1, false)]
    [InlineData(500, false)]
    [InlineData(500, true)]
    public void Who_renegotiates_again_and_again_is_left(int inOneWrite, bool afterARequest)
    {
        using ServerProcess weir = Serve();
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        if (afterARequest)
        {
            client.Send(Asks);
            Assert.Equal(Tls12Client.ApplicationData, client.Read().Type);
        }
        for (int i = 0; i < 500; i += inOneWrite)
        {
            byte[] records = [.. Enumerable.Range(0, inOneWrite).SelectMany(_ => client.Record(Tls12Client.Handshake,
                Tls12Client.Hello(new byte[32])))];
            if (!client.Raw.TrySend(records))
            {
                break;
            }
        }
        Wait.For("the line", () => Count(weir, "the peer asks for new handshakes or keys again and again") == 1);
        Assert.Equal(1, Count(weir, "SSL_read() failed"));
        Assert.Equal("ok", Ask(weir));
    }

    /// <summary>What was given up with an answer to send is told all the same.</summary>
    [Theory]
    [InlineData("http/1.1")]
    [InlineData("h2")]
    public void Who_asks_for_new_handshakes_behind_a_request_is_left_with_one_line(string alpn)
    {
        using ServerProcess weir = Serve("http2 on; location / { return 200 ok; }", headTime: "60s");
        using OpenSslClient client = OpenSslClient.Connect(weir.Port, alpn);
        client.WriteWithKeys(alpn == "h2" ? [.. Http2Limits.Preface, .. Http2Client.Settings(), .. Http2Client.Ping()]
            : System.Text.Encoding.ASCII.GetBytes(Asks), 500);
        Assert.True(Wait.Until(() => Count(weir, "the peer asks for new handshakes or keys again and again") == 1),
            weir.ErrorLog);
        Assert.Equal(1, Count(weir, "[info]"));
        Assert.Equal("ok", Ask(weir));
    }

    /// <summary>RFC 9113 §9.2.1.</summary>
    [Fact]
    public void A_renegotiation_ends_an_HTTP2_connection()
    {
        using ServerProcess weir = Serve("http2 on; return 200 ok;", headTime: "60s");
        using Tls12Client client = Tls12Client.Connect(weir.Port, alpn: "h2");
        client.Send(Tls12Client.ApplicationData, [.. Http2Limits.Preface, .. Http2Client.Settings()]);
        client.Send(Tls12Client.Handshake, Tls12Client.Hello(new byte[32]));
        List<byte> data = [];
        while (client.Read() is { Type: > 0 } record)
        {
            data.AddRange(record.Type == Tls12Client.ApplicationData ? record.Content : []);
        }
        byte[] goaway = Http2Client.Frame(FrameType.GoAway, FrameFlags.None, 0, 0, 0, 0, 0, 0, 0, 0, 1);
        Assert.True(data.ToArray().AsSpan().IndexOf(goaway) >= 0, Convert.ToHexString([.. data]));
        Wait.For("the line", () => Count(weir, "client sent TLS renegotiation") == 1);
    }

    /// <summary>TLS 1.3: keys that the server has to change as well, and keys that it has not; in an idle connection,
    /// and while HTTP/2's runs.</summary>
    [Theory]
    [InlineData(true, "http/1.1")]
    [InlineData(false, "http/1.1")]
    [InlineData(true, "h2")]
    public void Who_changes_keys_again_and_again_is_left(bool asks, string alpn)
    {
        using ServerProcess weir = Serve("http2 on; return 200 ok;", headTime: "60s");
        using OpenSslClient client = OpenSslClient.Connect(weir.Port, alpn);
        client.Write(alpn == "h2" ? [.. Http2Limits.Preface, .. Http2Client.Settings()]
            : System.Text.Encoding.ASCII.GetBytes(Asks));
        Assert.NotEmpty(client.Read());
        // A few are nobody's harm.
        for (int i = 0; i < 10; i++)
        {
            Assert.True(client.UpdateKeys(asks));
        }
        client.Write(alpn == "h2" ? Http2Client.Ping() : System.Text.Encoding.ASCII.GetBytes(Asks));
        Assert.NotEmpty(client.Read());
        int updates = 0;
        while (updates < 100_000 && client.UpdateKeys(asks))
        {
            updates++;
        }
        Assert.True(Wait.Until(() => Count(weir, "the peer asks for new handshakes or keys again and again") == 1),
            $"after {updates} updates: {client.Trouble} {weir.ErrorLog}");
        Assert.Equal("ok", Ask(weir));
    }

    [Fact]
    public void Who_renegotiates_between_bytes_of_a_request_and_reads_nothing_costs_no_memory()
    {
        using ServerProcess weir = Serve("client_max_body_size 0; location / { proxy_pass http://127.0.0.1:%UPSTREAM%; "
            + "proxy_request_buffering off; proxy_http_version 1.1; }", _swallows.Port);
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        client.Raw.Socket.ReceiveBufferSize = 4096;
        client.Send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000000\r\n\r\n");
        byte[] records = [];
        while (client.Raw.TrySend(records))
        {
            records = [.. Enumerable.Range(0, 200).SelectMany(i => i % 10 == 0
                ? client.Record(Tls12Client.ApplicationData, "x"u8)
                : client.Record(Tls12Client.Handshake, Tls12Client.Hello(new byte[32])))];
        }
        Wait.For("the line", () => Count(weir, "the peer does not read what it asks for") == 1);
    }

    private static readonly Upstream _swallows = new(static c =>
    {
        while (c.Read().Length > 0)
        {
        }
    });

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void A_forged_record_is_answered_with_bad_record_mac(bool afterARequest)
    {
        using ServerProcess weir = Serve();
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        if (afterARequest)
        {
            client.Send(Asks);
            Assert.Equal(Tls12Client.ApplicationData, client.Read().Type);
        }
        byte[] record = client.Record(Tls12Client.ApplicationData, "hello"u8);
        record[^1] ^= 1;
        client.Raw.Send(record);
        Assert.Equal([(Fatal, BadRecordMac)], ReadAll(client).Alerts);
        Wait.For("the line", () => Count(weir, "SSL routines::decryption failed or bad record mac) while "
            + (afterARequest ? "keepalive" : "waiting for request")) == 1);
    }

    [Fact]
    public void Records_without_a_byte_are_not_taken_without_end()
    {
        using ServerProcess weir = Serve();
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        byte[] records = [.. Enumerable.Range(0, 1000).SelectMany(_ => client.Record(Tls12Client.ApplicationData, []))];
        client.Raw.TrySend(records);
        Wait.For("the line", () => Count(weir, "SSL_read() failed (SSL: error:") == 1);
        Assert.Equal("ok", Ask(weir));
    }

    [Fact]
    public void A_record_of_a_request_that_is_cut_in_the_middle_is_one_line()
    {
        using ServerProcess weir = Serve();
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        client.Raw.Send(client.Record(Tls12Client.ApplicationData, "GET / HTTP/1.1\r\nHost"u8));
        client.Raw.Send(client.Record(Tls12Client.ApplicationData, ": a\r\n\r\n"u8)[..20]);
        client.Raw.HalfClose();
        Wait.For("the line", () => Count(weir, "client prematurely closed connection") == 1);
        Assert.Empty(ReadAll(client).Alerts);
    }

    [Fact]
    public void A_record_that_never_ends_is_given_up_in_time()
    {
        using ServerProcess weir = Serve();
        // The first handshake of a test host is slow, the next one well within the server's second.
        Tls12Client.Connect(weir.Port).Dispose();
        using Tls12Client client = Tls12Client.Connect(weir.Port);
        client.Raw.Send(client.Record(Tls12Client.ApplicationData, System.Text.Encoding.Latin1.GetBytes(Asks))[..20]);
        Wait.For("the line", () => Count(weir, "client timed out") == 1);
        Assert.Equal([(Warning, CloseNotify)], ReadAll(client).Alerts);
    }

    private static string Ask(ServerProcess weir)
    {
        using TlsClient other = TlsClient.Connect(weir.Port);
        return other.Get("/").Text;
    }
}
