// One request of a guest (application code) and its answer: the border between a connection's driver and code that may
// block, throw and keep references. Owned by one side at a time: while the guest has it, its driver only watches (peer
// gone, deadline). The head is a copy of its own, so that a guest which is answered for (it took too long) may go on
// reading it. Used by one guest flow at a time; one read and one write may be under way together.
using System.Buffers;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Protocol.Http1;
using SocketAddress = Weir.Kernel.SocketAddress;

namespace Weir.Server;

/// <summary>An application below the comfort of <see cref="AppRequest"/> and <see cref="AppResponse"/>.</summary>
public abstract class GuestApplication
{
    /// <summary>Answers one request. When it returns, the answer is complete; what it throws becomes a 500, or ends the
    /// connection when the answer had begun.</summary>
    public abstract Task RunAsync(GuestExchange exchange);

    /// <summary>On a loop, the whole body is read before the application is called, because it reads without
    /// awaiting.</summary>
    public virtual bool WantsWholeBody => false;
}

/// <summary>A request's body could not be read.</summary>
public sealed class RequestBodyException(int status, string message) : IOException(message)
{
    /// <summary>What the client is answered with if nobody catches this: 400, 408, 413, or 499 for a client that
    /// went.</summary>
    public int Status { get; } = status;
}

/// <summary>A request and its answer, as a guest sees them.</summary>
public abstract class GuestExchange : IBufferWriter<byte>
{
    private readonly RequestHead _head = new();
    private byte[] _bytes = new byte[1024];
    private byte[] _requestTrailers = [];
    private int _requestTrailerBytes;
    private int _headLength;
    private int _pathLength;
    private int _queryLength;
    private byte[] _peer = [];
    private byte[] _local = [];
    private CancellationTokenSource? _abortedSource;
    private bool _aborted;

    private protected GuestExchange()
    {
    }

    // The request.

    /// <summary>The parsed head; offsets into <see cref="HeadBytes"/>.</summary>
    public RequestHead Head => _head;

    /// <summary>The head as the client sent it.</summary>
    public ReadOnlySpan<byte> HeadBytes => _bytes.AsSpan(0, _headLength);

    /// <summary>The method's name.</summary>
    public ReadOnlySpan<byte> Method => _head.MethodRange.Of(HeadBytes);

    /// <summary>The request target as sent.</summary>
    public ReadOnlySpan<byte> Target => _head.Target.Of(HeadBytes);

    /// <summary>The path, decoded and normalised.</summary>
    public ReadOnlySpan<byte> Path => _bytes.AsSpan(_headLength, _pathLength);

    /// <summary>The query without its question mark.</summary>
    public ReadOnlySpan<byte> Query => _bytes.AsSpan(_headLength + _pathLength, _queryLength);

    /// <summary>9, 10, 11, or 20 for HTTP/2.</summary>
    public int Version { get; private set; }

    /// <summary>The TLS of the connection; null where it is plain.</summary>
    public ConnectionSecurity? Security { get; private protected set; }

    /// <summary>An HTTP/2 client asks for a tunnel of another protocol (RFC 8441), which the head shows as the upgrade
    /// of HTTP/1: an answer with status 101 opens it, and the client sees 200.</summary>
    public bool IsExtendedConnect => Version >= 20 && _head.UpgradeRequested;

    /// <summary>The protocol of <see cref="IsExtendedConnect"/>, or of an upgrade.</summary>
    public ReadOnlySpan<byte> UpgradeProtocol => _head.Value(KnownHeader.Upgrade, HeadBytes);

    /// <summary>The value of a header field; empty when it is not there.</summary>
    public ReadOnlySpan<byte> Header(KnownHeader header) => _head.Value(header, HeadBytes);

    /// <summary>A body follows the head.</summary>
    public bool HasRequestBody => _head.HasBody;

    /// <summary>The connection's number, unique in its server.</summary>
    public long ConnectionNumber { get; private protected set; }

    /// <summary>Which request of its connection this is, from 1.</summary>
    public int RequestNumber { get; private protected set; }

