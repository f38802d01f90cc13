// A request without a client: a copy of another in memory of its own, which lives on when that one has ended (a cache's
// background update). It shares nothing with the original but the configuration. What it writes goes nowhere. One
// loop's thread; pooled.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

/// <summary>Starts and ends them.</summary>
internal static class DetachedRequest
{
    private static readonly LoopSlot<LoopPool<HttpRequest>> s_pool = new();

    private static LoopPool<HttpRequest> PoolOf(EventLoop loop) =>
        loop.Slot(s_pool, static loop => new LoopPool<HttpRequest>(loop, "detached requests", RequestStatePool.Max));

    internal static HttpRequest Start(HttpRequest original)
    {
        HttpRequest r = PoolOf(original.Loop).TryTake() ?? new HttpRequest();
        r.BeginDetached(original, r.DetachedStream ??= new DetachedStream(original.Loop));
        return r;
    }

    /// <summary>A request of the server's own, for a location, with this head.</summary>
    internal static HttpRequest Start(EventLoop loop, HttpConfiguration configuration, ServerConf server,
        LocationConf location, byte[] head)
    {
        HttpRequest r = PoolOf(loop).TryTake() ?? new HttpRequest();
        r.BeginAlone(configuration, r.DetachedStream ??= new DetachedStream(loop), loop, server, location, head);
        return r;
    }

    internal static void End(HttpRequest r)
    {
        LoopPool<HttpRequest> pool = PoolOf(r.Loop);
        r.End();
        r.Forget();
        pool.Return(r);
    }
}

/// <summary>Takes everything and keeps nothing.</summary>
internal class DetachedStream(EventLoop loop) : ClientStream
{
    private readonly NoPeer _transport = new(loop);

    internal void Start(HttpRequest original) => _transport.Start(original.Connection);

    /// <summary>Nobody asked.</summary>
    internal void Start() => _transport.Start();

    public override void WriteHead(HttpRequest r)
    {
    }

    public override void WriteBody(HttpRequest r, BufferChain chain, PushFlags flags) => chain.Clear();

    public override void WriteInterim(HttpRequest r, int status, ReadOnlySpan<ResponseField> fields)
    {
    }

    public override LoopTask<bool> DrainAsync(HttpRequest r, long keptBytes) => new(true);

    public override bool Flush(HttpRequest r) => true;

    public override long UnsentBytes => 0;

    public override LoopTask<BodyPiece> ReadBodyAsync(HttpRequest r) => new(new BodyPiece(default, 0, 0, true, 0));

    public override LoopTask<RecvLease> ReadTunnelAsync(HttpRequest r) => new(RecvLease.End);

    public override void Abort(HttpRequest r)
    {
    }

    public override Connection Transport => _transport;

    /// <summary>A connection that only knows addresses.</summary>
    private sealed class NoPeer(EventLoop loop) : Connection(loop)
    {
        private readonly byte[] _peer = new byte[128];
        private readonly byte[] _local = new byte[128];
        private int _peerLength;
        private int _localLength;

        internal void Start()
        {
            Number = 0;
            StartMs = Loop.NowMs;
            ReadOnlySpan<byte> local = SocketAddress.Inet([127, 0, 0, 1], 0).Native;
            local.CopyTo(_peer);
            local.CopyTo(_local);
            _peerLength = _localLength = local.Length;
        }

        internal void Start(Connection original)
        {
            Number = original.Number;
            StartMs = original.StartMs;
            _peerLength = Math.Min(original.PeerAddress.Length, _peer.Length);
            original.PeerAddress[.._peerLength].CopyTo(_peer);
            _localLength = Math.Min(original.LocalAddress.Length, _local.Length);
            original.LocalAddress[.._localLength].CopyTo(_local);
        }

        public override ReadOnlySpan<byte> PeerAddress => _peer.AsSpan(0, _peerLength);
        public override ReadOnlySpan<byte> LocalAddress => _local.AsSpan(0, _localLength);
        public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize) => new(RecvLease.End);

        public override bool Send(BufferChain chain)
        {
            chain.Clear();
            return true;
        }

        public override LoopTask<IoResult> DrainAsync(BufferChain chain, long keptBytes = 0) => new(IoResult.Ok());
        public override int SendError => 0;
        public override bool PeerClosed => false;
        public override bool MayHaveInput => false;

        public override void SetReadDeadline(long dueMs)
        {
        }

        public override void CancelReceive()
        {
        }

        public override void CancelDrain()
        {
        }

        public override void ShutdownSend()
        {
        }

        public override void SetNoDelay()
        {
        }

        public override void Close(bool reset = false)
        {
        }
    }
}
