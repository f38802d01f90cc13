// Chunked transfer coding (RFC 9112 §7.1). The decoder is resumable at every byte, copies nothing and holds nothing: it
// says which of the bytes it was given are data. Strict: sizes are plain hexadecimal digits, every line ends in CR LF,
// extensions have their grammar and a limit, trailers are read as header lines.
namespace Weir.Protocol.Http1;

/// <summary>What a call to the decoder produced.</summary>
public enum ChunkEvent : byte
{
    /// <summary>All bytes are consumed and more are wanted.</summary>
    NeedMore,
    /// <summary>A run of body bytes; call again with what follows it.</summary>
    Data,
    /// <summary>The body is complete, trailers included.</summary>
    End,
    /// <summary>The bytes are no chunked body.</summary>
    Reject,
}

/// <summary>Decodes one chunked body. <see cref="Reset"/> before the first and between bodies.</summary>
public struct ChunkedDecoder
{
    private enum State : byte
    {
        SizeStart, Size, ExtensionStart, ExtensionName, AfterName, ValueStart, Value, Quoted, QuotedPair, AfterQuoted,
        Blank, SizeLf, Data, DataCr, DataLf, TrailerStart, Trailer, TrailerLf, EndLf, Ended, Failed,
    }

    private const long SizeMax = long.MaxValue >> 4;

    private State _state;
    private byte _fieldPart;
    private long _extensionBytes;
    private int _trailerBytes;

    /// <summary>Bytes of extensions (and of zeros before sizes) allowed beyond as many as there are body bytes: signed
    /// chunks pass for ever, a stream of nothing but extensions does not.</summary>
    public int ExtensionBytesMax { get; set; }
    /// <summary>Bytes of trailer lines allowed.</summary>
    public int TrailerBytesMax { get; set; }

    /// <summary>Bytes of the current chunk's data not seen yet.</summary>
    public long Remaining { get; private set; }
    /// <summary>Body bytes so far.</summary>
    public long BodyBytes { get; private set; }
    public RejectReason Reason { get; private set; }
    public readonly bool IsEnded => _state == State.Ended;
    /// <summary>The last chunk has come; what follows are trailers.</summary>
    public readonly bool InTrailers => _state is >= State.TrailerStart and <= State.EndLf;

    public ChunkedDecoder() => Reset();

    public void Reset()
    {
        _state = State.SizeStart;
        _fieldPart = 0;
        _extensionBytes = 0;
        _trailerBytes = 0;
        Remaining = 0;
        BodyBytes = 0;
        Reason = RejectReason.None;
        ExtensionBytesMax = ExtensionBytesMax == 0 ? 4096 : ExtensionBytesMax;
        TrailerBytesMax = TrailerBytesMax == 0 ? 8192 : TrailerBytesMax;
    }

    /// <summary>A hint how many bytes are at least to come: what nginx reads ahead by.</summary>
    public readonly long BytesToCome => _state switch
    {
        State.Data => Math.Min(Remaining, long.MaxValue - 7) + 7,
        State.Ended => 0,
        State.EndLf => 1,
        State.TrailerStart => 2,
        _ => 3,
    };

    /// <summary>Reads on. <paramref name="consumed"/> bytes of the input are done with (framing, and the data itself);
    /// <paramref name="data"/> is the run of body bytes within them for <see cref="ChunkEvent.Data"/>;
    /// <paramref name="trailers"/> is a piece of raw trailer lines among the bytes consumed (pieces in order, put
    /// together, are all trailer lines with their line ends).</summary>
    public ChunkEvent Decode(
        ReadOnlySpan<byte> input, out int consumed, out TextRange data, out TextRange trailers)
    {
        data = default;
        trailers = default;
        int trailerStart = -1;
        int i = 0;
        ChunkEvent result = ChunkEvent.NeedMore;
        while (i < input.Length)
        {
            if (_state == State.Data)
            {
                int run = (int)Math.Min(Remaining, input.Length - i);
                data = new TextRange(i, run);
                i += run;
                Remaining -= run;
                BodyBytes += run;
                if (Remaining == 0)
                {
                    _state = State.DataCr;
                }
                result = ChunkEvent.Data;
                break;
            }
            if (_state is State.Ended or State.Failed)
            {
                result = _state == State.Ended ? ChunkEvent.End : ChunkEvent.Reject;
                break;
            }
            if (_state == State.TrailerStart && trailerStart < 0 && input[i] != '\r')
            {
                trailerStart = i;
            }
            else if (_state is State.Trailer or State.TrailerLf && trailerStart < 0)
            {
                trailerStart = i;
            }
            bool wasTrailer = _state is State.TrailerStart or State.Trailer or State.TrailerLf;
            bool fine = wasTrailer ? StepTrailer(input[i]) : StepFraming(input[i]);
            if (!fine)
            {
                _state = State.Failed;
                if (Reason == RejectReason.None)
                {
                    Reason = wasTrailer ? RejectReason.InvalidTrailer : RejectReason.InvalidChunk;
                }
                result = ChunkEvent.Reject;
                break;
            }
            if (_state == State.EndLf && trailerStart >= 0)
            {
                trailers = new TextRange(trailerStart, i - trailerStart);
                trailerStart = -1;
            }
            i++;
            if (_state == State.Ended)
            {
                result = ChunkEvent.End;
                break;
            }
        }
        if (trailerStart >= 0)
        {
            trailers = new TextRange(trailerStart, i - trailerStart);
        }
        if (input.IsEmpty && _state is State.Ended or State.Failed)
        {
            result = _state == State.Ended ? ChunkEvent.End : ChunkEvent.Reject;
        }
        consumed = i;
        return result;
    }

