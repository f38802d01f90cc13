// The forms of password hashes that nginx reads: $apr1$ (Apache's MD5), {SHA}, {SSHA}, {PLAIN}, and whatever the
// system's crypt(3) knows. Runs on blocking threads; keeps nothing.
using System.Security.Cryptography;
using Weir.Kernel;
using Weir.Protocol.Digests;

namespace Weir.Http.Modules;

internal static class PasswordHash
{
    /// <summary>1 when the password gives the hash, 0 when not, or an error.</summary>
    internal static SysResult Verify(ReadOnlySpan<byte> password, ReadOnlySpan<byte> hash)
    {
        if (hash.StartsWith("$apr1$"u8))
        {
            return Of(Apr1(password, hash));
        }
        if (hash.StartsWith("{PLAIN}"u8))
        {
            return Of(Same(password, hash[7..]));
        }
        if (hash.StartsWith("{SHA}"u8))
        {
            return Of(Sha(password, hash[5..], salted: false));
        }
        if (hash.StartsWith("{SSHA}"u8))
        {
            return Of(Sha(password, hash[6..], salted: true));
        }
        // A password with a NUL cannot be what was hashed.
        return password.Contains((byte)0) ? Of(false) : Crypt.Verify(password, hash);
    }

    private static SysResult Of(bool right) => new(right ? 1 : 0);

    private static bool Same(ReadOnlySpan<byte> a, ReadOnlySpan<byte> b) =>
        CryptographicOperations.FixedTimeEquals(a, b);

    private static bool Sha(ReadOnlySpan<byte> password, ReadOnlySpan<byte> encoded, bool salted)
    {
        Span<byte> decoded = stackalloc byte[256];
        if (encoded.Length > 300 || System.Buffers.Text.Base64.DecodeFromUtf8(encoded, decoded, out int used,
            out int length)
            != System.Buffers.OperationStatus.Done || used != encoded.Length || length < Sha1.Length
            || !salted && length != Sha1.Length)
        {
            return false;
        }
        Span<byte> digest = stackalloc byte[Sha1.Length];
        Sha1.Hash(password, decoded[Sha1.Length..length], digest);
        return Same(digest, decoded[..Sha1.Length]);
    }

    private static ReadOnlySpan<byte> Itoa64 => "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"u8;

    /// <summary>Apache's variant of the MD5 crypt of FreeBSD.</summary>
    private static bool Apr1(ReadOnlySpan<byte> password, ReadOnlySpan<byte> hash)
    {
        const int saltBytesMax = 8;
        const int rounds = 1000;
        ReadOnlySpan<byte> salt = hash[6..];
        int end = salt.IndexOf((byte)'$');
        if (end < 0)
        {
            return false;
        }
        ReadOnlySpan<byte> wanted = salt[(end + 1)..];
        salt = salt[..Math.Min(end, saltBytesMax)];
        Span<byte> block = stackalloc byte[64];
        Span<byte> final = stackalloc byte[Md5.Length];
        var inner = new Md5(block);
        inner.Add(password);
        inner.Add(salt);
        inner.Add(password);
        inner.Finish(final);
        var outer = new Md5(block);
        outer.Add(password);
        outer.Add("$apr1$"u8);
        outer.Add(salt);
        for (int left = password.Length; left > 0; left -= Md5.Length)
        {
            outer.Add(final[..Math.Min(left, Md5.Length)]);
        }
        for (int bits = password.Length; bits != 0; bits >>= 1)
        {
            outer.Add((bits & 1) != 0 ? "\0"u8 : password[..1]);
        }
        outer.Finish(final);
        for (int i = 0; i < rounds; i++)
        {
            var round = new Md5(block);
            round.Add((i & 1) != 0 ? password : final);
            if (i % 3 != 0)
            {
                round.Add(salt);
            }
            if (i % 7 != 0)
            {
                round.Add(password);
            }
            round.Add((i & 1) != 0 ? final : password);
            round.Finish(final);
        }
        Span<byte> text = stackalloc byte[22];
        int n = 0;
        for (int i = 0; i < 5; i++)
        {
            int third = i == 4 ? 5 : i + 12;
            Put(text, ref n, final[i] << 16 | final[i + 6] << 8 | final[third], 4);
        }
        Put(text, ref n, final[11], 2);
        return Same(text, wanted);

        static void Put(Span<byte> text, ref int at, int bits, int digits)
        {
            while (digits-- > 0)
            {
                text[at++] = Itoa64[bits & 63];
                bits >>= 6;
            }
        }
    }
}
