// One TLS session as a transformer of bytes: what was received goes in, plaintext comes out, and the other way round.
// It knows no socket and no loop, so that event-driven and blocking callers use the same. One thread at a time.
// The caller's windows are only used during a call, except Input, which must live until it is used up or replaced.
// OpenSSL's buffers are released whenever they are empty; an idle session holds none.
using System.Runtime.InteropServices;
using Weir.Kernel;

namespace Weir.Tls;

/// <summary>How a step of a session ended.</summary>
public enum TlsStatus
{
    /// <summary>It is done (for reading and writing: bytes moved).</summary>
    Done,

    /// <summary>More of the peer's bytes are needed.</summary>
    NeedsInput,

    /// <summary>The window for records is full: call again with another, and the same bytes.</summary>
    NeedsRoom,

    /// <summary>Certificates for this connection have to be found first
    /// (<see cref="TlsContext.Certificates"/>).</summary>
    NeedsCertificates,

    /// <summary>The peer has said that it sends no more.</summary>
    Ended,

    /// <summary>The session is broken; <see cref="TlsSession.Error"/> says why. An alert may be among the
    /// records.</summary>
    Failed,
}

/// <summary>A TLS session.</summary>
public sealed unsafe partial class TlsSession : IDisposable
{
    /// <summary>Room that one record needs beyond its bytes.</summary>
    public const int RecordOverheadBytesMax = 256;

    /// <summary>Bytes that one record carries at most.</summary>
    public const int RecordBytesMax = 16 * 1024;

    /// <summary>Records that a peer may draw from a session one after the other without sending data: refusals to
    /// renegotiate, answers to key updates.</summary>
    public const int DrawnRecordsMax = 16;

    /// <summary>Bytes of a peer's records that may bring no data one after the other: a record and what little has to
    /// be said beside data.</summary>
    public const int FruitlessBytesMax = 64 * 1024;

    // Callbacks run inside of calls on this thread: they find their session here.
    [ThreadStatic]
    private static TlsSession? t_current;

    private nint _ssl;
    private BioState* _io;
    private bool _isBroken;
    private bool _refused;
    private int _drawn;
    private int _counted;
    private int _fruitless;

    private TlsSession(TlsContext context, nint ssl, BioState* io)
    {
        Context = context;
        _ssl = ssl;
        _io = io;
    }

    /// <summary>The context that it began with.</summary>
    public TlsContext Context { get; }

    /// <summary>The context that the server's name chose; at first the one it began with.</summary>
    public TlsContext Chosen { get; internal set; } = null!;

    /// <summary>Chooses a context by the name that the client asked for; null: always the first one.</summary>
    public ITlsNames? Names { get; set; }

    /// <summary>The name that the client asked for belongs to a server.</summary>
    public bool IsNameKnown { get; set; }

    /// <summary>Anything the caller wants to find again in a callback.</summary>
    public object? Owner { get; set; }

    /// <summary>Why it failed, in OpenSSL's words; set with <see cref="TlsStatus.Failed"/>.</summary>
    public string Error { get; private set; } = "";

    /// <summary>Library and reason of the failure, as OpenSSL numbers them.</summary>
    public int ErrorReason { get; private set; }

    public bool IsHandshakeDone { get; private set; }

    /// <summary>Reading ends when the peer asks for a new handshake, as HTTP/2 wants it (RFC 9113 §9.2.1).</summary>
    public bool EndsAtRenegotiation { get; set; }

    /// <summary>It has ended so.</summary>
    public bool HasRenegotiated { get; private set; }

    /// <summary>The name was refused by configuration (ssl_reject_handshake), not by an error.</summary>
    public bool WasRefused => _refused;

    /// <summary>Where sessions are kept, during the handshake alone: a connection may live longer than the shared
    /// memory of the configuration that it began with.</summary>
    internal ITlsSessionStore? StoreNow => IsHandshakeDone ? null : Context.Store;

    internal nint Ssl => _ssl;
    internal static TlsSession? Current => t_current;

