// What one end of an HTTP/2 connection says, looked at strictly: frames, their order, header blocks, windows. Whatever
// the other end has done, nothing here may be broken. Belongs to one run of the frame fuzzer.
using System.Buffers.Binary;
using System.Globalization;
using System.Text;
using Weir.Protocol.Http2;

namespace Weir.Tests.Simulation;

/// <summary>What came on one stream.</summary>
internal sealed class HeardStream
{
    internal int Status { get; set; }
    internal long Length { get; set; } = -1;
    internal long Bytes { get; set; }
    internal bool HasHead { get; set; }
    internal bool IsEnded { get; set; }
    internal bool IsReset { get; set; }
    internal Http2Error Error { get; set; }
    internal bool IsOver => IsEnded || IsReset;
}

/// <summary>Reads what a server says to a client.</summary>
internal sealed class Http2Ear
{
    // The largest table that a script ever allows; a smaller one that the server keeps has the same newest entries.
    private readonly HpackDecoder _decoder = new(16 * 1024 - 1);
    private readonly byte[] _scratch = new byte[64 * 1024];
    private readonly List<byte> _pending = [];
    private readonly List<byte> _block = [];
    private int _blockStream;
    private bool _blockEnds;
    private bool _hasSettings;
    private bool _isHttp1;

    internal Dictionary<int, HeardStream> Streams { get; } = [];

    /// <summary>What was wrong; the first thing is enough.</summary>
    internal string? Wrong { get; private set; }

    internal List<Http2Error> GoAways { get; } = [];

    /// <summary>DATA bytes of all streams.</summary>
    internal long DataBytes { get; private set; }

    /// <summary>DATA bytes that the client has allowed on the connection; negative for "not counted".</summary>
    internal long AllowedBytes { get; set; } = -1;

    /// <summary>Settings that were acknowledged, and PINGs that were answered.</summary>
    internal int Acknowledged { get; private set; }
    internal int Pongs { get; private set; }

    internal int Taken { get; private set; }

    internal bool IsHttp1 => _isHttp1;

    internal void Take(ReadOnlySpan<byte> bytes)
    {
        Taken += bytes.Length;
        if (Wrong is not null || _isHttp1)
        {
            return;
        }
        _pending.AddRange(bytes);
        if (!_hasSettings && _pending.Count >= 5 && _pending[0] == 'H' && _pending[1] == 'T')
        {
            // A broken preface may be a request of HTTP/1, which gets its answer.
            _isHttp1 = true;
            return;
        }
        while (Wrong is null && _pending.Count >= Http2Limits.FrameHeaderBytes)
        {
            var head = FrameHeader.Read([.. _pending[..Http2Limits.FrameHeaderBytes]]);
            if (_pending.Count < Http2Limits.FrameHeaderBytes + head.Length)
            {
                break;
            }
            byte[] payload = [.. _pending.GetRange(Http2Limits.FrameHeaderBytes, head.Length)];
            _pending.RemoveRange(0, Http2Limits.FrameHeaderBytes + head.Length);
            Wrong = Look(head, payload) is { } wrong ? $"{head}: {wrong}" : null;
        }
    }

