// A stream's state (RFC 9113 §5.1) as a value: two directions, each open or ended. Says what a frame does to it and
// what is wrong with one that must not come. And the numbers of streams (§5.1.1). Any thread, no memory.
namespace Weir.Protocol.Http2;

/// <summary>Which directions of a stream are open, and how it ended.</summary>
public struct StreamState
{
    [Flags]
    private enum Bits : byte
    {
        Idle = 0, Used = 1, LocalEnded = 2, RemoteEnded = 4, Reset = 8,
    }

    private Bits _bits;

    public readonly bool IsIdle => _bits == Bits.Idle;
    /// <summary>We have sent END_STREAM (or a reset came or went).</summary>
    public readonly bool LocalEnded => (_bits & (Bits.LocalEnded | Bits.Reset)) != 0;
    /// <summary>The peer has sent END_STREAM (or a reset came or went).</summary>
    public readonly bool RemoteEnded => (_bits & (Bits.RemoteEnded | Bits.Reset)) != 0;
    public readonly bool IsReset => (_bits & Bits.Reset) != 0;
    public readonly bool IsClosed => LocalEnded && RemoteEnded;
    /// <summary>Counts towards SETTINGS_MAX_CONCURRENT_STREAMS.</summary>
    public readonly bool IsActive => !IsIdle && !IsClosed;

    /// <summary>A HEADERS frame came: the first opens the stream, a later one must be trailers.</summary>
    public Http2Reason ReceiveHeaders(bool endStream)
    {
        if (RemoteEnded)
        {
            return Ended();
        }
        _bits |= Bits.Used | (endStream ? Bits.RemoteEnded : 0);
        return Http2Reason.None;
    }

    /// <summary>A DATA frame came (or its end, when it comes in pieces).</summary>
    public Http2Reason ReceiveData(bool endStream)
    {
        if (IsIdle)
        {
            return Http2Reason.StreamIdle;
        }
        if (RemoteEnded)
        {
            return Ended();
        }
        _bits |= endStream ? Bits.RemoteEnded : 0;
        return Http2Reason.None;
    }

    /// <summary>An RST_STREAM came.</summary>
    public Http2Reason ReceiveReset()
    {
        if (IsIdle)
        {
            return Http2Reason.StreamIdle;
        }
        _bits |= Bits.Reset;
        return Http2Reason.None;
    }

    /// <summary>A WINDOW_UPDATE came: fine on any stream that was ever used.</summary>
    public readonly Http2Reason ReceiveWindowUpdate() => IsIdle ? Http2Reason.StreamIdle : Http2Reason.None;

    /// <summary>HEADERS or DATA go out; the stream has not been ended here.</summary>
    public void Send(bool endStream) => _bits |= Bits.Used | (endStream ? Bits.LocalEnded : 0);

    /// <summary>An RST_STREAM goes out.</summary>
    public void SendReset() => _bits |= Bits.Used | Bits.Reset;

    private readonly Http2Reason Ended() =>
        (_bits & (Bits.LocalEnded | Bits.Reset)) == 0 ? Http2Reason.StreamHalfClosed : Http2Reason.StreamClosed;
}

/// <summary>The numbers of the streams that a client opens on a connection.</summary>
public struct StreamNumbers
{
    /// <summary>The highest stream opened so far, or 0.</summary>
    public uint Last { get; private set; }

    /// <summary>A client's HEADERS for a stream that is not known: it must be new.</summary>
    public Http2Reason Open(uint streamId)
    {
        if ((streamId & 1) == 0)
        {
            return Http2Reason.StreamIdEven;
        }
        if (streamId <= Last)
        {
            return Http2Reason.StreamClosed;
        }
        Last = streamId;
        return Http2Reason.None;
    }

    /// <summary>The stream was never opened. (Even ones never are: nothing is pushed.)</summary>
    public readonly bool IsIdle(uint streamId) => (streamId & 1) == 0 || streamId > Last;

    /// <summary>The number of a stream that we open as a client, or 0 when there is none left.</summary>
    public uint TakeNext()
    {
        uint next = Last == 0 ? 1 : Last + 2;
        if (next > Http2Limits.StreamIdMax)
        {
            return 0;
        }
        Last = next;
        return next;
    }
}
