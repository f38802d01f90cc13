// charset, source_charset, override_charset, charset_types, charset_map: which character set a response says it is in,
// and recoding from one into another. The tables are frozen with the configuration; recoding is CharsetFilter.cs.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>A character set that the configuration names.</summary>
internal sealed class CharsetName(NativeSlice bytes)
{
    internal NativeSlice Bytes => bytes;

    internal bool IsUtf8 { get; } = HeaderName.Same(bytes.Span, "utf-8"u8);
}

/// <summary>What `charset` or `source_charset` asks for: nothing, a name, or a variable.</summary>
internal sealed record CharsetChoice(CharsetName? Name, Variable? Variable)
{
    internal static readonly CharsetChoice Off = new(null, null);

    internal bool IsOff => Name is null && Variable is null;
}

/// <summary>The character sets and tables of a configuration.</summary>
internal sealed class CharsetMain
{
    private readonly List<CharsetName> _names = [];
    private readonly List<CharsetTable> _tables = [];

    internal bool IsEmpty => _names.Count == 0;

    internal CharsetName Add(string name, NativeArena memory)
    {
        byte[] bytes = System.Text.Encoding.Latin1.GetBytes(name);
        if (Find(bytes) is { } known)
        {
            return known;
        }
        var made = new CharsetName(memory.Store(name));
        _names.Add(made);
        return made;
    }

    internal CharsetName? Find(ReadOnlySpan<byte> name)
    {
        foreach (CharsetName one in _names)
        {
            if (HeaderName.Same(one.Bytes.Span, name))
            {
                return one;
            }
        }
        return null;
    }

    internal void Add(CharsetTable table) => _tables.Add(table);

    /// <summary>The table between two; null where there is none.</summary>
    internal CharsetTable? Table(CharsetName from, CharsetName to)
    {
        foreach (CharsetTable table in _tables)
        {
            if (table.First == from && table.Second == to || table.First == to && table.Second == from)
            {
                return table;
            }
        }
        return null;
    }

    /// <summary>Pairs that `charset` and `source_charset` need, to be checked when all tables are known.</summary>
    internal List<(CharsetName From, CharsetName To)> Needed { get; } = [];
}

internal sealed class CharsetSettings
{
    internal Inherited<CharsetChoice> Charset;
    internal Inherited<CharsetChoice> Source;
    internal Inherited<bool> Override;
    internal Inherited<TypeSet> Types;
}

internal sealed class CharsetModule : HttpModule<CharsetSettings>
{
    private static readonly string[] s_types =
    [
        "text/html", "text/xml", "text/plain", "text/vnd.wap.wml", "application/javascript", "application/rss+xml",
    ];

    public override string Name => "http_charset_filter";

    public override bool InheritsWhole => true;

    public override object CreateMain(HttpBuild build) => new CharsetMain();

