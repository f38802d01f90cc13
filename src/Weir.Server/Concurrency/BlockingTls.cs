// TLS over a blocking socket, for the models with a thread per client: the same sessions as on loops, fed by receives
// that block. One thread reads and one writes, which may be two; the session itself is used under a lock that nobody
// holds while it waits for the network. Its windows are native memory of its own, given back with the connection.
using System.Net.Sockets;
using Weir.Kernel;
using Weir.Tls;

namespace Weir.Server;

/// <summary>How a handshake ended.</summary>
internal enum TlsEntry : byte
{
    Done,

    /// <summary>The client does not speak TLS.</summary>
    Plain,
    Failed,
}

internal sealed class BlockingTls : IDisposable
{
    private const int CipherBytes = TlsSession.RecordBytesMax + TlsSession.RecordOverheadBytesMax;

    private readonly object _gate = new();
    private readonly object _sending = new();
    private readonly Socket _socket;
    private readonly TlsSession _session;
    private readonly NativeArena _memory = new();
    private readonly NativeSlice _received;
    private readonly NativeSlice _plain;
    private readonly NativeSlice _toEncrypt;
    private readonly NativeSlice _encrypted;
    private int _plainStart;
    private int _plainEnd;
    private bool _isOver;

    private BlockingTls(Socket socket, TlsSession session)
    {
        _socket = socket;
        _session = session;
        _received = _memory.Allocate(CipherBytes);
        _plain = _memory.Allocate(TlsSession.RecordBytesMax);
        _toEncrypt = _memory.Allocate(TlsSession.RecordBytesMax);
        _encrypted = _memory.Allocate(CipherBytes);
    }

    /// <summary>Null when there is no memory for a session.</summary>
    internal static BlockingTls? Create(Socket socket, ListenerTls listener)
    {
        TlsSession? session = TlsSession.Accept(listener.Context);
        if (session is null)
        {
            return null;
        }
        session.Names = listener;
        return new BlockingTls(socket, session);
    }

    /// <summary>After the handshake: what it agreed on.</summary>
    internal ConnectionSecurity Security { get; private set; } = null!;

    /// <summary>Why the handshake failed; empty when the client went or was too slow.</summary>
    internal string Error { get; private set; } = "";

    /// <summary>Whether a request to this host may pass: 0, or the status to answer with.</summary>
    internal int Check(ReadOnlySpan<byte> host)
    {
        lock (_gate)
        {
            return TlsClientCheck.Judge(_session, _session.Chosen.Verify, host, out _);
        }
    }

    /// <summary>Shakes hands within the time.</summary>
    internal TlsEntry Handshake(long dueMs)
    {
        const byte handshakeRecord = 0x16, ssl2Bit = 0x80;
        bool isFirst = true;
        while (true)
        {
            int left = (int)Math.Clamp(dueMs - Weir.Kernel.Net.Sys.MonotonicMs(), 0, int.MaxValue);
            if (!BlockingModel.WaitReadable((int)_socket.Handle, left))
            {
                return TlsEntry.Failed;
            }
            int count = _socket.Receive(_received.Span);
            if (count == 0)
            {
                return TlsEntry.Failed;
            }
            if (isFirst && _received.Span[0] != handshakeRecord && (_received.Span[0] & ssl2Bit) == 0)
            {
                return TlsEntry.Plain;
            }
            isFirst = false;
            TlsStatus status;
            lock (_gate)
            {
                _session.Feed(_received.Slice(0, count));
                status = _session.Handshake();
            }
            SendRecords();
            if (status == TlsStatus.Done)
            {
                Security = ConnectionSecurity.Of(_session);
                return TlsEntry.Done;
            }
            if (status != TlsStatus.NeedsInput)
            {
                Error = _session.WasRefused ? "no certificate for the name" : _session.Error;
                return TlsEntry.Failed;
            }
        }
    }

    /// <summary>A receive would bring bytes without the network.</summary>
    internal bool HasInput
    {
        get
        {
            lock (_gate)
            {
                return _plainStart < _plainEnd || !_isOver && (_session.InputLeft > 0 || _session.HasPlaintext);
            }
        }
    }

    /// <summary>Plaintext: 0 at the client's end, -1 when what came was not enough for any. Blocks when the socket has
    /// nothing.</summary>
    internal int Receive(Span<byte> into)
    {
        if (_plainStart == _plainEnd && !Fill(out bool ended))
        {
            return ended ? 0 : -1;
        }
        int n = Math.Min(into.Length, _plainEnd - _plainStart);
        _plain.Span.Slice(_plainStart, n).CopyTo(into);
        _plainStart += n;
        return n;
    }

    private bool Fill(out bool ended)
    {
        ended = false;
        if (Decrypt(out TlsStatus status))
        {
            return true;
        }
        if (status == TlsStatus.NeedsInput)
        {
            int count = _socket.Receive(_received.Span);
            if (count == 0)
            {
                ended = true;
                return false;
            }
            lock (_gate)
            {
                if (_isOver)
                {
                    ended = true;
                    return false;
                }
                _session.Feed(_received.Slice(0, count));
            }
            if (Decrypt(out status))
            {
                return true;
            }
        }
        // Key updates are answered, and alerts told.
        SendRecords();
        ended = status != TlsStatus.NeedsInput;
        return false;
    }

    private bool Decrypt(out TlsStatus status)
    {
        lock (_gate)
        {
            status = TlsStatus.Ended;
            if (_isOver)
            {
                return false;
            }
            status = _session.Read(_plain, out int count);
            _plainStart = 0;
            _plainEnd = count;
            return count > 0;
        }
    }

    /// <summary>Encrypts and sends all of it. False when the session is over.</summary>
    /// <exception cref="SocketException">The client does not take it.</exception>
    internal bool Send(ReadOnlySpan<byte> bytes)
    {
        lock (_sending)
        {
            while (bytes.Length > 0)
            {
                int n = Math.Min(bytes.Length, TlsSession.RecordBytesMax);
                int written;
                lock (_gate)
                {
                    bytes[..n].CopyTo(_toEncrypt.Span);
                    if (_isOver
                        || _session.Write(_toEncrypt.Slice(0, n), _encrypted, out written) != TlsStatus.Done)
                    {
                        return false;
                    }
                }
                SendAll(_encrypted.Span[..written]);
                bytes = bytes[n..];
            }
            return true;
        }
    }

    /// <summary>Says goodbye; what cannot be said is left out.</summary>
    internal void End()
    {
        lock (_gate)
        {
            if (!_isOver)
            {
                _session.Shutdown();
            }
        }
        try
        {
            SendRecords();
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The client has gone without it.
        }
    }

    private void SendRecords()
    {
        lock (_sending)
        {
            byte[] records;
            lock (_gate)
            {
                if (_isOver || !_session.HasRecords)
                {
                    return;
                }
                records = _session.Records.Span.ToArray();
                _session.TakeRecords();
            }
            SendAll(records);
        }
    }

    private void SendAll(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length > 0)
        {
            bytes = bytes[_socket.Send(bytes)..];
        }
    }

    public void Dispose()
    {
        lock (_sending)
        {
            lock (_gate)
            {
                if (!_isOver)
                {
                    _isOver = true;
                    _session.Dispose();
                    _memory.Dispose();
                }
            }
        }
    }
}
