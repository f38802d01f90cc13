// Variables by name, compiled to indexes when a configuration is read. A table belongs to one configuration; it is
// filled by the modules' declarations and by the configuration itself (set, map, captures), then frozen.
using Weir.Kernel;

namespace Weir.Session;

/// <summary>Computes a value. Returns false when the variable is not found (logged as "-"). The value lives in the
/// session's arena, in the configuration, or in a literal. Synchronous, never throws, allocates nothing.</summary>
public delegate bool VariableGet(Session session, Variable variable, ref NativeSlice value);

/// <summary>Takes an assignment by `set` (only few variables do: $args, $limit_rate).</summary>
public delegate void VariableSet(Session session, Variable variable, NativeSlice value);

[Flags]
public enum VariableFlags
{
    None = 0,

    /// <summary>`set`, `map` and the like may define it again.</summary>
    Changeable = 1,

    /// <summary>Computed anew on each read.</summary>
    NoCache = 2,
}

/// <summary>A variable of one configuration.</summary>
public sealed class Variable
{
    public required string Name { get; init; }
    public required int Index { get; init; }
    public VariableGet? Get { get; set; }
    public VariableSet? Set { get; set; }
    public VariableFlags Flags { get; set; }

    /// <summary>What the getter needs: the part of the name behind a prefix, a map, a capture number.</summary>
    public object? Data { get; set; }

    /// <summary>For prefix families ($http_, $arg_…): the rest of the name as bytes, as the getter compares
    /// it.</summary>
    public NativeSlice Rest { get; init; }

    /// <summary>For prefix families: what the family made of the rest (a known header), so that nobody looks it up
    /// for every request; 0 for nothing.</summary>
    public int RestNumber { get; init; }

    public bool NoCache => (Flags & VariableFlags.NoCache) != 0;
    public bool IsChangeable => (Flags & VariableFlags.Changeable) != 0;
}

/// <summary>All variables of a configuration.</summary>
public sealed class VariableTable(NativeArena memory)
{
    private readonly Dictionary<string, Variable> _byName = new(StringComparer.Ordinal);
    private readonly Dictionary<string, (VariableGet Get, VariableSet? Set, VariableFlags Flags)> _declared =
        new(StringComparer.Ordinal);
    private readonly List<(string Prefix, VariableGet Get, VariableFlags Flags, Func<string, int>? Number)>
        _prefixes = [];

    public int Count => _byName.Count;

    public NativeArena Memory => memory;

    public IEnumerable<Variable> All => _byName.Values;

    /// <summary>Whether the configuration names it.</summary>
    public bool IsUsed(string name) => _byName.ContainsKey(name);

    /// <summary>A built-in variable. Names are lower case.</summary>
    public void Declare(string name, VariableGet get, VariableFlags flags = VariableFlags.None, VariableSet? set =
        null) =>
        _declared[name] = (get, set, flags);

    /// <summary>A family: every name that begins with <paramref name="prefix"/>.</summary>
    public void DeclarePrefix(string prefix, VariableGet get, VariableFlags flags = VariableFlags.None,
        Func<string, int>? number = null) => _prefixes.Add((prefix, get, flags, number));

    public bool IsDeclared(string name) => _declared.ContainsKey(name);

    public IEnumerable<string> DeclaredNames => _declared.Keys;

    /// <summary>The variable of that name, making its index when it is used the first time. The getter may come later
    /// (a `map` below its first use); <see cref="Unresolved"/> names what never got one.</summary>
    public Variable Use(string name)
    {
        name = name.ToLowerInvariant();
        if (_byName.TryGetValue(name, out Variable? known))
        {
            return known;
        }
        (string Prefix, VariableGet Get, VariableFlags Flags, Func<string, int>? Number) family = default;
        if (!_declared.ContainsKey(name))
        {
            foreach (var candidate in _prefixes)
            {
                if (name.StartsWith(candidate.Prefix, StringComparison.Ordinal)
                    && name.Length > candidate.Prefix.Length)
                {
                    family = candidate;
                    break;
                }
            }
        }
        var variable = new Variable
        {
            Name = name,
            Index = _byName.Count,
            Rest = family.Prefix is null ? default : memory.Store(name[family.Prefix.Length..]),
            RestNumber = family.Number?.Invoke(name[family.Prefix!.Length..]) ?? 0,
        };
        if (_declared.TryGetValue(name, out var declared))
        {
            variable.Get = declared.Get;
            variable.Set = declared.Set;
            variable.Flags = declared.Flags;
        }
        else if (family.Prefix is not null)
        {
            variable.Get = family.Get;
            variable.Flags = family.Flags;
        }
        _byName.Add(name, variable);
        return variable;
    }

    /// <summary>A variable that the configuration defines (set, map, geo). Null with nginx's message when the name is
    /// taken by a variable that cannot be changed.</summary>
    public Variable? Define(string name, out string? error)
    {
        name = name.ToLowerInvariant();
        if (_declared.TryGetValue(name, out var declared) && (declared.Flags & VariableFlags.Changeable) == 0)
        {
            error = $"the duplicate \"{name}\" variable";
            return null;
        }
        error = null;
        return Use(name);
    }

    /// <summary>Variables that are used but that nothing provides, in nginx an error at start.</summary>
    public IEnumerable<Variable> Unresolved => _byName.Values.Where(static v => v.Get is null && v.Data is null);
}
