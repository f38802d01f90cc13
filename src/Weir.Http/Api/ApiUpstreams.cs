// What the API and the status page show of groups and their servers, under nginx Plus's names. Reads the records of a
// group on this loop, which with a zone are those of all workers.
using System.Globalization;
using Weir.Kernel;
using Weir.Session.Upstream;

namespace Weir.Http.Api;

internal static class ApiUpstreams
{
    /// <summary>The groups that the API shows: those with a zone.</summary>
    public static IEnumerable<UpstreamGroup> Shown(HttpConfiguration configuration) =>
        configuration.Upstreams.Explicit.Values
            .Select(static b => b.Frozen).OfType<UpstreamGroup>().Where(static g => g.Zone is not null);

    /// <summary>A group with its servers.</summary>
    public static ApiObject Of(GroupState state)
    {
        state.Follow();
        GroupView view = state.View();
        var shown = new ApiObject()
            .Add("peers", Peers(state))
            .Add("keepalive", view.Idle)
            .Add("zombies", view.Zombies)
            .Add("zone", state.Group.ZoneName);
        if (state.Queue is { } queue)
        {
            shown.Add("queue", new ApiObject().Add("size", view.Queued).Add("max_size", queue.Max)
                .Add("overflows", view.QueueOverflows));
        }
        return shown;
    }

    private static List<ApiObject> Peers(GroupState state)
    {
        var peers = new List<ApiObject>();
        foreach (Peer peer in state.Primary)
        {
            peers.Add(PeerOf(state, peer, backup: false));
        }
        foreach (Peer peer in state.Backup)
        {
            peers.Add(PeerOf(state, peer, backup: true));
        }
        return peers;
    }

    private static ApiObject PeerOf(GroupState state, Peer peer, bool backup)
    {
        PeerRecord r = state.Copy(peer);
        // Counted by the monotonic clock: who sets the wall clock makes nobody's downtime longer.
        long downMs = r.DownSinceMs > 0 ? Math.Max(state.Loop.NowMs - r.DownSinceMs, 0) : 0;
        var shown = new ApiObject()
            .Add("id", r.Id)
            .Add("server", AddressOf(peer))
            .Add("name", peer.Spec.Line?.Name ?? AddressOf(peer))
            .Add("backup", backup)
            .Add("weight", r.Weight)
            .Add("state", StateOf(in r, state.Loop.NowMs))
            .Add("active", r.Connections)
            .Add("max_conns", r.ConnectionsMax)
            .Add("requests", r.Requests)
            .Add("responses", new ApiObject().Add("1xx", r.Responses1).Add("2xx", r.Responses2)
                .Add("3xx", r.Responses3).Add("4xx", r.Responses4).Add("5xx", r.Responses5)
                .Add("total", r.Responses1 + r.Responses2 + r.Responses3 + r.Responses4 + r.Responses5))
            .Add("sent", r.SentBytes)
            .Add("received", r.ReceivedBytes)
            .Add("fails", r.FailsTotal)
            .Add("unavail", r.UnavailableTotal)
            .Add("health_checks", Checks(in r))
            .Add("downtime", r.DowntimeMs + downMs);
        if (peer.Spec.Line is { Service.Length: > 0 } line)
        {
            shown.Add("service", line.Service);
        }
        if (r.DownSinceMs > 0)
        {
            shown.Add("downstart", Time(state.Loop.UnixMs - downMs));
        }
        if (r.HeaderTimeUs > 0)
        {
            shown.Add("header_time", r.HeaderTimeUs / 1000).Add("response_time", r.ResponseTimeUs / 1000);
        }
        if (r.SelectedUnixMs > 0)
        {
            shown.Add("selected", Time(r.SelectedUnixMs));
        }
        return shown;
    }

    private static ApiObject Checks(in PeerRecord r)
    {
        var checks = new ApiObject().Add("checks", r.Checks).Add("fails", r.ChecksFailed)
            .Add("unhealthy", r.ChecksUnhealthy);
        return r.Checks > 0 ? checks.Add("last_passed", r.LastCheckPassed != 0) : checks;
    }

