// A configuration built from a snapshot, as workers and cache processes need it: nothing is read but the snapshot.
using Weir.Conf;
using Weir.Http;
using Weir.Process;

namespace Weir;

/// <summary>One generation, built.</summary>
internal sealed record BuiltConfiguration(uint Generation, MainSettings Main, HttpConfiguration Configuration,
    WorkerSnapshot Snapshot)
{
    /// <summary>Builds it; null and the first error when it cannot be.</summary>
    internal static BuiltConfiguration? Build(WorkerHost host, WorkerSnapshot snapshot, out string? error)
    {
        Snapshot content = snapshot.Content;
        MemoryConfFiles files = MemoryConfFiles.Deserialize(content.Files);
        ConfTree tree = ConfParser.Parse(files, content.ConfPath, content.GlobalText);
        string confPrefix = Path.GetDirectoryName(content.ConfPath) is { Length: > 0 } directory ? directory : "/";
        var resources = new SnapshotResources(snapshot, confPrefix, host.AllCounters, host.Owner);
        var build = new HttpBuild(resources, tree.Errors);
        HttpConfiguration configuration = build.Run(tree);
        error = null;
        foreach (ConfError problem in tree.Errors.All)
        {
            if (problem.Level == ConfLevel.Emerg)
            {
                error = problem.Format();
                configuration.Release();
                return null;
            }
        }
        tree.ForgetTexts();
        snapshot.ForgetFiles();
        return new BuiltConfiguration(snapshot.Generation, build.Main, configuration, snapshot);
    }
}
