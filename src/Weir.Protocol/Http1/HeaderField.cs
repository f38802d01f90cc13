// One header field as offsets into the bytes of its head, and the hash by which names are compared. The bytes belong
// to whoever holds the head; nothing here keeps a reference to them.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Protocol.Http1;

/// <summary>A header field: where its name and value stand in the head's bytes.</summary>
public struct HeaderField
{
    public int NameStart;
    public int NameLength;
    public int ValueStart;
    public int ValueLength;
    /// <summary><see cref="HeaderName.Hash"/> of the name.</summary>
    public uint Hash;
    /// <summary>Index of the next field with the same known name, or 0.</summary>
    internal ushort NextSame;
    /// <summary>A <see cref="KnownHeader"/> in a request, a <see cref="KnownResponseHeader"/> in a response.</summary>
    public byte KnownId;
    /// <summary>The name is unusual and the field is to be treated as absent (and logged).</summary>
    public bool Dropped;

    public readonly KnownHeader Known => (KnownHeader)KnownId;
    public readonly KnownResponseHeader KnownResponse => (KnownResponseHeader)KnownId;

    public readonly ReadOnlySpan<byte> Name(ReadOnlySpan<byte> head) => head.Slice(NameStart, NameLength);
    public readonly ReadOnlySpan<byte> Value(ReadOnlySpan<byte> head) => head.Slice(ValueStart, ValueLength);

    /// <summary>Where the whole line (name to end of value) stands, for logs.</summary>
    public readonly ReadOnlySpan<byte> Line(ReadOnlySpan<byte> head) =>
        head[NameStart..(ValueLength == 0 ? ValueStart : ValueStart + ValueLength)];
}

/// <summary>A range of a head's bytes.</summary>
public readonly record struct TextRange(int Start, int Length)
{
    public int End => Start + Length;
    public bool IsEmpty => Length == 0;
    public ReadOnlySpan<byte> Of(ReadOnlySpan<byte> bytes) => bytes.Slice(Start, Length);
}

/// <summary>Hashing and comparing of header names, which are ASCII and case-insensitive.</summary>
public static class HeaderName
{
    /// <summary>The hash of a name: of its first eight and last eight bytes, letters taken as lower case. A few
    /// instructions for any name; who compares by it compares the names as well.</summary>
    public static uint Hash(ReadOnlySpan<byte> name) => HashOf(ref MemoryMarshal.GetReference(name), name.Length);

    internal static uint HashOf(ref byte name, int length)
    {
        ulong first;
        ulong last;
        if (length >= sizeof(ulong))
        {
            first = Unsafe.ReadUnaligned<ulong>(ref name);
            last = Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref name, length - sizeof(ulong)));
        }
        else if (length >= sizeof(uint))
        {
            first = Unsafe.ReadUnaligned<uint>(ref name);
            last = Unsafe.ReadUnaligned<uint>(ref Unsafe.Add(ref name, length - sizeof(uint)));
        }
        else if (length > 0)
        {
            first = name;
            last = (uint)Unsafe.Add(ref name, length >> 1) << 8 | Unsafe.Add(ref name, length - 1);
        }
        else
        {
            return 0;
        }
        // Setting bit 5 makes letters lower case; what else it joins is told apart by the comparison.
        const ulong lower = 0x2020_2020_2020_2020;
        return (uint)(((first | lower) + (uint)length) * 0x9E37_79B9_7F4A_7C15
            + (last | lower) * 0xC2B2_AE3D_27D4_EB4F >> 32);
    }

    /// <summary>ASCII letters to lower case, everything else unchanged.</summary>
    public static byte Lower(byte c) => (uint)(c - 'A') <= 'Z' - 'A' ? (byte)(c | 0x20) : c;

    /// <summary>Whether two names (or tokens) are equal without regard to ASCII case.</summary>
    public static bool Same(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b) =>
        a.Length == b.Length && System.Text.Ascii.EqualsIgnoreCase(a, b);

    /// <summary>A request header name (any case) as a known header.</summary>
    public static KnownHeader Find(ReadOnlySpan<byte> name) => (KnownHeader)KnownNames.Request.Find(name, Hash(name));

    /// <summary>A response header name (any case) as a known header.</summary>
    public static KnownResponseHeader FindResponse(ReadOnlySpan<byte> name) =>
        (KnownResponseHeader)KnownNames.Response.Find(name, Hash(name));
}
