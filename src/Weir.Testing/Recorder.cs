// The log phase of a configuration under test: copies what a request was when it ended. On the loop's thread, before
// the request's memory is used again.
using Weir.Http;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Testing;

/// <summary>A request that ended.</summary>
internal sealed record Record(int Status, string Server, string ServerAt, string Location,
    IReadOnlyDictionary<string, string> Variables, long Ms, IReadOnlyList<Attempt> Attempts);

/// <summary>An attempt at an upstream server.</summary>
internal sealed record Attempt(string Address, int Status, long Ms);

internal sealed class Recorder : LogHandler
{
    private readonly Dictionary<string, Record> _ended = [];

    internal static string KeyOf(ReadOnlySpan<byte> peer) => Convert.ToHexString(peer);

    internal bool Has(string key) => _ended.ContainsKey(key);

    internal Record? Take(string key) => _ended.Remove(key, out Record? record) ? record : null;

    public override void OnLog(HttpRequest r)
    {
        if (!r.IsMain)
        {
            return;
        }
        var variables = new Dictionary<string, string>(StringComparer.Ordinal);
        foreach (Variable variable in r.Configuration.Variables.All.ToArray())
        {
            if (r.TryGet(variable, out NativeSlice value))
            {
                variables[variable.Name] = value.ToString();
            }
        }
        var attempts = new List<Attempt>();
        if (r.Find(UpstreamRecord.Slot) is { } upstream)
        {
            for (int i = 0; i < upstream.Count; i++)
            {
                ref UpstreamAttempt a = ref upstream[i];
                attempts.Add(new Attempt(a.Address.ToString(), a.Status, Math.Max(a.ResponseMs, 0)));
            }
        }
        int status = variables.TryGetValue("status", out string? text) && int.TryParse(text, out int logged)
            ? logged : r.Response.Status;
        ServerConf server = r.Server;
        _ended[KeyOf(r.Connection.PeerAddress)] = new Record(status, server.PrimaryName,
            $"{server.Span.File?.Path}:{server.Span.Line}", Written(r.Location), variables,
            r.Loop.NowMs - r.StartMs, attempts);
    }

    private static string Written(LocationConf location) =>
        location.Modifier.Length > 0 ? $"{location.Modifier} {location.Name}" : location.Name;
}
