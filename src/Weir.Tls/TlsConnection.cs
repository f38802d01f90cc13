// A TLS connection on a loop: the same seam as the connection under it, so that drivers run on it unchanged. Received
// records are decrypted into a slab of their own and the cipher slab goes back; while it waits it holds no buffer.
// Sending encrypts piece by piece into a chain of its own; plaintext leaves the caller's chain when the kernel has its
// records, so that an empty chain means the same as below. One loop's thread.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Tls;

/// <summary>TLS over another connection.</summary>
public sealed partial class TlsConnection : Connection, IPeerWatcher, IParkOwner
{
    /// <summary>Plaintext that is encrypted before its records are sent.</summary>
    private const int BatchBytesMax = 128 * 1024;

    /// <summary>The first bytes after a pause go in records that fit a segment each: a browser can use the first
    /// before the last has arrived.</summary>
    private const int FirstRecordBytes = 1360;

    private const int FirstRecordsBytesMax = 16 * 1024;
    private const int PauseMs = 1000;
    /// <summary>Unsent records at which a peer that makes the session talk without reading is given up.</summary>
    private const int UnreadRecordBytesMax = 256 * 1024;

    private bool _isLeft; // for what it does not read

    private const int CipherSlabBytes = 64 * 1024;

    /// <summary>Bytes encrypted in a row before others get their turn.</summary>
    private const int TurnBytesMax = 512 * 1024;

    private readonly Connection _inner;
    private readonly TlsSession _session;
    private readonly Drain _drain = new();
    private BufferSlab? _received;
    private BufferChain? _cipher;
    private BufferChain? _plain;
    private long _drainKept;
    private long _inFlight;
    private long _readDueMs;
    private long _lastSentMs;
    private int _firstRecordsLeft;
    private int _sendError;
    private bool _isEnded;
    private bool _isSending;
    private bool _isReading;
    private bool _saysGoodbyeLater;
    private Action? _resume;
    private IParkOwner? _parkOwner;

    private sealed class Drain : LoopOperation<IoResult>;

    /// <summary>Over a connection whose first bytes may have been received already (the lease is taken
    /// over).</summary>
    public TlsConnection(Connection inner, TlsSession session, BufferSlab? received, int start, int end)
        : base(inner.Loop)
    {
        _inner = inner;
        _session = session;
        Number = inner.Number;
        Listener = inner.Listener;
        StartMs = inner.StartMs;
        _firstRecordsLeft = FirstRecordsBytesMax;
        inner.Watcher = this;
        if (received is not null)
        {
            _received = received;
            session.Feed(received.Memory.Slice(start, end - start));
        }
    }

    public TlsSession Session => _session;

    /// <summary>The connection under it.</summary>
    public Connection Inner => _inner;

    public override ReadOnlySpan<byte> PeerAddress => _inner.PeerAddress;
    public override ReadOnlySpan<byte> LocalAddress => _inner.LocalAddress;
    public override int SendError => _sendError;

    public override string? Fault => _session.Error.Length > 0 ? "SSL_read() failed" + _session.Error : null;
    public override bool PeerClosed => _isEnded || _inner.PeerClosed;

    public override bool MayHaveInput =>
        !IsClosed && (_session.IsEarly || _session.InputLeft > 0 || _session.HasPlaintext || _inner.MayHaveInput);

    /// <summary>Shakes hands. 0, or an error number: EPROTO when TLS failed (the session says why), 0 with
    /// <see cref="PeerClosed"/> never.</summary>
    public async LoopTask<int> HandshakeAsync(long dueMs)
    {
        while (true)
        {
            TlsStatus status = _session.Handshake();
            if (!FlushRecords())
            {
                return _inner.SendError;
            }
            switch (status)
            {
                case TlsStatus.Done:
                    ReleaseReceived();
                    return 0;
                case TlsStatus.NeedsInput:
                    break;
                case TlsStatus.NeedsCertificates:
                    bool found = _session.Chosen.Certificates is { } finder && await finder.FindAsync(_session);
                    if (IsClosed)
                    {
                        return Errno.ECANCELED;
                    }
                    _session.CertificatesFound(found);
                    continue;
                default:
                    return Errno.EPROTO;
            }
            _inner.SetReadDeadline(dueMs);
            ReleaseReceived();
            RecvLease lease = await _inner.ReceiveAsync();
            if (lease.IsError)
            {
                return lease.Error;
            }
            if (lease.IsEnd)
            {
                _isEnded = true;
                return Errno.ECONNRESET;
            }
            Take(lease);
        }
    }

