// The directive table against its source, the registry, and the walk.
using Weir.Conf;
using Xunit;

namespace Weir.Tests.Unit.Conf;

public sealed class ConfWalkerTests
{
    [Fact]
    public void The_generated_table_is_the_tsv()
    {
        string path = Path.Combine(GoldenConfTests.RepositoryRoot(), "data/nginx-directives.tsv");
        string[] lines =
            [.. File.ReadAllLines(path).Skip(1).OrderBy(static l => l.Split('\t')[1], StringComparer.Ordinal)];
        Assert.Equal(lines.Length, NginxDirectives.Count);
        for (int i = 0; i < lines.Length; i++)
        {
            string[] columns = lines[i].Split('\t');
            NginxDirective row = NginxDirectives.Row(i);
            Assert.Equal((columns[0], columns[1], columns[5]), (row.Module, row.Name, row.Condition));
            Assert.Equal(columns[2].Split(',').Order(), ConfContexts.Names(row.Contexts, ",").Split(',').Order());
            Assert.Equal(columns[4] == "block", row.IsBlock);
            Assert.Equal(Arity(columns[3], columns[4]), row.Arity);
            Assert.Equal(row.Name is "types" or "map" or "geo" or "split_clients" or "charset_map", row.IsFreeBlock);
        }
    }

    private static ConfArity Arity(string args, string flags) => (args, flags) switch
    {
        (_, "flag") => ConfArity.Flag,
        ("1+", _) => ConfArity.OneOrMore,
        ("2+", _) => ConfArity.TwoOrMore,
        _ => (ConfArity)args.Split('/', ',').Sum(static n => 1 << int.Parse(n)),
    };

    [Fact]
    public void A_name_is_found_by_its_context()
    {
        Assert.True(NginxDirectives.TryFind("server", ConfContext.Http, out NginxDirective block));
        Assert.True(NginxDirectives.TryFind("server", ConfContext.Upstream, out NginxDirective peer));
        Assert.False(NginxDirectives.TryFind("server", ConfContext.Location, out _));
        Assert.False(NginxDirectives.TryFind("serve", ConfContext.Http, out _));
        Assert.False(NginxDirectives.TryFind("", ConfContext.Http, out _));
        Assert.True(block.IsBlock);
        Assert.False(peer.IsBlock);
        Assert.True(NginxDirectives.IsKnown("zone") && !NginxDirectives.IsKnown("zzz"));
    }

    [Fact]
    public void Every_block_directive_opens_a_context_or_is_free()
    {
        for (int i = 0; i < NginxDirectives.Count; i++)
        {
            NginxDirective row = NginxDirectives.Row(i);
            for (int bit = 0; bit < 14 && row.IsBlock && !row.IsFreeBlock; bit++)
            {
                ConfContext one = (ConfContext)(1 << bit);
                if ((row.Contexts & one) != 0)
                {
                    Assert.NotEqual(ConfContext.None, NginxDirectives.Opens(row.Name, one));
                }
            }
        }
    }

    [Theory]
    [InlineData(ConfArity.Flag, "1")]
    [InlineData(ConfArity.One | ConfArity.Three, "13")]
    [InlineData(ConfArity.Zero, "0")]
    [InlineData(ConfArity.OneOrMore, "123456789")]
    [InlineData(ConfArity.TwoOrMore, "23456789")]
    [InlineData(ConfArity.Any, "0123456789")]
    [InlineData(ConfArity.Seven, "7")]
    public void An_arity_accepts_its_counts(ConfArity arity, string accepted)
    {
        for (int count = 0; count < 10; count++)
        {
            Assert.Equal(accepted.Contains((char)('0' + count)), arity.Accepts(count));
        }
    }

    [Fact]
    public void Two_directives_of_one_name_may_not_share_a_context()
    {
        DirectiveRegistry registry = new();
        registry.AddNginx("listen", ConfContext.Server, static (_, _) => { });
        registry.AddNginx("listen", ConfContext.StreamAny, static (_, _) => { });
        Assert.Equal(ConfContext.Server | ConfContext.StreamServer, registry.ContextsOf("listen"));
        Assert.Throws<InvalidOperationException>(() => registry.Add(registry.Find("listen", ConfContext.Server)!));
        Assert.Throws<InvalidOperationException>(
            () => registry.AddNginx("listn", ConfContext.Any, static (_, _) => { }));
    }

