// The nine bytes every HTTP/2 frame begins with (RFC 9113 §4.1), frame types, flags, setting numbers and the sizes the
// protocol fixes. Values only, any thread, no memory.
using System.Buffers.Binary;

namespace Weir.Protocol.Http2;

/// <summary>Frame types (RFC 9113 §6, RFC 9218 §7.1). Others are ignored.</summary>
public enum FrameType : byte
{
    Data = 0x0, Headers = 0x1, Priority = 0x2, RstStream = 0x3, Settings = 0x4, PushPromise = 0x5, Ping = 0x6,
    GoAway = 0x7, WindowUpdate = 0x8, Continuation = 0x9, PriorityUpdate = 0x10,
}

/// <summary>Frame flags. What a bit means depends on the type.</summary>
[Flags]
public enum FrameFlags : byte
{
    None = 0,
    /// <summary>DATA and HEADERS: the sender sends no more on this stream.</summary>
    EndStream = 0x1,
    /// <summary>SETTINGS and PING.</summary>
    Ack = 0x1,
    /// <summary>HEADERS and CONTINUATION: the header block ends here.</summary>
    EndHeaders = 0x4,
    Padded = 0x8,
    Priority = 0x20,
}

/// <summary>Settings (RFC 9113 §6.5.2, RFC 8441, RFC 9218).</summary>
public enum SettingId : ushort
{
    HeaderTableSize = 0x1, EnablePush = 0x2, MaxConcurrentStreams = 0x3, InitialWindowSize = 0x4, MaxFrameSize = 0x5,
    MaxHeaderListSize = 0x6, EnableConnectProtocol = 0x8, NoRfc7540Priorities = 0x9,
}

/// <summary>Sizes and bytes the protocol fixes.</summary>
public static class Http2Limits
{
    public const int FrameHeaderBytes = 9;
    public const int FrameSizeDefault = 16_384;
    public const int FrameSizeMax = (1 << 24) - 1;
    public const int WindowDefault = 65_535;
    public const int WindowMax = int.MaxValue;
    public const int TableSizeDefault = 4_096;
    public const uint StreamIdMax = 0x7fff_ffff;

    /// <summary>What a client sends before its first frame (RFC 9113 §3.4).</summary>
    public static ReadOnlySpan<byte> Preface => "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8;
}

/// <summary>The head of a frame.</summary>
public readonly struct FrameHeader(int length, FrameType type, FrameFlags flags, uint streamId)
{
    /// <summary>Bytes of payload that follow.</summary>
    public int Length { get; } = length;
    public uint StreamId { get; } = streamId;
    public FrameType Type { get; } = type;
    public FrameFlags Flags { get; } = flags;

    public bool Has(FrameFlags flag) => (Flags & flag) != 0;

    /// <summary>DATA or HEADERS with END_STREAM.</summary>
    public bool EndsStream => Type <= FrameType.Headers && Has(FrameFlags.EndStream);

    /// <summary>Reads nine bytes. The reserved bit is ignored (§4.1).</summary>
    public static FrameHeader Read(ReadOnlySpan<byte> bytes)
    {
        uint first = BinaryPrimitives.ReadUInt32BigEndian(bytes);
        uint stream = BinaryPrimitives.ReadUInt32BigEndian(bytes[5..]) & Http2Limits.StreamIdMax;
        return new FrameHeader((int)(first >> 8), (FrameType)(byte)first, (FrameFlags)bytes[4], stream);
    }

    /// <summary>Writes nine bytes.</summary>
    public void Write(Span<byte> to)
    {
        BinaryPrimitives.WriteUInt32BigEndian(to, (uint)Length << 8 | (byte)Type);
        to[4] = (byte)Flags;
        BinaryPrimitives.WriteUInt32BigEndian(to[5..], StreamId);
    }

    public override string ToString() => $"{Type} {Flags} stream {StreamId}, {Length} bytes";
}
