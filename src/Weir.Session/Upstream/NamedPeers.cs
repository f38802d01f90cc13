// Keeps the servers of a group that were configured with `resolve` at the addresses their names have: one loop task per
// name, until the group is retired. One loop's thread.
using Weir.Loop;

namespace Weir.Session.Upstream;

/// <summary>The servers of a group whose addresses are looked up while running.</summary>
public sealed class NamedPeers
{
    private const int RetryMs = 1000;
    private const int SleepMsMax = 30_000;

    private readonly GroupState _state;
    private readonly PeerSpec[][] _found;
    private readonly List<ResolveWaiter> _waiters = [];
    private int _unknown;

    private sealed class ResolveWaiter : LoopOperation<Unit>;

    internal NamedPeers(GroupState state)
    {
        _state = state;
        _found = new PeerSpec[state.Group.Named.Length][];
        Array.Fill(_found, []);
        _unknown = _found.Length;
        for (int i = 0; i < _found.Length; i++)
        {
            KeepAsync(i).Forget();
        }
    }

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

    private async LoopTask<Unit> KeepAsync(int index)
    {
        NamedServer server = _state.Group.Named[index];
        EventLoop loop = _state.Loop;
        bool known = false;
        while (!_state.IsRetired)
        {
            Resolver resolver = Resolver.Of(loop, _state.Group.Resolver!);
            ResolveOutcome outcome = await resolver.ResolveAsync(server.Host.Span);
            if (_state.IsRetired)
            {
                break;
            }
            long untilMs = loop.NowMs + RetryMs;
            if (outcome.Name is { } name)
            {
                _found[index] = [.. name.Peers(server.Port).Select(p => Like(server.Template, p))];
                Assign();
                untilMs = Math.Max(name.ExpiresMs, untilMs);
            }
            if (!known)
            {
                known = true;
                Answered();
            }
            while (loop.NowMs < untilMs && !_state.IsRetired)
            {
                await loop.DelayAsync((int)Math.Min(untilMs - loop.NowMs, SleepMsMax));
            }
        }
        if (!known)
        {
            Answered();
        }
        return default;
    }

    private static PeerSpec Like(PeerSpec template, PeerSpec address) => template.At(address.Address);

    private void Assign()
    {
        UpstreamGroup group = _state.Group;
        PeerSpec[] All(bool backup) => [.. backup ? group.Backup : group.Primary,
            .. _found.Where((_, i) => group.Named[i].IsBackup == backup).SelectMany(static p => p)];
        _state.Assign(All(backup: false));
        _state.Assign(All(backup: true), backup: true);
    }

    private void Answered()
    {
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