    /// <summary>The client's address.</summary>
    public EndPoint? RemoteEndPoint => EndPointOf(_peer);

    /// <summary>The address it connected to.</summary>
    public EndPoint? LocalEndPoint => EndPointOf(_local);

    /// <summary>Reads decoded bytes of the body; 0 at its end. One at a time.</summary>
    /// <exception cref="RequestBodyException">The body is malformed, too large or too slow, or the client
    /// went.</exception>
    public abstract ValueTask<int> ReadAsync(Memory<byte> into);

    /// <summary>Lines behind a chunked body as the client sent them, when its end has been read.</summary>
    public ReadOnlySpan<byte> RequestTrailerLines => _requestTrailers.AsSpan(0, _requestTrailerBytes);

    /// <summary>The request has no body, or its end has come: <see cref="RequestTrailerLines"/> are all there
    /// are.</summary>
    public abstract bool IsRequestBodyEnded { get; }

    /// <summary>Ends a read that waits, with an exception. The connection serves no further request.</summary>
    public virtual void CancelRead()
    {
    }

    /// <summary>As <see cref="ReadAsync"/>, holding the thread. On a loop only what is there already can be
    /// read.</summary>
    public abstract int Read(Span<byte> into);

    // The answer.

    /// <summary>The status of the answer.</summary>
    public int Status { get; set; } = 200;

    /// <summary>The words behind the status; null for the usual ones.</summary>
    public string? Reason { get; set; }

    /// <summary>The fields of the answer's head. Content-Length is <see cref="ContentLength"/>; framing and connection
    /// fields belong to the server.</summary>
    public GuestFields Fields { get; } = new();

    /// <summary>Fields after the body, where it is sent in chunks; see <see cref="ExpectsTrailers"/>.</summary>
    public GuestFields Trailers { get; } = new();

    /// <summary>Set before the head leaves: trailers will follow, so the body is sent in chunks.</summary>
    public bool ExpectsTrailers { get; set; }

    /// <summary>Bytes of the body, or -1: then what was written before the end counts, or chunks are sent.</summary>
    public long ContentLength { get; set; } = -1;

    /// <summary>The head has left, or is about to.</summary>
    public bool HasStarted { get; private protected set; }

    /// <summary>Bytes of body written so far.</summary>
    public long BodyBytes { get; private set; }

    /// <inheritdoc/>
    public abstract Memory<byte> GetMemory(int sizeHint = 0);

    /// <inheritdoc/>
    public Span<byte> GetSpan(int sizeHint = 0) => GetMemory(sizeHint).Span;

    /// <inheritdoc/>
    public void Advance(int count)
    {
        CountBody(count);
        AdvanceBuffer(count);
    }

