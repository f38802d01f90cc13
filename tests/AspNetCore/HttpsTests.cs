// HTTPS and HTTP/2 under ASP.NET Core: the same applications over TLS with HTTP/1.1 and HTTP/2, and over HTTP/2 without
// TLS; the features that only such connections have; certificates from options, configuration and the developer's data.
using System.Net;
using System.Net.Security;
using System.Net.WebSockets;
using System.Security.Authentication;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting.Server.Features;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Configuration;
using Microsoft.Extensions.DependencyInjection;
using Weir.AspNetCore;
using Weir.Server;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed class HttpsTests
{
    private const int Long = 30_000;

    private static readonly TestAuthority _authority = new();
    private static readonly TestCertificate _issued = _authority.Issue(names: ["localhost", "127.0.0.1"]);
    private static readonly ServerCertificate _certificate = ServerCertificate.FromPem(_issued.Pem, _issued.KeyPem);

    /// <summary>Placement, scheme, version.</summary>
    public static TheoryData<RequestPlacement, string, string> Everywhere
    {
        get
        {
            var data = new TheoryData<RequestPlacement, string, string>();
            foreach (RequestPlacement placement in Hosted.Placements)
            {
                data.Add(placement, "https", "1.1");
                data.Add(placement, "https", "2.0");
                data.Add(placement, "http", "2.0");
            }
            return data;
        }
    }

    public static TheoryData<RequestPlacement> Placements => Hosted.Everywhere;

    private static Task<Hosted> StartAsync(RequestPlacement placement, string scheme, string version,
        Action<WebApplication> map, Action<WebApplicationBuilder>? build = null,
        Action<WeirServerOptions>? set = null) => Hosted.StartAsync(placement, scheme, version, map, build, set);

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_request_is_what_it_is(RequestPlacement placement, string scheme, string version)
    {
        await using Hosted hosted = await StartAsync(placement, scheme, version, static app => app.Run(static c =>
        {
            ITlsHandshakeFeature? tls = c.Features.Get<ITlsHandshakeFeature>();
            bool h2 = c.Request.Protocol == HttpProtocol.Http2;
            Assert.Equal(h2, c.Features.Get<IHttpResetFeature>() is not null);
            Assert.False(c.Features.Get<IHttpExtendedConnectFeature>()!.IsExtendedConnect);
            Assert.Equal(c.Request.IsHttps, c.Features.Get<ITlsConnectionFeature>() is not null);
            Assert.Equal(c.Request.IsHttps, c.Features[typeof(ITlsConnectionFeature)] is not null);
            Assert.Equal(c.Request.IsHttps, c.Features.Any(static f => f.Key == typeof(ITlsHandshakeFeature)));
            Assert.NotNull(c.Features.Get<IHttpResponseTrailersFeature>());
            Assert.NotNull(c.Features.Get<IHttpRequestTrailersFeature>());
            return c.Response.WriteAsync($"{c.Request.Protocol} {c.Request.Scheme} {c.Request.Host.Host} "
                + $"{c.Request.Path.Value} {tls?.Protocol} {tls?.NegotiatedCipherSuite}");
        }));
        Assert.StartsWith(scheme + "://127.0.0.1:", hosted.Url);
        for (int i = 0; i < 3; i++)
        {
            using HttpResponseMessage answer = await hosted.Client.GetAsync("/a%20b");
            Assert.Equal(Version.Parse(version), answer.Version);
            string protocol = version == "2.0" ? "HTTP/2" : "HTTP/1.1";
            string tls = scheme == "https" ? "Tls13 TLS_" : " ";
            Assert.StartsWith($"{protocol} {scheme} 127.0.0.1 /a b {tls}", await answer.Content.ReadAsStringAsync());
        }
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Large_bodies_go_either_way(RequestPlacement placement, string scheme, string version)
    {
        await using Hosted hosted = await StartAsync(placement, scheme, version, static app =>
        {
            app.MapPost("/sum", static async (HttpRequest r) =>
                Convert.ToHexString(await System.Security.Cryptography.SHA256.HashDataAsync(r.Body)));
            app.MapGet("/large", static async (HttpContext c) => await c.Response.Body.WriteAsync(Large()));
            app.MapPost("/form", static async (HttpRequest r) => (await r.ReadFormAsync()).Files[0].Length);
        });
        using HttpResponseMessage sum = await hosted.Client.PostAsync("/sum", new ByteArrayContent(Large()));
        Assert.Equal(Convert.ToHexString(System.Security.Cryptography.SHA256.HashData(Large())),
            await sum.Content.ReadAsStringAsync());
        Assert.Equal(Large(), await hosted.Client.GetByteArrayAsync("/large"));
        using var upload = new MultipartFormDataContent { { new ByteArrayContent(Large()), "f", "n.bin" } };
        using HttpResponseMessage uploaded = await hosted.Client.PostAsync("/form", upload);
        Assert.Equal("2000000", await uploaded.Content.ReadAsStringAsync());
    }

    private static byte[] Large()
    {
        byte[] body = new byte[2_000_000];
        new Random(1).NextBytes(body);
        return body;
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Pieces_arrive_while_the_answer_is_open(RequestPlacement placement, string scheme, string version)
    {
        using var next = new SemaphoreSlim(1);
        await using Hosted hosted = await StartAsync(placement, scheme, version, app => app.MapGet("/", async c =>
        {
            for (int i = 0; i < 3; i++)
            {
                await next.WaitAsync(c.RequestAborted);
                await c.Response.WriteAsync($"piece {i}\n");
                await c.Response.Body.FlushAsync();
            }
        }));
        using Stream stream = await hosted.Client.GetStreamAsync("/");
        using var reader = new StreamReader(stream);
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal($"piece {i}", await reader.ReadLineAsync());
            next.Release();
        }
        Assert.Null(await reader.ReadLineAsync());
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task A_client_that_gives_up_cancels_RequestAborted(RequestPlacement placement, string scheme,
        string version)
    {
        var entered = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        var aborted = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
        await using Hosted hosted = await StartAsync(placement, scheme, version, app =>
        {
            app.MapGet("/wait", async c =>
            {
                using CancellationTokenRegistration _ = c.RequestAborted.Register(() => aborted.TrySetResult());
                entered.TrySetResult();
                await aborted.Task;
            });
            app.MapGet("/", static () => "still here");
        });
        using var give = new CancellationTokenSource();
        Task<HttpResponseMessage> asked = hosted.Client.GetAsync("/wait", give.Token);
        await entered.Task.WaitAsync(TimeSpan.FromMilliseconds(Long));
        await give.CancelAsync();
        await Assert.ThrowsAnyAsync<OperationCanceledException>(() => asked);
        await aborted.Task.WaitAsync(TimeSpan.FromMilliseconds(Long));
        Assert.Equal("still here", await hosted.Client.GetStringAsync("/"));
    }

    [Theory]
    [MemberData(nameof(Everywhere))]
    public async Task Trailers_follow_an_answer(RequestPlacement placement, string scheme, string version)
    {
        await using Hosted hosted = await StartAsync(placement, scheme, version, static app => app.Run(static async c =>
        {
            Assert.True(c.Response.SupportsTrailers());
            c.Response.DeclareTrailer("x-sum");
            await c.Response.WriteAsync("body");
            await c.Response.Body.FlushAsync();
            c.Response.AppendTrailer("x-sum", "4");
        }));
        using HttpResponseMessage answer = await hosted.Client.GetAsync("/");
        Assert.Equal("body", await answer.Content.ReadAsStringAsync());
        Assert.Equal("4", answer.TrailingHeaders.GetValues("x-sum").Single());
    }

    [Theory]
    [MemberData(nameof(Placements))]
    public async Task Over_HTTP_2_trailers_need_no_announcement_and_come_both_ways(RequestPlacement placement)
    {
        await using Hosted hosted = await StartAsync(placement, "http", "2.0", static app => app.Run(static async c =>
        {
            using var reader = new StreamReader(c.Request.Body);
            string text = await reader.ReadToEndAsync();
            await c.Response.WriteAsync(text);
            await c.Response.Body.FlushAsync();
            c.Response.AppendTrailer("x-sum", text.Length.ToString());
            c.Response.AppendTrailer("x-echo", c.Request.GetTrailer("x-from"));
        }));
        using var client = Http2Client.Connect(hosted.Port);
        int stream = client.Begin("/", "POST", end: false);
        client.Send(Http2Client.Data(stream, "body", end: false));
        client.Send(Http2Client.Headers(stream, true, "x-from: client"));
        Http2Answer answer = await Task.Run(() => client.ReadAnswer(stream));
        Assert.Equal("body", answer.Text);
        Assert.Equal([("x-sum", "4"), ("x-echo", "client")], answer.Trailers);
    }

    [Theory]
    [MemberData(nameof(Placements))]
    public async Task An_application_resets_its_stream_and_an_abort_ends_it_alone(RequestPlacement placement)
    {
        await using Hosted hosted = await StartAsync(placement, "https", "2.0", static app =>
        {
            app.MapGet("/reset", static c =>
            {
                c.Features.Get<IHttpResetFeature>()!.Reset(0xd);
                return Task.CompletedTask;
            });
            app.MapGet("/abort", static async c =>
            {
                await c.Response.WriteAsync("begun");
                await c.Response.Body.FlushAsync();
                c.Abort();
            });
            app.MapGet("/", static () => "fine");
        });
        await Task.Run(() =>
        {
            using var client = Http2Client.ConnectTls(hosted.Port);
            Assert.Equal(Protocol.Http2.Http2Error.Http11Required, client.Get("/reset").Reset);
            Assert.NotNull(client.Get("/abort").Reset);
            Assert.Equal("fine", client.Get("/").Text);
        });
    }

    [Theory]
    [MemberData(nameof(Placements))]
    public async Task Streams_of_one_connection_keep_what_is_theirs_and_have_identities_of_their_own(
        RequestPlacement placement)
    {
        await using Hosted hosted = await StartAsync(placement, "https", "2.0", static app => app.Run(static async c =>
        {
            IPersistentStateFeature state = c.Features.Get<IPersistentStateFeature>()!;
            state.State["who"] = c.TraceIdentifier;
            await Task.Delay(1);
            Assert.Equal(c.TraceIdentifier, state.State["who"]);
            await c.Response.WriteAsync($"{c.Connection.Id} {c.TraceIdentifier}");
        }));
        string[] told = await Task.WhenAll(Enumerable.Range(0, 50).Select(_ => hosted.Client.GetStringAsync("/")));
        Assert.Single(told.Select(static t => t.Split(' ')[0]).Distinct());
        Assert.Equal(50, told.Distinct().Count());
    }

    [Theory]
    [MemberData(nameof(Placements))]
    public async Task A_client_certificate_is_shown_to_the_application(RequestPlacement placement)
    {
        TestCertificate known = _authority.Issue(names: ["somebody"]);
        await using Hosted hosted = await StartAsync(placement, "https", "1.1", static app => app.Run(static async c =>
            await c.Response.WriteAsync($"{(await c.Connection.GetClientCertificateAsync())?.Subject}")),
            set: static o => o.Https.ClientCertificates = ClientCertificates.Unchecked);
        await Task.Run(() =>
        {
            using TlsClient client = TlsClient.Connect(hosted.Port, certificate: known);
            Assert.Equal("CN=somebody", client.Get("/").Text);
            using TlsClient nobody = TlsClient.Connect(hosted.Port);
            Assert.Equal("", nobody.Get("/").Text);
        });
    }

    [Fact]
    public async Task Addresses_have_certificates_and_versions_of_their_own()
    {
        TestCertificate other = _authority.Issue(names: ["other.test"]);
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, static app =>
            app.MapGet("/", static (HttpContext c) => c.Request.Scheme), set: o =>
        {
            o.Https.Certificate = _certificate;
            o.ListenHttps("https://127.0.0.1:0", h =>
            {
                h.Certificate = ServerCertificate.FromPem(other.Pem, other.KeyPem);
                h.Protocols = SslProtocols.Tls12;
                h.Http2 = false;
            });
            o.Listen.Add("http://127.0.0.1:0");
        }, url: null);
        ICollection<string> addresses = hosted.App.Urls;
        Assert.Equal(["https", "http"], addresses.Select(static a => a.Split(':')[0]));
        Assert.Equal("https", await hosted.Client.GetStringAsync("/"));
        await Task.Run(() =>
        {
            using TlsClient client = TlsClient.Connect(hosted.Port, alpn: ["h2", "http/1.1"]);
            Assert.Equal(other.Certificate.RawData, client.ServerCertificate!.RawData);
            Assert.Equal(SslProtocols.Tls12, client.Stream.SslProtocol);
            Assert.Equal(SslApplicationProtocol.Http11, client.Stream.NegotiatedApplicationProtocol);
        });
    }

    [Fact]
    public async Task Endpoints_and_certificates_come_from_the_configuration()
    {
        using var files = new TempDir();
        _authority.Write(files, "site", TestKey.Rsa, "localhost", "127.0.0.1");
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, static app =>
            app.MapGet("/", static (HttpContext c) => c.Request.Protocol), builder =>
            builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?>
            {
                ["Weir:Endpoints:Public:Url"] = "https://127.0.0.1:0",
                ["Weir:Endpoints:Public:TlsProtocols"] = "Tls12, Tls13",
                ["Weir:Endpoints:Public:ClientCertificates"] = "Optional",
                ["Weir:Endpoints:Inner:Url"] = "http://127.0.0.1:0",
                ["Weir:Certificates:Default:Path"] = files.At("site.crt"),
                ["Weir:Certificates:Default:KeyPath"] = files.At("site.key"),
            }), url: null);
        Assert.Equal(2, hosted.App.Urls.Count);
        Assert.StartsWith("http", hosted.Url);
        int port = int.Parse(hosted.App.Urls.Single(static u => u.StartsWith("https:", StringComparison.Ordinal))
            .Split(':')[2]);
        using var client = new HttpClient(Hosted.AnyCertificate());
        Assert.Equal("HTTP/1.1", await client.GetStringAsync($"https://127.0.0.1:{port}/"));
    }

    [Theory]
    [InlineData("Weir:Endpoints:A:Port", "1", "Weir:Endpoints:A:Port")]
    [InlineData("Weir:Endpoints:A:Http2", "true", "needs a Url")]
    [InlineData("Weir:Certificates:Default:Path", "/missing.pem", "/missing.pem")]
    public async Task A_configuration_that_is_wrong_is_refused_with_its_key(string key, string value, string reason)
    {
        InvalidOperationException refused = await Assert.ThrowsAsync<InvalidOperationException>(() =>
            Hosted.StartAsync(RequestPlacement.ThreadPool, static app => app.MapGet("/", static () => ""), builder =>
                builder.Configuration.AddInMemoryCollection(new Dictionary<string, string?> { [key] = value }),
                url: "https://127.0.0.1:0"));
        Assert.Contains(reason, refused.Message);
    }

    [Fact]
    public async Task In_development_the_developers_certificate_is_used()
    {
        using var files = new TempDir();
        // Nobody else in this process looks at it.
        Environment.SetEnvironmentVariable("XDG_DATA_HOME", files.Path);
        DevelopmentCertificate made = DevelopmentCertificate.Ensure();
        Assert.StartsWith(files.Path, made.CertificatePath);
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, static app =>
            app.MapGet("/", static () => "developed"), url: "https://localhost:0", environment: "Development");
        using var handler = new SocketsHttpHandler();
        using X509Certificate2 trusted = X509CertificateLoader.LoadCertificateFromFile(made.CertificatePath);
        handler.SslOptions.CertificateChainPolicy = new X509ChainPolicy
        {
            TrustMode = X509ChainTrustMode.CustomRootTrust,
            RevocationMode = X509RevocationMode.NoCheck,
            CustomTrustStore = { trusted },
        };
        using var client = new HttpClient(handler);
        Assert.Equal("developed", await client.GetStringAsync($"https://localhost:{hosted.Port}/"));
    }

    [Fact]
    public async Task A_configuration_of_nginx_around_an_application_brings_its_TLS_along()
    {
        using var files = new TempDir();
        using Port port = Port.Lease();
        _authority.Write(files, "site");
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, static app =>
            app.MapGet("/", static (HttpContext c) => $"{c.Request.Scheme} {c.Request.Protocol} "
                + c.Features.Get<ITlsHandshakeFeature>()!.Protocol), set: o =>
            o.Configuration = WebServerOptions.FromText($$"""
                events { }
                http {
                    server {
                        listen 127.0.0.1:{{port.Number}} ssl;
                        http2 on;
                        ssl_certificate {{files.At("site.crt")}};
                        ssl_certificate_key {{files.At("site.key")}};
                        location / { app_pass aspnetcore; }
                    }
                }
                """), url: null);
        Assert.StartsWith("https://", hosted.Url);
        Assert.Equal("https HTTP/2 Tls13", await hosted.Speaking(HttpVersion.Version20).Client.GetStringAsync("/"));
    }
}