    private void Take(RecvLease lease)
    {
        _received = lease.Slab;
        _session.Feed(lease.Memory);
    }

    private void ReleaseReceived()
    {
        if (_received is not null && _session.InputLeft == 0)
        {
            _received.Release();
            _received = null;
        }
    }

    // Receiving.

    public override LoopTask<RecvLease> ReceiveAsync(int maxBytes = BufferPool.StandardSize)
    {
        if (IsClosed)
        {
            return new LoopTask<RecvLease>(RecvLease.Failed(Errno.ECANCELED));
        }
        if (_session.InputLeft > 0 || _session.HasPlaintext)
        {
            RecvLease lease = Decrypt(maxBytes, out bool needsInput);
            if (!needsInput)
            {
                return new LoopTask<RecvLease>(lease);
            }
        }
        if (_isEnded)
        {
            return new LoopTask<RecvLease>(RecvLease.End);
        }
        return WaitAsync(maxBytes);
    }

    private async LoopTask<RecvLease> WaitAsync(int maxBytes)
    {
        while (true)
        {
            if (_readDueMs != 0)
            {
                _inner.SetReadDeadline(_readDueMs);
            }
            _isReading = true;
            RecvLease cipher = await _inner.ReceiveAsync(Math.Max(maxBytes, BufferPool.StandardSize));
            _isReading = false;
            if (cipher.IsError)
            {
                return cipher;
            }
            if (cipher.IsEnd)
            {
                // Without a close_notify before it: HTTP knows by itself whether a message is whole.
                _isEnded = true;
                return cipher;
            }
            Take(cipher);
            RecvLease lease = Decrypt(maxBytes, out bool needsInput);
            if (!needsInput)
            {
                _readDueMs = 0;
                return lease;
            }
        }
    }

    public override void Park(IParkOwner owner)
    {
        if (IsClosed || _isEnded || _session.InputLeft > 0 || _session.HasPlaintext)
        {
            base.Park(owner);
            return;
        }
        _parkOwner = owner;
        _isReading = true;
        _inner.Park(this);
    }

    /// <summary>The connection under it heard something: not all that TLS says is for the owner.</summary>
    void IParkOwner.Unpark(Connection connection, RecvLease lease)
    {
        _isReading = false;
        if (!lease.IsError && !lease.IsEnd)
        {
            Take(lease);
            lease = Decrypt(BufferPool.StandardSize, out bool needsInput);
            if (needsInput)
            {
                if (_readDueMs != 0)
                {
                    _inner.SetReadDeadline(_readDueMs);
                }
                _isReading = true;
                _inner.Park(this);
                return;
            }
        }
        _isEnded |= lease.IsEnd;
        _readDueMs = 0;
        IParkOwner owner = _parkOwner!;
        _parkOwner = null;
        owner.Unpark(this, lease);
    }