    internal void Refuse() => _refused = true;

    private int _certificates = CertificatesUnknown;
    private const int CertificatesUnknown = -1, CertificatesMissing = 0, CertificatesThere = 1;

    /// <summary>What OpenSSL is told when it needs certificates: they are there, there are none, or to wait.</summary>
    internal int AskForCertificates() => _certificates;

    /// <summary>After <see cref="TlsStatus.NeedsCertificates"/>: they are in the session now, or there are none. The
    /// handshake can go on.</summary>
    public void CertificatesFound(bool found) => _certificates = found ? CertificatesThere : CertificatesMissing;

    /// <summary>A server's session; null when OpenSSL has no memory.</summary>
    public static TlsSession? Accept(TlsContext context) => Create(context, isServer: true);

    /// <summary>A client's session.</summary>
    public static TlsSession? Connect(TlsContext context) => Create(context, isServer: false);

    private static TlsSession? Create(TlsContext context, bool isServer)
    {
        Native.ERR_clear_error();
        nint ssl = Native.SSL_new(context.Handle);
        if (ssl == 0)
        {
            return null;
        }
        var io = (BioState*)NativeMemory.AllocZeroed((nuint)sizeof(BioState));
        nint bio = TlsBio.New(io);
        if (bio == 0)
        {
            NativeMemory.Free(io);
            Native.SSL_free(ssl);
            return null;
        }
        Native.SSL_set_bio(ssl, bio, bio);
        if (isServer)
        {
            Native.SSL_set_accept_state(ssl);
        }
        else
        {
            Native.SSL_set_connect_state(ssl);
        }
        Native.SSL_set_options(ssl, Native.OP_NO_RENEGOTIATION);
        return new TlsSession(context, ssl, io) { Chosen = context };
    }

    // Windows.

    /// <summary>Gives the peer's bytes; what was left of the last window must have been used up.</summary>
    public void Feed(NativeSlice received)
    {
        System.Diagnostics.Debug.Assert(_io->InputLeft == 0, "received bytes were dropped");
        _io->Input = received.Pointer;
        _io->InputLeft = received.Length;
    }

    /// <summary>Bytes of the window that were not used yet.</summary>
    public int InputLeft => _io->InputLeft;

    /// <summary>Whether a read would bring plaintext without more input.</summary>
    public bool HasPlaintext => _hasEarlyByte || _ssl != 0 && Native.SSL_pending(_ssl) > 0;

    /// <summary>Records of handshakes, alerts and tickets that wait to be sent.</summary>
    public NativeSlice Records => new(_io->Spill, _io->SpillLength);

    public bool HasRecords => _io->SpillLength > 0;

    /// <summary>The records were copied.</summary>
    public void TakeRecords()
    {
        NativeMemory.Free(_io->Spill);
        _io->Spill = null;
        _counted = 0;
        _io->SpillLength = 0;
        _io->SpillCapacity = 0;
    }

    // Steps.

    /// <summary>Goes on with the handshake.</summary>
    public TlsStatus Handshake()
    {
        if (_isBroken)
        {
            return TlsStatus.Failed;
        }
        Enter();
        TlsStatus status = _early == EarlyStep.Asks ? BeginEarly() : FinishHandshake();
        t_current = null;
        return status;
    }

    /// <summary>Plaintext of the peer.</summary>
    public TlsStatus Read(NativeSlice into, out int count)
    {
        count = 0;
        if (_isBroken)
        {
            return TlsStatus.Failed;
        }
        Enter();
        int before = _io->InputLeft;
        TlsStatus status = _early == EarlyStep.None ? TlsStatus.Done : ReadEarly(into, out count);
        if (status == TlsStatus.Done && count == 0)
        {
            int result = Native.SSL_read(_ssl, into.Pointer, into.Length);
            if (result > 0)
            {
                count = result;
            }
            else
            {
                status = Judge(result);
            }
        }
        _fruitless = count > 0 ? 0 : _fruitless + before - _io->InputLeft;
        if ((_io->SpillLength > 0 || _fruitless > FruitlessBytesMax) && IsHandshakeDone && status != TlsStatus.Failed)
        {
            status = CountDrawn(count > 0) ? status : TlsStatus.Failed;
            HasRenegotiated |= EndsAtRenegotiation && _io->SpillLength > 0
                && Native.SSL_version(_ssl) < TlsCallbacks.Tls13;
            status = HasRenegotiated && status == TlsStatus.NeedsInput ? TlsStatus.Ended : status;
        }
        t_current = null;
        return status;
    }