    private bool StepFraming(byte c)
    {
        switch (_state)
        {
            case State.SizeStart:
                Remaining = Hex.Value(c);
                _state = State.Size;
                return Remaining >= 0;
            case State.Size:
                return StepSize(c);
            case >= State.ExtensionStart and <= State.Blank:
                if (++_extensionBytes > ExtensionBytesMax + BodyBytes)
                {
                    Reason = RejectReason.ChunkExtensionTooLong;
                    return false;
                }
                return StepExtension(c);
            case State.SizeLf:
                _state = Remaining == 0 ? State.TrailerStart : State.Data;
                return c == '\n';
            case State.DataCr:
                _state = State.DataLf;
                return c == '\r';
            case State.DataLf:
                _state = State.SizeStart;
                return c == '\n';
            case State.EndLf:
                _state = State.Ended;
                return c == '\n';
            default:
                return false;
        }
    }

    private bool StepSize(byte c)
    {
        int digit = Hex.Value(c);
        if (digit >= 0)
        {
            if (Remaining == 0 && ++_extensionBytes > ExtensionBytesMax + BodyBytes || Remaining > SizeMax)
            {
                Reason = RejectReason.ChunkTooLarge;
                return false;
            }
            Remaining = Remaining << 4 | (uint)digit;
            return true;
        }
        switch (c)
        {
            case (byte)'\r':
                _state = State.SizeLf;
                return true;
            case (byte)';':
                _state = State.ExtensionStart;
                return true;
            default:
                // Blanks may stand before a semicolon (BWS in the grammar), never before the line's end.
                _state = State.Blank;
                return IsBlank(c);
        }
    }

    private bool StepExtension(byte c)
    {
        bool token = IsToken(c);
        bool blank = IsBlank(c);
        switch (_state)
        {
            case State.ExtensionStart:
                _state = token ? State.ExtensionName : _state;
                return token || blank;
            case State.ExtensionName when blank:
                _state = State.AfterName;
                return true;
            case State.ExtensionName or State.AfterName when c == '=':
                _state = State.ValueStart;
                return true;
            case State.ExtensionName:
                return token || EndExtension(c);
            case State.AfterName or State.Blank:
                return blank || c == ';' && EndExtension(c);
            case State.ValueStart:
                _state = c == '"' ? State.Quoted : token ? State.Value : _state;
                return c == '"' || token || blank;
            case State.Quoted:
                _state = c == '"' ? State.AfterQuoted : c == '\\' ? State.QuotedPair : State.Quoted;
                return c >= 0x20 && c != 0x7f || c == '\t';
            case State.QuotedPair:
                _state = State.Quoted;
                return c >= 0x20 && c != 0x7f || c == '\t';
            default:
                if (blank)
                {
                    _state = State.Blank;
                    return true;
                }
                return token && _state == State.Value || EndExtension(c);
        }
    }

    private bool EndExtension(byte c)
    {
        _state = c == ';' ? State.ExtensionStart : State.SizeLf;
        return c is (byte)';' or (byte)'\r';
    }

    /// <summary>A trailer line has the syntax of a header line: a token, a colon, a value without controls.</summary>
    private bool StepTrailer(byte c)
    {
        switch (_state)
        {
            case State.TrailerStart:
                if (c == '\r')
                {
                    _state = State.EndLf;
                    return true;
                }
                _state = State.Trailer;
                _fieldPart = 0;
                return Count() && IsToken(c);
            case State.Trailer:
                if (!Count())
                {
                    return false;
                }
                if (_fieldPart == 0)
                {
                    _fieldPart = c == ':' ? (byte)1 : (byte)0;
                    return c == ':' || IsToken(c);
                }
                if (c == '\r')
                {
                    _state = State.TrailerLf;
                    return true;
                }
                return c >= 0x20 && c != 0x7f || c == '\t';
            default:
                _state = State.TrailerStart;
                return Count() && c == '\n';
        }
    }

    private bool Count()
    {
        if (++_trailerBytes > TrailerBytesMax)
        {
            Reason = RejectReason.TrailersTooLarge;
            return false;
        }
        return true;
    }

    private static bool IsBlank(byte c) => c is (byte)' ' or (byte)'\t';

    private static bool IsToken(byte c) => FieldLine.IsToken(c);
}
