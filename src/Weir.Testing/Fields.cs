// HTTP/1 messages as tests see them: a start line, header fields in order, a body. Parsed from what came over a
// connection in memory; managed memory, any thread.
using System.Collections;
using System.Globalization;
using System.Text;

namespace Weir.Testing;

/// <summary>Header fields in the order they came in; names are compared without case.</summary>
public sealed class Fields : IReadOnlyList<KeyValuePair<string, string>>
{
    private readonly List<KeyValuePair<string, string>> _list = [];

    internal Fields()
    {
    }

    /// <inheritdoc/>
    public int Count => _list.Count;

    /// <inheritdoc/>
    public KeyValuePair<string, string> this[int index] => _list[index];

    /// <summary>The value of a field, of several lines joined by ", "; null when there is none.</summary>
    public string? this[string name] => All(name) is { Count: > 0 } all ? string.Join(", ", all) : null;

    /// <summary>The values of every line of that name.</summary>
    public IReadOnlyList<string> All(string name) =>
        [.. _list.Where(f => f.Key.Equals(name, StringComparison.OrdinalIgnoreCase)).Select(static f => f.Value)];

    /// <summary>Whether there is a field of that name.</summary>
    public bool Contains(string name) =>
        _list.Exists(f => f.Key.Equals(name, StringComparison.OrdinalIgnoreCase));

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, string>> GetEnumerator() => _list.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>The lines as they came.</summary>
    public override string ToString() => string.Concat(_list.Select(static f => $"{f.Key}: {f.Value}\n"));

    internal void Add(string name, string value) => _list.Add(new(name, value));
}

/// <summary>A message that comes in.</summary>
internal sealed class IncomingMessage
{
    private readonly List<byte> _bytes = [];
    private int _bodyStart = -1;

    internal string StartLine { get; private set; } = "";
    internal Fields Fields { get; private set; } = new();
    internal byte[] Body { get; private set; } = [];
    internal int Length { get; private set; }
    internal bool IsEmpty => _bytes.Count == 0;
    internal bool HasHead => _bodyStart >= 0;

    internal int Status => StartLine.Split(' ') is [_, var code, ..]
        && int.TryParse(code, NumberStyles.None, CultureInfo.InvariantCulture, out int status) ? status : 0;

    internal void Add(ReadOnlySpan<byte> bytes) => _bytes.AddRange(bytes);

    /// <summary>Forgets this message; what came behind it begins the next.</summary>
    internal void Next()
    {
        _bytes.RemoveRange(0, Length);
        _bodyStart = -1;
        StartLine = "";
        Fields = new Fields();
        Body = [];
        Length = 0;
    }

    /// <summary>Whether the message is whole.</summary>
    /// <param name="isAnswer">An answer without a length ends with the connection, a request without one has no
    /// body.</param>
    /// <param name="isBodiless">The answer to HEAD.</param>
    /// <param name="isEnded">Nothing more comes.</param>
    internal bool IsWhole(bool isAnswer, bool isBodiless, bool isEnded)
    {
        byte[] all = [.. _bytes];
        if (_bodyStart < 0)
        {
            int end = all.AsSpan().IndexOf("\r\n\r\n"u8);
            if (end < 0)
            {
                return false;
            }
            string[] lines = Encoding.Latin1.GetString(all, 0, end).Split("\r\n");
            StartLine = lines[0];
            foreach (string line in lines.Skip(1))
            {
                int colon = line.IndexOf(':');
                Fields.Add(line[..Math.Max(colon, 0)], line[(colon + 1)..].Trim());
            }
            _bodyStart = end + 4;
        }
        if (isAnswer && (isBodiless || Status is < 200 or 204 or 304))
        {
            Length = _bodyStart;
            return true;
        }
        if (Fields["Transfer-Encoding"]?.Contains("chunked", StringComparison.OrdinalIgnoreCase) == true)
        {
            return TakeChunks(all);
        }
        if (Fields["Content-Length"] is { } text)
        {
            long length = long.Parse(text, CultureInfo.InvariantCulture);
            return all.Length - _bodyStart >= length && Take(all, (int)length);
        }
        return isAnswer ? isEnded && Take(all, all.Length - _bodyStart) : Take(all, 0);
    }

    /// <summary>What has come of a body that will never be whole.</summary>
    internal void TakeRest()
    {
        byte[] all = [.. _bytes];
        Take(all, Math.Max(all.Length - Math.Max(_bodyStart, 0), 0));
    }

    private bool Take(byte[] all, int length)
    {
        int start = Math.Max(_bodyStart, 0);
        Body = all[start..(start + length)];
        Length = start + length;
        return true;
    }

    private bool TakeChunks(byte[] all)
    {
        var body = new List<byte>();
        int at = _bodyStart;
        while (true)
        {
            int line = all.AsSpan(at).IndexOf("\r\n"u8);
            if (line < 0)
            {
                return false;
            }
            string size = Encoding.Latin1.GetString(all, at, line).Split(';')[0].Trim();
            int count = int.Parse(size, NumberStyles.HexNumber, CultureInfo.InvariantCulture);
            at += line + 2;
            if (count == 0)
            {
                // Trailer fields, then an empty line.
                while (true)
                {
                    int trailer = all.AsSpan(at).IndexOf("\r\n"u8);
                    if (trailer < 0)
                    {
                        return false;
                    }
                    at += trailer + 2;
                    if (trailer == 0)
                    {
                        Body = [.. body];
                        Length = at;
                        return true;
                    }
                    string text = Encoding.Latin1.GetString(all, at - trailer - 2, trailer);
                    int colon = Math.Max(text.IndexOf(':'), 0);
                    Fields.Add(text[..colon], text[(colon + 1)..].Trim());
                }
            }
            if (all.Length - at < count + 2)
            {
                return false;
            }
            body.AddRange(all.AsSpan(at, count));
            at += count + 2;
        }
    }
}
