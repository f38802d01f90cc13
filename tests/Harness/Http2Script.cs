// HTTP/2 for scripted upstreams, by hand and without compression, so that it shares no code with what it tests: frames
// are read and written as bytes, header blocks are literals; only what a proxy sends is decoded with Weir's decoder.
using System.Buffers.Binary;
using System.Text;
using Weir.Protocol.Http2;

namespace Weir.Tests.Harness;

/// <summary>A frame as it came.</summary>
public sealed record ScriptFrame(byte Type, byte Flags, int Stream, byte[] Payload)
{
    public const byte Data = 0, Headers = 1, RstStream = 3, Settings = 4, Ping = 6, GoAway = 7, WindowUpdate = 8;

    public bool EndsStream => Type <= Headers && (Flags & 1) != 0;
}

/// <summary>The server's side of one HTTP/2 connection.</summary>
public sealed class Http2Script
{
    private readonly UpstreamConnection _connection;
    private byte[] _pending = [];

    /// <summary>Reads the preface and says hello, with settings as (number, value).</summary>
    public Http2Script(UpstreamConnection connection, params (ushort Id, uint Value)[] settings)
    {
        _connection = connection;
        byte[] preface = Take(24);
        if (!preface.AsSpan().SequenceEqual("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"u8))
        {
            throw new IOException("no HTTP/2 preface");
        }
        byte[] payload = new byte[settings.Length * 6];
        for (int i = 0; i < settings.Length; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(payload.AsSpan(i * 6), settings[i].Id);
            BinaryPrimitives.WriteUInt32BigEndian(payload.AsSpan(i * 6 + 2), settings[i].Value);
        }
        Send(ScriptFrame.Settings, 0, 0, payload);
    }

    /// <summary>The next frame of any kind.</summary>
    public ScriptFrame ReadAny()
    {
        byte[] head = Take(9);
        int length = head[0] << 16 | head[1] << 8 | head[2];
        int stream = BinaryPrimitives.ReadInt32BigEndian(head.AsSpan(5)) & int.MaxValue;
        return new ScriptFrame(head[3], head[4], stream, Take(length));
    }

    /// <summary>The next HEADERS or DATA; SETTINGS are acknowledged, the rest is skipped.</summary>
    public ScriptFrame Read()
    {
        while (true)
        {
            ScriptFrame frame = ReadAny();
            if (frame is { Type: ScriptFrame.Settings, Flags: 0 })
            {
                Send(ScriptFrame.Settings, 1, 0, []);
            }
            else if (frame.Type <= ScriptFrame.Headers)
            {
                return frame;
            }
        }
    }

    /// <summary>Reads until a request's stream has ended; its number.</summary>
    public int ReadRequest(out byte[] body)
    {
        var bytes = new List<byte>();
        while (true)
        {
            ScriptFrame frame = Read();
            if (frame.Type == ScriptFrame.Data)
            {
                bytes.AddRange(frame.Payload);
            }
            if (frame.EndsStream)
            {
                body = [.. bytes];
                return frame.Stream;
            }
        }
    }

    /// <summary>The fields of a HEADERS frame, "name: value".</summary>
    public string[] Fields(ScriptFrame head)
    {
        var sink = new Sink([]);
        // Padding and the priority of old come before the block.
        const int padded = 8, priority = 0x20;
        int start = ((head.Flags & padded) != 0 ? 1 : 0) + ((head.Flags & priority) != 0 ? 5 : 0);
        int end = head.Payload.Length - ((head.Flags & padded) != 0 ? head.Payload[0] : 0);
        Http2Reason reason = _decoder.Decode(head.Payload[start..end], new byte[64 * 1024], int.MaxValue, ref sink);
        return reason == Http2Reason.None ? [.. sink.Fields] : throw new IOException($"a bad header block: {reason}");
    }

    private readonly HpackDecoder _decoder = new();

    private readonly struct Sink(List<string> fields) : IHpackSink
    {
        public List<string> Fields => fields;

        public void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, int staticName, bool sensitive) =>
            fields.Add($"{Encoding.Latin1.GetString(name)}: {Encoding.Latin1.GetString(value)}");
    }

    /// <summary>Lets as much more come, on the stream and on the connection.</summary>
    public void Open(int stream, int bytes)
    {
        Send(ScriptFrame.WindowUpdate, 0, stream, Word((uint)bytes));
        Send(ScriptFrame.WindowUpdate, 0, 0, Word((uint)bytes));
    }

    public void Send(byte type, byte flags, int stream, byte[] payload)
    {
        byte[] bytes = new byte[9 + payload.Length];
        BinaryPrimitives.WriteInt32BigEndian(bytes, payload.Length << 8 | type);
        bytes[4] = flags;
        BinaryPrimitives.WriteInt32BigEndian(bytes.AsSpan(5), stream);
        payload.CopyTo(bytes, 9);
        _connection.Send(bytes);
    }

    /// <summary>HEADERS with these fields: "name: value".</summary>
    public void Head(int stream, bool end, params string[] fields) =>
        Send(ScriptFrame.Headers, (byte)(end ? 5 : 4), stream, Block(fields));

    public void Data(int stream, bool end, string text) =>
        Send(ScriptFrame.Data, (byte)(end ? 1 : 0), stream, Encoding.Latin1.GetBytes(text));

    /// <summary>A whole answer.</summary>
    public void Answer(int stream, string text)
    {
        Head(stream, false, ":status: 200");
        Data(stream, true, text);
    }

    public void Reset(int stream, uint error) => Send(ScriptFrame.RstStream, 0, stream, Word(error));

    public void GoAway(int last, uint error) => Send(ScriptFrame.GoAway, 0, 0, [.. Word((uint)last), .. Word(error)]);

    private static byte[] Word(uint value)
    {
        byte[] bytes = new byte[4];
        BinaryPrimitives.WriteUInt32BigEndian(bytes, value);
        return bytes;
    }

    private static byte[] Block(string[] fields)
    {
        var block = new List<byte>();
        foreach (string field in fields)
        {
            int colon = field.IndexOf(": ", StringComparison.Ordinal);
            byte[] name = Encoding.Latin1.GetBytes(field[..colon]);
            byte[] value = Encoding.Latin1.GetBytes(field[(colon + 2)..]);
            // Literals without indexing, with lengths below 127.
            block.AddRange([0, (byte)name.Length, .. name, (byte)value.Length, .. value]);
        }
        return [.. block];
    }

    private byte[] Take(int count)
    {
        while (_pending.Length < count)
        {
            byte[] more = _connection.Read();
            if (more.Length == 0)
            {
                throw new IOException("the connection ended");
            }
            _pending = [.. _pending, .. more];
        }
        byte[] taken = _pending[..count];
        _pending = _pending[count..];
        return taken;
    }
}
