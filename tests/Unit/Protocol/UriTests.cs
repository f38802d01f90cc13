// Paths: what they are normalised to (the table was read off nginx), what is refused, extensions, escaping.
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Weir.Protocol.Http1;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public class UriTests
{
    internal static string? Normalize(string path, bool merge = true)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(path);
        byte[] destination = new byte[Math.Max(1, bytes.Length)];
        UriOutcome outcome = UriNormalizer.Normalize(bytes, destination, merge, out int n);
        return outcome == UriOutcome.Ok ? Encoding.Latin1.GetString(destination, 0, n) : null;
    }

    [Theory]
    [InlineData("", "/")]
    [InlineData("/", "/")]
    [InlineData("/a", "/a")]
    [InlineData("/a/b.c", "/a/b.c")]
    [InlineData("//", "/")]
    [InlineData("///a////b//", "/a/b/")]
    [InlineData("/.", "/")]
    [InlineData("/./", "/")]
    [InlineData("/a/.", "/a/")]
    [InlineData("/a/./b", "/a/b")]
    [InlineData("/a/..", "/")]
    [InlineData("/a/../", "/")]
    [InlineData("/a/b/..", "/a/")]
    [InlineData("/a/b/../", "/a/")]
    [InlineData("/a/b/../c", "/a/c")]
    [InlineData("/a/b/../../c", "/c")]
    [InlineData("/a//../b", "/b")]
    [InlineData("/a/...", "/a/...")]
    [InlineData("/a/..b", "/a/..b")]
    [InlineData("/a/.b", "/a/.b")]
    [InlineData("/a/b.", "/a/b.")]
    [InlineData("/a/b..", "/a/b..")]
    [InlineData("/a..", "/a..")]
    [InlineData("/a/..;/b", "/a/..;/b")]
    [InlineData("/%41", "/A")]
    [InlineData("/%2e", "/")]
    [InlineData("/a/%2E%2e/b", "/b")]
    [InlineData("/a/.%2e/b", "/b")]
    [InlineData("/a%2fb", "/a/b")]
    [InlineData("/a%2f%2Fb", "/a/b")]
    [InlineData("/a%2f..%2fb", "/b")]
    [InlineData("/%25", "/%")]
    [InlineData("/%2541", "/%41")]
    [InlineData("/%3fx", "/?x")]
    [InlineData("/%23x", "/#x")]
    [InlineData("/a%20b", "/a b")]
    [InlineData("/%0a", "/\n")]
    [InlineData("/%ff\u00fe", "/\u00ff\u00fe")]
    [InlineData("/a+b", "/a+b")]
    [InlineData("/a\\b", "/a\\b")]
    [InlineData("/a/%2e%2e%2f%2e", "/")]
    [InlineData("/~a/(b)/'c'", "/~a/(b)/'c'")]
    public void Normalised(string path, string expected) => Assert.Equal(expected, Normalize(path));

    [Theory]
    [InlineData("//", "//")]
    [InlineData("/a//b", "/a//b")]
    [InlineData("/a//../b", "/a/b")]
    [InlineData("/a///./b", "/a///b")]
    [InlineData("//..", "/")]
    public void SlashesAreKeptWithoutMerging(string path, string expected) =>
        Assert.Equal(expected, Normalize(path, merge: false));

    [Theory]
    [InlineData("/..", UriOutcome.AboveRoot)]
    [InlineData("/../", UriOutcome.AboveRoot)]
    [InlineData("/a/../..", UriOutcome.AboveRoot)]
    [InlineData("/a/../../b", UriOutcome.AboveRoot)]
    [InlineData("//..", UriOutcome.AboveRoot)]
    [InlineData("/%2e%2e/", UriOutcome.AboveRoot)]
    [InlineData("/..%2f", UriOutcome.AboveRoot)]
    [InlineData("/a%2f..%2f..%2fetc", UriOutcome.AboveRoot)]
    [InlineData("/%", UriOutcome.BadPercent)]
    [InlineData("/%4", UriOutcome.BadPercent)]
    [InlineData("/%4g", UriOutcome.BadPercent)]
    [InlineData("/%g4", UriOutcome.BadPercent)]
    [InlineData("/%%41", UriOutcome.BadPercent)]
    [InlineData("/%u0041", UriOutcome.BadPercent)]
    [InlineData("/%00", UriOutcome.EncodedNul)]
    [InlineData("/a%00.html", UriOutcome.EncodedNul)]
    [InlineData("/\u0001", UriOutcome.Control)]
    [InlineData("/\u007f", UriOutcome.Control)]
    [InlineData("a", UriOutcome.NotAbsolute)]
    [InlineData("%2f", UriOutcome.NotAbsolute)]
    public void Refused(string path, UriOutcome expected)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(path);
        Assert.Equal(expected, UriNormalizer.Normalize(bytes, new byte[bytes.Length], true, out _));
    }

    [Fact]
    public void AShortDestinationIsRefused()
    {
        Assert.Equal(UriOutcome.NoRoom, UriNormalizer.Normalize("/ab"u8, new byte[2], true, out _));
        Assert.Equal(UriOutcome.NoRoom, UriNormalizer.Normalize(default, default, true, out _));
    }

    [Theory]
    [InlineData("/a.html", "html")]
    [InlineData("/a.tar.gz", "gz")]
    [InlineData("/a", "")]
    [InlineData("/a.d/b", "")]
    [InlineData("/a.", "")]
    [InlineData("/.htaccess", "")]
    [InlineData("/.a.txt", "txt")]
    [InlineData("/...a", "")]
    [InlineData("/....a", "a")]
    public void ExtensionIsThatOfTheLastSegment(string path, string extension) =>
        Assert.Equal(extension, Encoding.ASCII.GetString(UriNormalizer.Extension(Encoding.ASCII.GetBytes(path))));

    [Fact]
    public void NoPathEscapesTheRootAndNormalFormsAreStable() => Prop.ForAll<int[]>(seeds =>
    {
        string[] parts = ["/", ".", "..", "%2e", "%2f", "a", "b.c", "//", "%41", "/..", "/./", "%25", "%"];
        string path = "/" + string.Concat(seeds.Select(s => parts[(int)((uint)s % parts.Length)]));
        string? once = Normalize(path);
        if (once is null)
        {
            return true;
        }
        bool safe = once[0] == '/' && !once.Contains("//") && !once.Split('/').Any(s => s is "." or "..");
        return safe && (once.Contains('%') || Normalize(once) == once);
    }).QuickCheckThrowOnFailure();

    [Theory]
    [InlineData("/a b%?#\"<>\\^`{|}&+;=\u00e9\n", "/a%20b%25%3F%23%22%3C%3E%5C%5E%60%7B%7C%7D&+;=%E9%0A")]
    [InlineData("/plain-._~!$'()*,:@[]", "/plain-._~!$'()*,:@[]")]
    public void UriEscape(string text, string expected) => Assert.Equal(expected, Run(UriEscaper.EscapeUri, text));

    [Theory]
    [InlineData("a&b+c;d=e/f?g", "a%26b%2Bc%3Bd=e/f%3Fg")]
    public void ArgsEscape(string text, string expected) => Assert.Equal(expected, Run(UriEscaper.EscapeArgs, text));

    [Theory]
    [InlineData("aZ09-._~/:@!'", "aZ09-._~%2F%3A%40%21%27")]
    public void ComponentEscape(string text, string expected) =>
        Assert.Equal(expected, Run(UriEscaper.EscapeUriComponent, text));

    [Theory]
    [InlineData("<a href=\"x\">&'", "&lt;a href=&quot;x&quot;&gt;&amp;'")]
    public void HtmlEscape(string text, string expected) => Assert.Equal(expected, Run(UriEscaper.EscapeHtml, text));

    [Theory]
    [InlineData("a%20b%2F", "a b/")]
    [InlineData("%zz%4", "zz")]
    [InlineData("%4zb%", "b")]
    [InlineData("a+b", "a+b")]
    public void UnescapeKeepsWhatIsNoEscape(string text, string expected) =>
        Assert.Equal(expected, Run(UriEscaper.Unescape, text));

    [Fact]
    public void WhatIsEscapedIsUnescaped() => Prop.ForAll<byte[]>(bytes =>
    {
        byte[] escaped = new byte[UriEscaper.EscapedMax(bytes.Length)], back = new byte[escaped.Length];
        int n = UriEscaper.EscapeUriComponent(bytes, escaped);
        int m = UriEscaper.Unescape(escaped.AsSpan(0, n), back);
        int k = UriEscaper.EscapeUri(bytes, escaped);
        int j = UriEscaper.Unescape(escaped.AsSpan(0, k), back.AsSpan());
        return m == bytes.Length && j == bytes.Length && bytes.AsSpan().SequenceEqual(back.AsSpan(0, j));
    }).QuickCheckThrowOnFailure();

    private delegate int Escape(ReadOnlySpan<byte> text, Span<byte> destination);

    private static string Run(Escape escape, string text)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(text), destination = new byte[bytes.Length * 6];
        return Encoding.Latin1.GetString(destination, 0, escape(bytes, destination));
    }
}
