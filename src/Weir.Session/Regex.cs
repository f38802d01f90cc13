// A regular expression of a configuration: PCRE2 with captures that become $1 to $9 and named variables.
// The captures are slices of the subject, which lives in the session's arena or in the configuration.
using System.Runtime.CompilerServices;
using Weir.Kernel;

namespace Weir.Session;

/// <summary>A compiled regular expression of one configuration.</summary>
public sealed class Regex
{
    private readonly Pcre2Pattern _pattern;
    private readonly (Variable Variable, int Group)[] _named;
    private readonly RegexGate? _gate;

    private Regex(Pcre2Pattern pattern, (Variable, int)[] named, string source, bool caseless)
    {
        _pattern = pattern;
        _named = named;
        _gate = RegexGate.Of(source, caseless);
        Source = source;
    }

    public string Source { get; }
    public int CaptureCount => _pattern.CaptureCount;
    public Pcre2Pattern Pattern => _pattern;

    /// <summary>Compiles; on failure returns null and nginx's message. The pattern must be disposed with the
    /// configuration: give <see cref="Pattern"/> to its owner list.</summary>
    public static Regex? Compile(string pattern, bool caseless, VariableTable variables, out string? error)
    {
        byte[] bytes = System.Text.Encoding.Latin1.GetBytes(pattern);
        Pcre2Pattern? compiled = Pcre2.Compile(bytes, caseless, out error, out int offset);
        if (compiled is null)
        {
            if (offset > 0 || error?.Contains("requires PCRE", StringComparison.Ordinal) != true)
            {
                error = offset >= pattern.Length
                    ? $"pcre2_compile() failed: {error} in \"{pattern}\""
                    : $"pcre2_compile() failed: {error} in \"{pattern}\" at \"{pattern[offset..]}\"";
            }
            return null;
        }
        var named = new List<(Variable, int)>();
        foreach ((string name, int group) in compiled.Names)
        {
            Variable? variable = variables.Define(name, out error);
            if (variable is null)
            {
                compiled.Dispose();
                return null;
            }
            variable.Get ??= static (Session _, Variable _, ref NativeSlice _) => false;
            named.Add((variable, group));
        }
        return new Regex(compiled, [.. named], pattern, caseless);
    }

    /// <summary>Matches and, on success, sets the session's captures and named variables.</summary>
    public RegexOutcome Match(Session session, NativeSlice subject) =>
        _gate is not null && !_gate.MayMatch(subject.Span) ? RegexOutcome.NoMatch : MatchWhole(session, subject);

    [SkipLocalsInit]
    private RegexOutcome MatchWhole(Session session, NativeSlice subject)
    {
        Span<int> groups = stackalloc int[64];
        int want = Math.Min(_pattern.CaptureCount + 1, 32);
        int count = _pattern.Match(subject.Span, groups[..(want * 2)]);
        if (count <= 0)
        {
            return count == 0 ? RegexOutcome.NoMatch : RegexOutcome.Failed;
        }
        if (_pattern.CaptureCount > 0)
        {
            ref CaptureSet captures = ref session.Captures;
            captures.Count = Math.Min(want, 10);
            for (int i = 0; i < captures.Count; i++)
            {
                captures.Set(i, groups[2 * i] < 0 ? default : subject.Slice(groups[2 * i], groups[2 * i
                    + 1] - groups[2 * i]));
            }
            foreach ((Variable variable, int group) in _named)
            {
                int start = groups[2 * group];
                session.SetValue(variable, start < 0 ? default : subject.Slice(start, groups[2 * group + 1] - start));
            }
        }
        return RegexOutcome.Match;
    }

    /// <summary>Matches without touching captures.</summary>
    public RegexOutcome Test(ReadOnlySpan<byte> subject)
    {
        if (_gate is not null && !_gate.MayMatch(subject))
        {
            return RegexOutcome.NoMatch;
        }
        Span<int> groups = stackalloc int[2];
        int count = _pattern.Match(subject, groups);
        return count > 0 ? RegexOutcome.Match : count == 0 ? RegexOutcome.NoMatch : RegexOutcome.Failed;
    }

    /// <summary>The same where a failure is no match.</summary>
    public bool IsMatch(ReadOnlySpan<byte> subject) => Test(subject) == RegexOutcome.Match;
}

public enum RegexOutcome
{
    NoMatch,
    Match,

    /// <summary>The match limit was reached, or the engine failed: the request ends with 500.</summary>
    Failed,
}
