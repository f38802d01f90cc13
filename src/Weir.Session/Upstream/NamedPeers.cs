// Keeps the servers of a group that were configured with `resolve` at the addresses their names have: one loop task per
// name, until the name or the group is gone. With `service=` service records (RFC 2782) say which names, ports and
// weights there are. One loop's thread.
using System.Text;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>The servers of a group whose addresses are looked up while running.</summary>
public sealed class NamedPeers
{
    private const int RetryMs = 1000;
    private const int SleepMsMax = 1000;

    /// <summary>The code for a name that does not exist: its servers go.</summary>
    private const int NoSuchName = 3;

    private readonly GroupState _state;
    private readonly List<Watched> _names = [];
    private readonly List<ResolveWaiter> _waiters = [];
    private int _unknown;
    private bool _hasBegun;

    private sealed class ResolveWaiter : LoopOperation<Unit>;

    /// <summary>A server that was found.</summary>
    private readonly record struct Place(byte[] Address, int Weight, bool IsBackup);

    private sealed class Watched(ServerLine line)
    {
        public ServerLine Line { get; set; } = line;
        public List<Place> Places { get; set; } = [];
        public bool IsDropped { get; set; }
        public bool IsAwaited { get; set; }
        public int LastCode { get; set; }
    }

    internal NamedPeers(GroupState state) => _state = state;

    /// <summary>Waits until every name was asked for once.</summary>
    public LoopTask<Unit> FirstAnswers()
    {
        if (_unknown == 0)
        {
            return new LoopTask<Unit>(default(Unit));
        }
        var wait = new ResolveWaiter();
        _waiters.Add(wait);
        return wait.Begin();
    }

    /// <summary>These names from now on; what is known of those that stay is kept.</summary>
    internal void Watch(ServerLine[] lines)
    {
        foreach (Watched name in _names)
        {
            ServerLine? now = Array.Find(lines, l => l.Id == name.Line.Id && l.Server == name.Line.Server
                && l.Service == name.Line.Service && l.IsBackup == name.Line.IsBackup);
            name.IsDropped = now is null;
            name.Line = now ?? name.Line;
        }
        _names.RemoveAll(static n => n.IsDropped);
        foreach (ServerLine line in lines)
        {
            if (!_names.Exists(n => n.Line.Id == line.Id))
            {
                // Requests wait for the names that were there from the beginning alone.
                var name = new Watched(line) { IsAwaited = !_hasBegun };
                _names.Add(name);
                _unknown += name.IsAwaited ? 1 : 0;
                KeepAsync(name).Forget();
            }
        }
        _hasBegun = true;
    }

    /// <summary>The servers that were found, of all names.</summary>
    internal List<PeerSpec> Found(bool backup)
    {
        var specs = new List<PeerSpec>();
        foreach (Watched name in _names)
        {
            foreach (Place place in name.Places)
            {
                if (place.IsBackup == backup)
                {
                    ServerLine line = name.Line.Weight == 1 ? name.Line with { Weight = place.Weight } : name.Line;
                    specs.Add(_state.SpecOf(line, place.Address));
                }
            }
        }
        return specs;
    }

    private async LoopTask<Unit> KeepAsync(Watched name)
    {
        EventLoop loop = _state.Loop;
        while (!_state.IsRetired && !name.IsDropped)
        {
            Resolver resolver = Resolver.Of(loop, _state.Group.Resolver!);
            long untilMs = name.Line.Service.Length > 0 ? await ServicesAsync(name, resolver)
                : await AddressesAsync(name, resolver);
            Answered(name);
            untilMs = Math.Max(untilMs, loop.NowMs + RetryMs);
            while (loop.NowMs < untilMs && !_state.IsRetired && !name.IsDropped)
            {
                await loop.DelayAsync((int)Math.Min(untilMs - loop.NowMs, SleepMsMax));
            }
        }
        Answered(name);
        return default;
    }

