// The ends that a script holds in a simulation: a client that says its pieces, an origin that plays its acts. Both are
// loop tasks beside the server's own, on the same thread and the same virtual clock.
using Weir.Loop;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Cases;

namespace Weir.Tests.Simulation;

/// <summary>A peer that collects what comes and can be waited for.</summary>
internal sealed class SimulatedPeer
{
    private const int ForEverMs = 30 * 3600 * 1000;

    private readonly EventLoop _loop;
    private readonly InMemoryPeer _peer;
    private readonly LoopOperation<bool> _arrival = new();
    private readonly CallbackTimer _timer;
    private byte[] _bytes = new byte[1024];
    private int _count;

    internal SimulatedPeer(EventLoop loop, InMemoryPeer peer)
    {
        _loop = loop;
        _peer = peer;
        _timer = new CallbackTimer(() => Tell(false));
        peer.Arrived = _ => OnArrived();
        Collect();
    }

    internal ReadOnlySpan<byte> Bytes => _bytes.AsSpan(0, _count);

    /// <summary>The peer's peer has closed or reset.</summary>
    internal bool IsOver => (_peer.IsEnded || _peer.IsReset || _peer.IsRefused) && _peer.Available == 0;

    internal void Send(ReadOnlySpan<byte> bytes) => _peer.Send(bytes);

    internal void HalfClose() => _peer.ShutdownSend();

    internal void Reset() => _peer.Reset();

    internal void Close()
    {
        _loop.Timers.Cancel(_timer);
        _peer.Close();
    }

    internal void Drop(int count)
    {
        Bytes[count..].CopyTo(_bytes);
        _count -= count;
    }

    private void Collect()
    {
        byte[] more = _peer.Read();
        if (_count + more.Length > _bytes.Length)
        {
            Array.Resize(ref _bytes, Math.Max(_count + more.Length, _bytes.Length * 2));
        }
        more.CopyTo(_bytes, _count);
        _count += more.Length;
    }

    private void OnArrived()
    {
        Collect();
        Tell(true);
    }

    private void Tell(bool arrived)
    {
        if (_arrival.IsWaiting)
        {
            _loop.Timers.Cancel(_timer);
            _arrival.SetResult(arrived);
        }
    }

    /// <summary>Waits for more, or for the end; false when the time passed first.</summary>
    internal LoopTask<bool> ArrivedAsync(int ms = ForEverMs)
    {
        _loop.Timers.Set(_timer, _loop.NowMs + ms);
        return _arrival.Begin();
    }

    /// <summary>Says a talk's pieces and listens until it is quiet or over.</summary>
    internal async LoopTask TalkAsync(Talk talk, int quietMs)
    {
        for (int i = 0; i < talk.Pieces.Length && !IsOver; i++)
        {
            if (talk.AwaitsBetween && i > 0 && _count == 0)
            {
                await ArrivedAsync(talk.FirstMs);
            }
            Send(talk.Pieces[i]);
            await _loop.DelayAsync(2);
        }
        if (talk.HalfClose && !IsOver)
        {
            HalfClose();
        }
        if (_count == 0 && !IsOver)
        {
            await ArrivedAsync(talk.FirstMs);
        }
        while (!IsOver && await ArrivedAsync(quietMs))
        {
        }
    }

    /// <summary>Plays an origin's script on this connection.</summary>
    internal async LoopTask PlayAsync(Origin origin, int index, int port, List<byte[]> requests)
    {
        IReadOnlyList<Act> acts = origin.Script(index);
        UpstreamRequest? request = null;
        do
        {
            foreach (Act act in acts)
            {
                switch (act.Kind)
                {
                    case ActKind.Read:
                        int total;
                        int headBytes;
                        while ((total = UpstreamRequest.Measure(Bytes, out headBytes)) == 0)
                        {
                            if (IsOver)
                            {
                                Close();
                                return;
                            }
                            await ArrivedAsync();
                        }
                        request = new UpstreamRequest(Bytes[..total].ToArray(), headBytes);
                        requests.Add(request.Bytes);
                        Drop(total);
                        break;
                    case ActKind.ReadHead:
                        while (Bytes.IndexOf("\r\n\r\n"u8) < 0)
                        {
                            if (IsOver)
                            {
                                Close();
                                return;
                            }
                            await ArrivedAsync();
                        }
                        break;
                    case ActKind.Send:
                        Send(Say.Bytes(act.Text!(new OriginTurn(request, index, port))));
                        break;
                    case ActKind.Relay:
                        while (_count < act.Count && !IsOver)
                        {
                            await ArrivedAsync();
                        }
                        Send(Bytes[..Math.Min(_count, act.Count)].ToArray());
                        Drop(Math.Min(_count, act.Count));
                        break;
                    case ActKind.RelayAll:
                    case ActKind.Hold:
                        while (!IsOver)
                        {
                            if (act.Kind == ActKind.RelayAll && _count > 0)
                            {
                                Send(Bytes.ToArray());
                            }
                            _count = 0;
                            await ArrivedAsync();
                        }
                        if (act.Kind == ActKind.RelayAll && _count > 0)
                        {
                            Send(Bytes.ToArray());
                        }
                        Close();
                        return;
                    case ActKind.Reset:
                        Reset();
                        return;
                    case ActKind.HalfClose:
                        HalfClose();
                        break;
                    case ActKind.Wait:
                        await _loop.DelayAsync(act.Ms);
                        break;
                }
            }
        }
        while (origin.Repeats && !IsOver);
        Close();
    }
}
