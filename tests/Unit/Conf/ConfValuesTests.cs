// The readers of arguments: numbers, sizes, times, buffers, words, modes, templates and inheritance.
using Weir.Conf;
using Xunit;

namespace Weir.Tests.Unit.Conf;

public sealed class ConfValuesTests
{
    [Theory]
    [InlineData("0", 0L)]
    [InlineData("007", 7L)]
    [InlineData("9223372036854775807", long.MaxValue)]
    [InlineData("9223372036854775808", null)]
    [InlineData("", null)]
    [InlineData("-1", null)]
    [InlineData("+1", null)]
    [InlineData("1 ", null)]
    [InlineData("1x", null)]
    public void A_number_is_digits_only(string text, long? value) =>
        Assert.Equal(value, ConfValues.TryNumber(text, out long read) ? read : null);

    [Theory]
    [InlineData("1", 1L, 1L)]
    [InlineData("1k", 1024L, 1024L)]
    [InlineData("2K", 2048L, 2048L)]
    [InlineData("3m", 3L << 20, 3L << 20)]
    [InlineData("3M", 3L << 20, 3L << 20)]
    [InlineData("1g", null, 1L << 30)]
    [InlineData("1G", null, 1L << 30)]
    [InlineData("1t", null, null)]
    [InlineData("k", null, null)]
    [InlineData("", null, null)]
    [InlineData("1kk", null, null)]
    [InlineData("1.5k", null, null)]
    [InlineData("9007199254740991k", 9007199254740991L << 10, 9007199254740991L << 10)]
    [InlineData("9007199254740992k", null, null)]
    public void Sizes_take_k_and_m_and_offsets_also_g(string text, long? size, long? offset)
    {
        Assert.Equal(size, ConfValues.TrySize(text, out long bytes) ? bytes : null);
        Assert.Equal(offset, ConfValues.TryOffset(text, out bytes) ? bytes : null);
    }

    [Theory]
    [InlineData("60", 60_000L, 60L)]
    [InlineData("60s", 60_000L, 60L)]
    [InlineData("500ms", 500L, null)]
    [InlineData("1m", 60_000L, 60L)]
    [InlineData("1h30m", 5_400_000L, 5_400L)]
    [InlineData("1h 30m", 5_400_000L, 5_400L)]
    [InlineData("1w2d3h4m5s6ms", 788_645_006L, null)]
    [InlineData("1w2d3h4m5s", 788_645_000L, 788_645L)]
    [InlineData("1h30", 3_630_000L, 3_630L)]
    [InlineData("1M", null, 2_592_000L)]
    [InlineData("1y", null, 31_536_000L)]
    [InlineData("1y1M1w", null, 34_732_800L)]
    [InlineData("1d ", 86_400_000L, 86_400L)]
    [InlineData("30m1h", null, null)]
    [InlineData("1h1h", null, null)]
    [InlineData("1y1y", null, null)]
    [InlineData("1M1y", null, null)]
    [InlineData("1s5", 6_000L, 6L)]
    [InlineData("1 2", 3_000L, 3L)]
    [InlineData("1s 2 ", null, null)]
    [InlineData("1x", null, null)]
    [InlineData("", null, null)]
    [InlineData("-1", null, null)]
    [InlineData("99999999999999999999", null, null)]
    [InlineData("9223372036854775807", null, long.MaxValue)]
    [InlineData("9223372036854775808", null, null)]
    public void Times_have_units_in_falling_order(string text, long? ms, long? seconds)
    {
        Assert.Equal(ms, ConfValues.TryMsec(text, out long value) ? value : null);
        Assert.Equal(seconds, ConfValues.TrySec(text, out value) ? value : null);
    }

    [Theory]
    [InlineData("on", true)]
    [InlineData("OFF", false)]
    [InlineData("yes", null)]
    [InlineData("", null)]
    public void A_flag_is_on_or_off_in_either_case(string text, bool? value) =>
        Assert.Equal(value, ConfValues.TryFlag(text, out bool read) ? read : null);

    [Theory]
    [InlineData("8", "4k", true)]
    [InlineData("0", "4k", false)]
    [InlineData("8", "0", false)]
    [InlineData("8", "x", false)]
    [InlineData("99999999999", "4k", false)]
    public void Buffers_are_neither_none_nor_empty(string count, string size, bool good) =>
        Assert.Equal(good, ConfValues.TryBufs(count, size, out _));

    [Theory]
    [InlineData("0.5", 2, 50L)]
    [InlineData("12.34", 2, 1234L)]
    [InlineData("7", 2, 700L)]
    [InlineData("1.", 1, 10L)]
    [InlineData("1.234", 2, null)]
    [InlineData("1.2.3", 4, null)]
    [InlineData("", 2, null)]
    public void A_fixed_point_number_has_so_many_places(string text, int digits, long? value) =>
        Assert.Equal(value, ConfValues.TryFixed(text, digits, out long read) ? read : null);

