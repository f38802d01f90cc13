// The identity of a cached response: the MD5 of its key's text, as nginx has it, so that a file's name is the same in
// both. A variant of a response that varies has a key of its own, made of the resource's key and of what the request
// says in the fields that count. Values; any thread.
using System.Buffers.Binary;
using System.Runtime.InteropServices;
using Weir.Protocol.Digests;

namespace Weir.Http.Cache;

/// <summary>The 128 bits of a cache key.</summary>
[StructLayout(LayoutKind.Sequential)]
public readonly record struct CacheKey(ulong First, ulong Second)
{
    public const int Bytes = 16;

    /// <summary>Digits of a file's name.</summary>
    public const int NameLength = 32;

    public static CacheKey Of(ReadOnlySpan<byte> text) => Of(text, default);

    public static CacheKey Of(ReadOnlySpan<byte> text, ReadOnlySpan<byte> more)
    {
        Span<byte> block = stackalloc byte[64];
        var md5 = new Md5(block);
        md5.Add(text);
        md5.Add(more);
        Span<byte> digest = stackalloc byte[Md5.Length];
        md5.Finish(digest);
        return Read(digest);
    }

    /// <summary>The key of one variant: <paramref name="epoch"/> changes when the resource is purged.</summary>
    public CacheKey Variant(ulong epoch, ReadOnlySpan<byte> values)
    {
        Span<byte> own = stackalloc byte[Bytes + sizeof(ulong)];
        Write(own);
        BinaryPrimitives.WriteUInt64LittleEndian(own[Bytes..], epoch);
        return Of(own, values);
    }

    public static CacheKey Read(ReadOnlySpan<byte> bytes) => new(BinaryPrimitives.ReadUInt64BigEndian(bytes),
        BinaryPrimitives.ReadUInt64BigEndian(bytes[8..]));

    public void Write(Span<byte> into)
    {
        BinaryPrimitives.WriteUInt64BigEndian(into, First);
        BinaryPrimitives.WriteUInt64BigEndian(into[8..], Second);
    }

    /// <summary>The name of the file, 32 hexadecimal digits.</summary>
    public void WriteName(Span<byte> into)
    {
        for (int i = 0; i < 16; i++)
        {
            into[i] = Digit((int)(First >> (60 - 4 * i)) & 15);
            into[16 + i] = Digit((int)(Second >> (60 - 4 * i)) & 15);
        }
    }

    /// <summary>Reads a file's name; false when it is none.</summary>
    public static bool TryParseName(ReadOnlySpan<byte> name, out CacheKey key)
    {
        key = default;
        if (name.Length != NameLength)
        {
            return false;
        }
        ulong first = 0, second = 0;
        for (int i = 0; i < NameLength; i++)
        {
            int digit = name[i] switch
            {
                >= (byte)'0' and <= (byte)'9' => name[i] - '0',
                >= (byte)'a' and <= (byte)'f' => name[i] - 'a' + 10,
                _ => -1,
            };
            if (digit < 0)
            {
                return false;
            }
            if (i < 16)
            {
                first = first << 4 | (uint)digit;
            }
            else
            {
                second = second << 4 | (uint)digit;
            }
        }
        key = new CacheKey(first, second);
        return true;
    }

    private static byte Digit(int value) => (byte)(value < 10 ? '0' + value : 'a' + value - 10);
}
