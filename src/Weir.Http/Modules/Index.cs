// index: the file that stands for a directory. The first name that exists is taken by an internal redirect, so that its
// own location serves it.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class IndexSettings
{
    internal InheritedList<Template> Names;
}

internal sealed class IndexModule : HttpModule<IndexSettings>
{
    public override string Name => "http_index";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<IndexSettings>("index", static (u, s) =>
        {
            for (int i = 0; i < u.Count; i++)
            {
                if (u[i].Length == 0)
                {
                    u.Error(i, $"index \"{u[i]}\" in \"index\" directive is invalid");
                    return;
                }
                if (u[i].StartsWith('/') && i != u.Count - 1)
                {
                    u.Walker.Warn(u.Directive.Args[i].Span,
                        "only the last index in \"index\" directive should be absolute");
                }
                if (u.Template(i) is { } name)
                {
                    s.Names.Add(name);
                }
            }
        });
    }

    protected override void Merge(HttpBuild build, IndexSettings parent, IndexSettings child)
    {
        if (!child.Names.IsSet && parent.Names.Array.Length == 0)
        {
            child.Names.Add(Template.Compile("index.html", build.Configuration.Variables, out string? _)!);
        }
        child.Names.Merge(in parent.Names);
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (install.Location.ContentHandler is null)
        {
            install.Add(Phase.Content, install.Shared(Settings(install.Location),
                static s => new IndexHandler(s.Names.Array)));
        }
    }
}

internal sealed class IndexHandler(Template[] names) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Uri.Span[^1] != '/' || r.Method is not (HttpMethod.Get or HttpMethod.Head or HttpMethod.Post))
        {
            return PhaseResult.Next;
        }
        bool directoryTested = false;
        foreach (Template template in names)
        {
            NativeSlice name = template.Evaluate(r);
            if (name.IsEmpty)
            {
                return PhaseResult.Answer(500);
            }
            if (name.Span[0] == '/')
            {
                return r.RedirectInternally(name, r.Args);
            }
            if (!FilePaths.TryMap(r, name.Span, out NativeSlice path, out _))
            {
                return PhaseResult.Answer(500);
            }
            FoundFile found = FileOpen.Test(r, path);
            r.Configuration.Trace?.OnTriedFile(r, path, found.Error == 0, found.Error == 0);
            if (found.Error == 0)
            {
                return r.RedirectInternally(r.Arena.Concat(r.Uri.Span, name.Span), r.Args);
            }
            if (found.Error is Errno.ELOOP or Errno.EMLINK)
            {
                return PhaseResult.Answer(403);
            }
            if (found.Error is Errno.ENOTDIR or Errno.ENAMETOOLONG or Errno.EACCES)
            {
                return Refuse(r, found.Error, path);
            }
            if (!directoryTested)
            {
                int status = TestDirectory(r, path, path.Length - name.Length - 1);
                if (status != 0)
                {
                    return PhaseResult.Answer(status);
                }
                directoryTested = true;
            }
            if (found.Error != Errno.ENOENT)
            {
                FileOpen.Log(r, LogLevel.Crit, in found, path);
                return PhaseResult.Answer(500);
            }
        }
        return PhaseResult.Next;
    }

    private static PhaseResult Refuse(HttpRequest r, int errno, NativeSlice path)
    {
        if (errno == Errno.EACCES)
        {
            if (r.Logs(LogLevel.Error))
            {
                r.LogError(LogLevel.Error, $"\"{path}\" is forbidden", errno);
            }
            return PhaseResult.Answer(403);
        }
        if (r.Location.LogNotFound.Value && r.Logs(LogLevel.Error))
        {
            r.LogError(LogLevel.Error, $"\"{path}\" is not found", errno);
        }
        return PhaseResult.Answer(404);
    }

    /// <summary>Whether the directory is there at all. 0, or the status.</summary>
    private static int TestDirectory(HttpRequest r, NativeSlice path, int length)
    {
        if (path.Span[length] != '/')
        {
            // An alias without a slash at its end.
            length++;
        }
        byte kept = path.Span[length];
        path.Span[length] = 0;
        NativeSlice directory = path.Slice(0, length);
        FoundFile found = FileOpen.Test(r, directory);
        path.Span[length] = kept;
        switch (found.Error)
        {
            case 0 when found.IsDirectory:
            case Errno.EACCES:
                return 0;
            case 0:
                r.LogError(LogLevel.Alert, $"\"{directory}\" is not a directory");
                return 500;
            case Errno.ENOENT:
                Refuse(r, Errno.ENOENT, path);
                return 404;
            case Errno.ELOOP or Errno.EMLINK:
                return 403;
            default:
                FileOpen.Log(r, LogLevel.Crit, in found, directory);
                return 500;
        }
    }
}
