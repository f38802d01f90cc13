// ssl_stapling with a responder, and ssl_ocsp: what openssl's own responder says about certificates decides.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

/// <summary>An authority of openssl's making, its certificates, and a responder that knows them.</summary>
public sealed class OcspAuthority : IDisposable
{
    private readonly Port _port = Harness.Port.Lease();
    private ChildProcess? _responder;

    public OcspAuthority()
    {
        if (Tools.Find("openssl") is null)
        {
            return;
        }
        Files.Write("make.sh", """
            set -e
            key() { openssl ecparam -name prime256v1 -genkey -noout -out $1.key; }
            for ca in ca strange; do
                key $ca; openssl req -x509 -new -key $ca.key -out $ca.crt -days 9 -subj "/CN=OCSP $ca"
            done
            n=16
            for name in server good revoked unknown; do
                key $name; openssl req -new -key $name.key -subj /CN=$name -out csr
                printf 'basicConstraints=CA:FALSE\nauthorityInfoAccess=OCSP;URI:http://127.0.0.1:%s/\n' $1 >ext
                openssl x509 -req -in csr -CA ca.crt -CAkey ca.key -set_serial $n -days 5 -extfile ext -out $name.crt
                case $name in
                    revoked) printf 'R\t491231000000Z\t200101000000Z\t%X\tunknown\t/CN=%s\n' $n $name ;;
                    unknown) ;;
                    *) printf 'V\t491231000000Z\t\t%X\tunknown\t/CN=%s\n' $n $name ;;
                esac >>index
                n=$((n + 1))
            done
            """);
        (int code, _, string errors) = ChildProcess.Run("sh", "-c",
            $"cd {Files.Path} && sh make.sh {_port.Number} 2>errors || cat errors >&2");
        Assert.True(code == 0, errors);
        Start("ca");
    }

    public TempDir Files { get; } = new();

    public int Port => _port.Number;

    /// <summary>The responder answers in the name of <paramref name="signer"/>.</summary>
    public void Start(string signer)
    {
        Stop();
        _responder = new ChildProcess("openssl", ["ocsp", "-index", Files.At("index"), "-port",
            Port.ToString(System.Globalization.CultureInfo.InvariantCulture), "-rsigner", Files.At(signer + ".crt"),
            "-rkey", Files.At(signer + ".key"), "-CA", Files.At("ca.crt"), "-nmin", "60"]);
        // A connection that only looks whether it is there would be waited for.
        Wait.For("the responder", () => (_responder.Output + _responder.Errors).Contains("waiting for OCSP client"));
    }

    public void Stop()
    {
        _responder?.Dispose();
        _responder = null;
    }

    public void Dispose()
    {
        Stop();
        _port.Dispose();
        Files.Dispose();
    }
}

public sealed class TlsOcspTests(OcspAuthority authority) : IClassFixture<OcspAuthority>
{
    private ServerProcess Serve(string settings) => ServerProcess.Weir(Conf.Http($$"""
        server {
            listen 127.0.0.1:%PORT% ssl;
            ssl_certificate %FILES%/server.crt; ssl_certificate_key %FILES%/server.key;
            ssl_client_certificate %FILES%/ca.crt;
            {{settings.Replace("%OCSP%", $"http://127.0.0.1:{authority.Port}")}}
            return 200 "$ssl_client_verify";
        }
        """), authority.Files);

    private static string Client(ServerProcess weir, string options) => ChildProcess.Run("sh", "-c",
        $"cd {weir.Files.Path}; printf 'GET / HTTP/1.0\r\n\r\n' | timeout 20 openssl s_client "
            + $"-connect 127.0.0.1:{weir.Port} {options} -ign_eof 2>&1").Output;

    [NeedsTheory("openssl")]
    [InlineData("ssl_stapling_responder %OCSP%;")]
    [InlineData("")]
    [InlineData("ssl_stapling_verify on;")]
    public void A_response_is_fetched_and_stapled(string settings)
    {
        authority.Start("ca");
        using ServerProcess weir = Serve("ssl_stapling on; " + settings);
        string output = "";
        Wait.For("a stapled response", () =>
            (output = Client(weir, "-status")).Contains("OCSP Response Status: successful"));
        Assert.Contains("Cert Status: good", output);
    }

