// Host names with nginx's wildcards to values: exact, "*.example.com", ".example.com", "www.example.*", in nginx's
// order of preference (exact, the longest at the start, the longest at the end). Filled while a configuration is built,
// frozen afterwards; a lookup allocates nothing and wants lower case.
using Weir.Kernel;

namespace Weir.Http;

/// <summary>A table of names, some of them wildcards.</summary>
public sealed class NameTable<T>(NativeArena memory)
{
    private readonly ByteTable<T> _exact = new();
    private readonly ByteTable<T> _head = new();
    private readonly ByteTable<T> _tail = new();

    public int Count => _exact.Count + _head.Count + _tail.Count;

    /// <summary>Adds a name as it is, whatever it holds; false when it is there already.</summary>
    public bool TryAddExact(string name, T value) => _exact.TryAdd(memory.Store(name.ToLowerInvariant()), value);

    /// <summary>Adds a name that may be a wildcard; false when it is there already.</summary>
    public bool TryAdd(string name, T value)
    {
        string text = name.ToLowerInvariant();
        if (text.StartsWith("*.", StringComparison.Ordinal))
        {
            return _head.TryAdd(memory.Store(text[1..]), value);
        }
        if (text.StartsWith('.'))
        {
            return _exact.TryAdd(memory.Store(text[1..]), value) & _head.TryAdd(memory.Store(text), value);
        }
        if (text.EndsWith(".*", StringComparison.Ordinal))
        {
            return _tail.TryAdd(memory.Store(text[..^1]), value);
        }
        return _exact.TryAdd(memory.Store(text), value);
    }

    /// <summary>Whether nginx takes this for a name or a wildcard.</summary>
    public static bool IsValid(string name)
    {
        int star = name.IndexOf('*');
        return star < 0
            ? name != "." && name.Length > 0
            : star == name.LastIndexOf('*') && name.Length >= 3
                && (name.StartsWith("*.", StringComparison.Ordinal) || name.EndsWith(".*", StringComparison.Ordinal));
    }

    public bool TryFind(ReadOnlySpan<byte> name, out T value)
    {
        if (_exact.Count > 0 && _exact.TryGet(name, out value))
        {
            return true;
        }
        if (_head.Count > 0)
        {
            for (int dot = name.IndexOf((byte)'.'); dot >= 0;)
            {
                if (dot > 0 && _head.TryGet(name[dot..], out value))
                {
                    return true;
                }
                int next = name[(dot + 1)..].IndexOf((byte)'.');
                dot = next < 0 ? -1 : dot + 1 + next;
            }
        }
        if (_tail.Count > 0)
        {
            for (int dot = name.LastIndexOf((byte)'.'); dot >= 0; dot = name[..dot].LastIndexOf((byte)'.'))
            {
                if (_tail.TryGet(name[..(dot + 1)], out value))
                {
                    return true;
                }
            }
        }
        value = default!;
        return false;
    }
}
