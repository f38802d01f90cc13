// Settings as nginx inherits them: unset until a directive sets them, then merged once from the level around, then
// frozen. Filled and merged on the thread that builds a configuration; read by anybody afterwards.
namespace Weir.Conf;

/// <summary>One setting of one level.</summary>
public struct Inherited<T>
{
    private T? _value;
    private bool _merged;

    /// <summary>A directive on this very level set it.</summary>
    public bool IsSet { get; private set; }

    /// <summary>The value: what was set, or what merging brought.</summary>
    public readonly T Value => _value!;

    public void Set(T value)
    {
        if (_merged)
        {
            throw new InvalidOperationException("a merged setting is frozen");
        }
        _value = value;
        IsSet = true;
    }

    /// <summary>
    /// Takes the outer level's value unless this level has its own; the default where neither was set.
    /// </summary>
    public void Merge(in Inherited<T> parent, T byDefault)
    {
        if (!IsSet)
        {
            // A parent that was merged before (the usual order, outermost first) already holds its own default.
            _value = parent.IsSet || parent._merged ? parent._value : byDefault;
        }
        _merged = true;
    }

    /// <summary>The outermost level: nothing around it.</summary>
    public void Merge(T byDefault) => Merge(default, byDefault);

    /// <summary>The value, or another while it is neither set nor merged.</summary>
    public readonly T ValueOr(T other) => IsSet || _merged ? _value! : other;
}

/// <summary>
/// A directive that may repeat (header lines, access rules): one on this level replaces all of the outer ones.
/// </summary>
public struct InheritedList<T>
{
    private List<T>? _own;
    private T[]? _merged;

    public readonly bool IsSet => _own is { Count: > 0 };

    /// <summary>The list in force after merging; what this level has so far before.</summary>
    public readonly ReadOnlySpan<T> Items => _merged is not null ? _merged : _own?.ToArray() ?? [];

    /// <summary>The same as an array to keep; empty, never null.</summary>
    public readonly T[] Array => _merged ?? _own?.ToArray() ?? [];

    public void Add(T item)
    {
        if (_merged is not null)
        {
            throw new InvalidOperationException("a merged list is frozen");
        }
        (_own ??= []).Add(item);
    }

    /// <summary>Takes the outer list when this level has none, sharing its memory.</summary>
    public void Merge(in InheritedList<T> parent) => _merged = IsSet ? [.. _own!] : parent.Array;

    /// <summary>The outermost level: nothing around it.</summary>
    public void Merge() => _merged = Array;

    /// <summary>Nothing holds here, whatever was added.</summary>
    public void MergeNone() => _merged = [];
}
