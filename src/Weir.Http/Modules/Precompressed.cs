// brotli_static and zstd_static beside gzip_static: files with ".br", ".zst" or ".gz" behind their names, tried in the
// order in which the client likes the encodings; among equals brotli, then zstd, then gzip. Keeps nothing.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class PrecompressedModule(GzipModule gzip, GzipStaticModule gzipStatic, EncodingModule[] encodings)
    : HttpModule
{
    public override string Name => "http_precompressed_static";

    public override void Declare(HttpDeclarations d)
    {
    }

    public override void InstallLocation(LocationInstall install)
    {
        LocationConf location = install.Location;
        if (location.ContentHandler is not null
            || Array.TrueForAll(encodings, e => e.Settings(location).Static.Value == GzipStaticMode.Off))
        {
            return;
        }
        var forms = new List<PrecompressedForm>();
        foreach (EncodingModule encoding in encodings)
        {
            GzipStaticMode mode = encoding.Settings(location).Static.Value;
            if (mode != GzipStaticMode.Off)
            {
                NativeArena memory = install.Build.Memory;
                forms.Add(new PrecompressedForm(encoding.Coding,
                    memory.Store(encoding is BrotliModule ? ".br" : ".zst"), mode, null));
            }
        }
        GzipSettings settings = gzip.Settings(location);
        GzipStaticMode gzipMode = gzipStatic.Settings(location).Mode.Value;
        if (gzipMode != GzipStaticMode.Off)
        {
            forms.Add(new PrecompressedForm(NativeSlice.Literal("gzip"u8), NativeSlice.Literal(".gz"u8), gzipMode,
                settings.Acceptance));
        }
        install.Add(Phase.Content, new PrecompressedHandler([.. forms], settings.Vary.Value));
    }
}

internal readonly record struct PrecompressedForm(NativeSlice Coding, NativeSlice Suffix, GzipStaticMode Mode,
    GzipAcceptance? Acceptance);

internal sealed class PrecompressedHandler(PrecompressedForm[] forms, bool vary) : PhaseHandler
{
    private const int Always = 2000;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head) || r.Uri.Span[^1] == '/')
        {
            return PhaseResult.Next;
        }
        Span<int> qualities = stackalloc int[forms.Length];
        ReadOnlySpan<byte> accepted = r.Header(KnownHeader.AcceptEncoding).Span;
        for (int i = 0; i < forms.Length; i++)
        {
            ref readonly PrecompressedForm form = ref forms[i];
            qualities[i] = form.Mode == GzipStaticMode.Always ? Always
                : r.IsMain && (form.Acceptance?.Accepts(r) ?? true)
                    ? AcceptedEncodings.Quality(accepted, form.Coding.Span) : 0;
        }
        for (int tries = 0; tries < forms.Length; tries++)
        {
            int best = 0;
            for (int i = 1; i < forms.Length; i++)
            {
                best = qualities[i] > qualities[best] ? i : best;
            }
            bool wanted = qualities[best] > 0;
            qualities[best] = -1;
            if (wanted && TryFind(r, in forms[best], out FoundFile found))
            {
                return Send(r, in forms[best], ref found);
            }
            if (vary && !wanted && TryFind(r, in forms[best], out FoundFile other))
            {
                // Another client would be given it.
                other.Release();
                r.Response.VaryAcceptEncoding = true;
            }
        }
        return PhaseResult.Next;
    }

    private static bool TryFind(HttpRequest r, in PrecompressedForm form, out FoundFile found)
    {
        found = default;
        if (!FilePaths.TryMap(r, form.Suffix.Span, out NativeSlice path, out _))
        {
            return false;
        }
        found = FileOpen.Open(r, path);
        if (found.Error != 0)
        {
            if (found.Error is not (Errno.ENOENT or Errno.ENOTDIR or Errno.ENAMETOOLONG))
            {
                bool isForbidden = found.Error is Errno.EACCES or Errno.ELOOP or Errno.EMLINK;
                FileOpen.Log(r, isForbidden ? LogLevel.Error : LogLevel.Crit, in found, path);
            }
            return false;
        }
        if (found.IsRegular)
        {
            return true;
        }
        if (!found.IsDirectory)
        {
            found.Release();
        }
        return false;
    }

    private LoopTask<PhaseResult> Send(HttpRequest r, in PrecompressedForm form, ref FoundFile found)
    {
        r.Response.VaryAcceptEncoding |= vary && form.Mode == GzipStaticMode.On;
        StaticHandler.Describe(r, in found.Status);
        r.Response.AllowRanges = false;
        r.Response.Add(NativeSlice.Literal("Content-Encoding"u8), form.Coding, KnownResponseHeader.ContentEncoding);
        r.SendHead();
        return FileSender.SendFoundAsync(r, ref found);
    }
}
