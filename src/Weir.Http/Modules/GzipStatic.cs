// gzip_static: sends the file with ".gz" behind its name to clients that take gzip (on), or to all (always).
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal enum GzipStaticMode
{
    Off,
    On,
    Always,
}

internal sealed class GzipStaticSettings
{
    internal Inherited<GzipStaticMode> Mode;
}

internal sealed class GzipStaticModule(GzipModule gzip) : HttpModule<GzipStaticSettings>
{
    public override string Name => "http_gzip_static";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d) =>
        d.Location<GzipStaticSettings>("gzip_static", static (u, s) => u.SetEnum(ref s.Mode,
            [new ConfChoice<GzipStaticMode>("off", GzipStaticMode.Off), new("on", GzipStaticMode.On),
                new("always", GzipStaticMode.Always)]));

    protected override void Merge(HttpBuild build, GzipStaticSettings parent, GzipStaticSettings child) =>
        child.Mode.Merge(in parent.Mode, GzipStaticMode.Off);

    public override void InstallLocation(LocationInstall install)
    {
        GzipStaticMode mode = Settings(install.Location).Mode.Value;
        if (mode != GzipStaticMode.Off && install.Location.ContentHandler is null)
        {
            install.Add(Phase.Content, new GzipStaticHandler(mode, gzip.Settings(install.Location)));
        }
    }
}

internal sealed class GzipStaticHandler(GzipStaticMode mode, GzipSettings settings) : PhaseHandler
{
    private readonly GzipAcceptance _acceptance = settings.Acceptance;
    private readonly bool _vary = settings.Vary.Value;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head) || r.Uri.Span[^1] == '/')
        {
            return PhaseResult.Next;
        }
        bool accepts = mode == GzipStaticMode.Always || _acceptance.Accepts(r);
        if (!accepts && !_vary)
        {
            return PhaseResult.Next;
        }
        if (!FilePaths.TryMap(r, ".gz"u8, out NativeSlice path, out _))
        {
            return PhaseResult.Answer(500);
        }
        FoundFile found = FileOpen.Open(r, path);
        if (found.Error != 0)
        {
            if (found.Error is not (Errno.ENOENT or Errno.ENOTDIR or Errno.ENAMETOOLONG))
            {
                bool isForbidden = found.Error is Errno.EACCES or Errno.ELOOP or Errno.EMLINK;
                FileOpen.Log(r, isForbidden ? LogLevel.Error : LogLevel.Crit, in found, path);
            }
            return PhaseResult.Next;
        }
        if (mode == GzipStaticMode.On)
        {
            r.Response.VaryAcceptEncoding = _vary;
            if (!accepts)
            {
                found.Release();
                return PhaseResult.Next;
            }
        }
        if (found.IsDirectory)
        {
            return PhaseResult.Next;
        }
        if (!found.IsRegular)
        {
            found.Release();
            r.LogError(LogLevel.Crit, $"\"{path}\" is not a regular file");
            return PhaseResult.Answer(404);
        }
        StaticHandler.Describe(r, in found.Status);
        // As nginx: parts of the compressed form are not served.
        r.Response.AllowRanges = false;
        r.Response.Add(NativeSlice.Literal("Content-Encoding"u8), NativeSlice.Literal("gzip"u8),
            KnownResponseHeader.ContentEncoding);
        r.SendHead();
        return FileSender.SendFoundAsync(r, ref found);
    }
}
