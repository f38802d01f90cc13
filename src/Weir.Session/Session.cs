// What an HTTP request and a stream session have in common, as far as variables, templates, logs and upstreams need it.
// One loop's thread.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Session;

/// <summary>A request or stream session: memory of its own and values of variables.</summary>
public abstract class Session
{
    private VariableValue[] _values = [];

    // A value counts when it bears the session's stamp, so that a new request need not clear those of the last.
    private uint _stamp;

    public EventLoop Loop { get; protected set => Set(ref field, value); } = null!;

    public Arena Arena { get; } = new();

    /// <summary>The table that variable indexes refer to.</summary>
    public VariableTable Variables { get; private set => Set(ref field, value); } = null!;

    /// <summary>The client's connection.</summary>
    public Connection Connection { get; protected set; } = null!;

    /// <summary>The client's address in force, a native sockaddr.</summary>
    public virtual ReadOnlySpan<byte> RemoteAddress => Connection.PeerAddress;

    /// <summary>Captures of the last regular expression that matched: $1 to $9; index 0 is the whole match.</summary>
    public CaptureSet Captures;

    /// <summary>Stores a reference that is most often there already, from the session's last use: comparing costs less
    /// than the write barrier.</summary>
    protected static void Set<T>(ref T place, T value) where T : class?
    {
        if (place != value)
        {
            place = value;
        }
    }

    protected void StartVariables(VariableTable table)
    {
        Variables = table;
        if (_values.Length < table.Count)
        {
            _values = new VariableValue[table.Count];
        }
        if (++_stamp == 0)
        {
            Array.Clear(_values);
            _stamp = 1;
        }
    }

    protected void ForgetVariables() => Variables = null!;

    private ref VariableValue Slot(int index)
    {
        ref VariableValue slot = ref _values[index];
        if (slot.Stamp != _stamp)
        {
            slot.Stamp = _stamp;
            slot.State = VariableState.None;
        }
        return ref slot;
    }

    /// <summary>Begins with the values that another session has.</summary>
    protected void InheritVariables(Session from)
    {
        for (int i = 0; i < Variables.Count; i++)
        {
            ref VariableValue theirs = ref from.Slot(i);
            ref VariableValue mine = ref Slot(i);
            mine.Text = theirs.Text;
            mine.State = theirs.State == VariableState.Evaluating ? VariableState.None : theirs.State;
        }
    }

    /// <summary>Begins with copies of the values that another session has, in this one's memory.</summary>
    protected void CopyVariables(Session from)
    {
        for (int i = 0; i < Variables.Count; i++)
        {
            ref VariableValue theirs = ref from.Slot(i);
            ref VariableValue mine = ref Slot(i);
            mine.Text = theirs.State == VariableState.Valid ? Arena.Store(theirs.Text.Span) : default;
            mine.State = theirs.State == VariableState.Evaluating ? VariableState.None : theirs.State;
        }
    }

    /// <summary>Gives the values that came to be here to another session, whose memory takes a copy.</summary>
    public void ShareVariables(Session to)
    {
        for (int i = 0; i < Variables.Count; i++)
        {
            ref VariableValue mine = ref Slot(i);
            ref VariableValue theirs = ref to.Slot(i);
            if (mine.State == VariableState.NotFound)
            {
                theirs.State = theirs.State == VariableState.None ? VariableState.NotFound : theirs.State;
            }
            else if (mine.State == VariableState.Valid && theirs.State != VariableState.Evaluating
                && (theirs.State != VariableState.Valid || !mine.Text.IsSameAs(theirs.Text)))
            {
                theirs.Text = to.Arena.Store(mine.Text.Span);
                theirs.State = VariableState.Valid;
            }
        }
    }

    /// <summary>The value of a variable, evaluated when it has to be. False when it is not found (an empty text
    /// then).</summary>
    public bool TryGet(Variable variable, out NativeSlice value)
    {
        ref VariableValue slot = ref Slot(variable.Index);
        if (slot.State == VariableState.Valid)
        {
            value = slot.Text;
            return true;
        }
        if (slot.State == VariableState.NotFound)
        {
            value = default;
            return false;
        }
        if (variable.Get is null)
        {
            value = default;
            return false;
        }
        value = default;
        if (slot.State == VariableState.Evaluating)
        {
            // A map that refers to itself through another one.
            OnVariableCycle(variable);
            return false;
        }
        slot.State = VariableState.Evaluating;
        bool found = variable.Get(this, variable, ref value);
        slot = ref Slot(variable.Index);
        if (variable.NoCache)
        {
            slot.State = VariableState.None;
            return found;
        }
        slot.Text = value;
        slot.State = found ? VariableState.Valid : VariableState.NotFound;
        return found;
    }

    /// <summary>Sets the cached value: what `set`, captures and auth_request_set do.</summary>
    public void SetValue(Variable variable, NativeSlice value)
    {
        ref VariableValue slot = ref Slot(variable.Index);
        slot.Text = value;
        slot.State = VariableState.Valid;
    }

    /// <summary>Forgets a cached value.</summary>
    public void ClearValue(Variable variable) => Slot(variable.Index).State = VariableState.None;

    /// <summary>Forgets all cached values of variables that are not set by the configuration: nginx does it for
    /// every internal redirect's non-cacheable ones.</summary>
    protected virtual void OnVariableCycle(Variable variable)
    {
    }
}

internal enum VariableState : byte
{
    None,
    Evaluating,
    Valid,
    NotFound,
}

internal struct VariableValue
{
    internal NativeSlice Text;
    internal uint Stamp;
    internal VariableState State;
}

/// <summary>The captures of a match: up to ten slices.</summary>
public struct CaptureSet
{
    private Items _items;

    [System.Runtime.CompilerServices.InlineArray(10)]
    private struct Items
    {
        private NativeSlice _first;
    }

    /// <summary>How many are set, the whole match included.</summary>
    public int Count;

    public readonly NativeSlice this[int index] => index < Count ? _items[index] : default;

    public void Set(int index, NativeSlice slice) => _items[index] = slice;
}
