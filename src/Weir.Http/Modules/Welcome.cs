// weir_welcome: the page that a start without a configuration shows. The page is one file inside the binary, copied
// into the configuration's memory once; a request gets it from there. Loop thread.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class WelcomeModule : HttpModule
{
    private const string PageName = "welcome.html";

    public override string Name => "weir_welcome";

    public override void Declare(HttpDeclarations d)
    {
        HttpBuild build = d.Build;
        d.Own(new DirectiveSpec
        {
            Name = "weir_welcome",
            Contexts = ConfContext.Location,
            Arity = ConfArity.Zero,
            Summary = "Answers with Weir's welcome page.",
            Apply = (walker, _) =>
                walker.Need<HttpBlock>().Core.ContentHandler = new WelcomeHandler(build.Memory.Store(Page())),
        });
    }

    private static byte[] Page()
    {
        using Stream page = typeof(WelcomeModule).Assembly.GetManifestResourceStream(PageName)!;
        byte[] bytes = new byte[page.Length];
        page.ReadExactly(bytes);
        return bytes;
    }

    private sealed class WelcomeHandler(NativeSlice page) : PhaseHandler
    {
        public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
        {
            if (r.Method is not (HttpMethod.Get or HttpMethod.Head))
            {
                return PhaseResult.Answer(405);
            }
            r.Response.Status = 200;
            r.Response.ContentType = NativeSlice.Literal("text/html; charset=utf-8"u8);
            r.Response.Add(NativeSlice.Literal("Cache-Control"u8), NativeSlice.Literal("no-cache"u8));
            return r.SendComplete(page);
        }
    }
}