    [Fact]
    public void Apply_sees_where_it_stands()
    {
        List<string> seen = [];
        DirectiveRegistry registry = new();
        registry.AddNginx("http", ConfContext.Main, static (w, d) => w.WalkBlock(d, "http scope"));
        registry.AddNginx("server", ConfContext.Http, static (w, d) => w.WalkBlock(d, new List<int>()));
        registry.AddNginx("if", ConfContext.Server | ConfContext.Location, static (w, d) => w.WalkBlock(d, w.Scope));
        registry.AddNginx("location", ConfContext.Server, static (w, d) => w.WalkBlock(d, 'c'));
        registry.AddNginx("return", ConfContext.HttpAny, (w, d) =>
            seen.Add($"{w.Context} {w.Depth} {w.Owner?.Name} {w.ContextAt(1)} {w.OwnerAt(1)?.Name} {w.Find<string>()} "
                + $"{w.Need<List<int>>().Count} {w.ScopeAt(0) is char}"));
        ConfTree tree = ConfSample.Parse(
            "http { server { return 1; if (a) { return 2; } location / { if (b) { return 3; } } } }");
        new ConfWalker(registry, tree.Errors).Walk(tree, null);
        Assert.Empty(ConfSample.Messages(tree));
        Assert.Equal(
            [
                "Server 3 server Http http http scope 0 False",
                "IfInServer 4 if Server server http scope 0 False",
                "IfInLocation 5 if Location location http scope 0 True",
            ], seen);
    }

    [Fact]
    public void A_directive_of_nginx_that_this_build_lacks_is_named_so_and_its_block_left_alone()
    {
        DirectiveRegistry registry = new();
        registry.AddNginx("http", ConfContext.Main, static (w, d) => w.WalkBlock(d, null));
        ConfTree tree = ConfSample.Parse("mail { nonsense; }\nhttp { gzip on; gzp on; }\nevents {}\n");
        new ConfWalker(registry, tree.Errors).Walk(tree, null);
        Assert.Equal(
            [
                "[emerg] directive \"mail\" is not supported by this build of weir yet in /c/nginx.conf:1",
                "[emerg] directive \"gzip\" is not supported by this build of weir yet in /c/nginx.conf:2",
                "[emerg] unknown directive \"gzp\" in /c/nginx.conf:2",
                "[emerg] directive \"events\" is not supported by this build of weir yet in /c/nginx.conf:3",
            ], ConfSample.Messages(tree));
    }

    [Fact]
    public void A_directive_of_our_own_has_its_own_contexts_and_block()
    {
        DirectiveRegistry registry = new();
        List<string> lines = [];
        registry.Add(new DirectiveSpec
        {
            Name = "weir_table",
            Contexts = ConfContext.Main,
            Arity = ConfArity.One,
            Block = true,
            FreeBlock = true,
            Apply = (_, d) => lines.AddRange(d.Block!.Select(static l => l.QuotedForDump)),
        });
        ConfTree tree = ConfSample.Parse("weir_table x { a b; 'c d'; }\nweir_tabel y {}\n");
        new ConfWalker(registry, tree.Errors).Walk(tree, null);
        Assert.Equal(["a b", "\"c d\""], lines);
        Assert.Equal("did you mean \"weir_table\"?", Assert.Single(tree.Errors.All).Hint);
    }

    [Theory]
    [InlineData("listen", "listen", 0)]
    [InlineData("lsiten", "listen", 1)]
    [InlineData("lsten", "listen", 1)]
    [InlineData("lisxen", "listen", 1)]
    [InlineData("", "abc", 3)]
    [InlineData("ca", "abc", 3)]
    public void Distance_counts_inserts_deletes_replacements_and_swaps(string a, string b, int distance)
    {
        Assert.Equal(distance, NearestName.Distance(a, b));
        Assert.Equal(distance, NearestName.Distance(b, a));
    }

    [Fact]
    public void Suggestions_are_near_and_few()
    {
        Assert.Equal(["gzip"], NearestName.Among(["gzip", "geo", "gunzip"], "gzp"));
        Assert.Empty(NearestName.Among(["gzip"], "xx"));
        Assert.Empty(NearestName.Among(["gzip"], ""));
        Assert.Empty(NearestName.Among(["gzip"], new string('g', 100_000)));
    }

    [Fact]
    public void Errors_are_kept_in_reading_order_and_in_bounds()
    {
        ConfTree tree = ConfSample.Walk(string.Concat(Enumerable.Repeat("bogus;\n", ConfErrors.KeptMax + 50)));
        Assert.Equal(ConfErrors.KeptMax + 50, tree.Errors.Count);
        Assert.Equal(ConfErrors.KeptMax, tree.Errors.All.Count);
        Assert.Equal(Enumerable.Range(1, 5), tree.Errors.All.Take(5).Select(static e => e.Span!.Value.Line));
    }
}
