// What a request sees of its client: an HTTP/1 exchange, an HTTP/2 stream, or the parent of a subrequest. The request
// never touches a connection's bytes itself.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http;

/// <summary>What reading a piece of a request body brought.</summary>
public readonly struct BodyPiece(RecvLease lease, int offset, int length, bool isLast, int status)
{
    /// <summary>The slab that holds the bytes; the reader releases it.</summary>
    public readonly RecvLease Lease = lease;
    public readonly int Offset = offset;
    public readonly int Length = length;

    /// <summary>The body is complete with this piece.</summary>
    public readonly bool IsLast = isLast;

    /// <summary>0, or the status to answer with: 400 malformed, 408 too slow, 413 too large, 499 client gone.</summary>
    public readonly int Status = status;

    public ReadOnlySpan<byte> Span => Length == 0 ? default : Lease.Slab!.Span.Slice(Offset, Length);
    public NativeSlice Memory => Length == 0 ? default : Lease.Slab!.Memory.Slice(Offset, Length);
    public void Release() => Lease.Release();
}

/// <summary>A request's way to its client.</summary>
public abstract class ClientStream
{
    /// <summary>Serialises the head of <paramref name="r"/>'s response and decides its framing.</summary>
    public abstract void WriteHead(HttpRequest r);

    /// <summary>Takes body bytes that passed all filters (empties the chain).</summary>
    public abstract void WriteBody(HttpRequest r, BufferChain chain, PushFlags flags);

    /// <summary>Takes the whole body of a response whose length is in its head, by copying it behind the head. False
    /// when
    /// the ordinary way has to be gone.</summary>
    public virtual bool TryWriteSmall(HttpRequest r, ReadOnlySpan<byte> body) => false;

    /// <summary>An interim response (100, 103) with the given fields.</summary>
    public abstract void WriteInterim(HttpRequest r, int status, ReadOnlySpan<ResponseField> fields);

    /// <summary>Sends what was written and waits until at most <paramref name="keptBytes"/> are unsent.
    /// False when the client is gone or too slow.</summary>
    public abstract LoopTask<bool> DrainAsync(HttpRequest r, long keptBytes);

    /// <summary>Starts sending what was written, without waiting. False when the client is gone.</summary>
    public abstract bool Flush(HttpRequest r);

    /// <summary>Holds the thread until at most <paramref name="keptBytes"/> are unsent: for code that may not await.
    /// False when the client is gone or too slow. A stream beside others cannot wait so, and returns at once.</summary>
    public virtual bool SendHolding(HttpRequest r, long keptBytes) => true;

    /// <summary>Bytes written by this side that the kernel has not taken yet.</summary>
    public abstract long UnsentBytes { get; }

    /// <summary>The next piece of the request's body, decoded. Sends 100 Continue first where the client waits for
    /// it.</summary>
    public abstract LoopTask<BodyPiece> ReadBodyAsync(HttpRequest r);

    /// <summary>The client asked for a WebSocket in a way that has no handshake of its own (RFC 8441): whether the
    /// server's answer fits the key is checked here.</summary>
    public virtual bool NeedsHandshakeCheck => false;

    /// <summary>The client's bytes after an upgrade: the body reader's rest first, then the connection's.</summary>
    public abstract LoopTask<RecvLease> ReadTunnelAsync(HttpRequest r);

    /// <summary>The exchange cannot be completed: nothing more is sent, the connection ends (with RST when the
    /// response was begun and its length would lie).</summary>
    public abstract void Abort(HttpRequest r);

    /// <summary>What the PROXY protocol said of the client; null without it.</summary>
    public virtual ProxyClient? Proxy => null;

    /// <summary>As <see cref="Abort"/>, with the error code that the client hears where its protocol has one
    /// (HTTP/2).</summary>
    public virtual void Reset(HttpRequest r, uint code) => Abort(r);

    /// <summary>Other requests have the same transport at the same time.</summary>
    public virtual bool IsShared => false;

    /// <summary>Whether the answer to <paramref name="r"/> may be sent whole by another thread (see
    /// <see cref="Connection.MayLendSending"/>): nothing waits before it, and the connection lives on behind
    /// it.</summary>
    public virtual bool MayLendSending(HttpRequest r) => false;

    /// <summary>The end of an answer that another thread has begun to send: bytes as they go over the wire.</summary>
    public virtual void WriteRest(NativeSlice rest, BufferSlab owner)
    {
    }

    /// <summary>The transport under the stream, for addresses, its number and TCP_INFO. Several streams may share it:
    /// who waits for this client asks the stream.</summary>
    public abstract Connection Transport { get; }

    /// <summary>Who hears that the client went while nobody reads from it.</summary>
    public virtual IPeerWatcher? Watcher
    {
        get => Transport.Watcher;
        set => Transport.Watcher = value;
    }

    /// <summary>Whether the client has closed its direction or given the exchange up, as far as is known.</summary>
    public virtual bool IsClientGone => Transport.PeerClosed;

    /// <summary>Ends a waiting read of the body or the tunnel.</summary>
    public virtual void CancelRead() => Transport.CancelReceive();

    /// <summary>Bodies are better pushed as memory: the stream cannot let the kernel send a file.</summary>
    public virtual bool WantsBytes => false;

    /// <summary>A file follows, of which so many bytes leave in a row before others get their turn, and for which the
    /// head waits where it is short. Says whether all of it may be given at once
    /// (<see cref="Connection.LooksAgain"/>).</summary>
    public virtual bool BeginFile(long turnBytes, bool holdsHead) => false;

    /// <summary>See <see cref="Connection.AnswerFromOutside"/>: the last word to a client whose loop is held.</summary>
    public virtual void AnswerFromOutside(ReadOnlySpan<byte> bytes) => Transport.AnswerFromOutside(bytes);
}
