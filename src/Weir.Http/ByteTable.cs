// A read-mostly map from bytes to values: open addressing over a hash of eight bytes at a time, no allocation on
// lookup. Filled while a configuration is built, frozen afterwards. Keys live in the configuration's memory.
using System.Buffers.Binary;
using System.Numerics;
using Weir.Kernel;

namespace Weir.Http;

/// <summary>A hash table keyed by byte texts.</summary>
public sealed class ByteTable<T>
{
    private (NativeSlice Key, uint Hash, T Value, bool Used)[] _slots = new (NativeSlice, uint, T, bool)[16];

    public int Count { get; private set; }

    /// <summary>Adds a key; false when it is there already (the old value stays).</summary>
    public bool TryAdd(NativeSlice key, T value)
    {
        if (Count * 2 >= _slots.Length)
        {
            Grow();
        }
        uint hash = Hash(key.Span);
        int i = Place(key.Span, hash);
        if (_slots[i].Used)
        {
            return false;
        }
        _slots[i] = (key, hash, value, true);
        Count++;
        return true;
    }

    public bool TryGet(ReadOnlySpan<byte> key, out T value)
    {
        ref var slot = ref _slots[Place(key, Hash(key))];
        value = slot.Value;
        return slot.Used;
    }

    public IEnumerable<(NativeSlice Key, T Value)> Items =>
        _slots.Where(static s => s.Used).Select(static s => (s.Key, s.Value));

    private int Place(ReadOnlySpan<byte> key, uint hash)
    {
        int mask = _slots.Length - 1;
        int i = (int)hash & mask;
        while (_slots[i].Used && (_slots[i].Hash != hash || !_slots[i].Key.Span.SequenceEqual(key)))
        {
            i = (i + 1) & mask;
        }
        return i;
    }

    private void Grow()
    {
        var old = _slots;
        _slots = new (NativeSlice, uint, T, bool)[old.Length * 2];
        foreach (var slot in old)
        {
            if (slot.Used)
            {
                _slots[Place(slot.Key.Span, slot.Hash)] = slot;
            }
        }
    }

    private const ulong Factor = 0x9E37_79B9_7F4A_7C15;

    private static uint Hash(ReadOnlySpan<byte> key)
    {
        ulong hash = (uint)key.Length;
        while (key.Length >= sizeof(ulong))
        {
            hash = BitOperations.RotateLeft((hash ^ BinaryPrimitives.ReadUInt64LittleEndian(key)) * Factor, 29);
            key = key[sizeof(ulong)..];
        }
        if (key.Length >= sizeof(uint))
        {
            // What is left is read as two words that overlap.
            hash ^= BinaryPrimitives.ReadUInt32LittleEndian(key)
                | (ulong)BinaryPrimitives.ReadUInt32LittleEndian(key[^sizeof(uint)..]) << 32;
        }
        else if (key.Length > 0)
        {
            hash ^= key[0] | (uint)key[key.Length >> 1] << 8 | (uint)key[^1] << 16;
        }
        return (uint)(hash * Factor >> 32);
    }
}

/// <summary>Types by file extension (`types`).</summary>
public sealed class MimeTypes
{
    private const int ExtensionBytesMax = 64;

    public static readonly MimeTypes Empty = new();

    private readonly ByteTable<NativeSlice> _byExtension = new();

    public MimeTypes()
    {
    }

    public MimeTypes(IEnumerable<KeyValuePair<string, NativeSlice>> types, NativeArena memory)
    {
        foreach ((string extension, NativeSlice type) in types)
        {
            _byExtension.TryAdd(memory.Store(extension), type);
        }
    }

    public int Count => _byExtension.Count;

    /// <summary>The type of an extension in any case; false when none is configured.</summary>
    public bool TryGet(ReadOnlySpan<byte> extension, out NativeSlice type)
    {
        if (extension.Length is 0 or > ExtensionBytesMax)
        {
            type = default;
            return false;
        }
        return _byExtension.TryGet(extension, out type) || TryGetLower(extension, out type);
    }

    private bool TryGetLower(ReadOnlySpan<byte> extension, out NativeSlice type)
    {
        type = default;
        Span<byte> lower = stackalloc byte[extension.Length];
        System.Text.Ascii.ToLower(extension, lower, out int n);
        return n == extension.Length && _byExtension.TryGet(lower, out type);
    }
}