    public override void Declare(HttpDeclarations d)
    {
        d.Location<CharsetSettings>("charset", (u, s) => Set(u, ref s.Charset));
        d.Location<CharsetSettings>("source_charset", (u, s) => Set(u, ref s.Source));
        d.Location<CharsetSettings>("override_charset", static (u, s) => u.SetFlag(ref s.Override));
        d.Location<CharsetSettings>("charset_types", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Types))
            {
                s.Types.Set(TypeSet.Read(u, "text/html"));
            }
        });
        d.Main<CharsetMain>("charset_map", ReadMap);
    }

    private void Set(DirectiveUse use, ref Inherited<CharsetChoice> setting)
    {
        if (!use.Walker.Fresh(use.Directive, in setting))
        {
            return;
        }
        if (use[0] == "off" && use.Name == "charset")
        {
            setting.Set(CharsetChoice.Off);
        }
        else if (use[0].StartsWith('$'))
        {
            if (use[0].Length < 2)
            {
                use.Error(0, $"invalid variable name \"{use[0]}\"");
                return;
            }
            setting.Set(new CharsetChoice(null, use.Build.Configuration.Variables.Use(use[0][1..])));
        }
        else
        {
            var main = (CharsetMain)use.Block.Main[Index]!;
            setting.Set(new CharsetChoice(main.Add(use[0], use.Build.Memory), null));
        }
    }

    private static void ReadMap(DirectiveUse use, CharsetMain main)
    {
        CharsetName from = main.Add(use[0], use.Build.Memory);
        CharsetName to = main.Add(use[1], use.Build.Memory);
        if (from == to)
        {
            use.Error($"\"charset_map\" between the same charsets \"{use[0]}\" and \"{use[1]}\"");
            return;
        }
        if (main.Table(from, to) is not null)
        {
            use.Error($"duplicate \"charset_map\" between \"{use[0]}\" and \"{use[1]}\"");
            return;
        }
        var table = new CharsetTable(from, to);
        foreach (ConfDirective line in use.Directive.Block!)
        {
            if (line.Broken)
            {
                continue;
            }
            if (line.Args.Length != 1)
            {
                use.Walker.Error(line.Span, "invalid parameters number");
                continue;
            }
            if (!TryHex(line.Name, out int source) || source > byte.MaxValue)
            {
                use.Walker.Error(line.Span, $"invalid value \"{line.Name}\"");
                continue;
            }
            if (!table.TryAdd((byte)source, line.Args[0].Text))
            {
                use.Walker.Error(line.Args[0], $"invalid value \"{line.Args[0].Text}\"");
            }
        }
        main.Add(table);
    }

    internal static bool TryHex(ReadOnlySpan<char> text, out int value) => int.TryParse(text,
        System.Globalization.NumberStyles.AllowHexSpecifier, System.Globalization.CultureInfo.InvariantCulture,
        out value);

    protected override void Merge(HttpBuild build, CharsetSettings parent, CharsetSettings child)
    {
        child.Charset.Merge(in parent.Charset, CharsetChoice.Off);
        child.Source.Merge(in parent.Source, CharsetChoice.Off);
        child.Override.Merge(in parent.Override, false);
        child.Types.Merge(in parent.Types, null!);
        if (child.Types.Value is null)
        {
            child.Types = default;
            child.Types.Set(TypeSet.Of(build, s_types));
        }
        if (child.Charset.Value.Name is { } to && child.Source.Value.Name is { } from && from != to)
        {
            ((CharsetMain)build.Http!.Main[Index]!).Needed.Add((from, to));
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        var main = (CharsetMain)install.Build.Http!.Main[Index]!;
        CharsetSettings settings = Settings(install.Location);
        if (!main.IsEmpty || !settings.Charset.Value.IsOff)
        {
            install.AddFilter(FilterPlace.Charset, install.Shared(settings, s => new CharsetHeadFilter(s, main)));
        }
    }

    public override void Finish(HttpBuild build)
    {
        var main = (CharsetMain)build.Http!.Main[Index]!;
        foreach ((CharsetName from, CharsetName to) in main.Needed)
        {
            if (main.Table(from, to) is null)
            {
                build.Errors.Emerg($"no \"charset_map\" between the charsets \"{from.Bytes}\" and \"{to.Bytes}\"", null,
                    null);
                return;
            }
        }
    }
}

