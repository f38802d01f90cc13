// random_index: any file of a directory stands for the directory. The directory is read on a thread of BlockingWork;
// the chosen name is taken by an internal redirect.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class RandomIndexSettings
{
    internal Inherited<bool> Enabled;
}

internal sealed class RandomIndexModule : HttpModule<RandomIndexSettings>
{
    public override string Name => "http_random_index";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d) =>
        d.Location<RandomIndexSettings>("random_index", static (u, s) => u.SetFlag(ref s.Enabled));

    protected override void Merge(HttpBuild build, RandomIndexSettings parent, RandomIndexSettings child) =>
        child.Enabled.Merge(in parent.Enabled, false);

    public override void InstallLocation(LocationInstall install)
    {
        if (Settings(install.Location).Enabled.Value && install.Location.ContentHandler is null)
        {
            install.Add(Phase.Content, new RandomIndexHandler());
        }
    }
}

internal sealed class RandomIndexHandler : PhaseHandler
{
    private static readonly RequestSlot<DirectoryReader> s_reader = new();

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Uri.Span[^1] != '/' || r.Method is not (HttpMethod.Get or HttpMethod.Head or HttpMethod.Post))
        {
            return PhaseResult.Next;
        }
        return FilePaths.TryMap(r, default, out NativeSlice path, out _) ? ChooseAsync(r, path)
            : PhaseResult.Answer(500);
    }

    private static async LoopTask<PhaseResult> ChooseAsync(HttpRequest r, NativeSlice path)
    {
        DirectoryReader reader = r.Rent(s_reader);
        SysResult opened = await reader.ReadAsync(r.Loop, path);
        if (opened.IsError)
        {
            if (reader.FailedCall == "opendir()")
            {
                return PhaseResult.Answer(FileOpen.Report(r, FoundFile.Failed(opened.Errno, "opendir()"), path));
            }
            r.LogError(LogLevel.Crit, $"{reader.FailedCall} \"{path}\" failed", opened.Errno);
            return PhaseResult.Answer(500);
        }
        int count = 0;
        foreach (ref readonly DirectoryEntry entry in reader.Entries)
        {
            count += IsCandidate(in entry) ? 1 : 0;
        }
        if (count == 0)
        {
            return PhaseResult.Next;
        }
        int chosen = (int)(Random(r) % (uint)count);
        foreach (ref readonly DirectoryEntry entry in reader.Entries)
        {
            if (IsCandidate(in entry) && chosen-- == 0)
            {
                return r.RedirectInternally(r.Arena.Concat(r.Uri.Span, entry.Name), r.Args);
            }
        }
        return PhaseResult.Next;
    }

    /// <summary>As nginx, which goes by what the directory says: files, and no links to them.</summary>
    private static bool IsCandidate(in DirectoryEntry entry) => entry.IsFile && !entry.IsLink;

    private static uint Random(HttpRequest r)
    {
        Span<byte> bytes = stackalloc byte[4];
        r.Loop.FillRandom(bytes);
        return System.Buffers.Binary.BinaryPrimitives.ReadUInt32LittleEndian(bytes);
    }
}
