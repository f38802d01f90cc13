// The test before an expression: it turns away much, and never what the expression matches.
using System.Text;
using Weir.Kernel;
using Weir.Session;
using Xunit;

namespace Weir.Tests.Unit.Session;

public sealed class RegexGateTests
{
    [Theory]
    [InlineData(@"\.php$", "/a.php", "/a.html", true)]
    [InlineData(@"\.php$", "/a.php\n", "/a.php/", true)]
    [InlineData(@"\.(jpg|jpeg|png)$", "/a.jpeg", "/a.jpe", true)]
    [InlineData(@"\.(?:jpg|png)$", "/a.png", "/png", true)]
    [InlineData(@"\.(?<type>jpg|png)$", "/a.png", "/png", true)]
    [InlineData(@"^/user/[0-9]+/profile$", "/user/1/profile", "/user/1/", true)]
    [InlineData(@"^/user/[0-9]+/profile$", "/user/1/profile", "/users/profile", true)]
    [InlineData(@"^/a\.b/", "/a.b/c", "/a-b/c", true)]
    [InlineData(@"/\.(git|svn|ht)", "/x/.git", "/x/git", true)]
    [InlineData(@"^/(en|de)/", "/de/", "de/", true)]
    [InlineData(@"^/ab?c", "/ac", "/bc", true)]
    [InlineData(@"\.(woff2?|ttf)$", "/a.woff", "/woff", true)]
    [InlineData(@"^/a|b", "b", null, false)]
    [InlineData(@"\.php$|x", "x", null, false)]
    [InlineData(@"(?i)^/a", "/A", null, false)]
    [InlineData(@"^(?i)/a", "/A", null, false)]
    [InlineData(@"^/a{0}b", "/b", null, false)]
    [InlineData(@"^\Qa.b\E", "a.b", null, false)]
    [InlineData(@"^a(?#)b)c", "abc", null, false)]
    [InlineData(@"[[:alpha:]]$", "a", null, false)]
    [InlineData(@"", "a", null, false)]
    public void What_an_expression_needs_is_read_off_it(string pattern, string match, string? other, bool has)
    {
        RegexGate? gate = RegexGate.Of(pattern, caseless: false);
        Assert.Equal(has, gate is not null);
        if (gate is not null)
        {
            Assert.True(gate.MayMatch(Encoding.Latin1.GetBytes(match)));
            Assert.False(gate.MayMatch(Encoding.Latin1.GetBytes(other!)));
        }
    }

    [Fact]
    public void Letters_in_any_case_are_the_same_and_nothing_else_is()
    {
        RegexGate gate = RegexGate.Of(@"^/a@_\.(PNG|gif)$", caseless: true)!;
        Assert.True(gate.MayMatch("/A@_.png"u8));
        Assert.True(gate.MayMatch("/a@_.GIF\n"u8));
        Assert.False(gate.MayMatch("/a`_.png"u8));
        Assert.False(gate.MayMatch("/a@\u007f.png"u8));
        Assert.False(gate.MayMatch("\u000fa@_.png"u8));
    }

    [Fact]
    public void Nothing_is_turned_away_that_the_engine_matches()
    {
        string[] pieces =
        [
            "a", "b", "/", "A", @"\.", "-", "ab", "a?", "b*", "a+", "b??", "a*+", ".", "[ab]", "[^a]", "[]a]", @"[\]b]",
            @"\d", @"\w", @"\b", "(a|b)", "(?:ab|b)",
            "(a)?", "(a|b)*", "(?<n>a|/)", "(a|[b])", "((a)b|/)", "()", "(|a)",
            "|", "^", "$", "(?=a)", "(?!b)", "(?i)", "a{0,2}", "a{2}", @"\Qa.\E", @"\x61", @"\n", "(^a)", "(b$)", "}",
        ];
        const string letters = "abAB/.-]\n1";
        var random = new Random(11);
        int gated = 0, turned = 0;
        for (int i = 0; i < 4000; i++)
        {
            string pattern = (random.Next(2) == 0 ? "^" : "")
                + string.Concat(Enumerable.Range(0, random.Next(1, 6)).Select(_ => pieces[random.Next(pieces.Length)]))
                + (random.Next(2) == 0 ? "$" : "");
            bool caseless = random.Next(3) == 0;
            if (RegexGate.Of(pattern, caseless) is not { } gate
                || Pcre2.Compile(Encoding.Latin1.GetBytes(pattern), caseless, out _, out _) is not { } engine)
            {
                continue;
            }
            gated++;
            for (int k = 0; k < 60; k++)
            {
                byte[] text = [.. Enumerable.Range(0, random.Next(0, 7)).Select(_ =>
                    (byte)letters[random.Next(letters.Length)])];
                if (!gate.MayMatch(text))
                {
                    turned++;
                    Assert.False(engine.Match(text, new int[2]) > 0,
                        $"{pattern} (caseless {caseless}) on {Encoding.Latin1.GetString(text)}");
                }
            }
            engine.Dispose();
        }
        Assert.InRange(gated, 500, 4000);
        Assert.InRange(turned, 10_000, int.MaxValue);
    }
}
