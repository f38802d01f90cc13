// The first half of a handshake where a client sends data before it is over (TLS 1.3's 0-RTT, ssl_early_data): what it
// sent is read and answered at once, and the handshake is finished by the reads that follow. Whether a ClientHello is
// the first of its kind is asked of a guard that all workers share. One thread at a time.
using Weir.Kernel;

namespace Weir.Tls;

/// <summary>Knows every ClientHello with early data of the last moments: a second one with the same random is a
/// copy.</summary>
public interface ITlsReplayGuard
{
    /// <summary>Called inside of a handshake: must neither block nor throw. False also when it cannot know.</summary>
    bool IsFirst(ReadOnlySpan<byte> clientRandom);
}

public sealed unsafe partial class TlsSession
{
    private enum EarlyStep : byte
    {
        None,

        /// <summary>Early data is accepted if it comes.</summary>
        Asks,

        /// <summary>The client sends early data.</summary>
        Reads,

        /// <summary>It has sent all of it; the end of the handshake is missing.</summary>
        Finishes,
    }

    private EarlyStep _early;
    private byte _earlyByte;
    private bool _hasEarlyByte;

    /// <summary>What is being read or answered came before the client's side of the handshake was known to be
    /// fresh.</summary>
    public bool IsEarly => _early is EarlyStep.Reads or EarlyStep.Finishes;

    /// <summary>Called once: when a handshake that early data went ahead of is over, one way or the other.</summary>
    public Action? HandshakeEnded { get; set; }

    /// <summary>Takes early data where the context of the name allows it.</summary>
    public void TakeEarlyData() => _early = EarlyStep.Asks;

    private TlsStatus FinishHandshake()
    {
        int result = Native.SSL_do_handshake(_ssl);
        if (result != 1)
        {
            return Judge(result);
        }
        IsHandshakeDone = true;
        _early = EarlyStep.None;
        EndHandshake();
        return TlsStatus.Done;
    }

    private void EndHandshake()
    {
        Action? ended = HandshakeEnded;
        HandshakeEnded = null;
        ended?.Invoke();
    }

    private TlsStatus BeginEarly()
    {
        const int error = 0, success = 1;
        nuint count;
        byte first;
        // OpenSSL tells that there is early data only by giving some: one byte.
        switch (Native.SSL_read_early_data(_ssl, &first, 1, &count))
        {
            case error:
                return Judge(0);
            case success:
                _early = EarlyStep.Reads;
                _earlyByte = first;
                _hasEarlyByte = count == 1;
                return TlsStatus.Done;
            default:
                _early = EarlyStep.None;
                return FinishHandshake();
        }
    }

    /// <summary>Done with 0 bytes when the handshake is over and reading goes on as ever.</summary>
    private TlsStatus ReadEarly(NativeSlice into, out int count)
    {
        const int error = 0, success = 1;
        count = 0;
        if (_hasEarlyByte)
        {
            _hasEarlyByte = false;
            *into.Pointer = _earlyByte;
            count = 1;
            return TlsStatus.Done;
        }
        if (_early == EarlyStep.Reads)
        {
            nuint read;
            switch (Native.SSL_read_early_data(_ssl, into.Pointer, (nuint)into.Length, &read))
            {
                case error:
                    return Judge(0);
                case success:
                    count = (int)read;
                    return TlsStatus.Done;
                default:
                    _early = EarlyStep.Finishes;
                    break;
            }
        }
        return FinishHandshake();
    }

    private int WriteEarly(NativeSlice from)
    {
        nuint written;
        return Native.SSL_write_early_data(_ssl, from.Pointer, (nuint)from.Length, &written);
    }
}

public sealed unsafe partial class TlsContext
{
    /// <summary>Bytes of early data at most: what one record carries.</summary>
    private const uint EarlyBytesMax = 16 * 1024;

    internal ITlsReplayGuard? ReplayGuard { get; private set; }

    /// <summary>Accepts early data (TLS 1.3) from clients that resume, as long as the guard knows no copy of their
    /// ClientHello.</summary>
    public void AcceptEarlyData(ITlsReplayGuard guard)
    {
        ReplayGuard = guard;
        Native.SSL_CTX_set_max_early_data(_ctx, EarlyBytesMax);
        Native.SSL_CTX_set_allow_early_data_cb(_ctx,
            (nint)(delegate* unmanaged<nint, nint, int>)&TlsCallbacks.AllowEarlyData, 0);
    }
}