    /// <summary>A peer that asks for nothing but new handshakes or keys is left after some. False then.</summary>
    private bool CountDrawn(bool withData)
    {
        const int headerBytes = 5;
        for (; _counted + headerBytes <= _io->SpillLength; _drawn++)
        {
            _counted += headerBytes + (_io->Spill[_counted + 3] << 8 | _io->Spill[_counted + 4]);
        }
        if (withData || _drawn <= DrawnRecordsMax && _fruitless <= FruitlessBytesMax)
        {
            _drawn = withData ? 0 : _drawn;
            return true;
        }
        Native.SSL_shutdown(_ssl);
        Break(" (SSL: the peer asks for new handshakes or keys again and again)");
        return false;
    }

    /// <summary>Gives the session up for a reason of the caller's.</summary>
    public void Break(string why)
    {
        _isBroken = true;
        Error = why;
    }

    /// <summary>Encrypts all of <paramref name="from"/> into <paramref name="room"/>. With NeedsRoom the part that was
    /// written is kept: call again with the same bytes and more room.</summary>
    public TlsStatus Write(NativeSlice from, NativeSlice room, out int written)
    {
        written = 0;
        if (_isBroken)
        {
            return TlsStatus.Failed;
        }
        Enter();
        _io->Output = room.Pointer;
        _io->OutputLeft = room.Length;
        int result = _early == EarlyStep.None ? Native.SSL_write(_ssl, from.Pointer, from.Length) : WriteEarly(from);
        TlsStatus status = result > 0 ? TlsStatus.Done : Judge(result);
        written = room.Length - _io->OutputLeft;
        _io->Output = null;
        _io->OutputLeft = 0;
        t_current = null;
        return status;
    }

    /// <summary>Says goodbye to the peer (close_notify, among the records). Nothing is written after an
    /// error.</summary>
    public void Shutdown()
    {
        if (_isBroken || !IsHandshakeDone)
        {
            return;
        }
        Enter();
        Native.SSL_shutdown(_ssl);
        t_current = null;
    }

    private void Enter()
    {
        t_current = this;
        Native.ERR_clear_error();
    }

    private TlsStatus Judge(int result)
    {
        switch (Native.SSL_get_error(_ssl, result))
        {
            case Native.ERROR_WANT_READ:
                return TlsStatus.NeedsInput;
            case Native.ERROR_WANT_WRITE:
                return TlsStatus.NeedsRoom;
            case Native.ERROR_WANT_CERTIFICATE:
                return TlsStatus.NeedsCertificates;
            case Native.ERROR_ZERO_RETURN:
                return TlsStatus.Ended;
            default:
                _isBroken = true;
                ErrorReason = TlsErrors.FirstReason;
                Error = TlsErrors.Take();
                return TlsStatus.Failed;
        }
    }

    public void Dispose()
    {
        if (_ssl == 0)
        {
            return;
        }
        t_current = this;
        if (IsHandshakeDone && !_isBroken)
        {
            // Without a shutdown of its own the session would not be resumable.
            Native.SSL_set_quiet_shutdown(_ssl, 1);
            Native.SSL_shutdown(_ssl);
        }
        Native.SSL_free(_ssl);
        t_current = null;
        _ssl = 0;
        EndHandshake();
        if (_io->Spill != null)
        {
            NativeMemory.Free(_io->Spill);
        }
        NativeMemory.Free(_io);
        _io = null;
    }
}
