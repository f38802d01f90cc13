// MD5 (RFC 1321) over spans, for password files that still use it; never for anything new. Pure, no memory.
using System.Buffers.Binary;
using System.Numerics;

namespace Weir.Protocol.Digests;

/// <summary>A running MD5.</summary>
public ref struct Md5
{
    public const int Length = 16;

    private uint _a;
    private uint _b;
    private uint _c;
    private uint _d;
    private ulong _bytes;
    private readonly Span<byte> _block;

    /// <param name="block">64 bytes of scratch.</param>
    public Md5(Span<byte> block)
    {
        _block = block;
        _a = 0x67452301;
        _b = 0xEFCDAB89;
        _c = 0x98BADCFE;
        _d = 0x10325476;
    }

    private static ReadOnlySpan<byte> Shifts =>
        [7, 12, 17, 22, 5, 9, 14, 20, 4, 11, 16, 23, 6, 10, 15, 21];

    private static ReadOnlySpan<uint> Sines =>
    [
        0xd76aa478, 0xe8c7b756, 0x242070db, 0xc1bdceee, 0xf57c0faf, 0x4787c62a, 0xa8304613, 0xfd469501,
        0x698098d8, 0x8b44f7af, 0xffff5bb1, 0x895cd7be, 0x6b901122, 0xfd987193, 0xa679438e, 0x49b40821,
        0xf61e2562, 0xc040b340, 0x265e5a51, 0xe9b6c7aa, 0xd62f105d, 0x02441453, 0xd8a1e681, 0xe7d3fbc8,
        0x21e1cde6, 0xc33707d6, 0xf4d50d87, 0x455a14ed, 0xa9e3e905, 0xfcefa3f8, 0x676f02d9, 0x8d2a4c8a,
        0xfffa3942, 0x8771f681, 0x6d9d6122, 0xfde5380c, 0xa4beea44, 0x4bdecfa9, 0xf6bb4b60, 0xbebfbc70,
        0x289b7ec6, 0xeaa127fa, 0xd4ef3085, 0x04881d05, 0xd9d4d039, 0xe6db99e5, 0x1fa27cf8, 0xc4ac5665,
        0xf4292244, 0x432aff97, 0xab9423a7, 0xfc93a039, 0x655b59c3, 0x8f0ccc92, 0xffeff47d, 0x85845dd1,
        0x6fa87e4f, 0xfe2ce6e0, 0xa3014314, 0x4e0811a1, 0xf7537e82, 0xbd3af235, 0x2ad7d2bb, 0xeb86d391,
    ];

    public void Add(ReadOnlySpan<byte> data)
    {
        int used = (int)(_bytes & 63);
        _bytes += (ulong)data.Length;
        while (data.Length > 0)
        {
            int n = Math.Min(64 - used, data.Length);
            data[..n].CopyTo(_block[used..]);
            data = data[n..];
            used += n;
            if (used == 64)
            {
                Transform();
                used = 0;
            }
        }
    }

    public void Finish(Span<byte> digest)
    {
        ulong bits = _bytes * 8;
        int used = (int)(_bytes & 63);
        _block[used++] = 0x80;
        if (used > 56)
        {
            _block[used..].Clear();
            Transform();
            used = 0;
        }
        _block[used..56].Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(_block[56..], bits);
        Transform();
        BinaryPrimitives.WriteUInt32LittleEndian(digest, _a);
        BinaryPrimitives.WriteUInt32LittleEndian(digest[4..], _b);
        BinaryPrimitives.WriteUInt32LittleEndian(digest[8..], _c);
        BinaryPrimitives.WriteUInt32LittleEndian(digest[12..], _d);
    }

    private void Transform()
    {
        uint a = _a;
        uint b = _b;
        uint c = _c;
        uint d = _d;
        for (int i = 0; i < 64; i++)
        {
            uint f;
            int word;
            switch (i >> 4)
            {
                case 0:
                    f = b & c | ~b & d;
                    word = i;
                    break;
                case 1:
                    f = d & b | ~d & c;
                    word = 5 * i + 1 & 15;
                    break;
                case 2:
                    f = b ^ c ^ d;
                    word = 3 * i + 5 & 15;
                    break;
                default:
                    f = c ^ (b | ~d);
                    word = 7 * i & 15;
                    break;
            }
            f += a + Sines[i] + BinaryPrimitives.ReadUInt32LittleEndian(_block[(word * 4)..]);
            a = d;
            d = c;
            c = b;
            b += BitOperations.RotateLeft(f, Shifts[(i >> 4) * 4 + (i & 3)]);
        }
        _a += a;
        _b += b;
        _c += c;
        _d += d;
    }
}
