// What middleware can ask Kestrel for, read out of Kestrel by reflection, beside what Weir answers: over plain
// HTTP/1.1, over TLS, and over HTTP/2. What is missing on purpose stands here with its reason, and in
// docs/aspnetcore.md.
using System.Net;
using System.Security.Cryptography.X509Certificates;
using Microsoft.AspNetCore.Builder;
using Microsoft.AspNetCore.Connections.Features;
using Microsoft.AspNetCore.Hosting;
using Microsoft.AspNetCore.Http;
using Microsoft.AspNetCore.Http.Features;
using Microsoft.Extensions.Logging;
using Weir.AspNetCore;
using Xunit;

namespace Weir.Tests.AspNetCore;

public sealed class KestrelFeatureTests
{
    /// <summary>Each with the reason that docs/aspnetcore.md gives.</summary>
    private static readonly string[] _notHere =
    [
        // The rates that Kestrel's limits ask for; Weir's limits are times (RequestBodyTimeout, SendTimeout).
        "IHttpMinRequestBodyDataRateFeature",
        "IHttpMinResponseDataRateFeature",
        // The end of a connection: a request sees HttpContext.RequestAborted and ends it by HttpContext.Abort or a
        // field Connection; to whom a connection belongs, authentication says for each request.
        "IConnectionCompleteFeature",
        "IConnectionLifetimeFeature",
        "IConnectionLifetimeNotificationFeature",
        "IConnectionUserFeature",
        "IProtocolErrorCodeFeature",
        "IStreamAbortFeature",
        "IStreamClosedFeature",
        // Kestrel's insides: its heartbeat, its pipes and memory, its metrics' tags, .NET's socket and TLS stream,
        // which carry no connection here; and a stream's number and direction, which all requests have alike.
        "IConnectionHeartbeatFeature",
        "IConnectionInherentKeepAliveFeature",
        "IConnectionMetricsContextFeature",
        "IConnectionMetricsTagsFeature",
        "IConnectionSocketFeature",
        "IConnectionTransportFeature",
        "IHttp2StreamIdFeature",
        "IMemoryPoolFeature",
        "ISslStreamFeature",
        "IStreamDirectionFeature",
        "IStreamIdFeature",
        // Its type is Kestrel's own; ConnectionSecurity.ApplicationProtocol says the same.
        "ITlsApplicationProtocolFeature",
        // A preview over HTTP/3 there.
        "IHttpWebTransportFeature",
    ];

    [Theory]
    [InlineData("http", "1.1")]
    [InlineData("https", "1.1")]
    [InlineData("http", "2.0")]
    [InlineData("https", "2.0")]
    public async Task Every_feature_of_Kestrels_is_here_or_is_missing_for_a_reason(string scheme, string version)
    {
        SortedSet<string> kestrels = await AskKestrelAsync(scheme, version);
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, scheme, version,
            static app => app.Run(static c => c.Response.WriteAsync(string.Join(' ', NamesOf(c)))));
        string[] ours = (await hosted.Client.GetStringAsync("/")).Split(' ');
        Assert.Empty(kestrels.Except(ours).Except(_notHere));
        // What we name as missing is missing.
        Assert.Empty(ours.Intersect(_notHere));
    }

    [Theory]
    [InlineData("http", "1.1")]
    [InlineData("https", "2.0")]
    public async Task What_is_known_of_a_connection_is_the_same_by_each_name(string scheme, string version)
    {
        await using Hosted hosted = await Hosted.StartAsync(RequestPlacement.ThreadPool, scheme, version,
            static app => app.Run(static c =>
            {
                IConnectionEndPointFeature ends = c.Features.GetRequiredFeature<IConnectionEndPointFeature>();
                ConnectionInfo info = c.Connection;
                bool same = info.Id == c.Features.GetRequiredFeature<IConnectionIdFeature>().ConnectionId
                    && Equals(ends.RemoteEndPoint, new IPEndPoint(info.RemoteIpAddress!, info.RemotePort))
                    && Equals(ends.LocalEndPoint, new IPEndPoint(info.LocalIpAddress!, info.LocalPort));
                IDictionary<object, object?> items = c.Features.GetRequiredFeature<IConnectionItemsFeature>().Items;
                int count = items.TryGetValue("n", out object? before) ? (int)before! + 1 : 1;
                items["n"] = count;
                return c.Response.WriteAsync($"{same} {count}");
            }));
        Assert.Equal("True 1", await hosted.Client.GetStringAsync("/"));
        Assert.Equal("True 2", await hosted.Client.GetStringAsync("/"));
    }

    private static async Task<SortedSet<string>> AskKestrelAsync(string scheme, string version)
    {
        WebApplicationBuilder builder = WebApplication.CreateBuilder();
        builder.Logging.ClearProviders();
        builder.WebHost.ConfigureKestrel(options => options.Listen(IPAddress.Loopback, 0, listen =>
        {
            listen.Protocols = version == "2.0" ? Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http2
                : Microsoft.AspNetCore.Server.Kestrel.Core.HttpProtocols.Http1;
            if (scheme == "https")
            {
                listen.UseHttps(ServerCertificateOf());
            }
        }));
        await using WebApplication app = builder.Build();
        app.Run(static c => c.Response.WriteAsync(string.Join(' ', NamesOf(c))));
        await app.StartAsync();
        using var client = new HttpClient(Hosted.AnyCertificate())
        {
            DefaultRequestVersion = Version.Parse(version),
            DefaultVersionPolicy = HttpVersionPolicy.RequestVersionExact,
        };
        return [.. (await client.GetStringAsync(app.Urls.First())).Split(' ')];
    }

    private static X509Certificate2 ServerCertificateOf() =>
        X509Certificate2.CreateFromPem(Hosted.Issued.Pem, Hosted.Issued.KeyPem);

    /// <summary>What the collection lists, and whatever else answers when it is asked for by its public type.</summary>
    private static IEnumerable<string> NamesOf(HttpContext c) => typeof(IHttpRequestFeature).Assembly.GetTypes()
        .Concat(typeof(Microsoft.AspNetCore.Connections.Features.IConnectionIdFeature).Assembly.GetTypes())
        .Concat(typeof(Microsoft.AspNetCore.Server.Kestrel.Core.Features.IHttpMinRequestBodyDataRateFeature).Assembly
            .GetTypes())
        .Where(t => t is { IsInterface: true, IsPublic: true }
            && t.Name.EndsWith("Feature", StringComparison.Ordinal) && c.Features[t] is not null)
        .Select(static t => t.Name).Distinct();
}
