// One run: a loop with a plan, a server with a script's configuration, its origin and its clients, all on one thread.
// It ends when the clients have heard everything; then time passes until nothing is left, and what should be zero is
// looked at. No descriptor but those of files that the server itself opens.
using System.Globalization;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Server;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;
using Weir.Zones;

namespace Weir.Tests.Simulation;

/// <summary>What a client heard.</summary>
/// <param name="Talk">What it said.</param>
/// <param name="Bytes">All that came.</param>
/// <param name="IsOver">Whether the server had ended the connection.</param>
internal sealed record Heard(Talk Talk, byte[] Bytes, bool IsOver);

/// <summary>What a run gave.</summary>
internal sealed record Outcome(
    IReadOnlyList<Heard> Heard, IReadOnlyList<byte[]> Requests, string AccessLog, string ErrorLog, int Faults,
    IReadOnlyList<string> Violations, string Fingerprint, Surroundings Around);

/// <summary>Directories of one thread's runs; their names are equally long, so that texts are.</summary>
internal sealed class Place : IDisposable
{
    // Scripts' files are only read: their directories serve all threads, so paths in answers are the same everywhere.
    private static readonly Dictionary<string, TempDir> _files = [];
    private readonly TempDir _dir = new();

    static Place() => AppDomain.CurrentDomain.ProcessExit += static (_, _) =>
    {
        foreach (TempDir dir in _files.Values)
        {
            dir.Dispose();
        }
    };

    internal string Dir => _dir.Path;

    /// <summary>The directory with a script's files, written once.</summary>
    internal string FilesOf(Case one)
    {
        lock (_files)
        {
            if (!_files.TryGetValue(one.Id, out TempDir? dir))
            {
                dir = new TempDir();
                foreach ((string name, string content) in one.Files)
                {
                    dir.Write(name, content);
                }
                dir.SetFolderTimes();
                _files.Add(one.Id, dir);
            }
            return dir.Path;
        }
    }

    public void Dispose() => _dir.Dispose();
}

internal sealed class World
{
    internal const int ServerPort = 18080;
    internal const int OriginPort = 19000;
    private const int NamesPort = 15353;
    private const int QuietMsMin = 900;
    private const long TalkMsMax = 100L * 3600 * 1000;

    private readonly Case _case;
    private readonly Place _place;
    private readonly InMemoryLoop _loop;
    private readonly List<string> _violations = [];
    private readonly List<byte[]> _requests = [];
    private readonly List<SimulatedPeer> _origins = [];
    private int _running;
    private int _reloadMs;
    private int _quitMs;

    private World(Case one, SimulationPlan? plan, Place place)
    {
        _case = one;
        _place = place;
        _loop = new InMemoryLoop(plan);
    }

    /// <summary>Plays a script.</summary>
    /// <param name="one">The script.</param>
    /// <param name="plan">The network; null for none of its weather.</param>
    /// <param name="place">Where files lie.</param>
    /// <param name="copies">How many clients say each talk.</param>
    /// <param name="overlaps">Whether all of them begin at once.</param>
    /// <param name="reloadMs">When the same configuration is read again; 0 for never.</param>
    /// <param name="quitMs">When the server is told to end; 0 for never. A fault, as for its clients.</param>
    internal static Outcome Play(Case one, SimulationPlan? plan, Place place, int copies = 1, bool overlaps = false,
        int reloadMs = 0, int quitMs = 0) =>
        new World(one, plan, place) { _reloadMs = reloadMs, _quitMs = quitMs }.Play(copies, overlaps);

    internal static Surroundings Around(Case one, Place place) =>
        new(place.Dir, place.FilesOf(one), ServerPort, OriginPort);

    private Outcome Play(int copies, bool overlaps)
    {
        _loop.Adopt();
        _loop.Fault = e => _violations.Add("an exception reached the loop: " + e);
        string accessLog = Path.Combine(_place.Dir, "access.log");
        string countLog = Path.Combine(_place.Dir, "count.log");
        string errorLog = Path.Combine(_place.Dir, "error.log");
        File.Delete(accessLog);
        File.Delete(countLog);
        File.Delete(errorLog);
        var options = WebServerOptions.FromText(Text(), _place.Dir + "/");
        WebServer? server = WebServer.TryStart(_loop, options, out ConfErrors errors);
        if (server is null)
        {
            return new Outcome([], [], "", string.Join('\n', errors.All.Select(static e => e.Format())), 0,
                ["the configuration is refused: " + string.Join('\n', errors.All.Select(static e => e.Format()))], "",
                Around(_case, _place));
        }
        InMemoryListener? origin = StartOrigin();
        if (_reloadMs > 0)
        {
            _loop.Timers.Set(new CallbackTimer(() =>
            {
                if (!server.TryReload(options, out ConfErrors again))
                {
                    _violations.Add("the second reading fails: " + again.All[0].Format());
                }
            }), _loop.NowMs + _reloadMs);
        }
        if (_quitMs > 0)
        {
            _loop.Timers.Set(new CallbackTimer(() =>
            {
                _loop.Plan!.Faults++;
                server.Quit();
            }), _loop.NowMs + _quitMs);
        }
        var heard = new List<Heard>();
        Converse(copies, overlaps, heard);
        Aftermath.Settle(_loop, server, _origins, _violations);
        string log = Read(accessLog);
        string text = _case.Configuration.Text;
        if (!text.Contains("log_subrequest", StringComparison.Ordinal)
            && text.IndexOf("access_log", StringComparison.Ordinal)
            == text.LastIndexOf("access_log", StringComparison.Ordinal))
        {
            CountLines(Read(countLog), server.Counters.Read(StatusCounter.Requests));
        }
        string errorText = Read(errorLog);
        if (errorText.Contains("Exception on a connection", StringComparison.Ordinal))
        {
            _violations.Add("an exception ended a connection");
        }
        server.Dispose();
        origin?.Stop();
        Aftermath.Expect(_violations, "connections after the end", _loop.ConnectionCount, 0);
        Aftermath.Expect(_violations, "bytes of rented buffers", _loop.Buffers.RentedBytes, 0);
        string fingerprint = _loop.Plan is { } plan
            ? $"{plan.Random.State:x} {_loop.NowMs} {string.Join(' ', heard.Select(static h => h.Bytes.Length))}" : "";
        _loop.Dispose();
        return new Outcome(heard, _requests, log, Read(errorLog), _loop.Plan?.Faults ?? 0, _violations, fingerprint,
            Around(_case, _place));
    }

