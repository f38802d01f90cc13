// MD5 and SHA-1 against the runtime's, over lengths around the blocks' borders.
using System.Security.Cryptography;
using Weir.Protocol.Digests;
using Weir.Protocol.Http1;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public sealed class DigestTests
{
    [Fact]
    public void Both_digests_are_the_runtime_s_for_every_length()
    {
        Span<byte> block = stackalloc byte[64];
        Span<byte> digest = stackalloc byte[20];
        for (int length = 0; length < 200; length++)
        {
            byte[] text = new byte[length];
            new Random(length).NextBytes(text);
            var md5 = new Md5(block);
            md5.Add(text.AsSpan(0, length / 3));
            md5.Add(text.AsSpan(length / 3));
            md5.Finish(digest);
            Assert.Equal(MD5.HashData(text), digest[..16].ToArray());
            Sha1.Hash(text.AsSpan(0, length / 2), text.AsSpan(length / 2), digest);
            Assert.Equal(SHA1.HashData(text), digest.ToArray());
        }
    }

    [Theory]
    [InlineData("/a%20b", "/a%20b")]
    [InlineData("/a%41b", "/aAb")]
    [InlineData("/a%25b", "/a%25b")]
    [InlineData("/a%7fb", "/a%7fb")]
    [InlineData("/a%3Fb%41", "/a?b%41")]
    [InlineData("/a?b%41", "/a?b%41")]
    [InlineData("/a%e4", "/a%e4")]
    [InlineData("/a%4", "/a")]
    public void A_redirect_keeps_the_escapes_that_matter(string text, string expected)
    {
        byte[] bytes = System.Text.Encoding.Latin1.GetBytes(text);
        int length = UriEscaper.UnescapeRedirect(bytes);
        Assert.Equal(expected, System.Text.Encoding.Latin1.GetString(bytes, 0, length));
    }
}
