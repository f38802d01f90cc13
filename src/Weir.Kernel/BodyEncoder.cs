// Compressors beside zlib behind one seam: Brotli (libbrotlienc.so.1) and Zstandard (libzstd.so.1), each loaded when a
// configuration first asks for it. An encoder belongs to one loop; its memory is the library's own until it is
// disposed.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>What an encoder is asked to do with what it holds.</summary>
public enum EncoderFlush
{
    None,
    Flush,
    Finish,
}

/// <summary>A stream that compresses one body.</summary>
public abstract class BodyEncoder : IDisposable
{
    /// <summary>One step: takes from the input, gives to the output. False when the library failed.
    /// <paramref name="hasMore"/>: there is more to give for the same input, with more room.</summary>
    public abstract bool Step(NativeSlice input, out int taken, NativeSlice output, out int given, EncoderFlush flush,
        out bool hasMore);

    /// <summary>Native memory that it holds.</summary>
    public abstract long Bytes { get; }

    /// <summary>As new, with the same parameters and its memory, also in the middle of a body; false when it can only
    /// be disposed.</summary>
    public abstract bool Reset();

    public abstract void Dispose();
}

/// <summary>Brotli.</summary>
public sealed unsafe class BrotliEncoder : BodyEncoder
{
    private const int Quality = 1;
    private const int WindowBits = 2;

    private static readonly Lock s_lock = new();
    private static string? s_loadError;
    private static bool s_loaded;
    private static delegate* unmanaged<delegate* unmanaged<EncoderMemory*, nuint, void*>,
        delegate* unmanaged<EncoderMemory*, void*, void>, EncoderMemory*, nint> s_create;
    private static delegate* unmanaged<nint, int, uint, int> s_set;
    private static delegate* unmanaged<nint, int, nuint*, byte**, nuint*, byte**, nuint*, int> s_compress;
    private static delegate* unmanaged<nint, int> s_hasMore;
    private static delegate* unmanaged<nint, void> s_destroy;

    private readonly int _quality;
    private readonly int _windowBits;
    private EncoderMemory* _memory;
    private nint _state;

    private BrotliEncoder(int quality, int windowBits)
    {
        _quality = quality;
        _windowBits = windowBits;
        _memory = EncoderMemory.Create();
    }

    public static BrotliEncoder? Create(int quality, int windowBits)
    {
        var encoder = new BrotliEncoder(quality, windowBits);
        if (encoder.Begin())
        {
            return encoder;
        }
        encoder.Dispose();
        return null;
    }

    public override long Bytes => (long)_memory->Bytes;

    /// <summary>How often the system was asked for memory.</summary>
    public long BlocksAllocated => _memory->Allocations;

    /// <summary>The library cannot reset: it is begun anew in the memory of the one before.</summary>
    public override bool Reset()
    {
        s_destroy(_state);
        _state = 0;
        return Begin();
    }

    private bool Begin()
    {
        _state = s_create(&EncoderMemory.Allocate, &EncoderMemory.Free, _memory);
        if (_state != 0)
        {
            _ = s_set(_state, Quality, (uint)_quality);
            _ = s_set(_state, WindowBits, (uint)_windowBits);
        }
        return _state != 0;
    }

    public override bool Step(NativeSlice input, out int taken, NativeSlice output, out int given, EncoderFlush flush,
        out bool hasMore)
    {
        byte* nextIn = input.Pointer;
        byte* nextOut = output.Pointer;
        nuint left = (nuint)input.Length;
        nuint room = (nuint)output.Length;
        nuint total;
        int done = s_compress(_state, (int)flush, &left, &nextIn, &room, &nextOut, &total);
        taken = input.Length - (int)left;
        given = output.Length - (int)room;
        hasMore = left > 0 || s_hasMore(_state) != 0;
        return done != 0;
    }

    public override void Dispose()
    {
        if (_state != 0)
        {
            s_destroy(_state);
            _state = 0;
        }
        if (_memory != null)
        {
            EncoderMemory.Destroy(_memory);
            _memory = null;
        }
    }

