// Every module, once, in order. The order is meaning: handlers of one phase run in this order.
using Weir.Http.Modules;

namespace Weir.Http;

/// <summary>The modules of this build.</summary>
public static class Catalog
{
    private static readonly GzipModule s_gzip = new();
    private static readonly GzipStaticModule s_gzipStatic = new(s_gzip);
    private static readonly BrotliModule s_brotli = new(s_gzip);
    private static readonly ZstdModule s_zstd = new(s_gzip);
    private static readonly ProxyModule s_proxy = new();

    /// <summary>In nginx's order of phases' handlers. CoreModule is the first: its settings are index 0.</summary>
    public static HttpModule[] Modules { get; } =
    [
        new CoreModule(),
        new SslModule(),
        new Http2Module(),
        new EarlyBodyModule(),
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
        new PrecompressedModule(s_gzip, s_gzipStatic, [s_brotli, s_zstd]),
        s_gzipStatic,
        new StaticModule(),
        new NotModifiedModule(),
        new HeadersModule(),
        new UserIdModule(),
        new AdditionModule(),
        new SubModule(),
        new CharsetModule(),
        new RangeModule(),
        new ResolverModule(),
        new UpstreamModule(),
        new CacheModule(),
        s_proxy,
        new FastCgiModule(),
        new MemcachedModule(),
        new SliceModule(),
        new GrpcModule(),
        new HealthCheckModule(),
        new GunzipModule(s_gzip),
        s_brotli,
        s_zstd,
        s_gzip,
        new ApiModule(),
        new StubStatusModule(),
        new EmptyGifModule(),
        new AppPassModule(s_proxy),
        new LimitRateModule(),
    ];
}
