// zlib (libz.so.1), loaded when a configuration first asks for compression. A stream belongs to one loop and is used
// again after a reset; its window lives in memory of zlib's own until it is disposed.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>What zlib is asked to do with what it holds.</summary>
public enum ZlibFlush
{
    None = 0,
    Sync = 2,
    Finish = 4,
}

/// <summary>How a step of zlib ended.</summary>
public enum ZlibResult
{
    Ok = 0,
    End = 1,

    /// <summary>Nothing could be done: more input or more room is needed.</summary>
    Stalled = -5,
    BadData = -3,
}

/// <summary>A compressing or decompressing stream.</summary>
public sealed unsafe class ZlibStream : IDisposable
{
    private ZStream* _stream;
    private readonly bool _inflates;

    private ZlibStream(ZStream* stream, bool inflates)
    {
        _stream = stream;
        _inflates = inflates;
    }

    [StructLayout(LayoutKind.Sequential)]
    private struct ZStream
    {
        public byte* NextIn;
        public uint AvailableIn;
        public nuint TotalIn;
        public byte* NextOut;
        public uint AvailableOut;
        public nuint TotalOut;
        public nint Message;
        public nint State;
        public nint Allocate;
        public nint Free;
        public nint Opaque;
        public int DataType;
        public nuint Adler;
        public nuint Reserved;
    }

    private static delegate* unmanaged<ZStream*, int, int, int, int, int, byte*, int, int> s_deflateInit;
    private static delegate* unmanaged<ZStream*, int, int> s_deflate;
    private static delegate* unmanaged<ZStream*, int> s_deflateReset;
    private static delegate* unmanaged<ZStream*, int> s_deflateEnd;
    private static delegate* unmanaged<ZStream*, int, byte*, int, int> s_inflateInit;
    private static delegate* unmanaged<ZStream*, int, int> s_inflate;
    private static delegate* unmanaged<ZStream*, int> s_inflateReset;
    private static delegate* unmanaged<ZStream*, int> s_inflateEnd;
    private static readonly Lock s_lock = new();
    private static string? s_loadError;
    private static bool s_loaded;

    private static ReadOnlySpan<byte> Version => "1.2.11\0"u8;

    /// <summary>Bytes taken and given since the start or the last reset.</summary>
    public long TotalIn => (long)_stream->TotalIn;
    public long TotalOut => (long)_stream->TotalOut;

    /// <summary>A stream that writes the gzip format; null when zlib refuses the parameters or has no memory.</summary>
    public static ZlibStream? Compressor(int level, int windowBits, int memoryLevel)
    {
        ZStream* stream = New();
        int result;
        fixed (byte* version = Version)
        {
            result = s_deflateInit(stream, level, 8, windowBits + 16, memoryLevel, 0, version, sizeof(ZStream));
        }
        return Wrap(stream, result, inflates: false);
    }

    /// <summary>A stream that reads the gzip format.</summary>
    public static ZlibStream? Decompressor()
    {
        ZStream* stream = New();
        int result;
        fixed (byte* version = Version)
        {
            result = s_inflateInit(stream, 15 + 16, version, sizeof(ZStream));
        }
        return Wrap(stream, result, inflates: true);
    }

    private static ZStream* New()
    {
        if (Load() is not null)
        {
            throw new InvalidOperationException("zlib was not loaded before it was used");
        }
        return (ZStream*)NativeMemory.AllocZeroed((nuint)sizeof(ZStream));
    }

    private static ZlibStream? Wrap(ZStream* stream, int result, bool inflates)
    {
        if (result == 0)
        {
            return new ZlibStream(stream, inflates);
        }
        NativeMemory.Free(stream);
        return null;
    }

    /// <summary>One step: takes from the input, gives to the output.</summary>
    public ZlibResult Step(NativeSlice input, out int taken, NativeSlice output, out int given, ZlibFlush flush)
    {
        _stream->NextIn = input.Pointer;
        _stream->AvailableIn = (uint)input.Length;
        _stream->NextOut = output.Pointer;
        _stream->AvailableOut = (uint)output.Length;
        int result = _inflates ? s_inflate(_stream, (int)flush) : s_deflate(_stream, (int)flush);
        taken = input.Length - (int)_stream->AvailableIn;
        given = output.Length - (int)_stream->AvailableOut;
        return result is 0 or 1 or -5 ? (ZlibResult)result : ZlibResult.BadData;
    }

    /// <summary>As new, with the same parameters.</summary>
    public void Reset() => _ = _inflates ? s_inflateReset(_stream) : s_deflateReset(_stream);

    public void Dispose()
    {
        if (_stream != null)
        {
            _ = _inflates ? s_inflateEnd(_stream) : s_deflateEnd(_stream);
            NativeMemory.Free(_stream);
            _stream = null;
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
            if (!NativeLibrary.TryLoad("libz.so.1", out nint library))
            {
                return s_loadError = "compression requires zlib: libz.so.1 is missing (Debian: apt-get install zlib1g)";
            }
            s_deflateInit = (delegate* unmanaged<ZStream*, int, int, int, int, int, byte*, int, int>)Export(library,
                "deflateInit2_");
            s_deflate = (delegate* unmanaged<ZStream*, int, int>)Export(library, "deflate");
            s_deflateReset = (delegate* unmanaged<ZStream*, int>)Export(library, "deflateReset");
            s_deflateEnd = (delegate* unmanaged<ZStream*, int>)Export(library, "deflateEnd");
            s_inflateInit = (delegate* unmanaged<ZStream*, int, byte*, int, int>)Export(library, "inflateInit2_");
            s_inflate = (delegate* unmanaged<ZStream*, int, int>)Export(library, "inflate");
            s_inflateReset = (delegate* unmanaged<ZStream*, int>)Export(library, "inflateReset");
            s_inflateEnd = (delegate* unmanaged<ZStream*, int>)Export(library, "inflateEnd");
            s_loaded = true;
            return null;
        }
    }

    private static nint Export(nint library, string name) => NativeLibrary.GetExport(library, name);
}
