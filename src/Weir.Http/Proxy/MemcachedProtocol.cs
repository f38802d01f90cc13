// The text protocol of memcached, as far as reading goes: `get KEY`, and VALUE with its bytes or END. One object per
// location, without state: the rest of an answer, its trailer included, is counted in the exchange.
using System.Buffers.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Proxy;

internal sealed class MemcachedProtocol(int gzipFlag) : UpstreamProtocol
{
    private static ReadOnlySpan<byte> Trailer => "\r\nEND\r\n"u8;

    public override string Scheme => "memcached://";

    /// <summary>A key as one word of the protocol's line.</summary>
    internal static NativeSlice Escape(HttpRequest r, NativeSlice key)
    {
        ReadOnlySpan<byte> text = key.Span;
        NativeSlice escaped = r.Arena.Allocate(text.Length * 3);
        int n = 0;
        foreach (byte c in text)
        {
            if (c is > 0x20 and not (byte)'%')
            {
                escaped.Span[n++] = c;
                continue;
            }
            escaped.Span[n++] = (byte)'%';
            escaped.Span[n++] = "0123456789ABCDEF"u8[c >> 4];
            escaped.Span[n++] = "0123456789ABCDEF"u8[c & 15];
        }
        return escaped.Slice(0, n);
    }

    public override int WriteRequest(Exchange x, BufferChain output)
    {
        output.Append("get "u8);
        output.Append(x.TargetUri.Span);
        output.Append("\r\n"u8);
        return 0;
    }

    public override void WritePiece(Exchange x, NativeSlice piece, BufferSlab owner, BufferChain output)
    {
    }

    public override void WriteEnd(Exchange x, BufferChain output)
    {
    }

    public override void StartAnswer(Exchange x)
    {
        x.Parser.Reset(cgi: true);
        x.ReleaseSlabs();
        x.BodyLeft = -1;
        x.PassesTrailers = false;
    }

    public override ReadStep ReadHead(Exchange x)
    {
        const string Action = "reading response header from upstream";
        int end = x.Input.IndexOf((byte)'\n');
        if (end < 0 || end >= x.Settings.BufferSizeBytes.Value)
        {
            if (end < 0 && x.Input.Length < x.Settings.BufferSizeBytes.Value)
            {
                return ReadStep.NeedMore;
            }
            x.LogWith(LogLevel.Error, "upstream sent too big header", 0, Action);
            return ReadStep.Reject;
        }
        ReadOnlySpan<byte> line = x.Input[..end];
        string? fault = null;
        if (line.EndsWith("\r"u8))
        {
            line = line[..^1];
        }
        if (line.SequenceEqual("END"u8))
        {
            x.LogWith(LogLevel.Info, $"key: \"{x.TargetUri}\" was not found by memcached", 0, Action);
            x.BodyLeft = 0;
            Describe(x, "Status: 404\r\n"u8, -1);
        }
        else if (line.StartsWith("VALUE "u8))
        {
            fault = ReadValue(x, line[6..]);
        }
        else
        {
            fault = $"memcached sent invalid response: \"{Text(line)}\"";
        }
        if (fault is not null)
        {
            x.LogWith(LogLevel.Error, fault, 0, Action);
            return ReadStep.Reject;
        }
        x.Consume(end + 1);
        return ReadStep.Done;
    }

    /// <summary>Key, flags and length. Null, or what is wrong.</summary>
    private string? ReadValue(Exchange x, ReadOnlySpan<byte> rest)
    {
        ReadOnlySpan<byte> key = x.TargetUri.Span;
        if (!rest.StartsWith(key) || rest.Length <= key.Length || rest[key.Length] != ' ')
        {
            return $"memcached sent invalid key in response \"{Text(rest)}\" for key \"{x.TargetUri}\"";
        }
        rest = rest[(key.Length + 1)..];
        // As nginx: flags that nobody asks for may be anything.
        uint flags = 0;
        int n = rest.IndexOf((byte)' ');
        if (n < 0 || gzipFlag != 0 && (!Utf8Parser.TryParse(rest[..n], out flags, out int digits) || digits != n))
        {
            return $"memcached sent invalid flags in response \"{Text(rest)}\" for key \"{x.TargetUri}\"";
        }
        rest = rest[(n + 1)..];
        if (!Utf8Parser.TryParse(rest, out long length, out n) || length < 0 || n != rest.Length)
        {
            return $"memcached sent invalid length in response \"{Text(rest)}\" for key \"{x.TargetUri}\"";
        }
        x.BodyLeft = length + Trailer.Length;
        Describe(x, gzipFlag != 0 && (flags & (uint)gzipFlag) != 0 ? "Content-Encoding: gzip\r\n"u8 : default, length);
        return null;
    }

    private static string Text(ReadOnlySpan<byte> bytes) => System.Text.Encoding.Latin1.GetString(bytes);

    /// <summary>What was said in the words of a head, so that it is treated as any other.</summary>
    private static void Describe(Exchange x, ReadOnlySpan<byte> line, long length)
    {
        NativeSlice head = x.Request.Arena.Allocate(line.Length + 64);
        var w = new SpanWriter(head.Span);
        w.Text(line);
        if (length >= 0)
        {
            w.Write("Content-Length: "u8);
            w.Number(length);
            w.Write("\r\n"u8);
        }
        w.Write("\r\n"u8);
        head = head.Slice(0, w.Written);
        x.Parser.Parse(head.Span, x.Head, new ParseOptions { MaxHeaders = 1000 });
        x.HeadBytes = head;
    }

    public override ReadStep ReadBody(Exchange x, BufferChain output)
    {
        long body = x.BodyLeft - Trailer.Length;
        int have = x.Input.Length;
        if (body > 0)
        {
            int n = (int)Math.Min(body, have);
            if (n > 0)
            {
                output.AppendSlice(x.InputMemory.Slice(0, n), x.InputSlab);
                x.Consume(n);
                x.BodyLeft -= n;
                have -= n;
            }
            if (n < body)
            {
                return ReadStep.NeedMore;
            }
        }
        int end = (int)Math.Min(x.BodyLeft, have);
        if (!x.Input[..end].SequenceEqual(Trailer.Slice(Trailer.Length - (int)x.BodyLeft, end)))
        {
            x.LogWith(LogLevel.Error, "memcached sent invalid trailer", 0, "reading upstream");
            // As nginx: the bytes were whole; the connection alone is not to be trusted.
            x.BodyLeft = -1;
            return ReadStep.Done;
        }
        x.Consume(end);
        x.BodyLeft -= end;
        return x.BodyLeft == 0 ? ReadStep.Done : ReadStep.NeedMore;
    }

    public override bool EndsWithClose(Exchange x) => false;

    public override bool CanKeep(Exchange x) => x.BodyLeft == 0;

    public override long BodyLength(Exchange x) => x.Head.ContentLength;

    public override bool IsBodyless(Exchange x) => x.Head.Status == 404 || x.MethodAsked == HttpMethod.Head;

    /// <summary>A key that is not there is this server's 404.</summary>
    public override bool IsOwnAnswer(Exchange x) => x.Head.Status == 404;
}
