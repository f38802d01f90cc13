// app_pass: a location answered by code of the process that Weir is embedded in. The handler comes from the resources
// of the build, by name; a server that is nobody's library has none and says so. Configuration time only.
using Weir.Conf;

namespace Weir.Http.Modules;

internal sealed class AppPassModule : HttpModule
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
                block.Core.Application = directive[0];
                RefuseFastCgi(walker, block);
                return;
            }
            walker.Error(directive.Args[0], $"no application \"{directive[0]}\" in this process",
                "app_pass needs the library: Weir.Server, or Weir.AspNetCore, embedded in a program of yours");
        },
    });

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
