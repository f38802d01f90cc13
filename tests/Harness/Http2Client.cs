// A client that speaks HTTP/2 frame by frame: sends exactly the bytes a test gives it, header blocks as literals
// without Huffman coding, and shows each frame that comes. What a polite client would do by itself (acknowledge
// settings, open windows) it does only when a test lets it read a whole answer.
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Weir.Protocol.Http2;

namespace Weir.Tests.Harness;

/// <summary>A frame as it came.</summary>
public sealed record Http2Frame(FrameType Type, FrameFlags Flags, int StreamId, byte[] Payload)
{
    public bool Has(FrameFlags flag) => (Flags & flag) != 0;

    public bool EndsStream => Type is FrameType.Data or FrameType.Headers && Has(FrameFlags.EndStream);

    /// <summary>The error code of RST_STREAM and GOAWAY.</summary>
    public Http2Error Error => (Http2Error)BinaryPrimitives.ReadUInt32BigEndian(
        Payload.AsSpan(Type == FrameType.GoAway ? 4 : 0));

    public int LastStreamId => (int)BinaryPrimitives.ReadUInt32BigEndian(Payload);

    public override string ToString() => Type switch
    {
        FrameType.RstStream or FrameType.GoAway => $"{Type} {Http2Errors.Name(Error)} on {StreamId}",
        _ => $"{Type} [{(int)Flags:x}] on {StreamId}, {Payload.Length} bytes",
    };
}

/// <summary>An answer on one stream.</summary>
public sealed class Http2Answer
{
    /// <summary>Header lists in the order they came: interim ones, the head, trailers.</summary>
    public List<List<(string Name, string Value)>> Heads { get; } = [];

    public List<byte> Body { get; } = [];

    /// <summary>The error code of a RST_STREAM that ended it; null for an orderly end.</summary>
    public Http2Error? Reset { get; internal set; }

    public bool IsComplete { get; internal set; }

    public List<(string Name, string Value)> Head => Heads.First(h => !this.StatusOf(h).StartsWith('1'));

    public int Status => int.Parse(StatusOf(Head), System.Globalization.CultureInfo.InvariantCulture);

    public string Text => Encoding.Latin1.GetString([.. Body]);

    /// <summary>Fields after the body; empty when there were none.</summary>
    public List<(string Name, string Value)> Trailers => Heads.Count > 1 && Heads[^1] != Head ? Heads[^1] : [];

    public string? this[string name] => Head.Where(f => f.Name == name).Select(f => f.Value).FirstOrDefault();

    private string StatusOf(List<(string Name, string Value)> head) =>
        head.FirstOrDefault(f => f.Name == ":status").Value ?? "";
}

/// <summary>A raw HTTP/2 client.</summary>
public sealed class Http2Client : IDisposable
{
    public const int TimeoutMs = 30_000;

    private readonly Stream _stream;
    private readonly HpackDecoder _decoder = new();
    private readonly List<byte> _block = [];
    private readonly Dictionary<int, Http2Answer> _answers = [];
    private byte[] _pending = [];
    private int _nextStream = 1;
    private int _ending;

    private Http2Client(Stream stream)
    {
        _stream = stream;
        _stream.ReadTimeout = TimeoutMs;
    }

    /// <summary>The peer ended the connection.</summary>
    public bool IsEnded { get; private set; }

    /// <summary>The GOAWAY that came last, or null.</summary>
    public Http2Frame? GoAway { get; private set; }

    /// <summary>Settings the server sent.</summary>
    public Dictionary<SettingId, uint> ServerSettings { get; } = [];

    /// <summary>Connects without a preface.</summary>
    public static Http2Client ConnectRaw(int port, IPAddress? address = null)
    {
        var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Connect(address ?? IPAddress.Loopback, port);
        return new Http2Client(new NetworkStream(socket, ownsSocket: true));
    }

    /// <summary>Connects with prior knowledge, and sends the preface and SETTINGS.</summary>
    public static Http2Client Connect(int port, params (SettingId Id, uint Value)[] settings) =>
        ConnectRaw(port).SendPreface(settings);

