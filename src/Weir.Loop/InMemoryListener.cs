// An address of the in-memory engine that can be connected to, and the connections that wait there to be accepted.
// One loop's thread.
namespace Weir.Loop;

/// <summary>A connection on its way to a listener: both directions, and who calls.</summary>
internal readonly record struct InMemoryCall(InMemoryPipe ToServer, InMemoryPipe ToPeer, byte[] Source);

/// <summary>An address that can be connected to.</summary>
public sealed class InMemoryListener : Listener, IInMemoryTarget
{
    private readonly InMemoryLoop _loop;
    private readonly string _key;
    private readonly Queue<InMemoryCall> _backlog = new();
    private Action<Connection>? _accepted;
    private bool _queued;
    private bool _stopped;

    internal InMemoryListener(InMemoryLoop loop, string key, byte[] address) : base(loop, static _ => { })
    {
        _loop = loop;
        _key = key;
        Address = address;
        loop.Enlist(this);
    }

    /// <summary>The native sockaddr it is bound to.</summary>
    public byte[] Address { get; }

    /// <summary>Set where test code serves the address.</summary>
    internal Action<InMemoryPeer>? PeerAccepted { get; set; }

    /// <summary>Set to make connecting fail with this error number.</summary>
    public int ConnectError { get; set; }

    /// <summary>Set to let connecting wait for ever, as a full backlog or a lost host does.</summary>
    public bool IsSilent { get; set; }

    /// <summary>Connections that nobody has accepted yet.</summary>
    public int Waiting => _backlog.Count;

    internal void Start(Action<Connection> accepted)
    {
        _accepted = accepted;
        Poke();
    }

    internal void Enqueue(InMemoryCall call)
    {
        _backlog.Enqueue(call);
        Poke();
    }

    private void Poke()
    {
        if (!_queued && Holds == AcceptHold.None && !_stopped && _backlog.Count > 0)
        {
            _queued = true;
            _loop.Enqueue(this);
        }
    }

    void IInMemoryTarget.Deliver()
    {
        _queued = false;
        while (!_stopped && Holds == AcceptHold.None && _accepted is not null && _backlog.Count > 0)
        {
            if (!_loop.MakeRoom())
            {
                _loop.HoldForRoom();
                return;
            }
            _accepted(_loop.RentStream().OpenAccepted(_backlog.Dequeue(), this));
        }
    }

    /// <summary>Stops accepting; later connects are refused, what waits is reset.</summary>
    public override void Stop()
    {
        if (_stopped)
        {
            return;
        }
        _stopped = true;
        _loop.Delist(this);
        _loop.Unbind(_key);
        while (_backlog.TryDequeue(out InMemoryCall call))
        {
            call.ToPeer.Break();
            call.ToServer.Break();
        }
    }

    protected override void Arm() => Poke();

    protected override void Disarm()
    {
    }
}
