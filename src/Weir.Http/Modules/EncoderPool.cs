// A loop's idle encoders of gzip, brotli and zstd: what they hold of native memory is used again after a reset, up to
// a limit in bytes; those that waited longest go first, and an idle loop lets go of all but a little. One
// loop's thread.
// An encoder belongs to the filter that took it until it comes back, whole or in the middle of a body.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Modules;

/// <summary>What an encoder was made for: null is gzip.</summary>
internal readonly record struct EncoderKey(EncodingModule? Module, int Level, int WindowBits, int MemoryLevel)
{
    internal bool Is(in EncoderKey other) => ReferenceEquals(Module, other.Module) && Level == other.Level
        && WindowBits == other.WindowBits && MemoryLevel == other.MemoryLevel;
}

/// <summary>An encoder that can wait in the pool.</summary>
internal abstract class PooledEncoder(EncoderKey key)
{
    internal readonly EncoderKey Key = key;
    internal PooledEncoder? NextFree;

    /// <summary>Its weight in the pool, set when it comes back.</summary>
    internal long KeptBytes;

    internal abstract long Bytes { get; }

    /// <summary>As new; false when it cannot be used again.</summary>
    internal abstract bool Reset();

    internal abstract void Dispose();
}

/// <summary>zlib.</summary>
internal sealed class GzipEncoder : PooledEncoder
{
    private GzipEncoder(ZlibStream stream, EncoderKey key) : base(key) => Stream = stream;

    internal ZlibStream Stream { get; }

    /// <summary>As zlib's manual reckons it.</summary>
    internal override long Bytes => (1L << (Key.WindowBits + 2)) + (1L << (Key.MemoryLevel + 9)) + 6 * 1024;

    internal static GzipEncoder? Create(EncoderKey key) =>
        ZlibStream.Compressor(key.Level, key.WindowBits, key.MemoryLevel) is { } stream
            ? new GzipEncoder(stream, key) : null;

    internal override bool Reset()
    {
        Stream.Reset();
        return true;
    }

    internal override void Dispose() => Stream.Dispose();
}

/// <summary>Brotli or Zstandard.</summary>
internal sealed class EncodingEncoder : PooledEncoder
{
    private EncodingEncoder(BodyEncoder body, EncoderKey key) : base(key) => Body = body;

    internal BodyEncoder Body { get; }

    internal override long Bytes => Body.Bytes;

    internal static EncodingEncoder? Create(EncoderKey key) =>
        key.Module!.Create(key.Level, key.WindowBits) is { } body ? new EncodingEncoder(body, key) : null;

    internal override bool Reset() => Body.Reset();

    internal override void Dispose() => Body.Dispose();
}

internal sealed class EncoderPool(EventLoop loop) : LoopPool(loop, "encoders"), IDisposable
{
    /// <summary>Native memory of a loop's idle encoders at most.</summary>
    internal const long BytesMax = 16 * 1024 * 1024;

    /// <summary>And what an idle loop keeps.</summary>
    internal const long IdleBytesMax = 4 * 1024 * 1024;

    private static readonly LoopSlot<EncoderPool> s_slot = new();

    private readonly EventLoop _loop = loop;
    private PooledEncoder? _first;
    private int _count;

    internal static EncoderPool Of(EventLoop loop) => loop.Slot(s_slot, static l => new EncoderPool(l));

    public override int Count => _count;

    internal long KeptBytes { get; private set; }

    internal PooledEncoder? TryTake(in EncoderKey key)
    {
        PooledEncoder? previous = null;
        for (PooledEncoder? one = _first; one is not null; previous = one, one = one.NextFree)
        {
            if (one.Key.Is(in key))
            {
                Unlink(previous, one);
                return one;
            }
        }
        return null;
    }

    internal void Return(PooledEncoder encoder)
    {
        if (!encoder.Reset())
        {
            encoder.Dispose();
            return;
        }
        encoder.KeptBytes = encoder.Bytes;
        KeptBytes += encoder.KeptBytes;
        encoder.NextFree = _first;
        _first = encoder;
        _count++;
        if (KeptBytes > IdleBytesMax)
        {
            DropTo(BytesMax);
            _loop.TrimLater();
        }
    }

    public void Dispose() => DropTo(0);

    /// <summary>The ones that wait longest go.</summary>
    private void DropTo(long bytesMax)
    {
        while (KeptBytes > bytesMax)
        {
            PooledEncoder? previous = null;
            PooledEncoder last = _first!;
            while (last.NextFree is not null)
            {
                previous = last;
                last = last.NextFree;
            }
            Unlink(previous, last);
            last.Dispose();
        }
    }

    private void Unlink(PooledEncoder? previous, PooledEncoder one)
    {
        if (previous is null)
        {
            _first = one.NextFree;
        }
        else
        {
            previous.NextFree = one.NextFree;
        }
        one.NextFree = null;
        KeptBytes -= one.KeptBytes;
        _count--;
    }

    /// <summary>By bytes, whatever their number: they are native memory, and no work for the collector.</summary>
    protected override int TrimTo(int kept)
    {
        DropTo(IdleBytesMax);
        return 0;
    }
}
