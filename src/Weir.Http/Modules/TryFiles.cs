// try_files: the first of several files or directories that exists becomes the URI; else the last argument is an
// internal redirect, a named location, or a status.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed record TriedFile(Template Name, bool IsDirectory);

/// <summary>try_files of one very block: as in nginx nothing inherits it.</summary>
internal sealed class TryFilesSettings
{
    internal TriedFile[]? Files;
    internal Template? Fallback;
    internal int Status;
}

internal sealed class TryFilesModule : HttpModule
{
    public override string Name => "http_try_files";

    public override void Declare(HttpDeclarations d) =>
        d.Block("try_files", static u => Set(u, u.Block.Here<TryFilesSettings>()));

    private static void Set(DirectiveUse use, TryFilesSettings settings)
    {
        if (settings.Files is not null)
        {
            use.Complain("is duplicate");
            return;
        }
        int last = use.Count - 1;
        var files = new List<TriedFile>();
        for (int i = 0; i < last; i++)
        {
            string name = use[i];
            bool directory = name.Length > 0 && name[^1] == '/';
            if (use.TemplateOf(directory ? name[..^1] : name, i) is { } template)
            {
                files.Add(new TriedFile(template, directory));
            }
        }
        string target = use[last];
        settings.Files = [.. files];
        if (target.StartsWith('='))
        {
            if (!ConfValues.TryNumber(target.AsSpan(1), out long code) || code > 999)
            {
                use.Error(last, $"invalid code \"{target}\"");
                return;
            }
            settings.Status = (int)code;
            return;
        }
        settings.Fallback = use.Template(last);
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (install.Here<TryFilesSettings>() is { Files: not null } settings)
        {
            install.Add(Phase.PreContent, new TryFilesHandler(settings));
        }
    }
}

internal sealed class TryFilesHandler(TryFilesSettings settings) : PhaseHandler
{
    private readonly TriedFile[] _files = settings.Files!;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        foreach (TriedFile file in _files)
        {
            NativeSlice name = Tail(r, file.Name);
            ReadOnlySpan<byte> head = r.Location.IsAlias ? Head(r) : default;
            if (!FilePaths.TryMap(r, head, name.Span, out NativeSlice path, out _))
            {
                return PhaseResult.Answer(500);
            }
            FoundFile found = FileOpen.Test(r, path);
            r.Configuration.Trace?.OnTriedFile(r, path, found.Error == 0,
                found.Error == 0 && found.IsDirectory == file.IsDirectory);
            if (found.Error != 0)
            {
                if (found.Error is not (Errno.ENOENT or Errno.ENOTDIR or Errno.ENAMETOOLONG or Errno.EACCES))
                {
                    FileOpen.Log(r, LogLevel.Crit, in found, path);
                }
                continue;
            }
            if (found.IsDirectory != file.IsDirectory)
            {
                continue;
            }
            Take(r, name, file.IsDirectory);
            return PhaseResult.Next;
        }
        return Fallback(r);
    }

    /// <summary>The part of the URI that alias replaces.</summary>
    private static ReadOnlySpan<byte> Head(HttpRequest r) =>
        r.Location.AliasLength == int.MaxValue ? default : r.Uri.Span[..Math.Min(r.Location.AliasLength, r.Uri.Length)];

    /// <summary>A tried name stands in the place of the URI. Below an alias it stands, as in nginx, behind the
    /// location's name, which a name with variables may begin with.</summary>
    private static NativeSlice Tail(HttpRequest r, Template template)
    {
        NativeSlice name = template.Evaluate(r);
        if (!r.Location.IsAlias || r.Location.AliasLength == int.MaxValue || template.IsConstant)
        {
            return name;
        }
        ReadOnlySpan<byte> head = Head(r);
        return name.Span.StartsWith(head) ? name.Slice(head.Length) : name;
    }

    private static void Take(HttpRequest r, NativeSlice name, bool isDirectory)
    {
        LocationConf location = r.Location;
        if (!location.IsAlias)
        {
            r.Uri = name;
        }
        else if (location.AliasLength != int.MaxValue)
        {
            r.Uri = r.Arena.Concat(Head(r), name.Span);
        }
        else if (!isDirectory)
        {
            r.Uri = name;
            r.Get(AliasTail.Slot).AddsUri = true;
        }
        r.IsUriAsSent = false;
    }

    private PhaseResult Fallback(HttpRequest r)
    {
        if (settings.Fallback is not { } fallback)
        {
            return PhaseResult.Answer(settings.Status);
        }
        NativeSlice target = fallback.Evaluate(r);
        if (target.Length > 0 && target.Span[0] == '@')
        {
            return r.GoToNamed(target);
        }
        int question = target.Span.IndexOf((byte)'?');
        NativeSlice args = question < 0 ? default : target.Slice(question + 1);
        target = question < 0 ? target : target.Slice(0, question);
        return r.RedirectInternally(target, args);
    }
}

/// <summary>The alias of a regular expression's location is the whole path, unless try_files chose a file below
/// it.</summary>
internal sealed class AliasTail : RequestState
{
    internal static readonly RequestSlot<AliasTail> Slot = new();

    internal bool AddsUri { get; set; }

    protected internal override void Reset() => AddsUri = false;
}
