// A response as a test sees it: the bytes as they came and what they mean by RFC 9112's framing.
using System.Globalization;
using System.IO.Compression;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>A parsed response; header names keep their case and order.</summary>
public sealed record HttpResponse
{
    public required string Version { get; init; }

    public required int Status { get; init; }

    public required string Reason { get; init; }

    public required IReadOnlyList<KeyValuePair<string, string>> Headers { get; init; }

    /// <summary>The body without its chunked framing.</summary>
    public required byte[] Body { get; init; }

    public IReadOnlyList<KeyValuePair<string, string>> Trailers { get; init; } = [];

    /// <summary>Everything as it came.</summary>
    public required byte[] Raw { get; init; }

    public bool IsChunked { get; init; }

    /// <summary>Whether all of the body that the head promised has come.</summary>
    public bool IsComplete { get; init; } = true;

    public string Text => Encoding.Latin1.GetString(Body);

    /// <summary>The value of a header, or null; several are joined as a list.</summary>
    public string? this[string name]
    {
        get
        {
            string[] values = All(name);
            return values.Length == 0 ? null : string.Join(", ", values);
        }
    }

    public string[] All(string name) =>
        Headers.Where(h => h.Key.Equals(name, StringComparison.OrdinalIgnoreCase)).Select(h => h.Value).ToArray();

    public byte[] Decoded()
    {
        if (this["Content-Encoding"] != "gzip")
        {
            return Body;
        }

        using var gzip = new GZipStream(new MemoryStream(Body), CompressionMode.Decompress);
        using var plain = new MemoryStream();
        try
        {
            gzip.CopyTo(plain);
            return plain.ToArray();
        }
        catch (InvalidDataException)
        {
            return Body;
        }
    }

    /// <summary>
    /// Parses one response from the front of the bytes; null when its head is not complete. A response of unfinished
    /// body is given with IsComplete false (once the connection has ended: with what came).
    /// </summary>
    public static HttpResponse? Parse(ReadOnlySpan<byte> bytes, bool answersHead, bool ended)
    {
        int headBytes = bytes.IndexOf("\r\n\r\n"u8);
        if (headBytes < 0)
        {
            return null;
        }

        string[] lines = Encoding.Latin1.GetString(bytes[..headBytes]).Split("\r\n");
        string[] status = lines[0].Split(' ', 3);
        if (status.Length < 2 || !status[0].StartsWith("HTTP/", StringComparison.Ordinal)
            || !int.TryParse(status[1], NumberStyles.None, CultureInfo.InvariantCulture, out int code))
        {
            throw new FormatException($"not a status line: {lines[0]}");
        }

        List<KeyValuePair<string, string>> headers = [.. lines.Skip(1).Select(Field)];
        ReadOnlySpan<byte> rest = bytes[(headBytes + 4)..];
        bool chunked = Has(headers, "Transfer-Encoding", "chunked");
        string? length = headers.LastOrDefault(h => h.Key.Equals("Content-Length",
            StringComparison.OrdinalIgnoreCase)).Value;
        byte[] body = [];
        List<KeyValuePair<string, string>> trailers = [];
        bool complete = true;
        int taken = 0;
        if (answersHead || code is 204 or 304 || code < 200)
        {
            taken = 0;
        }
        else if (chunked)
        {
            complete = Unchunk(rest, out body, trailers, out taken);
        }
        else if (length is not null)
        {
            int promised = int.Parse(length, CultureInfo.InvariantCulture);
            taken = Math.Min(promised, rest.Length);
            complete = taken == promised;
            body = rest[..taken].ToArray();
        }
        else
        {
            taken = rest.Length;
            complete = ended;
            body = rest.ToArray();
        }

        return new HttpResponse
        {
            Version = status[0],
            Status = code,
            Reason = status.Length > 2 ? status[2] : "",
            Headers = headers,
            Body = body,
            Trailers = trailers,
            IsChunked = chunked,
            IsComplete = complete,
            Raw = bytes[..(headBytes + 4 + taken)].ToArray(),
        };
    }

    private static KeyValuePair<string, string> Field(string line)
    {
        int colon = line.IndexOf(':');
        return colon < 0 ? new(line, "") : new(line[..colon], line[(colon + 1)..].Trim(' ', '\t'));
    }

    private static bool Has(List<KeyValuePair<string, string>> headers, string name, string value) =>
        headers.Exists(h =>
        h.Key.Equals(name, StringComparison.OrdinalIgnoreCase) && h.Value.Equals(value,
            StringComparison.OrdinalIgnoreCase));

    private static bool Unchunk(ReadOnlySpan<byte> bytes, out byte[] body, List<KeyValuePair<string, string>> trailers,
        out int taken)
    {
        using var plain = new MemoryStream();
        taken = 0;
        while (true)
        {
            int line = bytes[taken..].IndexOf("\r\n"u8);
            if (line < 0)
            {
                break;
            }

            string size = Encoding.Latin1.GetString(bytes.Slice(taken, line)).Split(';')[0].Trim();
            if (!int.TryParse(size, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out int count))
            {
                throw new FormatException($"not a chunk size: {size}");
            }

            if (count == 0)
            {
                return ReadTrailers(bytes, plain, trailers, ref taken, line, out body);
            }

            int data = taken + line + 2;
            if (bytes.Length < data + count + 2)
            {
                plain.Write(bytes[data..Math.Min(bytes.Length, data + count)]);
                break;
            }

            plain.Write(bytes.Slice(data, count));
            taken = data + count + 2;
        }

        body = plain.ToArray();
        taken = bytes.Length;
        return false;
    }

    private static bool ReadTrailers(ReadOnlySpan<byte> bytes, MemoryStream plain, List<KeyValuePair<string,
        string>> trailers,
        ref int taken, int line, out byte[] body)
    {
        body = plain.ToArray();
        int at = taken + line + 2;
        while (true)
        {
            int end = bytes[at..].IndexOf("\r\n"u8);
            if (end < 0)
            {
                taken = bytes.Length;
                return false;
            }

            if (end == 0)
            {
                taken = at + 2;
                return true;
            }

            trailers.Add(Field(Encoding.Latin1.GetString(bytes.Slice(at, end))));
            at += end + 2;
        }
    }
}