    /// <summary>Writes body bytes into the server's buffers; they leave with the next flush, or at the end.</summary>
    public void Write(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            Span<byte> room = GetSpan(1);
            int n = Math.Min(room.Length, bytes.Length);
            bytes[..n].CopyTo(room);
            Advance(n);
            bytes = bytes[n..];
        }
    }

    /// <summary>Sends what was written and waits until the client has taken enough that more may be written. False when
    /// the client is gone.</summary>
    public abstract ValueTask<bool> FlushAsync();

    /// <summary>As <see cref="FlushAsync"/>, but while the application has not awaited anything yet, what was written
    /// leaves when it first does, when it is done, or after a few milliseconds.</summary>
    public virtual ValueTask<bool> FlushSoonAsync() => FlushAsync();

    /// <summary>As <see cref="FlushAsync"/>, holding the thread. On a loop it sends what the kernel takes and does not
    /// wait.</summary>
    public abstract bool Flush();

    /// <summary>Adds a range of a file to the body, in order with what is written; the server sends it without copying
    /// it through the guest. False when the range is not within the file.</summary>
    /// <exception cref="IOException">The file cannot be opened.</exception>
    public bool WriteFile(string path, long offset, long count)
    {
        ArgumentNullException.ThrowIfNull(path);
        ArgumentOutOfRangeException.ThrowIfNegative(offset);
        ArgumentOutOfRangeException.ThrowIfNegative(count);
        SysResult opened = Descriptors.OpenRead(path);
        if (opened.IsError)
        {
            throw new FileNotFoundException(
                $"cannot open \"{path}\" ({opened.Errno}: {Errno.Describe(opened.Errno)})", path);
        }
        int fd = opened.Int;
        bool kept = false;
        try
        {
            if (Sys.Status(fd, out FileStatus status).IsError || count > status.Size - offset)
            {
                return false;
            }
            if (count > SmallFileBytes && AddFileCounted(fd, offset, count))
            {
                kept = true;
                return true;
            }
            while (count > 0)
            {
                Span<byte> room = GetSpan((int)Math.Min(count, SmallFileBytes));
                SysResult read = Descriptors.ReadAt(fd, room[..(int)Math.Min(room.Length, count)], offset);
                if (read.IsError || read.Int == 0)
                {
                    throw new IOException($"\"{path}\" cannot be read, or it became shorter");
                }
                Advance(read.Int);
                offset += read.Int;
                count -= read.Int;
            }
            return true;
        }
        finally
        {
            if (!kept)
            {
                Descriptors.Close(fd);
            }
        }
    }

    private const int SmallFileBytes = 16 * 1024;

    private bool AddFileCounted(int fd, long offset, long count)
    {
        CountBody(count);
        if (AddFile(fd, offset, count))
        {
            return true;
        }
        BodyBytes -= count;
        return false;
    }

    /// <summary>Takes the descriptor and adds the range behind what was written; false where files are
    /// copied.</summary>
    private protected virtual bool AddFile(int fd, long offset, long count) => false;

    /// <summary>Completes the answer now, although the guest goes on; false when the client is gone.</summary>
    public virtual ValueTask<bool> CompleteAsync() => FlushAsync();

    /// <summary>What a framework keeps for the connection, from request to request.</summary>
    public virtual object? ConnectionState
    {
        get => _stateOf == ConnectionNumber ? field : null;
        set
        {
            _stateOf = ConnectionNumber;
            field = value;
        }
    }

    private long _stateOf = -1;

    /// <summary>Sends an interim answer (103) now.</summary>
    public abstract void SendInterim(int status, GuestFields fields);

    /// <summary>Fields for <see cref="SendInterim"/>.</summary>
    public static GuestFields NewFields() => new();

    /// <summary>Ends the connection without completing the answer.</summary>
    public abstract void Abort();

    /// <summary>As <see cref="Abort"/>; over HTTP/2 only this request's stream ends, with this error code.</summary>
    public virtual void Reset(int errorCode) => Abort();

    /// <summary>Cancelled when the client goes, when the handler's time is up, or when the server stops without waiting
    /// any longer.</summary>
    public CancellationToken Aborted
    {
        get
        {
            CancellationTokenSource? source = Volatile.Read(ref _abortedSource);
            if (source is null)
            {
                var fresh = new CancellationTokenSource();
                source = Interlocked.CompareExchange(ref _abortedSource, fresh, null) ?? fresh;
                if (Volatile.Read(ref _aborted))
                {
                    source.Cancel();
                }
            }
            return source.Token;
        }
    }

    /// <summary>Somebody asked for <see cref="Aborted"/>.</summary>
    private protected bool WantsToKnow => Volatile.Read(ref _abortedSource) is not null;

    /// <summary>The client went, or the server gave up on this exchange.</summary>
    public bool IsAborted => Volatile.Read(ref _aborted);

    /// <summary>The answer's time was up and the client was answered by the server instead.</summary>
    public abstract bool IsAbandoned { get; }

    /// <summary>What a server of another framework keeps here from exchange to exchange.</summary>
    public object? Tag { get; set; }

    // For the two kinds of exchange.

    private protected abstract void AdvanceBuffer(int count);

    private protected void BeginExchange(ReadOnlySpan<byte> headBytes, RequestHead head, int version,
        ReadOnlySpan<byte> path, ReadOnlySpan<byte> query, ReadOnlySpan<byte> peer, ReadOnlySpan<byte> local)
    {
        int need = headBytes.Length + path.Length + query.Length;
        if (need > _bytes.Length)
        {
            _bytes = new byte[Math.Max(need, _bytes.Length * 2)];
        }
        headBytes.CopyTo(_bytes);
        path.CopyTo(_bytes.AsSpan(headBytes.Length));
        query.CopyTo(_bytes.AsSpan(headBytes.Length + path.Length));
        _headLength = headBytes.Length;
        _pathLength = path.Length;
        _queryLength = query.Length;
        _head.CopyFrom(head);
        Version = version;
        Keep(ref _peer, peer);
        Keep(ref _local, local);
        _requestTrailerBytes = 0;
        Security = null;
        Status = 200;
        Reason = null;
        Fields.Clear();
        Trailers.Clear();
        ExpectsTrailers = false;
        ContentLength = -1;
        HasStarted = false;
        BodyBytes = 0;
        _abortedSource = null;
        _aborted = false;
    }

    /// <summary>Tells the guest that nobody waits for it any more. Its callbacks run on the thread pool.</summary>
    private protected void SignalAborted()
    {
        if (Volatile.Read(ref _aborted))
        {
            return;
        }
        Volatile.Write(ref _aborted, true);
        Interlocked.MemoryBarrier();
        if (Volatile.Read(ref _abortedSource) is { } source)
        {
            ThreadPool.UnsafeQueueUserWorkItem(static s => s.Cancel(), source, preferLocal: false);
        }
    }

    /// <summary>Bytes that may be written and not yet taken by the kernel before a write waits.</summary>
    internal abstract long UnsentBytesMax { get; }

    /// <summary>Whether an answer of this status to this method carries a body at all.</summary>
    private protected bool HasBody => _head.Method != HttpMethod.Head && Status is >= 200 and not (204 or 304);

    /// <summary>Whether all that was promised was written; an answer that falls short must not look complete.</summary>
    private protected bool IsShort => ContentLength >= 0 && HasBody && BodyBytes < ContentLength;

    private protected void AddTrailerLines(ReadOnlySpan<byte> lines)
    {
        if (_requestTrailerBytes + lines.Length > _requestTrailers.Length)
        {
            Array.Resize(ref _requestTrailers, Math.Max(256, (_requestTrailerBytes + lines.Length) * 2));
        }
        lines.CopyTo(_requestTrailers.AsSpan(_requestTrailerBytes));
        _requestTrailerBytes += lines.Length;
    }

    private void CountBody(long count)
    {
        if (ContentLength >= 0 && BodyBytes + count > ContentLength && HasBody)
        {
            throw new InvalidOperationException(
                $"more was written than the {ContentLength} bytes that Content-Length promises");
        }
        BodyBytes += count;
    }

    private static void Keep(ref byte[] kept, ReadOnlySpan<byte> bytes)
    {
        if (!kept.AsSpan().SequenceEqual(bytes))
        {
            kept = bytes.ToArray();
        }
    }

    private static EndPoint? EndPointOf(ReadOnlySpan<byte> native) => SocketAddress.FamilyOf(native) switch
    {
        SocketFamily.Inet or SocketFamily.Inet6 => new IPEndPoint(
            new IPAddress(SocketAddress.AddressBytesOf(native)), SocketAddress.PortOf(native)),
        SocketFamily.Unix => new UnixDomainSocketEndPoint(UnixName(native)),
        _ => null,
    };

    private static string UnixName(ReadOnlySpan<byte> native)
    {
        ReadOnlySpan<byte> path = native.Length > 2 ? native[2..] : default;
        int end = path.IndexOf((byte)0);
        string text = Encoding.UTF8.GetString(end >= 0 ? path[..end] : path);
        // A client's end of a unix socket has no name.
        return text.Length == 0 ? "\0" : text;
    }
}
