// The words of the language, rule by rule, where a golden file cannot show the bytes (tabs, line ends, limits).
using System.Text;
using FsCheck;
using FsCheck.Fluent;
using Weir.Conf;
using Xunit;

namespace Weir.Tests.Unit.Conf;

public sealed class ConfLexerTests
{
    private static string[] Words(string text)
    {
        ConfTree tree = ConfSample.Parse(text);
        Assert.Empty(ConfSample.Messages(tree));
        ConfDirective directive = Assert.Single(tree.Directives);
        return [directive.Name, .. directive.Args.Select(static a => a.Text)];
    }

    private static string OnlyError(string text) => Assert.Single(ConfSample.Messages(ConfSample.Parse(text)));

    [Theory]
    [InlineData("a b c;")]
    [InlineData("a\tb\tc\t;")]
    [InlineData("\r\na\r\nb\r\nc\r\n;\r\n")]
    [InlineData("\n\na\nb\nc;")]
    [InlineData(" a  b  c ;")]
    [InlineData("a b c;#end")]
    [InlineData("#start\r\na b #x;{}\r\n c;")]
    [InlineData("'a' \"b\" 'c';")]
    [InlineData("'a' \"b\"\tc;")]
    public void Space_tab_and_line_ends_separate_words(string text) => Assert.Equal(["a", "b", "c"], Words(text));

    [Theory]
    [InlineData("r \"\";", "")]
    [InlineData("r '\"';", "\"")]
    [InlineData("r \"'\";", "'")]
    [InlineData("r \"\\\"\";", "\"")]
    [InlineData("r '\\'';", "'")]
    [InlineData("r a\\\"b;", "a\"b")]
    [InlineData("r \\\\;", "\\")]
    [InlineData("r a\\tb;", "a\tb")]
    [InlineData("r 'a\\nb';", "a\nb")]
    [InlineData("r \"a\\rb\";", "a\rb")]
    [InlineData("r a\\ b;", "a\\ b")]
    [InlineData("r a\\;b;", "a\\;b")]
    [InlineData("r a\\{b;", "a\\{b")]
    [InlineData("r \\\\\\\\d;", "\\\\d")]
    [InlineData("r \\d+\\.\\w;", "\\d+\\.\\w")]
    [InlineData("r 'a\nb';", "a\nb")]
    [InlineData("r ${a}b;", "${a}b")]
    [InlineData("r a${b}c${d};", "a${b}c${d}")]
    [InlineData("r ${{a;", "${{a")]
    [InlineData("r $a;", "$a")]
    [InlineData("r a};", "a}")]
    [InlineData("r a#b;", "a#b")]
    [InlineData("r a\"b\"c;", "a\"b\"c")]
    [InlineData("r \"a;b{c}#d\";", "a;b{c}#d")]
    [InlineData("r a\0b;", "a\0b")]
    public void Quotes_and_escapes_resolve_as_in_nginx(string text, string word) =>
        Assert.Equal(["r", word], Words(text));

    [Fact]
    public void A_closing_bracket_after_a_quote_starts_a_word() =>
        Assert.Equal(["if", "($a", "=", "b", ")"], Words("if ($a = \"b\") {}"));

    [Theory]
    [InlineData("a b\n\nc;\n;", "[emerg] unexpected \";\" in /c/nginx.conf:4")]
    [InlineData("}", "[emerg] unexpected \"}\" in /c/nginx.conf:1")]
    [InlineData("a 'b'c;", "[emerg] unexpected \"c\" in /c/nginx.conf:1")]
    [InlineData("a 'b'}", "[emerg] unexpected \"}\" in /c/nginx.conf:1", "[emerg] unexpected \"}\" in /c/nginx.conf:1")]
    [InlineData("a", "[emerg] unexpected end of file, expecting \";\" or \"}\" in /c/nginx.conf:1")]
    [InlineData("a \"b", "[emerg] unexpected end of file, expecting \";\" or \"}\" in /c/nginx.conf:1")]
    [InlineData("a b\\", "[emerg] unexpected end of file, expecting \";\" or \"}\" in /c/nginx.conf:1")]
    [InlineData("a ${b", "[emerg] unexpected end of file, expecting \";\" or \"}\" in /c/nginx.conf:1")]
    [InlineData("a {\r\n\r\n", "[emerg] unexpected end of file, expecting \"}\" in /c/nginx.conf:3")]
    public void Syntax_errors_have_nginxs_words_and_line(string text, params string[] errors) =>
        Assert.Equal(errors, ConfSample.Messages(ConfSample.Parse(text)));

