// FastCGI towards upstream servers: a request as parameters and standard input, an answer in CGI form inside records,
// with what the application writes to standard error in the error log. One object per location, without state.
using System.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.FastCgi;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Proxy;

/// <summary>A parameter of requests to FastCGI servers.</summary>
internal readonly record struct FastCgiParam(NativeSlice Name, Template Value, bool IfNotEmpty);

internal sealed class FastCgiProtocol(FastCgiParam[] parameters, bool keepConnection,
    byte[][] catches) : UpstreamProtocol
{
    private const int StdinRecordBytes = 32 * 1024;
    private const int StderrBytesMax = 2048;

    public override string Scheme => "fastcgi://";

    public override int WriteRequest(Exchange x, BufferChain output)
    {
        HttpRequest r = x.Request;
        NativeSlice text = WriteParams(x, r);
        output.Advance(FastCgiWriter.WriteBeginRequest(keepConnection,
            output.GetSpan(FastCgiWriter.BeginRequestLength)));
        while (text.Length > 0)
        {
            int n = Math.Min(text.Length, FastCgiWriter.ContentMax & ~7);
            WriteHeader(output, FastCgiType.Params, n);
            output.Append(text.Span[..n]);
            text = text.Slice(n);
        }
        WriteHeader(output, FastCgiType.Params, 0);
        if (x.StreamsBody)
        {
            return 0;
        }
        if (x.HasBody)
        {
            BufferChain body = r.Loop.RentChain();
            r.Body.AppendTo(body);
            while (body.Length > 0)
            {
                int n = (int)Math.Min(body.Length, StdinRecordBytes);
                WriteHeader(output, FastCgiType.Stdin, n);
                body.MoveTo(output, n);
            }
            r.Loop.Return(body);
        }
        WriteHeader(output, FastCgiType.Stdin, 0);
        return 0;
    }

    private static void WriteHeader(BufferChain output, FastCgiType type, int length) =>
        output.Advance(FastCgiWriter.WriteHeader(type, length, 0, output.GetSpan(FastCgiWriter.HeaderLength)));

    private NativeSlice WriteParams(Exchange x, HttpRequest r)
    {
        if (x.Values.Length < parameters.Length)
        {
            x.Values = new NativeSlice[parameters.Length * 2];
        }
        int room = 0;
        for (int i = 0; i < parameters.Length; i++)
        {
            NativeSlice value = parameters[i].Value.Evaluate(r);
            if (r.Head.Chunked && !x.StreamsBody && parameters[i].Name.Span.SequenceEqual("CONTENT_LENGTH"u8))
            {
                // The length that came of reading the chunks.
                value = r.Arena.StoreNumber(x.BodyBytes);
            }
            x.Values[i] = value;
            room += FastCgiWriter.ParamLength(parameters[i].Name.Length, value.Length);
        }
        bool passes = x.Settings.PassRequestHeaders.Value;
        room += passes ? r.HeadBytes.Length + r.Head.Count * 16 : 0;
        NativeSlice text = r.Arena.Allocate(room);
        int used = 0;
        for (int i = 0; i < parameters.Length; i++)
        {
            if (!parameters[i].IfNotEmpty || !x.Values[i].IsEmpty)
            {
                used += FastCgiWriter.WriteParam(parameters[i].Name.Span, x.Values[i].Span, text.Span[used..]);
            }
        }
        return text.Slice(0, passes ? WriteHeaders(r, text.Span, used) : used);
    }

    private int WriteHeaders(HttpRequest r, Span<byte> text, int used)
    {
        ReadOnlySpan<byte> bytes = r.HeadBytes.Span;
        RequestHead head = r.Head;
        Span<byte> name = stackalloc byte[256];
        "HTTP_"u8.CopyTo(name);
        for (int i = 0; i < head.Count; i++)
        {
            ref readonly HeaderField field = ref head[i];
            ReadOnlySpan<byte> source = field.Name(bytes);
            if (field.Dropped || source.Length > name.Length - 5 || IsRepetition(head, i, bytes))
            {
                continue;
            }
            for (int k = 0; k < source.Length; k++)
            {
                byte c = source[k];
                name[5 + k] = c == '-' ? (byte)'_' : c is >= (byte)'a' and <= (byte)'z' ? (byte)(c - 32) : c;
            }
            ReadOnlySpan<byte> full = name[..(5 + source.Length)];
            if (IsSet(full))
            {
                continue;
            }
            // Lines of one name become one parameter: two of them would be read differently by different servers.
            int length = 0;
            for (int k = i; k >= 0; k = head.FindNext(k, bytes))
            {
                length += head[k].ValueLength + (k == i ? 0 : 2);
            }
            used += FastCgiWriter.WriteParamLengths(full.Length, length, text[used..]);
            full.CopyTo(text[used..]);
            used += full.Length;
            for (int k = i; k >= 0; k = head.FindNext(k, bytes))
            {
                if (k != i)
                {
                    (field.Known == KnownHeader.Cookie ? "; "u8 : ", "u8).CopyTo(text[used..]);
                    used += 2;
                }
                head[k].Value(bytes).CopyTo(text[used..]);
                used += head[k].ValueLength;
            }
        }
        return used;
    }

    private static bool IsRepetition(RequestHead head, int index, ReadOnlySpan<byte> bytes)
    {
        ref readonly HeaderField field = ref head[index];
        int first = head.Find(field.Name(bytes), field.Hash, bytes);
        return first >= 0 && first < index;
    }

    private bool IsSet(ReadOnlySpan<byte> name)
    {
        foreach (ref readonly FastCgiParam parameter in parameters.AsSpan())
        {
            if (parameter.Name.Span.SequenceEqual(name))
            {
                return true;
            }
        }
        return false;
    }

    public override void WritePiece(Exchange x, NativeSlice piece, BufferSlab owner, BufferChain output)
    {
        while (piece.Length > 0)
        {
            int n = Math.Min(piece.Length, StdinRecordBytes);
            WriteHeader(output, FastCgiType.Stdin, n);
            output.AppendSlice(piece.Slice(0, n), owner);
            piece = piece.Slice(n);
        }
    }

    public override void WriteEnd(Exchange x, BufferChain output) => WriteHeader(output, FastCgiType.Stdin, 0);

    // The answer.

    public override void StartAnswer(Exchange x)
    {
        x.Parser.Reset(cgi: true);
        x.Records.Reset();
        x.ReleaseSlabs();
        x.PassesTrailers = false;
    }

    public override ReadStep ReadHead(Exchange x)
    {
        const string Action = "reading response header from upstream";
        // As in nginx the head of the record lies in the same buffer.
        int limit = (int)x.Settings.BufferSizeBytes.Value - FastCgiWriter.HeaderLength;
        while (true)
        {
            FastCgiEvent e = x.Records.Read(x.Input, out int consumed, out TextRange data);
            if (e == FastCgiEvent.Stderr)
            {
                bool caught = NoteStderr(x, data.Of(x.Input), Action);
                x.Consume(consumed);
                if (caught)
                {
                    return ReadStep.Reject;
                }
                continue;
            }
            if (e == FastCgiEvent.Stdout)
            {
                x.HeadSlab ??= x.Request.Loop.Buffers.Rent(Math.Max(limit, 4096) + 65536);
                data.Of(x.Input).CopyTo(x.HeadSlab.Span[x.HeadLength..]);
                x.HeadLength += data.Length;
                x.Consume(consumed);
                ParseStep step = x.Parser.Parse(x.HeadSlab.Span[..x.HeadLength], x.Head,
                    new ParseOptions { MaxHeaders = 1000 });
                if (step == ParseStep.Reject)
                {
                    x.LogWith(LogLevel.Error, RejectReasons.LogText(x.Head.Reject), 0, Action);
                    return ReadStep.Reject;
                }
                if (step == ParseStep.Done && x.Head.HeadLength <= limit)
                {
                    x.HeadBytes = x.Request.Arena.Store(x.HeadSlab.Span[..x.Head.HeadLength]);
                    x.BodyLeft = x.Head.ContentLength;
                    return ReadStep.Done;
                }
                if (step == ParseStep.Done || x.HeadLength >= limit)
                {
                    x.LogWith(LogLevel.Error, "upstream sent too big header", 0, Action);
                    return ReadStep.Reject;
                }
                continue;
            }
            x.Consume(consumed);
            switch (e)
            {
                case FastCgiEvent.NeedMore:
                    return ReadStep.NeedMore;
                case FastCgiEvent.StdoutEnd:
                    continue;
                case FastCgiEvent.End:
                    x.LogWith(LogLevel.Error, "upstream prematurely closed FastCGI stdout", 0, Action);
                    return ReadStep.Reject;
                default:
                    x.LogWith(LogLevel.Error, FaultText(x.Records.Fault), 0, Action);
                    return ReadStep.Reject;
            }
        }
    }

    private static string FaultText(FastCgiFault fault) => fault switch
    {
        FastCgiFault.Version => "upstream sent unsupported FastCGI protocol version",
        FastCgiFault.Type => "upstream sent invalid FastCGI record type",
        FastCgiFault.RequestId => "upstream sent unexpected FastCGI request id high byte",
        _ => "upstream sent invalid FastCGI record",
    };

    /// <summary>Logs what the application said. True when `fastcgi_catch_stderr` takes it as a failure.</summary>
    private bool NoteStderr(Exchange x, ReadOnlySpan<byte> text, string action)
    {
        ReadOnlySpan<byte> line = text[..Math.Min(text.Length, StderrBytesMax)].TrimEnd("\r\n .\0"u8);
        x.LogWith(LogLevel.Error, $"FastCGI sent in stderr: \"{Encoding.Latin1.GetString(line)}\"", 0, action);
        foreach (byte[] pattern in catches)
        {
            if (text.IndexOf(pattern) >= 0)
            {
                return true;
            }
        }
        return false;
    }

    public override ReadStep ReadBody(Exchange x, BufferChain output)
    {
        const string Action = "reading upstream";
        if (x.HeadSlab is { } slab)
        {
            // What came behind the head in its records.
            Give(x, slab.Memory.Slice(x.Head.HeadLength, x.HeadLength - x.Head.HeadLength), slab, output);
            x.ReleaseSlabs();
        }
        while (true)
        {
            FastCgiEvent e = x.Records.Read(x.Input, out int consumed, out TextRange data);
            switch (e)
            {
                case FastCgiEvent.Stdout:
                    Give(x, x.InputMemory.Slice(data.Start, data.Length), x.InputSlab, output);
                    break;
                case FastCgiEvent.Stderr:
                    NoteStderr(x, data.Of(x.Input), Action);
                    break;
                case FastCgiEvent.Reject:
                    x.LogWith(LogLevel.Error, FaultText(x.Records.Fault), 0, Action);
                    return ReadStep.Reject;
            }
            x.Consume(consumed);
            if (e == FastCgiEvent.End)
            {
                if (x.BodyLeft > 0 && x.MethodAsked != HttpMethod.Head)
                {
                    x.LogWith(LogLevel.Error, "upstream prematurely closed FastCGI stdout", 0, Action);
                    return ReadStep.Reject;
                }
                return ReadStep.Done;
            }
            if (e == FastCgiEvent.NeedMore)
            {
                return ReadStep.NeedMore;
            }
        }
    }

    private static void Give(Exchange x, NativeSlice bytes, BufferSlab slab, BufferChain output)
    {
        if (x.Head.ContentLength >= 0)
        {
            if (bytes.Length > x.BodyLeft)
            {
                x.LogWith(LogLevel.Warn, "upstream sent more data than specified in \"Content-Length\" header", 0,
                    "reading upstream");
                bytes = bytes.Slice(0, (int)x.BodyLeft);
            }
            x.BodyLeft -= bytes.Length;
        }
        output.AppendSlice(bytes, slab);
    }

    public override bool EndsWithClose(Exchange x) => false;

    public override bool CanKeep(Exchange x) => keepConnection && x.Records.IsEnded;

    public override long BodyLength(Exchange x) => x.Head.ContentLength;

    /// <summary>Even an answer without a body ends with its last record.</summary>
    public override bool IsBodyless(Exchange x) => false;
}
