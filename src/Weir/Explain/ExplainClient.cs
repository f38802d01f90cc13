// The client of an explained request: its bytes on a simulated connection, through TLS where the address speaks it.
// On the thread of the simulated loop; its memory is its own.
using Weir.Kernel;
using Weir.Loop;
using Weir.Tls;

namespace Weir.Explain;

internal sealed class ExplainClient : IDisposable
{
    private const int RoomBytes = 64 * 1024;

    private readonly InMemoryLoop _loop;
    private readonly InMemoryPeer _peer;
    private readonly NativeArena _memory = new();
    private readonly TlsContext? _context;
    private readonly TlsSession? _tls;
    private readonly NativeSlice _in;
    private readonly NativeSlice _out;
    private readonly List<byte> _received = [];

    public ExplainClient(InMemoryLoop loop, InMemoryPeer peer, string? tlsName)
    {
        _loop = loop;
        _peer = peer;
        if (tlsName is null)
        {
            return;
        }
        _in = _memory.Allocate(RoomBytes);
        _out = _memory.Allocate(RoomBytes);
        _context = TlsContext.Create(TlsProtocols.Tls12 | TlsProtocols.Tls13, out string? _);
        if (_context is null)
        {
            return;
        }
        _context.FinishClient(resumes: false);
        _tls = TlsSession.Connect(_context);
        if (!SocketAddress.TryParse(tlsName + ":443", 443, out SocketAddress? _, out string _))
        {
            _tls?.AskFor(tlsName);
        }
    }

    /// <summary>What came: the answer's bytes as far as they are there.</summary>
    public byte[] Received => [.. _received];

    public bool IsOver => _peer.Available == 0 && (_peer.IsEnded || _peer.IsReset || _peer.IsRefused);

    /// <summary>Shakes hands where TLS is spoken, and sends the request. What is wrong, or null.</summary>
    public string? Send(byte[] request)
    {
        if (_tls is null)
        {
            _peer.Send(request);
            return _context is null && _in.Length > 0 ? "no TLS on this machine" : null;
        }
        while (_tls.Handshake() is var status && status != TlsStatus.Done)
        {
            SendRecords();
            if (status != TlsStatus.NeedsInput || !Feed())
            {
                return "the TLS handshake fails" + (_tls.Error.Length > 0 ? ": " + _tls.Error : "");
            }
        }
        SendRecords();
        NativeSlice bytes = _memory.Store(request);
        for (TlsStatus status = TlsStatus.NeedsRoom; status == TlsStatus.NeedsRoom;)
        {
            status = _tls.Write(bytes, _out, out int written);
            _peer.Send(_out.Slice(0, written).Span);
        }
        return null;
    }

    /// <summary>Takes what has come.</summary>
    public void Take()
    {
        if (_tls is null)
        {
            _received.AddRange(_peer.Read());
            return;
        }
        do
        {
            while (_tls.Read(_out, out int count) == TlsStatus.Done)
            {
                _received.AddRange(_out.Slice(0, count).Span);
            }
        }
        while (_tls.InputLeft == 0 && _peer.Available > 0 && Feed());
    }

    private bool Feed()
    {
        _loop.RunUntil(() => _peer.Available > 0 || IsOver);
        byte[] bytes = _peer.Read(RoomBytes);
        if (bytes.Length == 0)
        {
            return false;
        }
        bytes.CopyTo(_in.Span);
        _tls!.Feed(_in.Slice(0, bytes.Length));
        return true;
    }

    private void SendRecords()
    {
        if (_tls!.HasRecords)
        {
            _peer.Send(_tls.Records.Span);
            _tls.TakeRecords();
        }
    }

    public void Dispose()
    {
        _tls?.Dispose();
        _context?.Dispose();
        _memory.Dispose();
    }
}
