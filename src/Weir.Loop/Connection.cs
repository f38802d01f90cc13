// A byte stream with a peer, as operations: receive into a buffer that arrives with the bytes, send a chain, deadlines,
// close. Engines derive from it. One loop's thread. Objects are recycled by their engine: nobody keeps one after Close.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Loop;

/// <summary>What a receive brought: bytes in a slab (the receiver owns one reference), the peer's end, or an
/// error.</summary>
public readonly struct RecvLease
{
    public readonly BufferSlab? Slab;
    public readonly int Length;

    /// <summary>0, or the error number; <see cref="Errno.ETIMEDOUT"/> when the read deadline passed,
    /// <see cref="Errno.ECANCELED"/> when the wait was cancelled.</summary>
    public readonly int Error;

    private RecvLease(BufferSlab? slab, int length, int error)
    {
        Slab = slab;
        Length = length;
        Error = error;
    }

    public static RecvLease Bytes(BufferSlab slab, int length) => new(slab, length, 0);
    public static RecvLease End => default;
    public static RecvLease Failed(int errno) => new(null, 0, errno);

    public bool IsEnd => Slab is null && Error == 0;
    public bool IsError => Error != 0;
    public Span<byte> Span => Slab!.Span[..Length];
    public NativeSlice Memory => Slab!.Memory.Slice(0, Length);
    public void Release() => Slab?.Release();
}

/// <summary>The outcome of an operation: bytes, or an error number.</summary>
public readonly struct IoResult(long bytes, int error)
{
    public readonly long Bytes = bytes;
    public readonly int Error = error;

    public bool IsError => Error != 0;
    public static IoResult Ok(long bytes = 0) => new(bytes, 0);
    public static IoResult Failed(int errno) => new(0, errno);
    public static IoResult From(SysResult r) => r.IsError ? Failed(r.Errno) : Ok(r.Value);
}

/// <summary>Told when the peer closed or reset while nobody is receiving (an upstream exchange is under way).</summary>
public interface IPeerWatcher
{
    /// <param name="connection">The connection whose peer went.</param>
    /// <param name="reset">True for an error, false for the peer's FIN.</param>
    void PeerGone(Connection connection, bool reset);
}

/// <summary>Takes a parked connection back when it hears of its peer.</summary>
public interface IParkOwner
{
    /// <summary>What a receive would have brought: bytes (the owner's now), the peer's end, or an error: ETIMEDOUT at
    /// the read deadline, ECANCELED when the connection was closed meanwhile.</summary>
    void Unpark(Connection connection, RecvLease lease);
}

/// <summary>A reusable awaitable: one direction of one stream, one wait at a time.</summary>
public class LoopOperation<T> : LoopSource<T>
{
    private T _result = default!;

    /// <summary>True from <see cref="Begin"/> until the result has been taken.</summary>
    public bool IsPending { get; private set; }

    /// <summary>True while somebody waits for a result that is not there yet.</summary>
    public bool IsWaiting => IsPending && !IsCompleted;

    public LoopTask<T> Begin()
    {
        if (IsPending)
        {
            throw new InvalidOperationException("the operation is already under way");
        }
        IsPending = true;
        return new LoopTask<T>(this);
    }

    /// <summary>Gives the result and resumes the waiter, before this call returns.</summary>
    public void SetResult(T result)
    {
        _result = result;
        Complete();
    }

    internal override T TakeResult()
    {
        T result = _result;
        _result = default!;
        IsPending = false;
        Reset();
        return result;
    }
}

/// <summary>A connected stream on a loop. It is its own timer, for the read deadline: one object less each.</summary>
public abstract class Connection : LoopTimer
{
    protected Connection(EventLoop loop) => Loop = loop;

    public EventLoop Loop { get; }

    /// <summary>A number of its own among all connections of this worker; nginx's <c>$connection</c>.</summary>
    public long Number { get; protected set; }

    /// <summary>The listener it was accepted on; null for connections that this side opened.</summary>
    public Listener? Listener { get; protected set; }

    /// <summary>When it was accepted or opened, loop milliseconds.</summary>
    public long StartMs { get; protected set; }

