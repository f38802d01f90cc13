// Files of the root: nginx's static module, the last content handler of every location without one of its own. Also
// declares disable_symlinks and the variables that show how a URI maps to files.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class StaticModule : HttpModule
{
    public override string Name => "http_static";

    public override void Declare(HttpDeclarations d)
    {
        d.Location<LocationConf>("disable_symlinks", SetSymlinks);
        d.Variable("request_filename", FilePaths.GetRequestFilename, Session.VariableFlags.NoCache);
        d.Variable("document_root", FilePaths.GetDocumentRoot, Session.VariableFlags.NoCache);
        d.Variable("realpath_root", FilePaths.GetRealpathRoot, Session.VariableFlags.NoCache);
    }

    private static void SetSymlinks(DirectiveUse use, LocationConf location)
    {
        if (!use.Walker.Fresh(use.Directive, in location.DisableSymlinks))
        {
            return;
        }
        SymlinkPolicy policy = SymlinkPolicy.Off;
        bool set = false;
        for (int i = 0; i < use.Count; i++)
        {
            string word = use[i];
            if (word is "on" or "off" or "if_not_owner")
            {
                policy = word == "on" ? SymlinkPolicy.On : word == "off" ? SymlinkPolicy.Off : SymlinkPolicy.IfNotOwner;
                set = true;
            }
            else if (word.StartsWith("from=", StringComparison.Ordinal) && word.Length > 5)
            {
                if (use.TemplateOf(word[5..], i) is { } from)
                {
                    location.DisableSymlinksFrom.Set(from);
                }
            }
            else
            {
                use.InvalidParameter(i);
                return;
            }
        }
        if (!set)
        {
            use.Complain("must have \"off\", \"on\" or \"if_not_owner\" parameter");
            return;
        }
        if (use.Count == 2 && policy == SymlinkPolicy.Off)
        {
            use.Complain("has parameters that \"off\" does not take");
            return;
        }
        location.DisableSymlinks.Set(policy);
        if (!location.DisableSymlinksFrom.IsSet)
        {
            location.DisableSymlinksFrom.Set(null!);
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (install.Location.ContentHandler is null)
        {
            install.Add(Phase.Content, StaticHandler.Instance);
        }
    }
}

/// <summary>Answers with the file that the URI maps to.</summary>
internal sealed class StaticHandler : PhaseHandler
{
    internal static readonly StaticHandler Instance = new();

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head or HttpMethod.Post))
        {
            return PhaseResult.Answer(405);
        }
        if (r.Uri.Span[^1] == '/')
        {
            return EndOfContent(r);
        }
        if (!FilePaths.TryMap(r, default, out NativeSlice path, out _))
        {
            return PhaseResult.Answer(500);
        }
        FoundFile found = FileOpen.Open(r, path);
        if (found.Error != 0)
        {
            return PhaseResult.Answer(FileOpen.Report(r, in found, path));
        }
        if (found.IsDirectory)
        {
            r.Response.Location = DirectoryUri(r);
            return PhaseResult.Answer(301);
        }
        if (!found.IsRegular)
        {
            found.Release();
            if (r.Logs(LogLevel.Crit))
            {
                r.LogError(LogLevel.Crit, $"\"{path}\" is not a regular file");
            }
            return PhaseResult.Answer(404);
        }
        if (r.Method == HttpMethod.Post)
        {
            found.Release();
            return PhaseResult.Answer(405);
        }
        Describe(r, in found.Status);
        r.SendHead();
        return FileSender.SendFoundAsync(r, ref found);
    }

    /// <summary>Nobody made a listing or an index of a directory: what nginx's content phase ends with.</summary>
    private static PhaseResult EndOfContent(HttpRequest r)
    {
        if (!FilePaths.TryMap(r, default, out NativeSlice path, out _))
        {
            return PhaseResult.Answer(403);
        }
        if (r.Logs(LogLevel.Error))
        {
            r.LogError(LogLevel.Error, $"directory index of \"{path}\" is forbidden");
        }
        return PhaseResult.Answer(403);
    }

    /// <summary>The head of a response whose body is a file.</summary>
    internal static void Describe(HttpRequest r, in Kernel.Net.FileStatus status)
    {
        ResponseHead head = r.Response;
        head.Status = 200;
        head.ContentLength = status.Size;
        head.LastModified = status.ModifiedSec;
        if (r.Location.ETag.Value)
        {
            AddETag(r, status.ModifiedSec, status.Size);
        }
        r.SetContentType();
        head.AllowRanges = true;
    }

    /// <summary>nginx's form: time and length in hexadecimal.</summary>
    internal static void AddETag(HttpRequest r, long modified, long size)
    {
        NativeSlice memory = r.Arena.Allocate(2 * HexDigitsMax + 3);
        Span<byte> text = memory.Span;
        int n = 0;
        text[n++] = (byte)'"';
        n += WriteHex((ulong)modified, text[n..]);
        text[n++] = (byte)'-';
        n += WriteHex((ulong)size, text[n..]);
        text[n++] = (byte)'"';
        r.Response.Add(NativeSlice.Literal("ETag"u8), memory.Slice(0, n), KnownResponseHeader.ETag);
    }

    private const int HexDigitsMax = 16;

    private static int WriteHex(ulong value, Span<byte> target)
    {
        int digits = Math.Max(1, (67 - System.Numerics.BitOperations.LeadingZeroCount(value)) >> 2);
        for (int i = digits - 1; i >= 0; i--, value >>= 4)
        {
            uint digit = (uint)value & 15;
            target[i] = (byte)(digit + (digit < 10 ? '0' : 'a' - 10));
        }
        return digits;
    }

    /// <summary>The URI with a slash behind it, and the query.</summary>
    internal static NativeSlice DirectoryUri(HttpRequest r)
    {
        ReadOnlySpan<byte> uri = r.Uri.Span;
        ReadOnlySpan<byte> args = r.Args.Span;
        NativeSlice text = r.Arena.Allocate(UriEscaper.EscapedMax(uri.Length) + args.Length + 2);
        Span<byte> target = text.Span;
        int n = UriEscaper.EscapeUri(uri, target);
        target[n++] = (byte)'/';
        if (args.Length > 0)
        {
            target[n++] = (byte)'?';
            args.CopyTo(target[n..]);
            n += args.Length;
        }
        return text.Slice(0, n);
    }
}