    private static string StateOf(in PeerRecord r, long nowMs) =>
        (r.Flags & PeerFlags.Down) != 0 ? "down"
        : (r.Flags & PeerFlags.Unhealthy) != 0 ? "unhealthy"
        : (r.Flags & PeerFlags.Checking) != 0 ? "checking"
        : (r.Flags & PeerFlags.Drain) != 0 ? "draining"
        : r.IsSetAside(nowMs) || (r.Flags & PeerFlags.Ejected) != 0 && nowMs < r.EjectedUntilMs ? "unavail" : "up";

    internal static string Time(long unixMs) =>
        DateTimeOffset.FromUnixTimeMilliseconds(unixMs).ToString("yyyy-MM-dd'T'HH:mm:ss.fff'Z'",
            CultureInfo.InvariantCulture);

    private static string AddressOf(Peer peer)
    {
        Span<byte> text = stackalloc byte[SocketAddress.TextBytesMax];
        return System.Text.Encoding.Latin1.GetString(
            text[..SocketAddress.Format(peer.Spec.Address, text, withPort: true)]);
    }

    // Servers as they are written down.

    public static List<ApiObject> Servers(GroupState state)
    {
        state.Follow();
        var servers = new List<ApiObject>();
        foreach (ServerLine line in state.Lines)
        {
            servers.Add(ServerOf(line));
            foreach (Peer peer in state.Primary.Concat(state.Backup).Where(p => IsChild(p, line)))
            {
                servers.Add(ChildOf(state, peer));
            }
        }
        return servers;
    }

    private static bool IsChild(Peer peer, ServerLine line) => line.IsNamed && peer.Spec.Id == line.Id;

    public static ApiObject ServerOf(ServerLine line) => Parameters(line, line.Id, line.Server, line.Weight,
        line.IsBackup);

    public static ApiObject ChildOf(GroupState state, Peer peer)
    {
        ServerLine line = LineOf(state, peer);
        return Parameters(line, line.Id, line.Server, line.Weight, line.IsBackup)
            .Add("parent", peer.Spec.Line!.Id).Add("host", peer.Spec.Line.Server);
    }

    /// <summary>A server of a name as if it had been written down itself.</summary>
    public static ServerLine LineOf(GroupState state, Peer child)
    {
        PeerRecord record = state.Copy(child);
        return child.Spec.Line! with
        {
            Id = record.Id,
            Server = AddressOf(child),
            Weight = record.Weight,
            ConnectionsMax = record.ConnectionsMax,
            FailsMax = record.FailsMax,
            FailTimeoutSec = record.FailTimeoutSec,
            IsBackup = state.Backup.Contains(child),
            IsDown = (record.Flags & PeerFlags.Down) != 0,
            IsDraining = (record.Flags & PeerFlags.Drain) != 0,
        };
    }

    private static ApiObject Parameters(ServerLine line, int id, string server, int weight, bool backup)
    {
        ApiObject shown = new ApiObject().Add("id", id).Add("server", server).Add("weight", weight)
            .Add("max_conns", line.ConnectionsMax).Add("max_fails", line.FailsMax)
            .Add("fail_timeout", Seconds(line.FailTimeoutSec * 1000)).Add("slow_start", Seconds(line.SlowStartMs))
            .Add("route", line.Route).Add("backup", backup).Add("down", line.IsDown);
        if (line.IsDraining)
        {
            shown.Add("drain", true);
        }
        return line.Service.Length > 0 ? shown.Add("service", line.Service) : shown;
    }

    private static string Seconds(long ms) =>
        ms % 1000 == 0 ? string.Create(CultureInfo.InvariantCulture, $"{ms / 1000}s")
            : string.Create(CultureInfo.InvariantCulture, $"{ms}ms");
}
