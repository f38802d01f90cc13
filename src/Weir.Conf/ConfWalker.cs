// Walks a tree against the directives of this build: place, form and number of arguments are checked with nginx's
// messages, then the directive's Apply runs, with the walker as its view of where it stands. A wrong directive never
// stops the walk. One walker serves one tree on one thread.
namespace Weir.Conf;

public sealed partial class ConfWalker(DirectiveRegistry registry, ConfErrors errors)
{
    private readonly record struct Level(ConfContext Context, object? Scope, ConfDirective? Owner);

    private readonly List<Level> _levels = [];

    public ConfErrors Errors { get; } = errors;

    /// <summary>The context whose directives are being walked.</summary>
    public ConfContext Context => _levels.Count > 0 ? _levels[^1].Context : ConfContext.None;

    /// <summary>What the opener of the current block gave for its directives to find.</summary>
    public object? Scope => _levels.Count > 0 ? _levels[^1].Scope : null;

    /// <summary>The directive whose block is being walked; null on the top level.</summary>
    public ConfDirective? Owner => _levels.Count > 0 ? _levels[^1].Owner : null;

    /// <summary>Blocks around the current directive, the top level counted: 1 on the top level.</summary>
    public int Depth => _levels.Count;

    /// <summary>Context, scope and owner of a level around this one: 0 is the current one.</summary>
    public ConfContext ContextAt(int outwards) => _levels[^(outwards + 1)].Context;

    public object? ScopeAt(int outwards) => _levels[^(outwards + 1)].Scope;

    public ConfDirective? OwnerAt(int outwards) => _levels[^(outwards + 1)].Owner;

    /// <summary>The nearest scope of this type, from the current level outwards, or null.</summary>
    public T? Find<T>() where T : class
    {
        for (int i = _levels.Count - 1; i >= 0; i--)
        {
            if (_levels[i].Scope is T found)
            {
                return found;
            }
        }
        return null;
    }

    /// <summary>
    /// The nearest scope of this type. A directive that is only declared where there is one need not ask.
    /// </summary>
    public T Need<T>() where T : class =>
        Find<T>() ?? throw new InvalidOperationException($"no {typeof(T).Name} around {Context}");

    /// <summary>Walks a whole tree; <paramref name="scope"/> is the top level's.</summary>
    public void Walk(ConfTree tree, object? scope) => WalkLevel(tree.Directives, ConfContext.Main, scope, null);

    /// <summary>Walks the directives of a block.</summary>
    public void WalkBlock(ConfDirective block, ConfContext context, object? scope)
    {
        if (block.Block is not null)
        {
            WalkLevel(block.Block, context, scope, block);
        }
    }

    /// <summary>Walks a block in the context that its directive opens where it stands.</summary>
    public void WalkBlock(ConfDirective block, object? scope)
    {
        DirectiveSpec? spec = registry.Find(block.Name, Context);
        ConfContext opens = spec is { OpensContext: not ConfContext.None }
            ? spec.OpensContext
            : NginxDirectives.Opens(block.Name, Context);
        WalkBlock(block, opens, scope);
    }

    private void WalkLevel(IReadOnlyList<ConfDirective> directives, ConfContext context, object? scope,
        ConfDirective? owner)
    {
        _levels.Add(new Level(context, scope, owner));
        foreach (ConfDirective directive in directives)
        {
            if (!directive.Broken)
            {
                Visit(directive, context);
            }
        }
        _levels.RemoveAt(_levels.Count - 1);
    }

    private void Visit(ConfDirective directive, ConfContext context)
    {
        DirectiveSpec? spec = registry.Find(directive.Name, context);
        if (spec is null)
        {
            Refuse(directive, context);
            return;
        }
        string name = directive.Name;
        if (directive.Block is not null && !spec.Block)
        {
            Error(directive.Span, $"directive \"{name}\" is not terminated by \";\"");
        }
        else if (directive.Block is null && spec.Block)
        {
            Error(directive.Span, $"directive \"{name}\" has no opening \"{{\"", MissingSemicolon(directive));
        }
        else if (!spec.Arity.Accepts(directive.Args.Length))
        {
            Error(directive.Span, $"invalid number of arguments in \"{name}\" directive",
                MissingSemicolon(directive) ?? $"\"{name}\" takes {ConfArities.Describe(spec.Arity)}");
        }
        else if (!spec.FreeBlock || CheckLines(directive))
        {
            spec.Apply(this, directive);
        }
    }

    /// <summary>A free block is lines of words; a line that opens a block is an error.</summary>
    private bool CheckLines(ConfDirective block)
    {
        bool plain = true;
        foreach (ConfDirective line in block.Block!)
        {
            if (line.Block is not null && !line.Broken)
            {
                Error(line.End, "unexpected \"{\"", $"\"{block.Name}\" holds lines that end with \";\"");
                plain = false;
            }
        }
        return plain;
    }

    private void Refuse(ConfDirective directive, ConfContext context)
    {
        string name = directive.Name;
        if (NginxDirectives.TryFind(name, context, out NginxDirective row))
        {
            string module = Path.GetFileNameWithoutExtension(row.Module);
            Error(directive.Span, $"directive \"{name}\" is not supported by this build of weir yet",
                $"in nginx it belongs to {module}");
            return;
        }
        ConfContext elsewhere = AllowedIn(name);
        if (elsewhere != ConfContext.None)
        {
            Error(directive.Span, $"\"{name}\" directive is not allowed here",
                $"it is allowed in {ConfContexts.Names(elsewhere)}; this is {ConfContexts.Name(context)}");
            return;
        }
        Error(directive.Span, $"unknown directive \"{name}\"", NearestHint(name, context));
    }

    private string? NearestHint(string name, ConfContext context)
    {
        if (name.StartsWith("\u00EF\u00BB\u00BF", StringComparison.Ordinal))
        {
            return "the file starts with a byte order mark; save it without one";
        }
        string? here = NearestName.Hint(NamesIn(context), name);
        if (here is not null)
        {
            return here;
        }
        List<string> elsewhere = NearestName.Among(NamesIn(ConfContext.Any), name);
        if (elsewhere.Count == 0)
        {
            return null;
        }
        string nearest = elsewhere[0];
        return $"did you mean \"{nearest}\"? It is allowed in {ConfContexts.Names(AllowedIn(nearest))}";
    }

    /// <summary>Where this build has the name, or else where nginx has it.</summary>
    private ConfContext AllowedIn(string name)
    {
        ConfContext here = registry.ContextsOf(name);
        return here != ConfContext.None ? here : NginxDirectives.ContextsOf(name);
    }

    /// <summary>Names for a suggestion, those of this build first.</summary>
    private IEnumerable<string> NamesIn(ConfContext context)
    {
        foreach (DirectiveSpec spec in registry.All)
        {
            if ((spec.Contexts & context) != 0)
            {
                yield return spec.Name;
            }
        }
        for (int i = 0; i < NginxDirectives.Count; i++)
        {
            NginxDirective row = NginxDirectives.Row(i);
            if ((row.Contexts & context) != 0)
            {
                yield return row.Name;
            }
        }
    }

    /// <summary>A directive's name as first word of a later line shows a ';' forgotten on the line before.</summary>
    private static string? MissingSemicolon(ConfDirective directive)
    {
        int line = directive.Span.Line;
        foreach (ConfArg arg in directive.Args)
        {
            if (arg.Span.Line > line && !arg.Quoted && NginxDirectives.IsKnown(arg.Text))
            {
                return $"a \";\" may be missing at the end of line {line}";
            }
            line = arg.Span.Line;
        }
        return null;
    }
}