    [Theory]
    [InlineData("0640", 416)]
    [InlineData("7777", 4095)]
    [InlineData("0800", null)]
    [InlineData("77777", null)]
    [InlineData("", null)]
    public void A_mode_is_octal(string text, int? mode) =>
        Assert.Equal(mode, ConfValues.TryMode(text, out int read) ? read : null);

    [Fact]
    public void Access_words_add_up_to_a_mode()
    {
        int mode = 0;
        Assert.True(ConfValues.TryAccess("user:rw", ref mode));
        Assert.True(ConfValues.TryAccess("group:r", ref mode));
        Assert.True(ConfValues.TryAccess("all:r", ref mode));
        Assert.Equal(Convert.ToInt32("644", 8), mode);
        Assert.False(ConfValues.TryAccess("group:x", ref mode));
        Assert.False(ConfValues.TryAccess("nobody", ref mode));
    }

    [Theory]
    [InlineData("", "")]
    [InlineData("abc", "L:abc")]
    [InlineData("a$b${c}d", "L:a V:b V:c L:d")]
    [InlineData("$a_1-$B", "V:a_1 L:- V:B")]
    [InlineData("/$1/$12", "L:/ C:1 L:/ C:1 L:2")]
    [InlineData("${1}", "V:1")]
    [InlineData("$0a", "V:0a")]
    [InlineData("a?b?$c", "L:a?b? V:c")]
    [InlineData("$", "invalid variable name")]
    [InlineData("a$", "invalid variable name")]
    [InlineData("a$-", "invalid variable name")]
    [InlineData("a${", "invalid variable name")]
    [InlineData("a${}", "invalid variable name")]
    [InlineData("a$$b", "invalid variable name")]
    [InlineData("${a", "the closing bracket in \"a\" variable is missing")]
    [InlineData("${a-b}", "the closing bracket in \"a\" variable is missing")]
    [InlineData("${-}", "the closing bracket in \"\" variable is missing")]
    public void A_template_splits_into_text_and_variables(string text, string expected) =>
        Assert.Equal(expected, Scan(text, splitArguments: false));

    [Theory]
    [InlineData("a?b?$c", "L:a A:? L:b? V:c")]
    [InlineData("?", "A:?")]
    [InlineData("$a?", "V:a A:?")]
    public void The_arguments_of_a_rewrite_are_a_part_of_their_own(string text, string expected) =>
        Assert.Equal(expected, Scan(text, splitArguments: true));

    private static string Scan(string text, bool splitArguments)
    {
        List<ConfTemplatePart> parts = [];
        return ConfTemplateScanner.TryScan(text, parts, out string? error, splitArguments)
            ? string.Join(' ', parts.Select(static p => $"{p.Kind.ToString()[0]}:{p.Text}"))
            : error!;
    }

    [Fact]
    public void A_setting_comes_from_the_nearest_level_that_has_one()
    {
        Inherited<int> outer = default;
        Inherited<int> middle = default;
        Inherited<int> inner = default;
        outer.Set(5);
        outer.Merge(1);
        middle.Merge(outer, 1);
        inner.Set(9);
        inner.Merge(middle, 1);
        Assert.Equal((5, 5, 9), (outer.Value, middle.Value, inner.Value));
        Assert.Equal((true, false, true), (outer.IsSet, middle.IsSet, inner.IsSet));
    }

    [Fact]
    public void A_setting_nobody_made_is_the_default_on_every_level()
    {
        Inherited<string> outer = default;
        Inherited<string> inner = default;
        Assert.Equal("other", outer.ValueOr("other"));
        outer.Merge("default");
        inner.Merge(outer, "default");
        Assert.Equal("default", inner.Value);
    }

    [Fact]
    public void A_merged_setting_is_frozen()
    {
        Inherited<int> setting = default;
        setting.Merge(1);
        Assert.Throws<InvalidOperationException>(() => setting.Set(2));
        InheritedList<int> list = default;
        list.Merge();
        Assert.Throws<InvalidOperationException>(() => list.Add(2));
    }

    [Fact]
    public void One_line_on_a_level_replaces_the_whole_outer_list()
    {
        InheritedList<string> outer = default;
        InheritedList<string> with = default;
        InheritedList<string> without = default;
        outer.Add("a");
        outer.Add("b");
        with.Add("c");
        outer.Merge();
        with.Merge(outer);
        without.Merge(outer);
        Assert.Equal(["c"], with.Array);
        Assert.Equal(["a", "b"], without.Array);
        Assert.Same(outer.Array, without.Array);
    }
}