    private RecvLease Decrypt(int maxBytes, out bool needsInput)
    {
        needsInput = false;
        BufferSlab slab = Loop.Buffers.Rent(maxBytes);
        int room = Math.Min(slab.Capacity, Math.Max(maxBytes, 1));
        int filled = 0;
        TlsStatus status = TlsStatus.Done;
        while (filled < room)
        {
            status = _session.Read(slab.Memory.Slice(filled, room - filled), out int count);
            if (status != TlsStatus.Done)
            {
                break;
            }
            filled += count;
            if (_session.InputLeft == 0 && !_session.HasPlaintext)
            {
                break;
            }
        }
        ReleaseReceived();
        if (_session.HasRecords)
        {
            FlushRecords();
            if (_cipher is { Length: > UnreadRecordBytesMax } && status != TlsStatus.Failed)
            {
                _session.Break(" (SSL: the peer does not read what it asks for)");
                _isLeft = true;
                status = TlsStatus.Failed;
            }
        }
        if (_saysGoodbyeLater && !_session.IsEarly)
        {
            ShutdownSend();
        }
        _isEnded |= status == TlsStatus.Ended || _session.HasRenegotiated;
        if (filled > 0)
        {
            return RecvLease.Bytes(slab, filled);
        }
        slab.Release();
        switch (status)
        {
            case TlsStatus.Ended:
                return RecvLease.End;
            case TlsStatus.Failed:
                return RecvLease.Failed(Errno.EPROTO);
            default:
                needsInput = true;
                return default;
        }
    }

    /// <summary>Sends what the session itself has to say: handshake, tickets, alerts.</summary>
    private bool FlushRecords()
    {
        if (!_session.HasRecords)
        {
            return true;
        }
        BufferChain cipher = _cipher ??= Loop.RentChain();
        cipher.Append(_session.Records.Span);
        _session.TakeRecords();
        return SendCipher();
    }

    /// <summary>Sends the records that are there; what the kernel does not take is waited for in the
    /// background.</summary>
    private bool SendCipher()
    {
        BufferChain cipher = _cipher!;
        _inner.SendTimeoutMs = SendTimeoutMs;
        if (!_inner.Send(cipher))
        {
            return false;
        }
        if (!cipher.IsEmpty)
        {
            if (!_isSending)
            {
                _isSending = true;
                ContinueAsync().Forget();
            }
        }
        else if (_inFlight == 0)
        {
            ReturnCipher();
        }
        return true;
    }

    // Sending.

    public override bool Send(BufferChain chain)
    {
        if (IsClosed)
        {
            chain.Clear();
            return false;
        }
        if (_sendError != 0)
        {
            chain.Clear();
            return false;
        }
        _plain = chain;
        if (!_isSending)
        {
            Pump();
        }
        return _sendError == 0;
    }

    /// <summary>Encrypts and sends until the chain is empty or the kernel takes no more.</summary>
    private void Pump()
    {
        BufferChain plain = _plain!;
        if (Loop.NowMs - _lastSentMs > PauseMs)
        {
            _firstRecordsLeft = FirstRecordsBytesMax;
        }
        _lastSentMs = Loop.NowMs;
        long stopAt = SentBytes + TurnBytesMax;
        while (!plain.IsEmpty)
        {
            if (SentBytes >= stopAt)
            {
                _isSending = true;
                Loop.Ready(_resume ??= Resume);
                return;
            }
            int error = Encrypt(plain);
            if (error == 0)
            {
                _inner.SendTimeoutMs = SendTimeoutMs;
                error = _inner.Send(_cipher!) ? 0 : _inner.SendError;
            }
            if (error != 0)
            {
                FailSending(error);
                return;
            }
            if (!_cipher!.IsEmpty)
            {
                _isSending = true;
                ContinueAsync().Forget();
                return;
            }
            Sent();
        }
        _plain = null;
        ReturnCipher();
    }

    private void Resume()
    {
        if (IsClosed || !_isSending)
        {
            return;
        }
        _isSending = false;
        Continue();
    }

    private void Continue()
    {
        if (_plain is { IsEmpty: false })
        {
            Pump();
        }
        else
        {
            _plain = null;
            ReturnCipher();
        }
        CompleteDrain();
    }

    private void Sent()
    {
        SentBytes += _inFlight;
        _plain?.Consume(_inFlight);
        _inFlight = 0;
    }

    private void FailSending(int error)
    {
        _sendError = error == 0 ? Errno.ECONNRESET : error;
        _plain?.Clear();
        _plain = null;
        _inFlight = 0;
        ReturnCipher();
        CompleteDrain();
    }

