// The fields of a head, in order, with an index of the names that have a number. Reused for every head of a connection:
// it allocates only when a head has more fields than any before it. Offsets only; the bytes belong to who holds the
// head.
namespace Weir.Protocol.Http1;

/// <summary>The header fields of a request or response.</summary>
public abstract class HeaderFields
{
    private readonly ushort[] _first = new ushort[KnownNames.CountMax];
    private readonly ushort[] _last = new ushort[KnownNames.CountMax];
    private HeaderField[] _fields = new HeaderField[32];
    private int _count;

    // A bit for each known name that occurs: what stands in the two indexes counts only then.
    private ulong _present;

    private protected HeaderFields()
    {
    }

    /// <summary>All fields in the order they came, dropped ones included.</summary>
    public ReadOnlySpan<HeaderField> Fields => new(_fields, 0, _count);
    public int Count => _count;
    public ref readonly HeaderField this[int index] => ref Fields[index];

    /// <summary>Index of the next field with the same known name, or -1.</summary>
    public int FindNext(int index)
    {
        int next = Fields[index].NextSame;
        return next == 0 ? -1 : next;
    }

    /// <summary>Index of the next field, not dropped, with the same name, or -1. For names without a number this
    /// compares names.</summary>
    public int FindNext(int index, ReadOnlySpan<byte> head)
    {
        ref readonly HeaderField field = ref Fields[index];
        return field.KnownId != 0 ? FindNext(index) : FindFrom(index + 1, field.Name(head), field.Hash, head);
    }

    /// <summary>Index of the first field, not dropped, of any name, or -1. The hash is
    /// <see cref="HeaderName.Hash"/>.</summary>
    public int Find(ReadOnlySpan<byte> name, uint hash, ReadOnlySpan<byte> head) => FindFrom(0, name, hash, head);

    private protected int FindKnown(int id) => (_present >> id & 1) != 0 ? _first[id] : -1;

    private protected bool HasAnyKnown(ulong ids) => (_present & ids) != 0;

    private int FindFrom(int start, ReadOnlySpan<byte> name, uint hash, ReadOnlySpan<byte> head)
    {
        ReadOnlySpan<HeaderField> fields = Fields;
        for (int i = start; i < fields.Length; i++)
        {
            ref readonly HeaderField field = ref fields[i];
            if (field.Hash == hash && !field.Dropped && HeaderName.Same(field.Name(head), name))
            {
                return i;
            }
        }
        return -1;
    }

    /// <summary>Whether a field has a name without a number.</summary>
    public bool HasUnknown { get; private set; }

    private protected void ClearFields()
    {
        _present = 0;
        _count = 0;
        HasUnknown = false;
    }

    private protected void CopyFieldsFrom(HeaderFields other)
    {
        if (_fields.Length < other._count)
        {
            _fields = new HeaderField[other._fields.Length];
        }
        other.Fields.CopyTo(_fields);
        _count = other._count;
        _present = other._present;
        HasUnknown = other.HasUnknown;
        other._first.CopyTo(_first, 0);
        other._last.CopyTo(_last, 0);
    }

    private protected void MoveFields(int by)
    {
        foreach (ref HeaderField field in _fields.AsSpan(0, _count))
        {
            field.NameStart += by;
            field.ValueStart += by;
        }
    }

    /// <summary>The slot the next field is read into. It counts only after <see cref="Append"/>.</summary>
    internal ref HeaderField NextSlot()
    {
        if (_count == _fields.Length)
        {
            Array.Resize(ref _fields, _fields.Length * 2);
        }
        ref HeaderField field = ref _fields[_count];
        field.KnownId = 0;
        field.NextSame = 0;
        field.Dropped = false;
        return ref field;
    }

    /// <summary>Takes the slot as a field. Returns the index of the first field of the same known name, or
    /// -1.</summary>
    internal int Append(byte knownId)
    {
        int index = _count++;
        if (knownId == 0)
        {
            HasUnknown = true;
            return -1;
        }
        _fields[index].KnownId = knownId;
        ulong bit = 1UL << knownId;
        int first = -1;
        if ((_present & bit) == 0)
        {
            _present |= bit;
            _first[knownId] = (ushort)index;
        }
        else
        {
            first = _first[knownId];
            _fields[_last[knownId]].NextSame = (ushort)index;
        }
        _last[knownId] = (ushort)index;
        return first;
    }
}
