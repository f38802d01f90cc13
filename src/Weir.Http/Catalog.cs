// Every module, once, in order. The order is meaning: handlers of one phase run in this order.
using Weir.Http.Modules;

namespace Weir.Http;

/// <summary>The modules of this build.</summary>
public static class Catalog
{
    private static readonly GzipModule s_gzip = new();

    /// <summary>In nginx's order of phases' handlers. CoreModule is the first: its settings are index 0.</summary>
    public static HttpModule[] Modules { get; } =
    [
        new CoreModule(),
        new SslModule(),
        new Http2Module(),
        new VariablesModule(),
        new MapModule(),
        new GeoModule(),
        new SplitClientsModule(),
        new RefererModule(),
        new BrowserModule(),
        new SecureLinkModule(),
        new LogModule(),
        new FileIoModule(),
        new RewriteModule(),
        new RealIpModule(),
        new LimitReqModule(),
        new LimitConnModule(),
        new AccessModule(),
        new AuthBasicModule(),
        new AuthRequestModule(),
        new WelcomeModule(),
        new OpenFileCacheModule(),
        new TryFilesModule(),
        new MirrorModule(),
        new RandomIndexModule(),
        new IndexModule(),
        new AutoIndexModule(),
        new GzipStaticModule(s_gzip),
        new StaticModule(),
        new NotModifiedModule(),
        new HeadersModule(),
        new UserIdModule(),
        new CharsetModule(),
        new RangeModule(),
        new ResolverModule(),
        new UpstreamModule(),
        new CacheModule(),
        new ProxyModule(),
        new FastCgiModule(),
        new GunzipModule(s_gzip),
        s_gzip,
        new StubStatusModule(),
        new EmptyGifModule(),
        new AppPassModule(),
        new LimitRateModule(),
    ];
}
