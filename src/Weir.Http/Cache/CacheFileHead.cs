// The beginning of a cache file: a fixed part of numbers, then the key's text, the names of the fields that the
// response varies on, the response's head and its tags. The body follows at BodyStart. The checksum covers all of it
// from behind itself up to the body: a file that was torn by a crash or a disk is recognised and dropped.
// Little-endian, version 1. Pure: bytes in, values out.
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Weir.Kernel;

namespace Weir.Http.Cache;

/// <summary>What a file says of itself.</summary>
[Flags]
internal enum CacheFileFlags : uint
{
    None = 0,

    /// <summary>The head is in CGI form.</summary>
    Cgi = 1,

    /// <summary>No response, but the names of fields: the responses are stored as variants.</summary>
    Marker = 2,
    AlwaysAsks = 4,
    NeverStale = 8,

    /// <summary>It was stored by RFC 9111's rules: its age is told.</summary>
    Conforms = 16,
}

/// <summary>The fixed part.</summary>
[StructLayout(LayoutKind.Sequential, Pack = 1, Size = HeadBytes)]
internal struct CacheFileHead
{
    public const int HeadBytes = 144;
    public const ulong MagicNumber = 0x3143414352494557; // "WEIRCAC1"
    private const int SumFrom = 16;

    /// <summary>No head is longer, its texts included.</summary>
    public const int BodyStartMax = 64 * 1024;

    public ulong Magic;
    public uint Version;
    public uint Checksum;
    public ulong Id;
    public long StoredMs;
    public long InitialAgeSec;
    public long LifetimeSec;
    public long DateSec;
    public long LastModifiedSec;
    public long BodyBytes;
    public long StaleWhileRevalidateSec;
    public long StaleIfErrorSec;

    /// <summary>Changes when a marker is made anew, so that old variants are not found any more.</summary>
    public ulong Epoch;
    public CacheFileFlags Flags;
    public int Status;
    public int BodyStart;
    public int KeyLength;
    public int VaryLength;
    public int ResponseLength;
    public int TagsLength;
    private readonly uint _spare;

    public readonly int TextLength => KeyLength + VaryLength + ResponseLength + TagsLength;

    public readonly long FileBytes => BodyStart + BodyBytes;

    public readonly bool IsMarker => (Flags & CacheFileFlags.Marker) != 0;

    public readonly StorePlan Plan => new()
    {
        Stores = true,
        InitialAgeSec = InitialAgeSec,
        LifetimeSec = LifetimeSec,
        StaleWhileRevalidateSec = StaleWhileRevalidateSec,
        StaleIfErrorSec = StaleIfErrorSec,
        AlwaysAsks = (Flags & CacheFileFlags.AlwaysAsks) != 0,
        NeverStale = (Flags & CacheFileFlags.NeverStale) != 0,
    };

    /// <summary>Seconds since the response was made, as far as is known.</summary>
    public readonly long AgeSec(long nowMs) => StoredMs > nowMs + CacheIndex.FutureMsMax ? UnknownAgeSec
        : Math.Max(0, (nowMs - StoredMs) / 1000) + InitialAgeSec;

    /// <summary>The age of what was stored before the clock was set back: nobody knows it, so it is older than anything
    /// may be (the greatest that RFC 9111 section 1.2.2 has).</summary>
    public const long UnknownAgeSec = 1L << 31;

    /// <summary>Writes the fixed part in front of texts that are there already, and the checksum over all.</summary>
    public void Seal(Span<byte> bytes)
    {
        Magic = MagicNumber;
        Version = 1;
        Checksum = 0;
        MemoryMarshal.Write(bytes, in this);
        Checksum = Sum(bytes[SumFrom..BodyStart]);
        MemoryMarshal.Write(bytes, in this);
    }

    /// <summary>Reads and checks everything before the body; false for what is not whole.</summary>
    public static bool TryRead(ReadOnlySpan<byte> bytes, out CacheFileHead head)
    {
        if (!TryReadFixed(bytes, out head) || bytes.Length < head.BodyStart)
        {
            return false;
        }
        return Sum(bytes[SumFrom..head.BodyStart]) == head.Checksum;
    }

    /// <summary>Reads the fixed part alone, which says how much there is to read.</summary>
    public static bool TryReadFixed(ReadOnlySpan<byte> bytes, out CacheFileHead head)
    {
        head = default;
        if (bytes.Length < HeadBytes)
        {
            return false;
        }
        head = MemoryMarshal.Read<CacheFileHead>(bytes);
        return head.Magic == MagicNumber && head.Version == 1 && head.BodyStart is >= HeadBytes and <= BodyStartMax
            && head.KeyLength >= 0 && head.VaryLength >= 0 && head.ResponseLength >= 0 && head.TagsLength >= 0
            && (long)head.KeyLength + head.VaryLength + head.ResponseLength + head.TagsLength
                <= head.BodyStart - HeadBytes && head.BodyBytes >= 0 && head.Id != 0;
    }

    /// <summary>CRC-32C.</summary>
    private static uint Sum(ReadOnlySpan<byte> bytes)
    {
        uint sum = uint.MaxValue;
        while (bytes.Length >= sizeof(ulong))
        {
            sum = BitOperations.Crc32C(sum, MemoryMarshal.Read<ulong>(bytes));
            bytes = bytes[sizeof(ulong)..];
        }
        foreach (byte b in bytes)
        {
            sum = BitOperations.Crc32C(sum, b);
        }
        return ~sum;
    }
}

/// <summary>The texts of a head, in memory that somebody else holds.</summary>
internal readonly struct CacheFileTexts(NativeSlice all, in CacheFileHead head)
{
    public readonly NativeSlice Key = all.Slice(CacheFileHead.HeadBytes, head.KeyLength);
    public readonly NativeSlice Vary = all.Slice(CacheFileHead.HeadBytes + head.KeyLength, head.VaryLength);
    public readonly NativeSlice Response = all.Slice(CacheFileHead.HeadBytes + head.KeyLength + head.VaryLength,
        head.ResponseLength);
    public readonly NativeSlice Tags = all.Slice(
        CacheFileHead.HeadBytes + head.KeyLength + head.VaryLength + head.ResponseLength, head.TagsLength);
}
