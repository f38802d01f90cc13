// SHA-1 (RFC 3174) of one text, for password files and WebSocket handshakes; never for anything new. Pure, no memory.
using System.Buffers.Binary;
using System.Numerics;

namespace Weir.Protocol.Digests;

/// <summary>SHA-1.</summary>
public static class Sha1
{
    public const int Length = 20;

    /// <summary>The digest of two texts one behind the other.</summary>
    public static void Hash(ReadOnlySpan<byte> first, ReadOnlySpan<byte> second, Span<byte> digest)
    {
        Span<uint> state = [0x67452301, 0xEFCDAB89, 0x98BADCFE, 0x10325476, 0xC3D2E1F0];
        Span<byte> block = stackalloc byte[64];
        int used = Add(state, block, 0, first);
        used = Add(state, block, used, second);
        block[used++] = 0x80;
        if (used > 56)
        {
            block[used..].Clear();
            Transform(state, block);
            used = 0;
        }
        block[used..56].Clear();
        BinaryPrimitives.WriteUInt64BigEndian(block[56..], (ulong)(first.Length + (long)second.Length) * 8);
        Transform(state, block);
        for (int i = 0; i < 5; i++)
        {
            BinaryPrimitives.WriteUInt32BigEndian(digest[(i * 4)..], state[i]);
        }
    }

    private static int Add(Span<uint> state, Span<byte> block, int used, ReadOnlySpan<byte> data)
    {
        while (data.Length > 0)
        {
            int n = Math.Min(64 - used, data.Length);
            data[..n].CopyTo(block[used..]);
            data = data[n..];
            used += n;
            if (used == 64)
            {
                Transform(state, block);
                used = 0;
            }
        }
        return used;
    }

    private static void Transform(Span<uint> state, ReadOnlySpan<byte> block)
    {
        Span<uint> w = stackalloc uint[80];
        for (int i = 0; i < 16; i++)
        {
            w[i] = BinaryPrimitives.ReadUInt32BigEndian(block[(i * 4)..]);
        }
        for (int i = 16; i < 80; i++)
        {
            w[i] = BitOperations.RotateLeft(w[i - 3] ^ w[i - 8] ^ w[i - 14] ^ w[i - 16], 1);
        }
        uint a = state[0];
        uint b = state[1];
        uint c = state[2];
        uint d = state[3];
        uint e = state[4];
        for (int i = 0; i < 80; i++)
        {
            (uint f, uint k) = (i / 20) switch
            {
                0 => (b & c | ~b & d, 0x5A827999u),
                1 => (b ^ c ^ d, 0x6ED9EBA1u),
                2 => (b & c | b & d | c & d, 0x8F1BBCDCu),
                _ => (b ^ c ^ d, 0xCA62C1D6u),
            };
            uint next = BitOperations.RotateLeft(a, 5) + f + e + k + w[i];
            e = d;
            d = c;
            c = BitOperations.RotateLeft(b, 30);
            b = a;
            a = next;
        }
        state[0] += a;
        state[1] += b;
        state[2] += c;
        state[3] += d;
        state[4] += e;
    }
}