    /// <summary>Looks the name's addresses up. Until when that is good.</summary>
    private async LoopTask<long> AddressesAsync(Watched name, Resolver resolver)
    {
        (string host, int port) = Split(name.Line.Server);
        ResolveOutcome outcome = await resolver.ResolveAsync(Encoding.Latin1.GetBytes(host));
        if (outcome.Name is not { } found)
        {
            Fail(name, host, outcome);
            return 0;
        }
        Settle(name, [.. found.Peers(port).Select(p => new Place(p.Address, 1, name.Line.IsBackup))]);
        return found.ExpiresMs;
    }

    /// <summary>Looks the name's service records up, and the addresses of what they name. Until when that is
    /// good.</summary>
    private async LoopTask<long> ServicesAsync(Watched name, Resolver resolver)
    {
        ServerLine line = name.Line;
        string asked = line.Service.Contains('.') ? $"{line.Service}.{line.Server}"
            : $"_{line.Service}._tcp.{line.Server}";
        ResolveOutcome outcome = await resolver.ResolveServiceAsync(Encoding.Latin1.GetBytes(asked));
        if (outcome.Name is not { } found)
        {
            Fail(name, asked, outcome);
            return 0;
        }
        ServiceTarget[] targets = [.. found.Services];
        long untilMs = found.ExpiresMs;
        int best = targets.Min(static t => t.Priority);
        var places = new List<Place>();
        foreach (ServiceTarget target in targets)
        {
            // The best priority serves, the others stand by; a line of backup servers takes the best alone.
            bool first = target.Priority == best;
            if (!first && (line.IsBackup || _state.Group.RefusesBackup))
            {
                continue;
            }
            ResolveOutcome addresses = await resolver.ResolveAsync(Encoding.Latin1.GetBytes(target.Host));
            if (addresses.Name is { } host)
            {
                untilMs = Math.Min(untilMs, host.ExpiresMs);
                places.AddRange(host.Peers(target.Port).Select(p =>
                    new Place(p.Address, Math.Max(target.Weight, 1), line.IsBackup || !first)));
                continue;
            }
            Report(name, target.Host, addresses);
            untilMs = 0;
            if (addresses.Code != NoSuchName)
            {
                // What is known is better than what is missing.
                return 0;
            }
        }
        Settle(name, places);
        return untilMs;
    }

    private void Settle(Watched name, List<Place> places)
    {
        name.LastCode = 0;
        if (_state.IsRetired || name.IsDropped)
        {
            return;
        }
        // Answers come in any order; all workers keep one.
        places.Sort(static (a, b) => a.Address.AsSpan().SequenceCompareTo(b.Address));
        if (places.Count != name.Places.Count || !places.Zip(name.Places).All(static p => p.First.Weight
            == p.Second.Weight && p.First.IsBackup == p.Second.IsBackup
            && p.First.Address.AsSpan().SequenceEqual(p.Second.Address)))
        {
            name.Places = places;
            _state.AssignAll();
        }
    }

    private void Fail(Watched name, string asked, ResolveOutcome outcome)
    {
        Report(name, asked, outcome);
        if (outcome.Code == NoSuchName)
        {
            Settle(name, []);
            name.LastCode = NoSuchName;
        }
    }

    /// <summary>One line for each new kind of failure.</summary>
    private void Report(Watched name, string asked, ResolveOutcome outcome)
    {
        if (name.LastCode != outcome.Code && !_state.IsRetired)
        {
            name.LastCode = outcome.Code;
            _state.Loop.Report?.Invoke(LogLevel.Error, $"{asked} could not be resolved ({outcome.Code}: "
                + $"{outcome.Message}) for upstream \"{_state.Group.Name}\"", 0);
        }
    }

    internal static (string Host, int Port) Split(string server)
    {
        int colon = server.LastIndexOf(':');
        return colon > 0 && int.TryParse(server.AsSpan(colon + 1), out int port) ? (server[..colon], port)
            : (server, 80);
    }

    private void Answered(Watched name)
    {
        if (!name.IsAwaited)
        {
            return;
        }
        name.IsAwaited = false;
        if (--_unknown > 0)
        {
            return;
        }
        ResolveWaiter[] waiters = [.. _waiters];
        _waiters.Clear();
        foreach (ResolveWaiter wait in waiters)
        {
            wait.SetResult(default);
        }
    }
}
