// One client on one thread: a blocking socket, the parser that the loops use too, requests one after the other. The
// thread runs the handler itself, so exchange and connection are one object; it is used again for the thread's next
// client. Another thread (the watchdog, a stop) only shuts the socket down, answers for a handler that is late, and
// reads the state.
using System.Net.Sockets;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal sealed partial class BlockingExchange : GuestExchange, IWatched
{
    // Who may answer: the handler (Owned, then Begun), the watchdog (Abandoned), nobody (Over).
    private const int Owned = 0, Begun = 1, Abandoned = 2, Over = 3;

    private readonly BlockingModel _model;
    private readonly AppServerOptions _options;
    private readonly AppCounters _counters;
    private readonly object _outside = new();
    private readonly RequestHead _parsed = new();
    private readonly int _lineMax;
    private readonly int _headMax;
    private RequestHeadParser _parser;
    private ChunkedDecoder _chunks = new();
    private Socket _socket = null!;
    private BlockingTls? _tls;
    private bool _isTcp;
    private byte[] _peerBytes = [];
    private byte[] _localBytes = [];
    private byte[] _in = new byte[4096];
    private int _start;
    private int _end;
    private int _state = Over;
    private int _requests;
    private bool _keep;
    private bool _broken;
    private bool _mustLinger;
    private long _dueMs;

    internal BlockingExchange(BlockingModel model)
    {
        _model = model;
        _options = model.OptionsOf;
        _counters = model.CountersOf;
        _lineMax = Math.Max(1024, _options.MaxHeadBytes / 4);
        _headMax = 1024 + 4 * _lineMax;
    }

    public override bool IsAbandoned => Volatile.Read(ref _state) == Abandoned;

    /// <summary>For who waits on it: the connection's descriptor.</summary>
    internal int Fd => (int)_socket.Handle;

    private static ParseOptions ParseAs => new() { UnderscoresInHeaders = true };

    /// <summary>Serves one client until its connection ends. Does not throw.</summary>
    internal void Serve(BlockingModel.Accepted accepted)
    {
        (Socket socket, long number, ListenerTls? tls, long startMs) = accepted;
        _socket = socket;
        _tls = null;
        ConnectionNumber = number;
        _requests = 0;
        _counters.Tell(AppServerEventKind.Taken, number);
        _start = _end = 0;
        _broken = false;
        _mustLinger = false;
        try
        {
            _isTcp = socket.AddressFamily != AddressFamily.Unix;
            if (_isTcp)
            {
                socket.NoDelay = true;
            }
            socket.SendTimeout = BlockingModel.ToMilliseconds(_options.SendTimeout);
            _peerBytes = Bytes(socket.RemoteEndPoint);
            _localBytes = Bytes(socket.LocalEndPoint);
            _model.Enter(this);
            if (tls is null || EnterTls(tls))
            {
                ServeRequests();
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The client, or who stops the server, ended it: there is nobody to tell.
        }
        catch (Exception e)
        {
            _model.Complain($"unexpected {e.GetType().Name} on a connection: {e}");
        }
        _model.Leave(this);
        if (_tls is { } session)
        {
            if (!_broken)
            {
                session.End();
            }
            session.Dispose();
            _tls = null;
        }
        EndUpgrade();
        _counters.Closed(Sys.MonotonicMs() - startMs);
        _counters.Tell(AppServerEventKind.Closed, number);
        if (_mustLinger && !_broken)
        {
            _model.Linger(socket);
        }
        else
        {
            socket.Dispose();
        }
    }

    /// <summary>Shakes hands. A client that speaks plain HTTP is told so.</summary>
    private bool EnterTls(ListenerTls tls)
    {
        _tls = BlockingTls.Create(_socket, tls);
        TlsEntry entry = _tls?.Handshake(Sys.MonotonicMs() + BlockingModel.ToMilliseconds(_options.HeaderTimeout))
            ?? TlsEntry.Failed;
        if (entry == TlsEntry.Done)
        {
            return true;
        }
        if (_tls is { Error.Length: > 0 } failed)
        {
            _model.Note($"a TLS handshake failed: {failed.Error}");
        }
        _tls?.Dispose();
        _tls = null;
        if (entry == TlsEntry.Plain)
        {
            const int plainToTlsPort = 497;
            _mustLinger = true;
            Refuse(plainToTlsPort);
        }
        return false;
    }

    /// <summary>Another thread: ends whatever waits on the socket.</summary>
    internal void CutOff()
    {
        SignalAborted();
        ShutDown(SocketShutdown.Both);
    }

    /// <summary>Another thread: an idle connection ends, its thread goes on.</summary>
    internal void EndIdle() => ShutDown(SocketShutdown.Receive);

    private void ShutDown(SocketShutdown how)
    {
        try
        {
            _socket.Shutdown(how);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // It has ended by itself.
        }
    }

    private static byte[] Bytes(System.Net.EndPoint? address)
    {
        if (address is null)
        {
            return [];
        }
        System.Net.SocketAddress native = address.Serialize();
        return native.Buffer.Span[..native.Size].ToArray();
    }

    private void ServeRequests()
    {
        while (true)
        {
            if (!ReadHead(out RejectReason reject))
            {
                return;
            }
            _requests++;
            _keep = false;
            if (reject != RejectReason.None && _requests == 1 && SpeaksHttp2())
            {
                _model.Note("a client began with HTTP/2, which a blocking model cannot speak: event-driven ones can");
                reject = RejectReason.UnsupportedVersion;
            }
            if (reject != RejectReason.None)
            {
                _mustLinger = true;
                Refuse(RejectReasons.Status(reject));
                return;
            }
            Answer();
            if (_broken || IsAbandoned)
            {
                return;
            }
            if (!_keep || !DiscardBody())
            {
                _mustLinger |= _start < _end || HasRequestBody && !_bodyEnded;
                return;
            }
        }
    }

    /// <summary>The client began with HTTP/2's preface (prior knowledge).</summary>
    private bool SpeaksHttp2() => _in.AsSpan(_start, _end - _start).StartsWith("PRI * HTTP/2.0\r\n"u8);

    // Reading heads.

    private bool ReadHead(out RejectReason reject)
    {
        reject = RejectReason.None;
        _parser.Reset();
        bool idle = _requests > 0 && _start == _end;
        long deadline = Sys.MonotonicMs() + BlockingModel.ToMilliseconds(
            idle ? _options.IdleTimeout : _options.HeaderTimeout);
        while (true)
        {
            if (_start < _end)
            {
                ReadOnlySpan<byte> buffered = _in.AsSpan(_start, _end - _start);
                switch (_parser.Parse(buffered, _parsed, ParseAs))
                {
                    case ParseStep.Done:
                        reject = TooLarge(_parsed);
                        return true;
                    case ParseStep.Reject:
                        reject = _parsed.Reject;
                        return true;
                    default:
                        reject = buffered.Length - _parser.LineStart >= _lineMax
                            ? _parser.InRequestLine ? RejectReason.RequestLineTooLong : RejectReason.HeaderLineTooLong
                            : buffered.Length >= _headMax ? RejectReason.HeadersTooLarge : RejectReason.None;
                        if (reject != RejectReason.None)
                        {
                            return true;
                        }
                        break;
                }
            }
            int wait = (int)Math.Clamp(deadline - Sys.MonotonicMs(), 0, int.MaxValue);
            bool readable = HasInput || (idle ? _model.WaitIdle(this, wait) : BlockingModel.WaitReadable(Fd, wait));
            if (!readable || Fill() == 0)
            {
                return false;
            }
            if (idle)
            {
                idle = false;
                deadline = Sys.MonotonicMs() + BlockingModel.ToMilliseconds(_options.HeaderTimeout);
            }
        }
    }

    private RejectReason TooLarge(RequestHead head)
    {
        if (head.RequestLine.Length + 2 > _lineMax)
        {
            return RejectReason.RequestLineTooLong;
        }
        foreach (ref readonly HeaderField field in head.Fields)
        {
            if (field.ValueStart + field.ValueLength - field.NameStart + 2 > _lineMax)
            {
                return RejectReason.HeaderLineTooLong;
            }
        }
        return head.HeadLength > _headMax ? RejectReason.HeadersTooLarge : RejectReason.None;
    }

    /// <summary>Bytes are there without the network.</summary>
    private bool HasInput => _tls is { HasInput: true };

    /// <summary>Receives more behind what is buffered. 0 at the client's end, -1 for a part of a TLS record.</summary>
    private int Fill()
    {
        if (_start == _end)
        {
            _start = _end = 0;
        }
        if (_end == _in.Length)
        {
            if (_start > 0)
            {
                _in.AsSpan(_start, _end - _start).CopyTo(_in);
                _end -= _start;
                _start = 0;
            }
            else
            {
                Array.Resize(ref _in, _in.Length * 2);
            }
        }
        int n = _tls is { } tls ? tls.Receive(_in.AsSpan(_end)) : _socket.Receive(_in.AsSpan(_end));
        _end += Math.Max(n, 0);
        return n;
    }

    // Answering.

    private void Answer()
    {
        ReadOnlySpan<byte> head = _in.AsSpan(_start, _parsed.HeadLength);
        Span<byte> path = new byte[Math.Max(_parsed.Path.Length, 1)];
        int pathLength = 1;
        bool isPath = true;
        if (_parsed.Path.IsEmpty)
        {
            path[0] = (byte)'/';
        }
        else if ((_parsed.UriFlags & UriFlags.Complex) != 0)
        {
            isPath = UriNormalizer.Normalize(_parsed.Path.Of(head), path, false, out pathLength) == UriOutcome.Ok;
        }
        else
        {
            _parsed.Path.Of(head).CopyTo(path);
            pathLength = _parsed.Path.Length;
        }
        BeginExchange(head, _parsed, Math.Min(_parsed.Version, 11), isPath ? path[..pathLength] : default,
            _parsed.Query.Of(head), _peerBytes, _localBytes);
        RequestNumber = _requests;
        Security = _tls?.Security;
        _start += _parsed.HeadLength;
        BeginBody();
        BeginAnswer();
        long startMs = Sys.MonotonicMs();
        Tell(AppServerEventKind.Received);
        int refused = !isPath ? 400
            : Head.Method is HttpMethod.Trace or HttpMethod.Connect ? 405
            : _options.MaxBodyBytes > 0 && Head.ContentLength > _options.MaxBodyBytes ? 413
            : _tls?.Check(Head.Host.Of(HeadBytes)) ?? 0;
        if (refused != 0)
        {
            Refuse(refused);
            return;
        }
        _keep = Head.KeepAliveRequested && _options.IdleTimeout > TimeSpan.Zero
            && _requests < _options.KeepAliveRequests && !_model.MustMakeRoom;
        int timeoutMs = BlockingModel.ToMilliseconds(_options.HandlerTimeout);
        _dueMs = timeoutMs > 0 ? startMs + timeoutMs : 0;
        Volatile.Write(ref _state, Owned);
        _counters.Run(1);
        Tell(AppServerEventKind.Started);
        Exception? failure = null;
        try
        {
            InvokeAsync().GetAwaiter().GetResult();
        }
        catch (Exception e)
        {
            failure = e;
        }
        _counters.Run(-1);
        bool inTime;
        // Whoever answers from outside has finished doing so when this lock is held.
        lock (_outside)
        {
            inTime = Volatile.Read(ref _state) != Abandoned;
            if (inTime)
            {
                Volatile.Write(ref _state, Over);
            }
        }
        if (!inTime)
        {
            _counters.Stick(-1);
            Tell(AppServerEventKind.CameBack);
            _counters.Answer();
            return;
        }
        End(failure);
        _counters.Answer();
        Tell(AppServerEventKind.Answered, Status);
        _model.Measured(this, Sys.MonotonicMs() - startMs);
    }

    /// <summary>Restores the execution context, so that nothing of a handler stays with the thread.</summary>
    private async Task InvokeAsync() => await _model.ApplicationOf.RunAsync(this);

    private void End(Exception? failure)
    {
        if (failure is RequestBodyException refused)
        {
            _mustLinger = true;
            Broken(refused.Status);
        }
        else if (failure is OperationCanceledException or IOException && IsAborted)
        {
            Broken(499);
        }
        else if (failure is not null)
        {
            _counters.Fail();
            Tell(AppServerEventKind.Failed, 500);
            _model.Complain($"the handler failed: {failure}");
            Broken(500);
        }
        else if (IsShort)
        {
            _model.Complain($"the handler wrote {BodyBytes} of the {ContentLength} bytes it had promised");
            Broken(500);
        }
        else if (!_broken)
        {
            Send(last: true);
        }
    }

    /// <summary>Answers with a status if nothing has left yet, else ends the connection.</summary>
    private void Broken(int status)
    {
        _keep = false;
        if (_begun || status == 499 || _broken)
        {
            _broken = true;
            Status = status == 499 ? 499 : Status;
            _socket.LingerState = new LingerOption(_begun && status != 499, 0);
            return;
        }
        Refuse(status);
    }

    // The watch.

    void IWatched.Watch(long nowMs)
    {
        if (Volatile.Read(ref _state) is not (Owned or Begun))
        {
            return;
        }
        if (_dueMs != 0 && nowMs >= _dueMs)
        {
            TimeIsUp();
        }
        else if (WantsToKnow && !IsAborted && IsClientGone())
        {
            Tell(AppServerEventKind.ClientGone);
            SignalAborted();
        }
    }

    private bool IsClientGone()
    {
        const short readHangUp = 0x2000;
        bool added = false;
        SafeSocketHandle handle = _socket.SafeHandle;
        try
        {
            handle.DangerousAddRef(ref added);
            Span<PollEntry> entry = [new PollEntry((int)handle.DangerousGetHandle(), readHangUp)];
            return Descriptors.Poll(entry, 0).Value > 0
                && (entry[0].Returned & (readHangUp | PollEntry.Error | PollEntry.HangUp)) != 0;
        }
        catch (ObjectDisposedException)
        {
            return false;
        }
        finally
        {
            if (added)
            {
                handle.DangerousRelease();
            }
        }
    }

    private void TimeIsUp()
    {
        lock (_outside)
        {
            int before = Volatile.Read(ref _state);
            if (before is not (Owned or Begun)
                || Interlocked.CompareExchange(ref _state, Abandoned, before) != before)
            {
                return;
            }
            try
            {
                if (before == Owned && _socket.Poll(0, SelectMode.SelectWrite))
                {
                    if (_tls is null)
                    {
                        _socket.Send(_model.LateAnswer);
                    }
                    else
                    {
                        _tls.Send(_model.LateAnswer);
                        _tls.End();
                    }
                    _socket.Shutdown(SocketShutdown.Send);
                }
                else
                {
                    _socket.Shutdown(SocketShutdown.Both);
                }
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                // The client had gone.
            }
        }
        _counters.GaveUp();
        _counters.Stick(1);
        Tell(AppServerEventKind.TimedOut, 503);
        SignalAborted();
    }

    public override void Abort()
    {
        _keep = false;
        _broken = true;
        CutOff();
    }

    private void Tell(AppServerEventKind kind, int status = 0) =>
        _counters.Tell(kind, ConnectionNumber, _requests, -1, status);
}
