// Header fields that a guest sets: one growing array of text and offsets into it, reused for every exchange. What could
// split a head in two (CR, LF, NUL) is refused where it is set. Owned by whoever owns the exchange.
using System.Text;
using Weir.Protocol.Http1;

namespace Weir.Server;

/// <summary>Header or trailer fields of an answer, as bytes.</summary>
public sealed class GuestFields
{
    private byte[] _text = new byte[256];
    private Place[] _places = new Place[8];
    private int _used;

    // The strings that the first places were made of: an exchange that says the same as the one before, in the same
    // place, has its bytes there already.
    private readonly Strings[] _strings = new Strings[StringsMax];
    private int _stringCount;
    private const int StringsMax = 8, StringBytesMax = 256;

    private struct Strings
    {
        internal string Name;
        internal string Value;
        internal Place Place;
    }

    internal readonly record struct Place(int NameStart, int NameLength, int ValueLength)
    {
        public int ValueStart => NameStart + NameLength;
    }

    internal GuestFields()
    {
    }

    /// <summary>How many fields there are.</summary>
    public int Count { get; private set; }

    internal bool IsSealed { get; set; }

    internal ReadOnlySpan<byte> Text => _text.AsSpan(0, _used);

    internal Place PlaceOf(int index) => _places[index];

    /// <summary>The name of a field.</summary>
    public ReadOnlySpan<byte> Name(int index) => _text.AsSpan(_places[index].NameStart, _places[index].NameLength);

    /// <summary>The value of a field.</summary>
    public ReadOnlySpan<byte> Value(int index) => _text.AsSpan(_places[index].ValueStart, _places[index].ValueLength);

    /// <summary>Adds a field; one of the same name stays.</summary>
    /// <exception cref="ArgumentException">The name is no token, or the value has a line end in it.</exception>
    /// <exception cref="InvalidOperationException">The head has left already.</exception>
    public void Add(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        Check(name, value);
        _stringCount = Math.Min(_stringCount, Count);
        if (_used + name.Length + value.Length > _text.Length)
        {
            Array.Resize(ref _text, Math.Max(_text.Length * 2, _used + name.Length + value.Length));
        }
        if (Count == _places.Length)
        {
            Array.Resize(ref _places, Count * 2);
        }
        name.CopyTo(_text.AsSpan(_used));
        value.CopyTo(_text.AsSpan(_used + name.Length));
        _places[Count++] = new Place(_used, name.Length, value.Length);
        _used += name.Length + value.Length;
    }

    /// <summary>Adds a field; characters of the value beyond Latin-1 are sent as UTF-8.</summary>
    /// <exception cref="ArgumentException">The name is no token, or the value has a line end in it.</exception>
    /// <exception cref="InvalidOperationException">The head has left already.</exception>
    public void Add(string name, string value)
    {
        ArgumentNullException.ThrowIfNull(name);
        ArgumentNullException.ThrowIfNull(value);
        int index = Count;
        if (index < _stringCount && IsAsBefore(in _strings[index], name, value))
        {
            CheckOpen();
            _places[Count++] = _strings[index].Place;
            _used += _strings[index].Place.NameLength + _strings[index].Place.ValueLength;
            return;
        }
        Span<byte> small = stackalloc byte[512];
        int most = (name.Length + value.Length) * 3;
        Span<byte> room = most <= small.Length ? small : new byte[most];
        int names = Encoding.UTF8.GetBytes(name, room);
        int values = Encoding.UTF8.GetBytes(value, room[names..]);
        Add(room[..names], room.Slice(names, values));
        if (index < StringsMax && index == _stringCount && value.Length <= StringBytesMax)
        {
            _strings[index] = new Strings { Name = name, Value = value, Place = _places[index] };
            _stringCount = index + 1;
        }
    }

    private bool IsAsBefore(in Strings before, string name, string value) => ReferenceEquals(before.Name, name)
        && ReferenceEquals(before.Value, value) && before.Place.NameStart == _used;

    /// <summary>Removes all fields of a name (any case).</summary>
    public void Remove(ReadOnlySpan<byte> name)
    {
        CheckOpen();
        _stringCount = 0;
        int kept = 0;
        for (int i = 0; i < Count; i++)
        {
            if (!HeaderName.Same(Name(i), name))
            {
                _places[kept++] = _places[i];
            }
        }
        Count = kept;
    }

    /// <summary>Index of the first field of a name (any case), or -1.</summary>
    public int Find(ReadOnlySpan<byte> name)
    {
        for (int i = 0; i < Count; i++)
        {
            if (HeaderName.Same(Name(i), name))
            {
                return i;
            }
        }
        return -1;
    }

    internal void Clear()
    {
        _stringCount = Math.Min(_stringCount, Count);
        Count = 0;
        _used = 0;
        IsSealed = false;
    }

    private void CheckOpen()
    {
        if (IsSealed)
        {
            throw new InvalidOperationException("the head of the answer has left already");
        }
    }

    private void Check(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value)
    {
        CheckOpen();
        if (name.IsEmpty || name.IndexOfAnyInRange((byte)0, (byte)' ') >= 0
            || name.IndexOfAny("\"(),/:;<=>?@[\\]{}\x7f"u8) >= 0 || name.IndexOfAnyInRange((byte)0x80, (byte)0xff) >= 0)
        {
            throw new ArgumentException("not the name of a header field", nameof(name));
        }
        if (value.IndexOfAny((byte)'\r', (byte)'\n', (byte)0) >= 0)
        {
            throw new ArgumentException("the value of a header field holds a line end", nameof(value));
        }
    }
}