    private async LoopTask<Unit> ContinueAsync()
    {
        IoResult result = await _inner.DrainAsync(_cipher!);
        _isSending = false;
        if (IsClosed)
        {
            return default;
        }
        _lastSentMs = Loop.NowMs;
        if (result.IsError)
        {
            FailSending(result.Error);
            return default;
        }
        Sent();
        Continue();
        return default;
    }

    private void CompleteDrain()
    {
        if (!_drain.IsWaiting)
        {
            return;
        }
        if (_sendError != 0)
        {
            _drain.SetResult(IoResult.Failed(_sendError));
        }
        else if (!_isSending || _plain is null || _plain.Length <= _drainKept)
        {
            _drain.SetResult(IoResult.Ok());
        }
    }

    public override LoopTask<IoResult> DrainAsync(BufferChain chain, long keptBytes = 0)
    {
        if (_sendError != 0 || IsClosed)
        {
            return new LoopTask<IoResult>(IoResult.Failed(_sendError != 0 ? _sendError : Errno.ECANCELED));
        }
        if (!_isSending || chain.Length <= keptBytes)
        {
            return new LoopTask<IoResult>(IoResult.Ok());
        }
        _drainKept = keptBytes;
        return _drain.Begin();
    }

    public override bool SendHolding(BufferChain chain, long keptBytes)
    {
        while (_isSending && chain.Length > keptBytes && _sendError == 0 && !IsClosed)
        {
            long before = chain.Length;
            if (_cipher is { IsEmpty: false } cipher)
            {
                // When that has left, what waited for it goes on by itself.
                _inner.SendHolding(cipher, 0);
            }
            else
            {
                Resume();
            }
            if (chain.Length == before)
            {
                break;
            }
        }
        return _sendError == 0 && !IsClosed;
    }

    private void ReturnCipher()
    {
        if (_cipher is { } cipher && !_isSending)
        {
            _cipher = null;
            Loop.Return(cipher);
        }
    }

    // The rest of the seam.

    void IPeerWatcher.PeerGone(Connection connection, bool reset)
    {
        // The bytes of a close_notify before the end are nobody's request.
        if (!_isReading)
        {
            Watcher?.PeerGone(this, reset);
        }
    }

    public override void SetReadDeadline(long dueMs)
    {
        _readDueMs = dueMs;
        _inner.SetReadDeadline(dueMs);
    }

    public override void CancelReceive() => _inner.CancelReceive();

    public override void CancelDrain()
    {
        if (_drain.IsWaiting)
        {
            _drain.SetResult(IoResult.Failed(Errno.ECANCELED));
        }
    }

    public override void ShutdownSend()
    {
        if (IsClosed)
        {
            return;
        }
        // There is no goodbye before the handshake is over: who reads on until then sends it.
        _saysGoodbyeLater = _session.IsEarly;
        if (!_saysGoodbyeLater)
        {
            SayGoodbye();
            _inner.ShutdownSend();
        }
    }

    private void SayGoodbye()
    {
        if (_sendError == 0 && !_isSending)
        {
            _session.Shutdown();
            FlushRecords();
        }
    }

    public override void SetNoDelay() => _inner.SetNoDelay();

    public override int TcpInfo(Span<byte> into) => _inner.TcpInfo(into);

    public override void Close(bool reset = false)
    {
        if (IsClosed)
        {
            return;
        }
        reset |= _isLeft;
        if (!reset && !_inner.PeerClosed)
        {
            SayGoodbye();
        }
        IsClosed = true;
        Loop.LeaveIdle(this);
        Watcher = null;
        _inner.Watcher = null;
        _received?.Release();
        _received = null;
        _plain = null;
        _inner.Close(reset);
        if (_cipher is { } cipher)
        {
            _cipher = null;
            Loop.Return(cipher);
        }
        _session.Dispose();
        CancelDrain();
    }
}