    /// <summary>Connects over TLS with ALPN, and sends the preface and SETTINGS.</summary>
    public static Http2Client ConnectTls(int port, params (SettingId Id, uint Value)[] settings) =>
        new Http2Client(TlsClient.Connect(port, alpn: ["h2"]).Stream).SendPreface(settings);

    public Http2Client SendPreface(params (SettingId Id, uint Value)[] settings) =>
        Send([.. Http2Limits.Preface, .. Settings(settings)]);

    // Frames.

    public static byte[] Frame(FrameType type, FrameFlags flags, int streamId, params ReadOnlySpan<byte> payload)
    {
        byte[] bytes = new byte[9 + payload.Length];
        new FrameHeader(payload.Length, type, flags, 0).Write(bytes);
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(5), streamId);
        payload.CopyTo(bytes.AsSpan(9));
        return bytes;
    }

    public static byte[] Settings(params (SettingId Id, uint Value)[] settings)
    {
        byte[] payload = new byte[settings.Length * 6];
        for (int i = 0; i < settings.Length; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(payload.AsSpan(i * 6), (ushort)settings[i].Id);
            BinaryPrimitives.WriteUInt32BigEndian(payload.AsSpan((i * 6) + 2), settings[i].Value);
        }

        return Frame(FrameType.Settings, FrameFlags.None, 0, payload);
    }

    public static byte[] SettingsAck() => Frame(FrameType.Settings, FrameFlags.Ack, 0);

    public static byte[] WindowUpdate(int streamId, uint increment) =>
        Frame(FrameType.WindowUpdate, FrameFlags.None, streamId, Word(increment));

    public static byte[] RstStream(int streamId, Http2Error error) =>
        Frame(FrameType.RstStream, FrameFlags.None, streamId, Word((uint)error));

    public static byte[] Ping(ulong opaque = 0)
    {
        byte[] payload = new byte[8];
        BinaryPrimitives.WriteUInt64BigEndian(payload, opaque);
        return Frame(FrameType.Ping, FrameFlags.None, 0, payload);
    }

    public static byte[] Data(int streamId, string text, bool end = true) => Frame(FrameType.Data,
        end ? FrameFlags.EndStream : FrameFlags.None, streamId, Encoding.Latin1.GetBytes(text));

    /// <summary>A HEADERS frame with END_HEADERS.</summary>
    public static byte[] Headers(int streamId, bool end, params string[] fields) => Frame(FrameType.Headers,
        FrameFlags.EndHeaders | (end ? FrameFlags.EndStream : FrameFlags.None), streamId, Block(fields));

    /// <summary>A header block of "name: value" literals that are not indexed.</summary>
    public static byte[] Block(params string[] fields)
    {
        List<byte> block = [];
        foreach (string field in fields)
        {
            int colon = field.IndexOf(": ", 1, StringComparison.Ordinal);
            block.Add(0x00);
            Text(block, field[..colon]);
            Text(block, field[(colon + 2)..]);
        }

        return [.. block];
    }

    /// <summary>A string without Huffman coding.</summary>
    public static void Text(List<byte> block, string text)
    {
        if (text.Length < 127)
        {
            block.Add((byte)text.Length);
        }
        else
        {
            block.Add(127);
            int rest = text.Length - 127;
            for (; rest >= 128; rest >>= 7)
            {
                block.Add((byte)(rest & 127 | 128));
            }

            block.Add((byte)rest);
        }

        block.AddRange(Encoding.Latin1.GetBytes(text));
    }

    public static byte[] Word(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }

    /// <summary>The fields of an ordinary request.</summary>
    public static string[] Request(string path, string method = "GET", params string[] more) =>
        [$":method: {method}", ":scheme: http", $":path: {path}", ":authority: localhost", .. more];

    // Sending.

    public Http2Client Send(params ReadOnlySpan<byte> bytes)
    {
        _stream.Write(bytes);
        return this;
    }

    /// <summary>Sends; a peer that has closed meanwhile is no error.</summary>
    public bool TrySend(byte[] bytes)
    {
        try
        {
            _stream.Write(bytes);
            return true;
        }
        catch (IOException)
        {
            return false;
        }
    }

    /// <summary>Begins a request on the next stream, whose number it returns.</summary>
    public int Begin(string path, string method = "GET", bool end = true, params string[] more)
    {
        int id = _nextStream;
        _nextStream += 2;
        Send(Headers(id, end, Request(path, method, more)));
        return id;
    }

    /// <summary>A request and its answer.</summary>
    public Http2Answer Get(string path, params string[] more) => ReadAnswer(Begin(path, "GET", true, more));

    public Http2Answer Post(string path, string body, params string[] more)
    {
        int id = Begin(path, "POST", false, more);
        return SendBody(id, body).ReadAnswer(id);
    }

    // Receiving.

    /// <summary>The next frame; null when the peer has ended.</summary>
    public Http2Frame? ReadFrame()
    {
        while (!IsEnded)
        {
            if (_pending.Length >= 9)
            {
                var header = FrameHeader.Read(_pending);
                if (_pending.Length >= 9 + header.Length)
                {
                    var frame = new Http2Frame(header.Type, header.Flags, (int)header.StreamId,
                        _pending[9..(9 + header.Length)]);
                    _pending = _pending[(9 + header.Length)..];
                    Note(frame);
                    return frame;
                }
            }

            Fill();
        }

        return null;
    }

    /// <summary>Reads on until a frame of this type comes, which it returns; null when the peer ends before.</summary>
    public Http2Frame? ReadUntil(FrameType type, int streamId = -1)
    {
        while (ReadFrame() is { } frame)
        {
            if (frame.Type == type && (streamId < 0 || frame.StreamId == streamId))
            {
                return frame;
            }
        }

        return null;
    }

    /// <summary>Reads the answer on a stream to its end, acknowledges settings and keeps the windows open.</summary>
    public Http2Answer ReadAnswer(int streamId, bool opensWindows = true)
    {
        while (!Answer(streamId).IsComplete)
        {
            Http2Frame? frame = ReadFrame();
            if (frame is null)
            {
                throw new EndOfStreamException($"the connection ended before the answer on {streamId}; {GoAway}");
            }

            if (frame.Type == FrameType.Settings && !frame.Has(FrameFlags.Ack))
            {
                TrySend(SettingsAck());
            }

            if (opensWindows && frame is { Type: FrameType.Data, Payload.Length: > 0 })
            {
                TrySend(WindowUpdate(0, (uint)frame.Payload.Length));
                if (!frame.EndsStream)
                {
                    TrySend(WindowUpdate(frame.StreamId, (uint)frame.Payload.Length));
                }
            }
        }

        return Answer(streamId);
    }

    /// <summary>What has come on a stream so far.</summary>
    public Http2Answer Answer(int streamId)
    {
        if (!_answers.TryGetValue(streamId, out Http2Answer? answer))
        {
            _answers[streamId] = answer = new Http2Answer();
        }

        return answer;
    }

    /// <summary>Forgets an answer that was looked at.</summary>
    public void Forget(int streamId) => _answers.Remove(streamId);

    /// <summary>Sends a PING and reads until its answer, twice: everything before it has been dealt with, and what
    /// followed of it at once has come.</summary>
    public Http2Client Settle() => PingPong(1).PingPong(2);

    private Http2Client PingPong(ulong opaque)
    {
        Send(Ping(opaque));
        while (ReadFrame() is { } frame)
        {
            if (frame.Type == FrameType.Ping && frame.Has(FrameFlags.Ack)
                && BinaryPrimitives.ReadUInt64BigEndian(frame.Payload) == opaque)
            {
                return this;
            }
        }

        throw new EndOfStreamException($"the connection ended before the answer to a PING; {GoAway}");
    }

    /// <summary>Sends a body in pieces as the server's windows allow, and ends the stream.</summary>
    public Http2Client SendBody(int streamId, string text)
    {
        while (ServerSettings.Count == 0 && ReadFrame() is not null)
        {
        }

        if (text.Length == 0)
        {
            return Send(Data(streamId, "", true));
        }

        for (int at = 0; at < text.Length;)
        {
            long stream = ServerSettings[SettingId.InitialWindowSize] + _grants.GetValueOrDefault(streamId) - at;
            long connection = Http2Limits.WindowDefault + _grants.GetValueOrDefault(0) - _sentBytes;
            int part = (int)Math.Min(Math.Min(text.Length - at, 10_000), Math.Min(stream, connection));
            if (part <= 0)
            {
                if (ReadUntil(FrameType.WindowUpdate) is null)
                {
                    throw new EndOfStreamException($"the connection ended before the window opened; {GoAway}");
                }

                continue;
            }

            Send(Data(streamId, text.Substring(at, part), at + part == text.Length));
            at += part;
            _sentBytes += part;
        }

        return this;
    }

    private readonly Dictionary<int, long> _grants = [];
    private long _sentBytes;

    private void Note(Http2Frame frame)
    {
        switch (frame.Type)
        {
            case FrameType.WindowUpdate:
                _grants[frame.StreamId] = _grants.GetValueOrDefault(frame.StreamId)
                    + BinaryPrimitives.ReadUInt32BigEndian(frame.Payload);
                break;
            case FrameType.Headers or FrameType.Continuation:
                int skipped = frame.Type == FrameType.Headers && frame.Has(FrameFlags.Priority) ? 5 : 0;
                _block.AddRange(frame.Payload.AsSpan(skipped));
                if (frame.Has(FrameFlags.EndHeaders))
                {
                    var sink = new Sink([]);
                    Http2Reason reason = _decoder.Decode([.. _block], new byte[64 * 1024], int.MaxValue, ref sink);
                    _block.Clear();
                    if (reason != Http2Reason.None)
                    {
                        throw new InvalidDataException($"the server's header block is malformed: {reason}");
                    }

                    Answer(frame.StreamId).Heads.Add(sink.Fields);
                }

                break;
            case FrameType.Data:
                Answer(frame.StreamId).Body.AddRange(frame.Payload);
                break;
            case FrameType.RstStream:
                Answer(frame.StreamId).Reset = frame.Error;
                Answer(frame.StreamId).IsComplete = true;
                break;
            case FrameType.GoAway:
                GoAway = frame;
                break;
            case FrameType.Settings when !frame.Has(FrameFlags.Ack):
                for (int i = 0; i < frame.Payload.Length; i += 6)
                {
                    ServerSettings[(SettingId)BinaryPrimitives.ReadUInt16BigEndian(frame.Payload.AsSpan(i))] =
                        BinaryPrimitives.ReadUInt32BigEndian(frame.Payload.AsSpan(i + 2));
                }

                break;
        }

        if (frame.EndsStream)
        {
            _ending = frame.StreamId;
        }

        if (_ending == frame.StreamId && _ending != 0 && _block.Count == 0)
        {
            Answer(frame.StreamId).IsComplete = true;
            _ending = 0;
        }
    }

    private readonly struct Sink(List<(string Name, string Value)> fields) : IHpackSink
    {
        public List<(string Name, string Value)> Fields => fields;

        public void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int staticName, bool sensitive) =>
            fields.Add((Encoding.Latin1.GetString(name), Encoding.Latin1.GetString(value)));
    }

    private void Fill()
    {
        byte[] buffer = new byte[64 * 1024];
        int count;
        try
        {
            count = _stream.Read(buffer);
        }
        catch (IOException e) when (e.InnerException is SocketException
            {
                SocketErrorCode: SocketError.ConnectionReset
            })
        {
            count = 0;
        }

        IsEnded = count == 0;
        _pending = [.. _pending, .. buffer.AsSpan(0, count)];
    }

    public void Dispose() => _stream.Dispose();
}