internal sealed class CharsetHeadFilter(CharsetSettings settings, CharsetMain main) : HeadFilter
{
    private readonly CharsetChoice _charset = settings.Charset.Value;
    private readonly CharsetChoice _source = settings.Source.Value;
    private readonly bool _overrides = settings.Override.Value;
    private readonly TypeSet _types = settings.Types.Value;

    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        NativeSlice given = head.Charset;
        int typeLength = head.ContentType.Length;
        if (given.IsEmpty)
        {
            given = InType(head.ContentType, out typeLength);
        }
        CharsetName? to;
        NativeSlice name;
        if (r.IsMain)
        {
            if (!TryDestination(r, head, given, out name, out to))
            {
                return;
            }
        }
        else
        {
            name = r.Main.Response.Charset;
            if (name.IsEmpty || head.ContentType.IsEmpty)
            {
                return;
            }
            to = main.Find(name.Span);
        }
        NativeSlice source = given;
        CharsetName? from = null;
        if (!given.IsEmpty)
        {
            from = main.Find(given.Span);
        }
        else if (_source.IsOff)
        {
            Set(r, head, name, typeLength);
            return;
        }
        else
        {
            source = _source.Name?.Bytes ?? ValueOf(r, _source.Variable!);
            from = _source.Name ?? main.Find(source.Span);
        }
        if (to is null || from is null)
        {
            if (to is null && from is null && HeaderName.Same(name.Span, source.Span))
            {
                Set(r, head, name, typeLength);
                return;
            }
            NoTable(r, source, name);
            return;
        }
        if (from == to)
        {
            Set(r, head, name, typeLength);
            return;
        }
        if (main.Table(from, to) is not { } table)
        {
            NoTable(r, source, name);
            return;
        }
        Set(r, head, name, typeLength);
        if (to.IsUtf8 || from.IsUtf8)
        {
            head.ContentLength = -1;
        }
        if (!head.HeaderOnly)
        {
            CharsetFilter filter = r.Get(CharsetFilter.Slot);
            filter.Start(table, from);
            r.AddBodyFilter(filter);
        }
    }

    /// <summary>What the response should be in; false where it stays as it is.</summary>
    private bool TryDestination(HttpRequest r, ResponseHead head, NativeSlice given, out NativeSlice name,
        out CharsetName? charset)
    {
        name = default;
        charset = null;
        if (head.ContentType.IsEmpty)
        {
            return false;
        }
        if (!head.OverrideCharset.IsEmpty)
        {
            name = head.OverrideCharset;
            charset = main.Find(name.Span);
            if (charset is null)
            {
                r.LogError(LogLevel.Error, $"unknown charset \"{name}\" to override");
            }
            return charset is not null;
        }
        if (_charset.IsOff || (given.IsEmpty ? !_types.Contains(head.ContentType.Span) : !_overrides))
        {
            return false;
        }
        if (_charset.Name is not null)
        {
            name = _charset.Name.Bytes;
            charset = _charset.Name;
            return true;
        }
        name = ValueOf(r, _charset.Variable!);
        charset = main.Find(name.Span);
        return true;
    }

    private static NativeSlice ValueOf(HttpRequest r, Variable variable)
    {
        r.TryGet(variable, out NativeSlice value);
        return value;
    }

    /// <summary>The character set inside a type that an upstream sent in a form of its own, and where the type ends
    /// before it.</summary>
    private static NativeSlice InType(NativeSlice type, out int typeLength)
    {
        ReadOnlySpan<byte> text = type.Span;
        typeLength = text.Length;
        for (int at = text.IndexOf((byte)';'); at >= 0;)
        {
            int start = at + 1;
            while (start < text.Length && text[start] == ' ')
            {
                start++;
            }
            if (text.Length - start >= 8 && HeaderName.Same(text.Slice(start, 8), "charset="u8))
            {
                typeLength = at;
                NativeSlice value = type.Slice(start + 8);
                return value.Length > 1 && value.Span[0] == '"' && value.Span[^1] == '"'
                    ? value.Slice(1, value.Length - 2) : value;
            }
            int next = text[start..].IndexOf((byte)';');
            at = next < 0 ? -1 : start + next;
        }
        return default;
    }

    private static void Set(HttpRequest r, ResponseHead head, NativeSlice name, int typeLength)
    {
        if (!r.IsMain)
        {
            return;
        }
        head.ContentType = head.ContentType.Slice(0, typeLength);
        // As nginx: an old browser took the set of a redirect's page for that of the next.
        head.Charset = head.Status is 301 or 302 ? default : name;
    }

    private static void NoTable(HttpRequest r, NativeSlice from, NativeSlice to) => r.LogError(LogLevel.Error,
        $"no \"charset_map\" between the charsets \"{from}\" and \"{to}\"");
}
