// A text with variables in it, compiled when the configuration is read: literal parts live in the configuration's
// memory, variables are indexes. Evaluating a constant costs nothing; everything else is one pass into the arena.
using System.Runtime.CompilerServices;
using Weir.Conf;
using Weir.Kernel;

namespace Weir.Session;

/// <summary>A compiled text with variables.</summary>
public sealed class Template
{
    private readonly Part[] _parts;
    private readonly NativeSlice _constant;

    private readonly record struct Part(NativeSlice Literal, Variable? Variable, int Capture);

    private Template(Part[] parts, NativeSlice constant, string source)
    {
        _parts = parts;
        _constant = constant;
        Source = source;
    }

    /// <summary>The text as written.</summary>
    public string Source { get; }

    public bool IsConstant => _parts.Length == 0;

    /// <summary>The text, when it has no variables.</summary>
    public NativeSlice Constant => _constant;

    /// <summary>Whether $1 to $9 occur.</summary>
    public bool UsesCaptures { get; private init; }

    /// <summary>Compiles; on a malformed text returns null and nginx's message.</summary>
    public static Template? Compile(string text, VariableTable variables, out string? error)
    {
        error = null;
        if (text.IndexOf('$') < 0)
        {
            return new Template([], variables.Memory.StorePath(text), text);
        }
        var scanned = new List<ConfTemplatePart>();
        if (!ConfTemplateScanner.TryScan(text, scanned, out error))
        {
            return null;
        }
        var parts = new List<Part>();
        bool captures = false;
        foreach (ConfTemplatePart part in scanned)
        {
            if (part.Kind == ConfTemplatePartKind.Literal)
            {
                parts.Add(new Part(variables.Memory.Store(part.Text), null, -1));
            }
            else if (part.Kind == ConfTemplatePartKind.Capture)
            {
                captures = true;
                parts.Add(new Part(default, null, part.Text[0] - '0'));
            }
            else
            {
                parts.Add(new Part(default, variables.Use(part.Text), -1));
            }
        }
        return new Template([.. parts], default, text) { UsesCaptures = captures };
    }

    /// <summary>The text for this session: in the arena, or the constant itself.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public NativeSlice Evaluate(Session session) => _parts.Length == 0 ? _constant : EvaluateParts(session);

    private NativeSlice EvaluateParts(Session session)
    {
        if (_parts.Length == 1)
        {
            return Value(session, in _parts[0]);
        }
        int length = 0;
        foreach (ref readonly Part part in _parts.AsSpan())
        {
            length += Value(session, in part).Length;
        }
        // A variable that is not cached could differ the second time: what does not fit any more is cut.
        NativeSlice text = session.Arena.Allocate(length);
        Span<byte> rest = text.Span;
        foreach (ref readonly Part part in _parts.AsSpan())
        {
            NativeSlice value = Value(session, in part);
            int n = Math.Min(value.Length, rest.Length);
            value.Span[..n].CopyTo(rest);
            rest = rest[n..];
        }
        return text.Slice(0, length - rest.Length);
    }

    /// <summary>As <see cref="Evaluate"/>, with a NUL behind the text (not counted) for system calls.</summary>
    public NativeSlice EvaluatePath(Session session) =>
        _parts.Length == 0 ? _constant : session.Arena.StorePath(Evaluate(session).Span);

    private static NativeSlice Value(Session session, in Part part)
    {
        if (part.Variable is not null)
        {
            session.TryGet(part.Variable, out NativeSlice value);
            return value;
        }
        return part.Capture >= 0 ? session.Captures[part.Capture] : part.Literal;
    }
}
