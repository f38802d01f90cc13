// Native memory that lives as long as its owner and is given back as a whole: what a configuration keeps (texts,
// compiled tables), so that requests can hold slices of it without keeping anything alive. One thread at a time.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>A bump allocator of native memory, freed as a whole.</summary>
public sealed unsafe class NativeArena : IDisposable
{
    private const int BlockBytes = 64 * 1024;

    private readonly List<nint> _blocks = [];
    private byte* _at;
    private int _left;

    /// <summary>Bytes taken from the system.</summary>
    public long Bytes { get; private set; }

    public NativeSlice Allocate(int length)
    {
        int need = (length + 7) & ~7;
        if (need > _left)
        {
            int size = Math.Max(need, _blocks.Count == 0 ? 4096 : BlockBytes);
            byte* block = (byte*)NativeMemory.Alloc((nuint)size);
            _blocks.Add((nint)block);
            Bytes += size;
            if (need > BlockBytes / 2)
            {
                return new NativeSlice(block, length);
            }
            _at = block;
            _left = size;
        }
        var slice = new NativeSlice(_at, length);
        _at += need;
        _left -= need;
        return slice;
    }

    public NativeSlice Store(ReadOnlySpan<byte> bytes)
    {
        NativeSlice slice = Allocate(bytes.Length);
        bytes.CopyTo(slice.Span);
        return slice;
    }

    /// <summary>Stores a text whose chars are bytes (Latin-1), as configurations are read.</summary>
    public NativeSlice Store(string byteText)
    {
        NativeSlice slice = Allocate(byteText.Length);
        System.Text.Encoding.Latin1.GetBytes(byteText, slice.Span);
        return slice;
    }

    /// <summary>Stores a byte text with a NUL behind it, for system calls; the NUL is not counted.</summary>
    public NativeSlice StorePath(string byteText)
    {
        NativeSlice slice = Allocate(byteText.Length + 1);
        System.Text.Encoding.Latin1.GetBytes(byteText, slice.Span);
        slice.Span[byteText.Length] = 0;
        return slice.Slice(0, byteText.Length);
    }

    public void Dispose()
    {
        foreach (nint block in _blocks)
        {
            NativeMemory.Free((void*)block);
        }
        _blocks.Clear();
        _at = null;
        _left = 0;
        Bytes = 0;
    }
}
