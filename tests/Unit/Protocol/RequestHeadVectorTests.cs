// Heads are read sixteen bytes at a time where there are as many, byte by byte at the end: both must say the same at
// every length, and a head that repeats the lines of the one before must say what a fresh reading says.
using System.Text;
using Weir.Protocol.Http1;
using Xunit;

namespace Weir.Tests.Unit.Protocol;

public sealed class RequestHeadVectorTests
{
    private static RequestHead Parse(string text, out ParseStep step)
    {
        var head = new RequestHead();
        var parser = new RequestHeadParser();
        step = parser.Parse(Encoding.Latin1.GetBytes(text), head, new ParseOptions());
        return head;
    }

    [Fact]
    public void A_path_has_the_same_flags_wherever_in_it_a_special_character_stands()
    {
        foreach ((string special, UriFlags flag) in (ReadOnlySpan<(string, UriFlags)>)
            [("//", UriFlags.DoubleSlash), ("/.", UriFlags.SlashDot), ("%41", UriFlags.Percent), ("+", UriFlags.Plus),
             ("..", UriFlags.None), ("?", UriFlags.Query), ("#", UriFlags.Fragment)])
        {
            for (int before = 0; before < 40; before++)
            {
                for (int after = 0; after < 20; after++)
                {
                    string path = "/" + new string('a', before) + special + new string('b', after);
                    // Before 0 puts the special characters behind the first slash.
                    UriFlags expected = before > 0 ? flag : special switch
                    {
                        "//" => UriFlags.DoubleSlash,
                        "/." => UriFlags.DoubleSlash | UriFlags.SlashDot,
                        ".." => UriFlags.SlashDot,
                        _ => flag,
                    };
                    RequestHead head = Parse($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n", out ParseStep step);
                    Assert.Equal(ParseStep.Done, step);
                    Assert.Equal(expected, head.UriFlags);
                    Assert.Equal(path.Length, head.Target.Length);
                }
            }
        }
    }

    [Fact]
    public void A_control_character_is_refused_wherever_in_a_path_it_stands()
    {
        for (int before = 0; before < 40; before++)
        {
            string path = "/" + new string('a', before) + "\u0001b";
            RequestHead head = Parse($"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n", out ParseStep step);
            Assert.Equal(ParseStep.Reject, step);
            Assert.Equal(RejectReason.InvalidTarget, head.Reject);
        }
    }

    [Fact]
    public void A_name_is_read_the_same_at_every_length_and_distance_from_the_end()
    {
        for (int length = 1; length < 50; length++)
        {
            for (int value = 0; value < 20; value++)
            {
                string name = new('n', length);
                byte[] bytes = Encoding.Latin1.GetBytes(
                    $"GET / HTTP/1.1\r\nHost: a\r\n{name}: {new string('v', value)}\r\n\r\n");
                RequestHead head = Parse(Encoding.Latin1.GetString(bytes), out ParseStep step);
                Assert.Equal(ParseStep.Done, step);
                Assert.Equal(length, head[1].NameLength);
                Assert.Equal(value, head[1].ValueLength);
                Assert.Equal(HeaderName.Hash(Encoding.Latin1.GetBytes(name.ToUpperInvariant())), head[1].Hash);
                Assert.Equal(1, head.Find(head[1].Name(bytes), head[1].Hash, bytes));
            }
        }
    }

    [Fact]
    public void Known_names_are_known_in_any_case_and_names_that_only_look_alike_are_not()
    {
        foreach (KnownHeader header in Enum.GetValues<KnownHeader>())
        {
            if (header == KnownHeader.None)
            {
                continue;
            }
            string name = Encoding.Latin1.GetString(KnownHeaders.Name(header));
            foreach (string spelled in (string[])[name, name.ToUpperInvariant(), name.ToLowerInvariant()])
            {
                string host = header == KnownHeader.Host ? "" : "Host: a\r\n";
                string rest = new('x', 20);
                RequestHead head = Parse($"GET / HTTP/1.0\r\n{host}{spelled}: 1\r\nX-End: {rest}\r\n\r\n", out _);
                Assert.True(head.Has(header) || head.Reject != RejectReason.None, spelled);
            }
            RequestHead other = Parse(
                $"GET / HTTP/1.0\r\nHost: a\r\n{name}x: 1\r\nX-End: 1\r\n\r\n", out ParseStep done);
            Assert.Equal(ParseStep.Done, done);
            Assert.Equal(0, other[1].KnownId);
        }
    }

    [Theory]
    [InlineData("GET /a HTTP/1.1\r\n", true)]
    [InlineData("GET /another/path?x=1 HTTP/1.1\r\n", true)]
    [InlineData("POST /a HTTP/1.1\r\n", true)]
    [InlineData("GET http://other/x HTTP/1.1\r\n", false)]
    [InlineData("GET /a HTTP/1.0\r\n", false)]
    public void A_head_that_repeats_the_lines_before_says_what_a_fresh_one_says(string line, bool expected)
    {
        const string lines = "Host: Example.com:81\r\nUser-Agent: test\r\nX-Unknown-Name: 1\r\nAccept: */*\r\n\r\n";
        byte[] both = Encoding.Latin1.GetBytes("GET /first HTTP/1.1\r\n" + lines + line + lines);
        var head = new RequestHead();
        var parser = new RequestHeadParser();
        Assert.Equal(ParseStep.Done, parser.Parse(both, head, new ParseOptions()));
        Assert.True(head.IsRepeatable);
        int first = head.HeadLength;
        ReadOnlySpan<byte> repeated = both.AsSpan(head.HeadersStart, first - head.HeadersStart);
        parser.Reset();
        ParseStep step = parser.ParseAgain(both.AsSpan(first), head, repeated, new ParseOptions(), out bool repeats);
        Assert.Equal(ParseStep.Done, step);
        Assert.Equal(expected, repeats);
        RequestHead fresh = Parse(line + lines, out _);
        Assert.Equal(fresh.HeadLength, head.HeadLength);
        Assert.Equal(fresh.Host, head.Host);
        Assert.Equal(fresh.HostPort, head.HostPort);
        Assert.Equal(fresh.HostHasUpper, head.HostHasUpper);
        Assert.Equal(fresh.Path, head.Path);
        Assert.Equal(fresh.Query, head.Query);
        Assert.Equal(fresh.Target, head.Target);
        Assert.Equal(fresh.Method, head.Method);
        Assert.Equal(fresh.KeepAliveRequested, head.KeepAliveRequested);
        Assert.Equal(fresh.Count, head.Count);
        for (int i = 0; i < fresh.Count; i++)
        {
            Assert.Equal(fresh[i].NameStart, head[i].NameStart);
            Assert.Equal(fresh[i].ValueStart, head[i].ValueStart);
            Assert.Equal(fresh[i].KnownId, head[i].KnownId);
        }
    }

    [Fact]
    public void A_head_with_other_lines_or_cut_short_is_read_anew()
    {
        const string first = "GET /first HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n";
        foreach (string next in (string[])
            [
                "GET / HTTP/1.1\r\nHost: b\r\nAccept: */*\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nAcc", "GET / HT",
                "G", "",
            ])
        {
            byte[] bytes = Encoding.Latin1.GetBytes(first + next);
            var head = new RequestHead();
            var parser = new RequestHeadParser();
            parser.Parse(bytes, head, new ParseOptions());
            byte[] lines = bytes[head.HeadersStart..head.HeadLength];
            parser.Reset();
            ParseStep step = parser.ParseAgain(
                bytes.AsSpan(first.Length), head, lines, new ParseOptions(), out bool repeats);
            Assert.False(repeats);
            bool whole = next.EndsWith("\r\n\r\n", StringComparison.Ordinal);
            Assert.Equal(whole ? ParseStep.Done : ParseStep.NeedMore, step);
        }
    }
}
