// FastCGI records in both directions. The writer fills spans of the caller's; the reader is resumable at every byte,
// copies nothing, and says which of the bytes it was given are output. One request per connection (id 1), as nginx
// does.
using System.Buffers.Binary;
using Weir.Protocol.Http1;

namespace Weir.Protocol.FastCgi;

/// <summary>Record types.</summary>
public enum FastCgiType : byte
{
    None, BeginRequest, AbortRequest, EndRequest, Params, Stdin, Stdout, Stderr, Data, GetValues, GetValuesResult,
}

/// <summary>Writes records.</summary>
public static class FastCgiWriter
{
    public const int HeaderLength = 8;
    public const int BeginRequestLength = 16;
    /// <summary>The most content one record carries.</summary>
    public const int ContentMax = 65535;
    public const ushort RequestId = 1;

    /// <summary>The record that opens a request to a responder.</summary>
    public static int WriteBeginRequest(bool keepConnection, Span<byte> destination)
    {
        WriteHeader(FastCgiType.BeginRequest, 8, 0, destination);
        Span<byte> body = destination[HeaderLength..BeginRequestLength];
        body.Clear();
        body[1] = 1;
        body[2] = keepConnection ? (byte)1 : (byte)0;
        return BeginRequestLength;
    }

    /// <summary>A record's header; content and padding follow. With no content it ends its stream.</summary>
    public static int WriteHeader(FastCgiType type, int contentLength, int padding, Span<byte> destination)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan((uint)contentLength, (uint)ContentMax);
        destination[0] = 1;
        destination[1] = (byte)type;
        BinaryPrimitives.WriteUInt16BigEndian(destination[2..], RequestId);
        BinaryPrimitives.WriteUInt16BigEndian(destination[4..], (ushort)contentLength);
        destination[6] = (byte)padding;
        destination[7] = 0;
        return HeaderLength;
    }

    /// <summary>Padding that brings a content to a multiple of eight.</summary>
    public static int Padding(int contentLength) => -contentLength & 7;

    /// <summary>Bytes that a parameter takes in a Params stream.</summary>
    public static int ParamLength(int nameLength, int valueLength) =>
        (nameLength > 127 ? 4 : 1) + (valueLength > 127 ? 4 : 1) + nameLength + valueLength;

    /// <summary>Writes a parameter (lengths, name, value) and returns its bytes.</summary>
    public static int WriteParam(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, Span<byte> destination)
    {
        int n = WriteParamLengths(name.Length, value.Length, destination);
        name.CopyTo(destination[n..]);
        value.CopyTo(destination[(n + name.Length)..]);
        return n + name.Length + value.Length;
    }

    /// <summary>Writes the lengths in front of a parameter and returns their bytes.</summary>
    public static int WriteParamLengths(int nameLength, int valueLength, Span<byte> destination)
    {
        int n = WriteLength(nameLength, destination);
        return n + WriteLength(valueLength, destination[n..]);
    }

    private static int WriteLength(int length, Span<byte> destination)
    {
        if (length <= 127)
        {
            destination[0] = (byte)length;
            return 1;
        }
        BinaryPrimitives.WriteUInt32BigEndian(destination, (uint)length | 0x8000_0000);
        return 4;
    }
}

/// <summary>What a call to the reader produced.</summary>
public enum FastCgiEvent : byte
{
    /// <summary>All bytes are consumed and more are wanted.</summary>
    NeedMore,
    /// <summary>A run of standard output; call again with what follows it.</summary>
    Stdout,
    /// <summary>A run of standard error.</summary>
    Stderr,
    /// <summary>An empty Stdout record: the output is complete.</summary>
    StdoutEnd,
    /// <summary>EndRequest came, padding included: the exchange is over.</summary>
    End,
    /// <summary>The bytes are no FastCGI, or not for this request.</summary>
    Reject,
}

/// <summary>Why a stream of records was refused.</summary>
public enum FastCgiFault : byte
{
    None, Version, Type, RequestId, EndRequestLength,
}