    private string? Look(FrameHeader head, byte[] payload)
    {
        int id = (int)head.StreamId;
        if (!_hasSettings && head.Type != FrameType.Settings)
        {
            return "comes before SETTINGS";
        }
        if (_blockStream != 0 && (head.Type != FrameType.Continuation || id != _blockStream))
        {
            return "comes within a header block";
        }
        if (head.Length > Http2Limits.FrameSizeDefault)
        {
            return "is larger than 16384";
        }
        switch (head.Type)
        {
            case FrameType.Settings:
                _hasSettings = true;
                Acknowledged += head.Has(FrameFlags.Ack) ? 1 : 0;
                return id != 0 ? "is on a stream" : head.Length % 6 != 0 ? "has an odd length" : null;
            case FrameType.Ping:
                Pongs += head.Has(FrameFlags.Ack) ? 1 : 0;
                return id != 0 ? "is on a stream" : head.Length != 8 ? "has an odd length" : null;
            case FrameType.GoAway:
                GoAways.Add((Http2Error)BinaryPrimitives.ReadUInt32BigEndian(payload.AsSpan(4)));
                return id != 0 ? "is on a stream" : null;
            case FrameType.WindowUpdate:
                return head.Length != 4 || BinaryPrimitives.ReadUInt32BigEndian(payload) == 0 ? "is malformed" : null;
            case FrameType.RstStream:
                HeardStream reset = Of(id);
                if (reset.IsReset)
                {
                    return "is the second";
                }
                reset.IsReset = true;
                reset.Error = (Http2Error)BinaryPrimitives.ReadUInt32BigEndian(payload);
                return head.Length != 4 ? "has an odd length" : null;
            case FrameType.Headers:
            case FrameType.Continuation:
                return LookAtHeaders(head, payload, id);
            case FrameType.Data:
                return LookAtData(head, Of(id));
            default:
                return "is nothing that a server sends";
        }
    }

    private HeardStream Of(int id)
    {
        if (!Streams.TryGetValue(id, out HeardStream? stream))
        {
            Streams[id] = stream = new HeardStream();
        }
        return stream;
    }

    private string? LookAtData(FrameHeader head, HeardStream stream)
    {
        if (stream.IsOver || !stream.HasHead)
        {
            return stream.IsOver ? "comes after the stream's end" : "comes before the head";
        }
        stream.Bytes += head.Length;
        DataBytes += head.Length;
        stream.IsEnded = head.EndsStream;
        return AllowedBytes >= 0 && DataBytes > AllowedBytes ? $"is beyond the window: {DataBytes} of {AllowedBytes}"
            : stream.Length >= 0 && stream.Bytes > stream.Length ? "is more than content-length" : null;
    }

    private string? LookAtHeaders(FrameHeader head, byte[] payload, int id)
    {
        if (head.Type == FrameType.Headers)
        {
            if ((id & 1) == 0 || Of(id).IsOver)
            {
                return "is on a stream that is over or was never begun";
            }
            _blockStream = id;
            _blockEnds = head.EndsStream;
        }
        else if (_blockStream == 0)
        {
            return "continues nothing";
        }
        _block.AddRange(payload);
        if (!head.Has(FrameFlags.EndHeaders))
        {
            return null;
        }
        _blockStream = 0;
        var sink = new Sink([]);
        Http2Reason reason = _decoder.Decode([.. _block], _scratch, int.MaxValue, ref sink);
        _block.Clear();
        if (reason != Http2Reason.None)
        {
            return $"cannot be decoded: {reason}";
        }
        HeardStream stream = Of(id);
        string? status = sink.Fields.FirstOrDefault(static f => f.Name == ":status").Value;
        if (stream.HasHead)
        {
            stream.IsEnded = _blockEnds;
            return status is not null ? "has a status in trailers" : !_blockEnds ? "are trailers without an end" : null;
        }
        if (status is null || !int.TryParse(status, CultureInfo.InvariantCulture, out int code))
        {
            return "has no status";
        }
        if (code >= 200)
        {
            stream.HasHead = true;
            stream.Status = code;
            stream.IsEnded = _blockEnds;
            string? length = sink.Fields.FirstOrDefault(static f => f.Name == "content-length").Value;
            stream.Length = length is null ? -1 : long.Parse(length, CultureInfo.InvariantCulture);
        }
        return code < 200 && _blockEnds ? "is interim and ends the stream" : null;
    }

    private readonly struct Sink(List<(string Name, string Value)> fields) : IHpackSink
    {
        internal List<(string Name, string Value)> Fields => fields;

        public void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int staticName, bool sensitive) =>
            fields.Add((Encoding.Latin1.GetString(name), Encoding.Latin1.GetString(value)));
    }
}
