// What this build supports: every module adds its directives here, in the order of the catalogue, before the first
// configuration is read. Afterwards it is only read, by any thread.
namespace Weir.Conf;

/// <summary>One directive and what it does to a configuration.</summary>
public sealed class DirectiveSpec
{
    public required string Name { get; init; }

    /// <summary>Where it may stand.</summary>
    public required ConfContext Contexts { get; init; }

    public required ConfArity Arity { get; init; }

    /// <summary>It is ended by a block instead of ';'.</summary>
    public bool Block { get; init; }

    /// <summary>
    /// Its block holds lines of words instead of directives (map, geo, types): Apply reads them itself.
    /// </summary>
    public bool FreeBlock { get; init; }

    /// <summary>The context inside its block; for <see cref="ConfWalker.WalkBlock(ConfDirective, object?)"/>.</summary>
    public ConfContext OpensContext { get; init; }

    /// <summary>Called for every correct use, with the walker standing in the directive's own context.</summary>
    public required Action<ConfWalker, ConfDirective> Apply { get; init; }

    /// <summary>One line for the manual.</summary>
    public string? Summary { get; init; }
}

public sealed class DirectiveRegistry
{
    private readonly Dictionary<string, DirectiveSpec[]> _byName = new(StringComparer.Ordinal);

    /// <summary>All directives by name, for the manual and for "did you mean".</summary>
    public IEnumerable<DirectiveSpec> All => _byName.Values.SelectMany(static specs => specs);

    /// <summary>Adds one. Two of one name must not share a context.</summary>
    public void Add(DirectiveSpec spec)
    {
        DirectiveSpec[] others = _byName.GetValueOrDefault(spec.Name) ?? [];
        foreach (DirectiveSpec other in others)
        {
            if ((other.Contexts & spec.Contexts) != 0)
            {
                throw new InvalidOperationException($"the directive {spec.Name} is declared twice for one context");
            }
        }
        _byName[spec.Name] = [.. others, spec];
    }

    /// <summary>
    /// Adds a directive as nginx has it: contexts, arguments and kind come from nginx's table.
    /// <paramref name="within"/> chooses among the families where a name exists more than once (http, stream, mail) and
    /// limits the contexts. What a block opens where it stands is known to the walker's WalkBlock.
    /// </summary>
    public void AddNginx(string name, ConfContext within, Action<ConfWalker, ConfDirective> apply,
        string? summary = null)
    {
        bool any = false;
        for (int i = 0; i < 14; i++)
        {
            ConfContext one = (ConfContext)(1 << i);
            if ((within & one) == 0 || Find(name, one) is not null
                || !NginxDirectives.TryFind(name, one, out NginxDirective row))
            {
                continue;
            }
            any = true;
            Add(new DirectiveSpec
            {
                Name = name,
                Contexts = row.Contexts & within,
                Arity = row.Arity,
                Block = row.IsBlock,
                FreeBlock = row.IsFreeBlock,
                Apply = apply,
                Summary = summary,
            });
        }
        if (!any)
        {
            throw new InvalidOperationException($"nginx has no directive {name} in {ConfContexts.Names(within)}");
        }
    }

    public DirectiveSpec? Find(string name, ConfContext context)
    {
        if (_byName.TryGetValue(name, out DirectiveSpec[]? specs))
        {
            foreach (DirectiveSpec spec in specs)
            {
                if ((spec.Contexts & context) != 0)
                {
                    return spec;
                }
            }
        }
        return null;
    }

    /// <summary>Everywhere this build allows the name.</summary>
    public ConfContext ContextsOf(string name)
    {
        ConfContext contexts = ConfContext.None;
        foreach (DirectiveSpec spec in _byName.GetValueOrDefault(name) ?? [])
        {
            contexts |= spec.Contexts;
        }
        return contexts;
    }
}
