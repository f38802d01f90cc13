// map: a variable whose value depends on a text, as in nginx: exact keys (in any case), host names with wildcards,
// regular expressions in order, else the default. Results may hold variables and captures. Frozen with the
// configuration; a lookup allocates nothing.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class MapModule : HttpModule
{
    public override string Name => "http_map";

    public override void Declare(HttpDeclarations d)
    {
        d.Block("map", EnterMap);
        d.Block("map_hash_max_size", static u => u.Walker.TryNumber(u.Directive, out long _));
        d.Block("map_hash_bucket_size", static u => u.Walker.TryNumber(u.Directive, out long _));
    }

    private static void EnterMap(DirectiveUse use)
    {
        if (use.Template(0) is not { } source)
        {
            return;
        }
        if (use[1].Length < 2 || use[1][0] != '$')
        {
            use.Error(1, $"invalid variable name \"{use[1]}\"");
            return;
        }
        Variable? variable = use.Build.Configuration.Variables.Define(use[1][1..], out string? error);
        if (variable is null)
        {
            use.Error(1, error!);
            return;
        }
        var map = new MapTable(source, use.Build);
        foreach (ConfDirective line in use.Directive.Block!)
        {
            if (!line.Broken)
            {
                map.Read(use, line, variable);
            }
        }
        variable.Data = map;
        variable.Get = map.Get;
    }
}

/// <summary>One map.</summary>
internal sealed class MapTable(Template source, HttpBuild build)
{
    private readonly NameTable<Template> _names = new(build.Memory);
    private readonly List<(Regex Regex, Template Value)> _regexes = [];
    private Template? _default;
    private bool _hostNames;

    internal void Read(DirectiveUse use, ConfDirective line, Variable variable)
    {
        string key = line.Name;
        if (line.Args.Length == 0 && key == "hostnames")
        {
            _hostNames = true;
            return;
        }
        if (line.Args.Length == 0 && key == "volatile")
        {
            variable.Flags |= VariableFlags.NoCache;
            return;
        }
        if (line.Args.Length != 1)
        {
            use.Walker.Error(line.Span, "invalid number of the map parameters");
            return;
        }
        Template? value = Template.Compile(line.Args[0].Text, build.Configuration.Variables, out string? error);
        if (value is null)
        {
            use.Walker.Error(line.Span, error!);
            return;
        }
        if (key == "default")
        {
            if (_default is not null)
            {
                use.Walker.Error(line.Span, "duplicate default map parameter");
                return;
            }
            _default = value;
            return;
        }
        if (key.StartsWith('~'))
        {
            AddRegex(use, line, key[1..], value);
            return;
        }
        if (key.StartsWith('\\'))
        {
            key = key[1..];
        }
        if (_hostNames && !NameTable<Template>.IsValid(key))
        {
            use.Walker.Error(line.Span, $"invalid hostname or wildcard \"{key}\"");
            return;
        }
        if (!(_hostNames ? _names.TryAdd(key, value) : _names.TryAddExact(key, value)))
        {
            use.Walker.Error(line.Span, $"conflicting parameter \"{key}\"");
        }
    }

    private void AddRegex(DirectiveUse use, ConfDirective line, string pattern, Template value)
    {
        bool caseless = pattern.StartsWith('*');
        Regex? regex = Regex.Compile(caseless ? pattern[1..] : pattern, caseless, build.Configuration.Variables,
            out string? error);
        if (regex is null)
        {
            use.Walker.Error(line.Span, error!);
            return;
        }
        build.Configuration.Own(regex.Pattern);
        _regexes.Add((regex, value));
    }

    internal bool Get(Session.Session s, Variable variable, ref NativeSlice value)
    {
        NativeSlice text = source.Evaluate(s);
        Template? result = Find(s, text);
        value = result is null ? default : result.Evaluate(s);
        return true;
    }

    private Template? Find(Session.Session s, NativeSlice text)
    {
        if (_names.Count > 0)
        {
            NativeSlice name = text;
            if (_hostNames && !name.IsEmpty && name.Span[^1] == '.')
            {
                name = name.Slice(0, name.Length - 1);
            }
            const int stackBytesMax = 256;
            Span<byte> lower = name.Length <= stackBytesMax ? stackalloc byte[name.Length]
                : s.Arena.Allocate(name.Length).Span;
            ReadOnlySpan<byte> from = name.Span;
            for (int i = 0; i < from.Length; i++)
            {
                lower[i] = HeaderName.Lower(from[i]);
            }
            if (_names.TryFind(lower, out Template found))
            {
                return found;
            }
        }
        foreach ((Regex regex, Template result) in _regexes)
        {
            RegexOutcome outcome = regex.Match(s, text);
            if (outcome == RegexOutcome.Match)
            {
                return result;
            }
            if (outcome == RegexOutcome.Failed)
            {
                // No expression after it is asked, and the default stands, where it can still matter.
                (s as HttpRequest)?.FailMatch(text, regex.Source);
                break;
            }
        }
        return _default;
    }
}