    [NeedsFact("openssl")]
    public void A_response_that_somebody_else_signed_is_not_stapled()
    {
        authority.Start("strange");
        using ServerProcess weir = Serve("ssl_stapling on; ssl_stapling_verify on;");
        Wait.For("the refusal", () => weir.ErrorLog.Contains("OCSP_basic_verify() failed (SSL: error:"));
        Assert.Contains("OCSP response: no response sent", Client(weir, "-status"));
    }

    [NeedsTheory("openssl")]
    [InlineData("good", "HTTP/1.1 200", "SUCCESS")]
    [InlineData("revoked", "HTTP/1.1 400", "client SSL certificate verify error: certificate revoked")]
    [InlineData("unknown", "HTTP/1.1 400", "client SSL certificate verify error: certificate status unknown")]
    public void A_client_certificate_is_asked_about(string name, string answer, string more)
    {
        authority.Start("ca");
        foreach (string responder in new[] { "", "ssl_ocsp_responder %OCSP%;" })
        {
            using ServerProcess weir = Serve($"ssl_verify_client on; ssl_ocsp on; {responder}");
            string output = Client(weir, $"-cert {name}.crt -key {name}.key");
            Assert.Contains(answer, output);
            Assert.Contains(more, output + weir.ErrorLog);
        }
    }

    [NeedsFact("openssl")]
    public void Variables_tell_what_the_responder_said()
    {
        authority.Start("ca");
        using ServerProcess weir = Serve("ssl_verify_client optional; ssl_ocsp leaf; error_page 495 =200 /told;");
        Assert.Contains("FAILED:certificate revoked", Client(weir, "-cert revoked.crt -key revoked.key"));
        Assert.Contains("NONE", Client(weir, ""));
    }

    [NeedsFact("openssl")]
    public void Without_an_answer_nobody_is_let_in_and_what_is_cached_counts()
    {
        authority.Start("ca");
        using ServerProcess weir = Serve("ssl_verify_client on; ssl_ocsp on; ssl_ocsp_cache shared:ocsp:1m;");
        Assert.Contains("SUCCESS", Client(weir, "-cert good.crt -key good.key"));
        authority.Stop();
        Assert.Contains("SUCCESS", Client(weir, "-cert good.crt -key good.key"));
        Assert.Contains("HTTP/1.1 400", Client(weir, "-cert revoked.crt -key revoked.key"));
        Wait.For("the log",
            () => weir.ErrorLog.Contains("certificate status request failed", StringComparison.Ordinal));
    }

    [NeedsTheory("openssl")]
    [InlineData("ssl_ocsp on; ssl_verify_client optional_no_ca;",
        "\"ssl_ocsp\" is incompatible with \"ssl_verify_client optional_no_ca\"")]
    [InlineData("ssl_ocsp maybe;", "invalid value \"maybe\"")]
    [InlineData("ssl_ocsp on; ssl_verify_client on; ssl_ocsp_responder https://a/;",
        "invalid URL prefix in OCSP responder \"https://a/\" in \"ssl_ocsp_responder\"")]
    [InlineData("ssl_ocsp_cache shared:x:1k;", "invalid OCSP cache \"shared:x:1k\"")]
    public void What_is_wrong_is_said_by_the_test(string settings, string message)
    {
        Conf conf = Conf.Http($"server {{ listen 127.0.0.1:%PORT% ssl; {settings} ssl_certificate %FILES%/server.crt; "
            + "ssl_certificate_key %FILES%/server.key; ssl_client_certificate %FILES%/ca.crt; }");
        using ServerProcess weir = ServerProcess.Weir(conf, authority.Files, waitReady: false, arguments: "-t");
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Equal(1, weir.Process.ExitCode);
        Assert.Contains(message, weir.Process.Errors);
    }

    [NeedsFact("openssl")]
    public void A_certificate_without_an_issuer_or_a_responder_is_served_without_a_response()
    {
        using ServerProcess weir = Serve("ssl_stapling on; ssl_stapling_responder ftp://x/;");
        Assert.Contains("OCSP response: no response sent", Client(weir, "-status"));
    }
}
