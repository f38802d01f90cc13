// app_pass: a location answered by code of the process that Weir is embedded in. The handler comes from the resources
// of the build, by name; a server that is nobody's library has none and says so. Configuration time only.
using Weir.Conf;
using Weir.Http.Cache;
using Weir.Http.Proxy;

namespace Weir.Http.Modules;

/// <summary>app_pass of one very block.</summary>
internal sealed class AppPassing
{
    public string Name { get; set; } = "";
    public PhaseHandler? Handler { get; set; }
}

/// <param name="proxy">Whose cache and store are also for applications.</param>
internal sealed class AppPassModule(ProxyModule proxy) : HttpModule
{
    public override string Name => "weir_app_pass";

    public override void Declare(HttpDeclarations d) => d.Own(new DirectiveSpec
    {
        Name = "app_pass",
        Contexts = ConfContext.Location,
        Arity = ConfArity.One,
        Summary = "Hands the requests of a location to an application in this process: app_pass NAME;",
        Apply = static (walker, directive) =>
        {
            HttpBlock block = walker.Need<HttpBlock>();
            if (block.Core.ContentHandler is not null)
            {
                walker.Complain(directive, "is duplicate");
                return;
            }
            if (walker.Need<HttpBuild>().Resources.Application(directive[0]) is { } handler)
            {
                block.Core.ContentHandler = handler;
                AppPassing passing = block.Here<AppPassing>();
                passing.Name = directive[0];
                passing.Handler = handler;
                RefuseFastCgi(walker, block);
                return;
            }
            walker.Error(directive.Args[0], $"no application \"{directive[0]}\" in this process",
                "app_pass needs the library: Weir.Server, or Weir.AspNetCore, embedded in a program of yours");
        },
    });

    /// <summary>In an `if` and a limit_except the application goes on answering, as servers behind proxy_pass do; and
    /// what it answers is kept where that is said.</summary>
    public override void InstallLocation(LocationInstall install)
    {
        AppPassing? passing = install.HereOrAround<AppPassing>(static p => p.Handler is not null, out _);
        LocationConf location = install.Location;
        if (passing?.Handler is not { } handler || location.ContentHandler is { } other && other != handler)
        {
            return;
        }
        ProxySettings settings = install.Settings<ProxySettings>(proxy);
        HttpBuild build = install.Build;
        CacheRules? cache = CacheDirectives.Rules(build, settings.Cache, "proxy", ApplicationProtocol.Asking);
        location.ContentHandler = cache is null && settings.Cache.Store.Value is null ? handler
            : new ApplicationHandler(handler, settings, cache, build.Memory.Store("app_pass:" + passing.Name));
    }

    /// <summary>proxy_cache and proxy_store keep what an application answers. The fastcgi ones keep what FastCGI
    /// servers answer and would only seem to do something here; what the levels around say is for other
    /// locations.</summary>
    private static void RefuseFastCgi(ConfWalker walker, HttpBlock block)
    {
        foreach (ConfDirective directive in block.Directive.Block ?? [])
        {
            if (directive.Name is "fastcgi_cache" or "fastcgi_store" && directive.Args is [{ Text: not "off" }, ..])
            {
                walker.Error(directive, $"\"{directive.Name}\" keeps nothing of what an application answers",
                    $"proxy{directive.Name["fastcgi".Length..]} does");
            }
        }
    }
}