    [Theory]
    [InlineData(4094, false)]
    [InlineData(4095, false)]
    [InlineData(4096, true)]
    [InlineData(5000, true)]
    public void A_word_may_be_one_byte_shorter_than_the_read_buffer(int bytes, bool refused)
    {
        string text = "user " + new string('x', bytes) + ";\n";
        ConfTree tree = ConfSample.Parse(text);
        Assert.Equal(refused, tree.Errors.Failed);
        if (refused)
        {
            Assert.Equal("[emerg] too long parameter \"xxxxxxxxxx...\" started in /c/nginx.conf:1",
                ConfSample.Messages(tree)[0]);
        }
    }

    [Fact]
    public void A_command_line_word_has_no_length_limit()
    {
        MemoryConfFiles files = new();
        ConfFile text = ConfFile.CommandLine("user " + new string('x', 10_000) + ";");
        Assert.Empty(ConfParser.ParseText(text, files, "/c/").Errors.All);
    }

    [Fact]
    public void Places_are_line_column_and_length_of_the_words_as_written()
    {
        ConfTree tree = ConfSample.Parse("events {}\n\tuser  'a b'\n  \\tc\n;");
        ConfDirective user = tree.Directives[1];
        Assert.Equal((2, 2, 4, 4), (user.Span.Line, user.Span.Column, user.Span.Length, user.Span.ReportLine));
        Assert.Equal((2, 8, 5), (user.Args[0].Span.Line, user.Args[0].Span.Column, user.Args[0].Span.Length));
        Assert.Equal((3, 3, 3), (user.Args[1].Span.Line, user.Args[1].Span.Column, user.Args[1].Span.Length));
        Assert.Equal((4, 1), (user.End.Line, user.End.Column));
        Assert.True(user.Args[0].Quoted);
        Assert.False(user.Args[1].Quoted);
    }

    [Fact]
    public void A_block_knows_where_it_ends()
    {
        ConfDirective block = ConfSample.Parse("http {\n  gzip on;\n  }\n").Directives[0];
        Assert.Equal((3, 3), (block.BlockEnd.Line, block.BlockEnd.Column));
    }

    [Fact]
    public void Every_byte_survives_from_file_to_argument()
    {
        byte[] bytes = [.. "set "u8, .. Enumerable.Range(0x80, 0x80).Select(static i => (byte)i), .. ";"u8];
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add("/x", bytes), "/x");
        Assert.Equal(bytes[4..^1], tree.Directives[0].Args[0].Utf8);
    }

    [Fact]
    public void Blocks_nest_to_the_limit_and_no_deeper()
    {
        string Nest(int depth) => string.Concat(Enumerable.Repeat("a {", depth)) + new string('}', depth);
        Assert.Empty(ConfSample.Messages(ConfSample.Parse(Nest(ConfParser.BlockDepthMax - 1))));
        Assert.Empty(ConfSample.Messages(ConfSample.Parse(Nest(ConfParser.BlockDepthMax))));
        Assert.Contains("more than 128 deep", OnlyError(Nest(ConfParser.BlockDepthMax + 1)));
        Assert.Contains("more than 128 deep", OnlyError(string.Concat(Enumerable.Repeat("a{", 50_000))));
    }

    [Fact]
    public void An_error_does_not_hide_the_next_one()
    {
        string[] messages = ConfSample.Messages(ConfSample.Parse("'a'b;\n;\nc 'd'e {\n  ;\n}\nf\n}\n"));
        Assert.Equal(6, messages.Length);
    }

    [Fact]
    public void Any_bytes_make_a_tree_or_errors_and_never_throw()
    {
        char[] alphabet = "ab \t\r\n;{}'\"\\$#()\u00ff\0".ToCharArray();
        Gen<string> hostile = Gen.Elements(alphabet).ListOf().Select(static c => new string([.. c]));
        Gen<string> any = ArbMap.Default.GeneratorFor<byte[]>().Select(Encoding.Latin1.GetString);
        Prop.ForAll(Gen.OneOf(hostile, any).ToArbitrary(), static text =>
        {
            ConfTree tree = ConfSample.Walk(text);
            string shown = string.Concat(tree.Errors.All.Select(static e => e.Render()));
            return tree.Errors.Failed == shown.Contains("[emerg]");
        }).QuickCheckThrowOnFailure();
    }

    [Fact]
    public void A_tree_written_canonically_reads_back_the_same()
    {
        char[] alphabet = "ab \t\r\n;{}'\"\\$#()tn\u00ff".ToCharArray();
        Gen<string> word = Gen.Elements(alphabet).ListOf().Select(static c => new string([.. c]));
        Prop.ForAll(word.ListOf().ToArbitrary(), static words =>
        {
            string line = string.Join(' ', words.Prepend("set").Select(ConfText.Quote)) + ";";
            ConfTree tree = ConfSample.Parse(line);
            return !tree.Errors.Failed && tree.Directives.Count == 1
                && tree.Directives[0].Args.Select(static a => a.Text).SequenceEqual(words)
                && ConfSample.Parse(tree.ToCanonicalText()).ToCanonicalText() == tree.ToCanonicalText();
        }).QuickCheckThrowOnFailure();
    }
}
