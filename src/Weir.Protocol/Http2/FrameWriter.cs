// Writes HTTP/2 frames into memory of the caller's and says how many bytes they took. DATA and HEADERS are written as a
// head only: their payload stands behind it or travels as a slice of its own. Any thread, no memory of its own.
using System.Buffers.Binary;

namespace Weir.Protocol.Http2;

/// <summary>Writers of frames. The caller has room; the sizes are constants.</summary>
public static class FrameWriter
{
    public const int SettingBytes = 6;
    public const int PingBytes = Http2Limits.FrameHeaderBytes + 8;
    public const int WindowUpdateBytes = Http2Limits.FrameHeaderBytes + 4;
    public const int RstStreamBytes = Http2Limits.FrameHeaderBytes + 4;
    public const int GoAwayBytes = Http2Limits.FrameHeaderBytes + 8;

    public static int Header(Span<byte> to, FrameType type, FrameFlags flags, uint streamId, int length)
    {
        new FrameHeader(length, type, flags, streamId).Write(to);
        return Http2Limits.FrameHeaderBytes;
    }

    /// <summary>The head of a SETTINGS frame with so many settings, each written behind it by
    /// <see cref="Setting"/>.</summary>
    public static int Settings(Span<byte> to, int count) =>
        Header(to, FrameType.Settings, FrameFlags.None, 0, count * SettingBytes);

    public static int Setting(Span<byte> to, SettingId id, uint value)
    {
        BinaryPrimitives.WriteUInt16BigEndian(to, (ushort)id);
        BinaryPrimitives.WriteUInt32BigEndian(to[2..], value);
        return SettingBytes;
    }

    public static int SettingsAck(Span<byte> to) => Header(to, FrameType.Settings, FrameFlags.Ack, 0, 0);

    public static int Ping(Span<byte> to, bool ack, ulong opaque)
    {
        Header(to, FrameType.Ping, ack ? FrameFlags.Ack : FrameFlags.None, 0, 8);
        BinaryPrimitives.WriteUInt64BigEndian(to[Http2Limits.FrameHeaderBytes..], opaque);
        return PingBytes;
    }

    public static int WindowUpdate(Span<byte> to, uint streamId, int increment)
    {
        Header(to, FrameType.WindowUpdate, FrameFlags.None, streamId, 4);
        BinaryPrimitives.WriteInt32BigEndian(to[Http2Limits.FrameHeaderBytes..], increment);
        return WindowUpdateBytes;
    }

    public static int RstStream(Span<byte> to, uint streamId, Http2Error error)
    {
        Header(to, FrameType.RstStream, FrameFlags.None, streamId, 4);
        BinaryPrimitives.WriteUInt32BigEndian(to[Http2Limits.FrameHeaderBytes..], (uint)error);
        return RstStreamBytes;
    }

    /// <summary>Without debug data.</summary>
    public static int GoAway(Span<byte> to, uint lastStreamId, Http2Error error)
    {
        Header(to, FrameType.GoAway, FrameFlags.None, 0, 8);
        BinaryPrimitives.WriteUInt32BigEndian(to[Http2Limits.FrameHeaderBytes..], lastStreamId);
        BinaryPrimitives.WriteUInt32BigEndian(to[(Http2Limits.FrameHeaderBytes + 4)..], (uint)error);
        return GoAwayBytes;
    }
}