    /// <summary>Loads the library; null, or why it cannot be used.</summary>
    public static string? Load()
    {
        lock (s_lock)
        {
            if (s_loaded || s_loadError is not null)
            {
                return s_loadError;
            }
            if (!NativeLibrary.TryLoad("libbrotlienc.so.1", out nint library))
            {
                return s_loadError = "brotli requires libbrotlienc.so.1, which is missing (Debian: apt-get install "
                    + "libbrotli1)";
            }
            s_create = (delegate* unmanaged<delegate* unmanaged<EncoderMemory*, nuint, void*>,
                delegate* unmanaged<EncoderMemory*, void*, void>, EncoderMemory*, nint>)Export("CreateInstance");
            s_set = (delegate* unmanaged<nint, int, uint, int>)Export("SetParameter");
            s_compress = (delegate* unmanaged<nint, int, nuint*, byte**, nuint*, byte**, nuint*, int>)Export(
                "CompressStream");
            s_hasMore = (delegate* unmanaged<nint, int>)Export("HasMoreOutput");
            s_destroy = (delegate* unmanaged<nint, void>)Export("DestroyInstance");
            s_loaded = true;
            return null;

            nint Export(string name) => NativeLibrary.GetExport(library, "BrotliEncoder" + name);
        }
    }
}

/// <summary>Zstandard.</summary>
public sealed unsafe class ZstdEncoder : BodyEncoder
{
    private const int CompressionLevel = 100;
    private const int ResetSession = 1;

    private static readonly Lock s_lock = new();
    private static string? s_loadError;
    private static bool s_loaded;
    private static delegate* unmanaged<nint> s_create;
    private static delegate* unmanaged<nint, nuint> s_free;
    private static delegate* unmanaged<nint, int, int, nuint> s_set;
    private static delegate* unmanaged<nint, Buffer*, Buffer*, int, nuint> s_compress;
    private static delegate* unmanaged<nuint, uint> s_isError;
    private static delegate* unmanaged<nint, int, nuint> s_reset;
    private static delegate* unmanaged<nint, nuint> s_sizeOf;

    private nint _context;

    private ZstdEncoder(nint context) => _context = context;

    [StructLayout(LayoutKind.Sequential)]
    private struct Buffer
    {
        public byte* Bytes;
        public nuint Size;
        public nuint At;
    }

    public static ZstdEncoder? Create(int level)
    {
        nint context = s_create();
        if (context == 0)
        {
            return null;
        }
        _ = s_set(context, CompressionLevel, level);
        return new ZstdEncoder(context);
    }

    public override long Bytes => (long)s_sizeOf(_context);

    public override bool Reset() => s_isError(s_reset(_context, ResetSession)) == 0;

    public override bool Step(NativeSlice input, out int taken, NativeSlice output, out int given, EncoderFlush flush,
        out bool hasMore)
    {
        var source = new Buffer { Bytes = input.Pointer, Size = (nuint)input.Length };
        var target = new Buffer { Bytes = output.Pointer, Size = (nuint)output.Length };
        nuint left = s_compress(_context, &target, &source, (int)flush);
        taken = (int)source.At;
        given = (int)target.At;
        hasMore = taken < input.Length || flush != EncoderFlush.None && left > 0;
        return s_isError(left) == 0;
    }

    public override void Dispose()
    {
        if (_context != 0)
        {
            _ = s_free(_context);
            _context = 0;
        }
    }

    /// <summary>Loads the library; null, or why it cannot be used.</summary>
    public static string? Load()
    {
        lock (s_lock)
        {
            if (s_loaded || s_loadError is not null)
            {
                return s_loadError;
            }
            if (!NativeLibrary.TryLoad("libzstd.so.1", out nint library))
            {
                return s_loadError = "zstd requires libzstd.so.1, which is missing (Debian: apt-get install libzstd1)";
            }
            s_create = (delegate* unmanaged<nint>)Export("createCCtx");
            s_free = (delegate* unmanaged<nint, nuint>)Export("freeCCtx");
            s_set = (delegate* unmanaged<nint, int, int, nuint>)Export("CCtx_setParameter");
            s_compress = (delegate* unmanaged<nint, Buffer*, Buffer*, int, nuint>)Export("compressStream2");
            s_isError = (delegate* unmanaged<nuint, uint>)Export("isError");
            s_reset = (delegate* unmanaged<nint, int, nuint>)Export("CCtx_reset");
            s_sizeOf = (delegate* unmanaged<nint, nuint>)Export("sizeof_CCtx");
            s_loaded = true;
            return null;

            nint Export(string name) => NativeLibrary.GetExport(library, "ZSTD_" + name);
        }
    }
}