    // Scripts switch the access log off first of all; here every request leaves a line.
    private string Text() => _case.Configuration.Text
        .Replace("http {\n    access_log off;",
            "http {\n    log_format count $status; access_log %DIR%/count.log count;")
        .Replace("error.log info;", $"error.log {Environment.GetEnvironmentVariable("WEIR_SIMULATION_LOG") ?? "info"};")
        .Replace("%TEMP_PATHS%", "").Replace("%DIR%", _place.Dir).Replace("%FILES%", _place.FilesOf(_case))
        .Replace("%UPSTREAM%", Number(OriginPort)).Replace("%DNS%", Number(NamesPort))
        .Replace("%PORT%", Number(ServerPort)).Replace("%PORT2%", Number(ServerPort + 1))
        .Replace("%PORT3%", Number(ServerPort + 2));

    private static string Number(int n) => n.ToString(CultureInfo.InvariantCulture);

    private static byte[] Address(int port) => SocketAddress.Inet([127, 0, 0, 1], port).Native.ToArray();

    private InMemoryListener? StartOrigin()
    {
        if (_case.HasNames)
        {
            _loop.Respond(Address(NamesPort), static (question, reply) =>
            {
                if (NameServer.Answer(question) is { } answer)
                {
                    reply(answer);
                }
            });
        }
        if (_case.Origin is not { } script)
        {
            return null;
        }
        int connections = 0;
        return _loop.ListenPeers(Address(OriginPort), peer =>
        {
            var origin = new SimulatedPeer(_loop, peer);
            _origins.Add(origin);
            origin.PlayAsync(script, connections++, OriginPort, _requests).Forget();
        });
    }

    private void Converse(int copies, bool overlaps, List<Heard> heard)
    {
        var peers = new List<(Talk Talk, SimulatedPeer Peer)>();
        void Finish()
        {
            if (!_loop.RunUntil(() => _running == 0, TalkMsMax))
            {
                _violations.Add($"{_running} clients still wait when nothing more can happen");
            }
        }
        foreach (Talk talk in _case.Talks)
        {
            for (int i = 0; i < copies; i++)
            {
                InMemoryPeer end = _loop.Connect(Address(ServerPort));
                end.WindowBytes = _loop.Plan is { } plan ? 512 + plan.Random.Size(1 << 18) : int.MaxValue;
                var peer = new SimulatedPeer(_loop, end);
                peers.Add((talk, peer));
                _running++;
                Run(peer, talk).Forget();
                if (!overlaps)
                {
                    Finish();
                    heard.Add(new Heard(talk, peer.Bytes.ToArray(), peer.IsOver));
                    peer.Close();
                }
            }
        }
        if (overlaps)
        {
            Finish();
            foreach ((Talk talk, SimulatedPeer peer) in peers)
            {
                heard.Add(new Heard(talk, peer.Bytes.ToArray(), peer.IsOver));
                peer.Close();
            }
        }
    }

    private async LoopTask Run(SimulatedPeer peer, Talk talk)
    {
        await peer.TalkAsync(talk, Math.Max(talk.QuietMs, QuietMsMin));
        _running--;
    }

    /// <summary>One line for each request; one more for a head that never came whole.</summary>
    private void CountLines(string log, long requests)
    {
        string[] lines = log.Split('\n', StringSplitOptions.RemoveEmptyEntries);
        int unread = lines.Count(static l => l is "400" or "408");
        if (lines.Length < requests || lines.Length > requests + unread)
        {
            _violations.Add($"lines of the access log: {string.Join(' ', lines)} for {requests} requests");
        }
    }

    private static string Read(string path) =>
        File.Exists(path) ? File.ReadAllText(path) : "";
}
