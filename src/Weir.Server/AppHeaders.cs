// Header fields as application code sees them: of a request, read from the copy of its head; of an answer, written into
// the exchange's fields.
using System.Collections;
using System.Text;
using Weir.Protocol.Http1;

namespace Weir.Server;

/// <summary>The header fields of a request.</summary>
public sealed class AppRequestHeaders : IEnumerable<KeyValuePair<string, string>>
{
    private readonly GuestExchange _exchange;

    internal AppRequestHeaders(GuestExchange exchange) => _exchange = exchange;

    /// <summary>How many fields the client sent.</summary>
    public int Count => _exchange.Head.Count;

    /// <summary>The value of a field (any case), several of the same name joined with commas; null when it is not
    /// there.</summary>
    public string? this[string name]
    {
        get
        {
            ArgumentNullException.ThrowIfNull(name);
            byte[] wanted = Encoding.ASCII.GetBytes(name);
            ReadOnlySpan<byte> head = _exchange.HeadBytes;
            string? found = null;
            foreach (ref readonly HeaderField field in _exchange.Head.Fields)
            {
                if (!field.Dropped && HeaderName.Same(field.Name(head), wanted))
                {
                    string value = Encoding.UTF8.GetString(field.Value(head));
                    found = found is null ? value : found + ", " + value;
                }
            }
            return found;
        }
    }

    /// <summary>Whether the client sent a field of this name.</summary>
    public bool Contains(string name) => this[name] is not null;

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, string>> GetEnumerator()
    {
        for (int i = 0; i < _exchange.Head.Count; i++)
        {
            if (!_exchange.Head[i].Dropped)
            {
                yield return new KeyValuePair<string, string>(
                    Encoding.UTF8.GetString(_exchange.Head[i].Name(_exchange.HeadBytes)),
                    Encoding.UTF8.GetString(_exchange.Head[i].Value(_exchange.HeadBytes)));
            }
        }
    }

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>The trailer fields of a request: a copy, which a handler may keep.</summary>
public sealed class AppRequestTrailers : IEnumerable<KeyValuePair<string, string>>
{
    private readonly List<KeyValuePair<string, string>> _fields = [];

    internal AppRequestTrailers(ReadOnlySpan<byte> lines)
    {
        foreach (Range range in lines.Split((byte)'\n'))
        {
            ReadOnlySpan<byte> line = lines[range];
            int colon = line.IndexOf((byte)':');
            if (colon > 0)
            {
                _fields.Add(new KeyValuePair<string, string>(Encoding.ASCII.GetString(line[..colon]),
                    Encoding.UTF8.GetString(line[(colon + 1)..].Trim(" \t\r"u8))));
            }
        }
    }

    /// <summary>How many fields the client sent.</summary>
    public int Count => _fields.Count;

    /// <summary>The value of a field (any case), several of the same name joined with commas; null when it is not
    /// there.</summary>
    public string? this[string name]
    {
        get
        {
            ArgumentNullException.ThrowIfNull(name);
            string? found = null;
            foreach ((string key, string value) in _fields)
            {
                if (key.Equals(name, StringComparison.OrdinalIgnoreCase))
                {
                    found = found is null ? value : found + ", " + value;
                }
            }
            return found;
        }
    }

    /// <summary>Whether the client sent a field of this name.</summary>
    public bool Contains(string name) => this[name] is not null;

    /// <inheritdoc/>
    public IEnumerator<KeyValuePair<string, string>> GetEnumerator() => _fields.GetEnumerator();

    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();
}

/// <summary>The header or trailer fields of an answer.</summary>
public sealed class AppResponseHeaders
{
    private readonly GuestFields _fields;

    internal AppResponseHeaders(GuestFields fields) => _fields = fields;

    /// <summary>The value of the first field of a name (any case); setting replaces all of that name, null removes
    /// them.</summary>
    public string? this[string name]
    {
        get
        {
            ArgumentNullException.ThrowIfNull(name);
            int i = _fields.Find(Encoding.ASCII.GetBytes(name));
            return i < 0 ? null : Encoding.UTF8.GetString(_fields.Value(i));
        }

        set
        {
            ArgumentNullException.ThrowIfNull(name);
            _fields.Remove(Encoding.ASCII.GetBytes(name));
            if (value is not null)
            {
                _fields.Add(name, value);
            }
        }
    }

    /// <summary>How many fields were set.</summary>
    public int Count => _fields.Count;

    /// <summary>Adds a field beside others of its name (Set-Cookie).</summary>
    public void Add(string name, string value) => _fields.Add(name, value);
}