    /// <summary>The native sockaddr of the peer.</summary>
    public abstract ReadOnlySpan<byte> PeerAddress { get; }

    /// <summary>The native sockaddr of this end; asks the kernel the first time.</summary>
    public abstract ReadOnlySpan<byte> LocalAddress { get; }

    /// <summary>The next bytes. The buffer arrives with them, so waiting costs no memory.
    /// At most <paramref name="maxBytes"/>, at most a slab.</summary>
    public abstract LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize);

    /// <summary>Waits for the next bytes without a method that is suspended for it: whoever used the connection lets go
    /// of all it holds and <paramref name="owner"/> gets the outcome. One wait at a time, as with
    /// <see cref="ReceiveAsync"/>.</summary>
    public virtual void Park(IParkOwner owner) => ParkAsync(owner).Forget();

    private async LoopTask<Unit> ParkAsync(IParkOwner owner)
    {
        RecvLease lease = await ReceiveAsync();
        owner.Unpark(this, lease);
        return default;
    }

    /// <summary>Starts sending what is in the chain, in order. What the kernel does not take now leaves by itself
    /// later; the chain may grow meanwhile. Returns false when an error has ended sending.</summary>
    public abstract bool Send(BufferChain chain);

    /// <summary>Waits until at most <paramref name="keptBytes"/> of the chain given to <see cref="Send"/> are
    /// left.</summary>
    public abstract LoopTask<IoResult> DrainAsync(BufferChain chain, long keptBytes = 0);

    /// <summary>Holds the loop's thread until at most <paramref name="keptBytes"/> of the chain given to
    /// <see cref="Send"/> are left: for code of a guest that may not await. As patient as sending is; returns false
    /// when an error has ended sending. What waits only in memory returns at once.</summary>
    public virtual bool SendHolding(BufferChain chain, long keptBytes) => SendError == 0;

    /// <summary>Bytes that leave in a row before others get their turn, and of a file in one call; 4 MiB unless set,
    /// and never more. A TLS connection has less of its own.</summary>
    public long SendTurnBytes { get; set; } = SendTurnBytesMax;

    public const long SendTurnBytesMax = 4 * 1024 * 1024;

    /// <summary>What is in front of a slice of a file waits for it, to leave in one packet, where the slice has no more
    /// bytes than this: 0 unless set. More makes a burst of several segments, and a congestion control that paces (BBR)
    /// sends the end of such a one by a timer.</summary>
    public long HeldFileBytes { get; set; }

    /// <summary>With a head, what fits into one segment that the kernel hands to the device.</summary>
    public const long HeldFileBytesMax = 60 * 1024;

    /// <summary>Whether a slice of a file that has left the page cache when its turn comes is read beside the loop.
    /// Otherwise only what leaves soon may be given to <see cref="Send"/>.</summary>
    public virtual bool LooksAgain => true;

    /// <summary>Bytes the kernel accepted in all.</summary>
    public long SentBytes { get; protected set; }

    /// <summary>0, or the error that ended sending.</summary>
    public abstract int SendError { get; }

    /// <summary>What broke it, in words for a log, where an error number would not say it; else null.</summary>
    public virtual string? Fault => null;

    /// <summary>Whether the peer has closed its direction or the stream is broken, as far as is known without
    /// reading.</summary>
    public abstract bool PeerClosed { get; }

    /// <summary>Whether bytes (or the end) are likely waiting to be read.</summary>
    public abstract bool MayHaveInput { get; }

    /// <summary>When a waiting receive ends with ETIMEDOUT, loop milliseconds; 0 for never. A receive that had to wait
    /// clears it when it gets something, and it does nothing while nobody waits: set it before each receive.</summary>
    public abstract void SetReadDeadline(long dueMs);

    /// <summary>How long sending may make no progress, milliseconds; 0 for ever (nginx's send_timeout).</summary>
    public int SendTimeoutMs { get; set; }

    /// <summary>The read deadline, for engines that use this very timer.</summary>
    protected internal override void Fire()
    {
    }

    /// <summary>Ends a waiting receive with ECANCELED.</summary>
    public abstract void CancelReceive();

    /// <summary>Ends a waiting drain with ECANCELED.</summary>
    public abstract void CancelDrain();

    /// <summary>Who hears that the peer went while nobody receives: once for its FIN, once for a reset. What happened
    /// before it was set is in <see cref="PeerClosed"/>.</summary>
    public IPeerWatcher? Watcher
    {
        get;
        set
        {
            field = value;
            if (value is not null)
            {
                OnWatched();
            }
        }
    }

    /// <summary>Somebody wants to hear of the peer: an engine that does not listen yet begins.</summary>
    protected virtual void OnWatched()
    {
    }

    /// <summary>Sends FIN; reading goes on.</summary>
    public abstract void ShutdownSend();

    public abstract void SetNoDelay();

    /// <summary>Keep-alive probes, and buffer sizes where they are not 0.</summary>
    public void Tune(bool keepAlive, int receiveBytes, int sendBytes)
    {
        if (keepAlive)
        {
            SetOption(Sys.SO_KEEPALIVE, 1);
        }
        if (receiveBytes > 0)
        {
            SetOption(Sys.SO_RCVBUF, receiveBytes);
        }
        if (sendBytes > 0)
        {
            SetOption(Sys.SO_SNDBUF, sendBytes);
        }
    }

    /// <summary>Sets an option of the socket, where there is one.</summary>
    protected virtual void SetOption(int option, int value)
    {
    }

    /// <summary>Closes; with <paramref name="reset"/> the peer gets RST. Waiting operations end with
    /// ECANCELED.</summary>
    public abstract void Close(bool reset = false);

    /// <summary>The one operation for another thread: while the loop's thread is held by a guest that does not come
    /// back, its watchdog gives the client these bytes (as far as the kernel takes them at once) and ends sending.
    /// The loop's thread must not be able to touch the stream meanwhile.</summary>
    public void AnswerFromOutside(ReadOnlySpan<byte> bytes)
    {
        int fd = OutsideDescriptor;
        if (fd >= 0)
        {
            if (bytes.Length > 0 && !IsSending)
            {
                Sys.Write(fd, bytes);
            }
            Sys.Shutdown(fd, Sys.SHUT_WR);
        }
    }

    /// <summary>The socket, for <see cref="AnswerFromOutside"/>; -1 where there is none.</summary>
    protected virtual int OutsideDescriptor => -1;

    /// <summary>Bytes that are counted as sent are still on their way to the kernel: others would overtake
    /// them.</summary>
    protected virtual bool IsSending => false;

    /// <summary>Whether sending may be lent to another thread for a while: a socket of the kernel, and nothing is on
    /// its way. Until <see cref="EndLending"/> the loop neither sends on it nor closes it.</summary>
    public virtual bool MayLendSending => false;

    /// <summary>On the thread that sending was lent to: sends what the kernel takes at once, and says how much. 0 also
    /// for an error; the loop meets it when it sends the rest.</summary>
    public int SendLent(ReadOnlySpan<byte> bytes) =>
        (int)Math.Max(0, Sys.Send(OutsideDescriptor, bytes).Value);

    /// <summary>On the loop: sending is its own again, after so many bytes.</summary>
    public void EndLending(int sentBytes) => SentBytes += sentBytes;

    public bool IsClosed { get; protected set; }

    /// <summary>TCP_INFO as the kernel gives it, for <c>$tcpinfo_*</c>; empty where there is none.</summary>
    public virtual int TcpInfo(Span<byte> into) => 0;

    /// <summary>For the loop's list of idle connections, longest idle first.</summary>
    internal Connection? IdlePrevious;
    internal Connection? IdleNext;
    internal bool IsIdle;
    internal bool IsFresh;
    internal Action<Connection>? OnReclaim;

    /// <summary>What the owner wants to find again; with it a number, for one that keeps nothing else while the
    /// connection is parked.</summary>
    public object? Owner { get; set; }
    public int OwnerCount { get; set; }

    /// <summary>What an application keeps for as long as the connection lives.</summary>
    public object? Guest { get; set; }
}
