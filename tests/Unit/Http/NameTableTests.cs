// Names with wildcards: exact, the longest at the start, the longest at the end.
using System.Text;
using Weir.Http;
using Weir.Kernel;
using Xunit;

namespace Weir.Tests.Unit.Http;

public sealed class NameTableTests
{
    [Theory]
    [InlineData("example.com", "exact")]
    [InlineData("a.example.com", "star")]
    [InlineData("b.a.example.com", "star")]
    [InlineData("www.special.example.com", "longer star")]
    [InlineData("dot.org", "dot")]
    [InlineData("x.dot.org", "dot")]
    [InlineData("www.tail.net", "tail")]
    [InlineData("www.tail.co.uk", "tail")]
    [InlineData("www.tail.longer.org", "longer tail")]
    [InlineData("nothing", null)]
    [InlineData(".example.com", null)]
    public void A_name_finds_the_most_specific_entry(string name, string? expected)
    {
        using var memory = new NativeArena();
        var table = new NameTable<string>(memory);
        Assert.True(table.TryAdd("*.example.com", "star"));
        Assert.True(table.TryAdd("Example.com", "exact"));
        Assert.True(table.TryAdd("*.special.example.com", "longer star"));
        Assert.True(table.TryAdd(".dot.org", "dot"));
        Assert.True(table.TryAdd("www.tail.*", "tail"));
        Assert.True(table.TryAdd("www.tail.longer.*", "longer tail"));
        Assert.Equal(expected is not null, table.TryFind(Encoding.ASCII.GetBytes(name), out string found));
        Assert.Equal(expected, found);
    }

    [Fact]
    public void A_name_is_taken_once()
    {
        using var memory = new NativeArena();
        var table = new NameTable<int>(memory);
        Assert.True(table.TryAdd("a.b", 1));
        Assert.False(table.TryAdd("A.B", 2));
    }

    [Theory]
    [InlineData("a.b", true)]
    [InlineData("*.b", true)]
    [InlineData("a.*", true)]
    [InlineData("a*.b", false)]
    [InlineData("*.b.*", false)]
    [InlineData("*", false)]
    [InlineData(".", false)]
    public void Wildcards_stand_at_an_end(string name, bool valid) => Assert.Equal(valid, NameTable<int>.IsValid(name));
}
