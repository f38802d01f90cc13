// A block of a configuration with those around it, as the rules of the linter ask for it: what stands in it, what is in
// force in it. Made on the way down, one per block. Start-up only.
using Weir.Conf;

namespace Weir.Lint;

/// <summary>A block on the way from the main level.</summary>
internal sealed class LintScope(ConfDirective? block, IReadOnlyList<ConfDirective> inside, LintScope? around)
{
    /// <summary>Up to here looking at each line is as fast as a table.</summary>
    private const int FewLines = 24;

    public ConfDirective? Block { get; } = block;
    public LintScope? Around { get; } = around;
    public IReadOnlyList<ConfDirective> Inside { get; } = inside;

    /// <summary>"" at the main level.</summary>
    public string Name => Block?.Name ?? "";

    public bool IsLocation => Name == "location";

    /// <summary>"", "=", "^~", "~" or "~*" of a location.</summary>
    public string Modifier => Block is { Args.Length: 2 } two ? two[0]
        : Block is { Args.Length: 1 } one ? one[0] switch
        {
            ['^', '~', ..] => "^~",
            ['~', '*', ..] => "~*",
            ['=', ..] => "=",
            ['~', ..] => "~",
            _ => "",
        } : "";

    /// <summary>The prefix or the expression of a location.</summary>
    public string Pattern => Block is { Args.Length: 2 } two ? two[1]
        : Block is { Args.Length: 1 } one ? one[0][Modifier.Length..] : "";

    public bool IsPrefixLocation => IsLocation && Modifier is "" or "^~" && !Pattern.StartsWith('@');

    /// <summary>What stands in a block of many lines, by name: every block inside asks it.</summary>
    private Dictionary<string, List<ConfDirective>>? _byName;

    public ConfDirective? Own(string name)
    {
        if (Inside.Count > FewLines)
        {
            return ByName().TryGetValue(name, out List<ConfDirective>? all) ? all[0] : null;
        }
        foreach (ConfDirective directive in Inside)
        {
            if (directive.Name == name)
            {
                return directive;
            }
        }
        return null;
    }

    public IEnumerable<ConfDirective> All(string name) => Inside.Count > FewLines
        ? ByName().TryGetValue(name, out List<ConfDirective>? all) ? all : []
        : Inside.Where(d => d.Name == name);

    private Dictionary<string, List<ConfDirective>> ByName()
    {
        if (_byName is null)
        {
            _byName = [];
            foreach (ConfDirective directive in Inside)
            {
                if (!_byName.TryGetValue(directive.Name, out List<ConfDirective>? all))
                {
                    _byName[directive.Name] = all = [];
                }
                all.Add(directive);
            }
        }
        return _byName;
    }

    /// <summary>The nearest level with directives of this name.</summary>
    public LintScope? LevelOf(string name)
    {
        for (LintScope? level = this; level is not null; level = level.Around)
        {
            if (level.Own(name) is not null)
            {
                return level;
            }
        }
        return null;
    }

    public ConfDirective? InForce(string name) => LevelOf(name)?.Own(name);

    /// <summary>The block of this name around, or this one.</summary>
    public LintScope? Within(string name)
    {
        for (LintScope? level = this; level is not null; level = level.Around)
        {
            if (level.Name == name)
            {
                return level;
            }
        }
        return null;
    }
}