/// <summary>Reads the records of one answer.</summary>
public struct FastCgiReader
{
    private enum Phase : byte
    {
        Header, Content, Padding, Ended,
    }

    private Phase _phase;
    private int _have;
    private ulong _header;
    private ulong _endBody;
    private int _content;
    private int _padding;
    private FastCgiType _type;

    public FastCgiFault Fault { get; private set; }
    /// <summary>The application's exit status, once ended.</summary>
    public uint AppStatus { get; private set; }
    /// <summary>0 when the request was carried out, once ended.</summary>
    public byte ProtocolStatus { get; private set; }
    public readonly bool IsEnded => _phase == Phase.Ended;

    public void Reset() => this = default;

    /// <summary>Reads on. <paramref name="consumed"/> bytes are done with; <paramref name="data"/> is the run of output
    /// within them for Stdout and Stderr.</summary>
    public FastCgiEvent Read(ReadOnlySpan<byte> input, out int consumed, out TextRange data)
    {
        data = default;
        int i = 0;
        FastCgiEvent result = FastCgiEvent.NeedMore;
        while (result == FastCgiEvent.NeedMore)
        {
            if (_phase == Phase.Ended)
            {
                result = FastCgiEvent.End;
            }
            else if (Fault != FastCgiFault.None)
            {
                result = FastCgiEvent.Reject;
            }
            else if (_phase == Phase.Padding && _padding == 0)
            {
                FinishRecord(ref result);
            }
            else if (i >= input.Length)
            {
                break;
            }
            else if (_phase == Phase.Header)
            {
                _header = _header << 8 | input[i++];
                if (++_have == FastCgiWriter.HeaderLength)
                {
                    result = TakeHeader();
                }
            }
            else if (_phase == Phase.Padding)
            {
                int skip = Math.Min(_padding, input.Length - i);
                i += skip;
                _padding -= skip;
            }
            else if (_type == FastCgiType.EndRequest)
            {
                _endBody = _endBody << 8 | input[i++];
                _phase = --_content == 0 ? Phase.Padding : Phase.Content;
            }
            else
            {
                int run = Math.Min(_content, input.Length - i);
                data = new TextRange(i, run);
                i += run;
                _content -= run;
                _phase = _content == 0 ? Phase.Padding : Phase.Content;
                result = _type == FastCgiType.Stdout ? FastCgiEvent.Stdout : FastCgiEvent.Stderr;
            }
        }
        consumed = i;
        return result;
    }

    private FastCgiEvent TakeHeader()
    {
        ulong h = _header;
        _type = (FastCgiType)(byte)(h >> 48);
        _content = (ushort)(h >> 16);
        _padding = (byte)(h >> 8);
        Fault = h >> 56 != 1 ? FastCgiFault.Version
            : _type is not (FastCgiType.Stdout or FastCgiType.Stderr or FastCgiType.EndRequest) ? FastCgiFault.Type
            : (ushort)(h >> 32) != FastCgiWriter.RequestId ? FastCgiFault.RequestId
            : _type == FastCgiType.EndRequest && _content != 8 ? FastCgiFault.EndRequestLength
            : FastCgiFault.None;
        if (Fault != FastCgiFault.None)
        {
            return FastCgiEvent.Reject;
        }
        _phase = _content == 0 ? Phase.Padding : Phase.Content;
        return _content == 0 && _type == FastCgiType.Stdout ? FastCgiEvent.StdoutEnd : FastCgiEvent.NeedMore;
    }

    private void FinishRecord(ref FastCgiEvent result)
    {
        _have = 0;
        _header = 0;
        if (_type != FastCgiType.EndRequest)
        {
            _phase = Phase.Header;
            return;
        }
        _phase = Phase.Ended;
        AppStatus = (uint)(_endBody >> 32);
        ProtocolStatus = (byte)(_endBody >> 24);
        result = FastCgiEvent.End;
    }
}
