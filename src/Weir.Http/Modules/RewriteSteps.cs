// The steps of the rewrite module besides `return`: rewrite rules, conditions, assignments, break. What they do to the
// URI, the arguments and the captures follows nginx's script engine byte for byte, its escaping included.
using Weir.Conf;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>rewrite regex replacement [last | break | redirect | permanent].</summary>
internal sealed class RewriteRule : RewriteStep
{
    private readonly record struct Part(ConfTemplatePartKind Kind, NativeSlice Literal, Variable? Variable,
        int Capture);

    private readonly Regex _regex;
    private readonly Part[] _parts;
    private readonly bool _hasArgs;
    private readonly bool _addArgs;
    private readonly int _redirectStatus;
    private readonly bool _breaks;
    private readonly bool _isLast;

    private RewriteRule(Regex regex, Part[] parts, bool hasArgs, bool addArgs, int redirectStatus, bool breaks,
        bool isLast)
    {
        _regex = regex;
        _parts = parts;
        _hasArgs = hasArgs;
        _addArgs = addArgs;
        _redirectStatus = redirectStatus;
        _breaks = breaks;
        _isLast = isLast;
    }

    internal static RewriteRule? Compile(DirectiveUse use)
    {
        VariableTable variables = use.Build.Configuration.Variables;
        Regex? regex = Regex.Compile(use[0], caseless: false, variables, out string? error);
        if (regex is null)
        {
            use.Error(0, error!);
            return null;
        }
        use.Build.Configuration.Own(regex.Pattern);
        string replacement = use[1];
        if (replacement.Length == 0)
        {
            use.Error(1, "empty replacement");
            return null;
        }
        bool addArgs = replacement[^1] != '?';
        if (!addArgs)
        {
            replacement = replacement[..^1];
        }
        int redirect = ReturnStep.IsUrl(replacement) ? 302 : 0;
        bool last = redirect != 0;
        bool breaks = false;
        if (use.Count == 3)
        {
            last = true;
            switch (use[2])
            {
                case "last":
                    break;
                case "break":
                    breaks = true;
                    break;
                case "redirect":
                    redirect = 302;
                    break;
                case "permanent":
                    redirect = 301;
                    break;
                default:
                    use.InvalidParameter(2);
                    return null;
            }
        }
        var scanned = new List<ConfTemplatePart>();
        if (!ConfTemplateScanner.TryScan(replacement, scanned, out error, splitArguments: redirect == 0))
        {
            use.Error(1, error!);
            return null;
        }
        var parts = new Part[scanned.Count];
        for (int i = 0; i < parts.Length; i++)
        {
            ConfTemplatePart part = scanned[i];
            parts[i] = part.Kind switch
            {
                ConfTemplatePartKind.Literal => new Part(part.Kind, variables.Memory.Store(part.Text), null, 0),
                ConfTemplatePartKind.Capture => new Part(part.Kind, default, null, part.Text[0] - '0'),
                ConfTemplatePartKind.Variable => new Part(part.Kind, default, variables.Use(part.Text), 0),
                _ => new Part(part.Kind, default, null, 0),
            };
        }
        return new RewriteRule(regex, parts, replacement.Contains('?'), addArgs, redirect, breaks, last);
    }

    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        NativeSlice subject = r.Uri;
        switch (_regex.Match(r, subject))
        {
            case RegexOutcome.NoMatch:
                if (run.Log)
                {
                    r.LogError(LogLevel.Notice, $"\"{_regex.Source}\" does not match \"{subject}\"");
                }
                r.Captures.Count = 0;
                return true;
            case RegexOutcome.Failed:
                r.LogError(LogLevel.Alert,
                    $"pcre2_match() failed: match limit on \"{subject}\" using \"{_regex.Source}\"");
                run.Result = PhaseResult.Answer(500);
                return false;
        }
        if (run.Log)
        {
            r.LogError(LogLevel.Notice, $"\"{_regex.Source}\" matches \"{subject}\"");
        }
        r.IsInternal = true;
        r.IsUriAsSent = false;
        r.UriChanged = !_breaks;
        r.IsLocationValid &= !_breaks;
        bool quoted = (r.Head.UriFlags & (UriFlags.Percent | UriFlags.Plus)) != 0;
        NativeSlice text = Build(r, quoted, out int argsStart);
        if (_redirectStatus != 0)
        {
            Redirect(r, text, ref run);
            return !_isLast;
        }
        if (!SetUri(r, text, argsStart, ref run))
        {
            return false;
        }
        return !_isLast;
    }

    private void Redirect(HttpRequest r, NativeSlice text, ref RewriteRun run)
    {
        // Room for the arguments was made by Build.
        int length = UriEscaper.UnescapeRedirect(text.Span);
        NativeSlice target = text.Slice(0, length);
        if (_addArgs && !r.Args.IsEmpty)
        {
            NativeSlice joined = r.Arena.Allocate(length + 1 + r.Args.Length);
            target.Span.CopyTo(joined.Span);
            joined.Span[length] = _hasArgs ? (byte)'&' : (byte)'?';
            r.Args.Span.CopyTo(joined.Span[(length + 1)..]);
            target = joined;
        }
        if (run.Log)
        {
            r.LogError(LogLevel.Notice, $"rewritten redirect: \"{target}\"");
        }
        r.Response.Location = target;
        run.Result = PhaseResult.Answer(_redirectStatus);
    }

    private bool SetUri(HttpRequest r, NativeSlice text, int argsStart, ref RewriteRun run)
    {
        NativeSlice uri = text;
        if (argsStart >= 0)
        {
            uri = text.Slice(0, argsStart);
            NativeSlice args = text.Slice(argsStart);
            if (_addArgs && !r.Args.IsEmpty)
            {
                NativeSlice joined = r.Arena.Allocate(args.Length + 1 + r.Args.Length);
                args.Span.CopyTo(joined.Span);
                joined.Span[args.Length] = (byte)'&';
                r.Args.Span.CopyTo(joined.Span[(args.Length + 1)..]);
                args = joined;
            }
            r.Args = args;
        }
        else if (!_addArgs)
        {
            r.Args = default;
        }
        if (run.Log)
        {
            r.LogError(LogLevel.Notice, $"rewritten data: \"{uri}\", args: \"{r.Args}\"");
        }
        r.Uri = uri;
        if (uri.IsEmpty)
        {
            r.LogError(LogLevel.Error, "the rewritten URI has a zero length");
            run.Result = PhaseResult.Answer(500);
            return false;
        }
        return true;
    }

    /// <summary>The replacement for this request; captures are escaped in arguments and redirects when the URI came
    /// escaped. <paramref name="argsStart"/> is where the arguments begin, or -1.</summary>
    private NativeSlice Build(HttpRequest r, bool quoted, out int argsStart)
    {
        argsStart = -1;
        Span<NativeSlice> values = stackalloc NativeSlice[_parts.Length];
        int room = 0;
        for (int i = 0; i < _parts.Length; i++)
        {
            ref readonly Part part = ref _parts[i];
            NativeSlice value = part.Literal;
            int factor = 1;
            if (part.Kind == ConfTemplatePartKind.Capture)
            {
                value = r.Captures[part.Capture];
                factor = 3;
            }
            else if (part.Variable is not null)
            {
                r.TryGet(part.Variable, out value);
            }
            values[i] = value;
            room += value.Length * factor;
        }
        NativeSlice text = r.Arena.Allocate(room);
        Span<byte> target = text.Span;
        int n = 0;
        bool escapes = _redirectStatus != 0;
        for (int i = 0; i < _parts.Length; i++)
        {
            ReadOnlySpan<byte> value = values[i].Span;
            switch (_parts[i].Kind)
            {
                case ConfTemplatePartKind.Arguments:
                    argsStart = n;
                    escapes = true;
                    break;
                case ConfTemplatePartKind.Capture when escapes && quoted:
                    n += UriEscaper.EscapeArgs(value, target[n..]);
                    break;
                default:
                    value.CopyTo(target[n..]);
                    n += value.Length;
                    break;
            }
        }
        return text.Slice(0, n);
    }
}

/// <summary>break;</summary>
internal sealed class BreakStep : RewriteStep
{
    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        r.UriChanged = false;
        return false;
    }
}

/// <summary>set $variable value;</summary>
internal sealed class SetStep(Variable variable, Template value) : RewriteStep
{
    internal static SetStep? Compile(DirectiveUse use, RewriteModule module)
    {
        if (use[0].Length < 2 || use[0][0] != '$')
        {
            use.Error(0, $"invalid variable name \"{use[0]}\"");
            return null;
        }
        Variable? variable = use.Build.Configuration.Variables.Define(use[0][1..], out string? error);
        if (variable is null)
        {
            use.Error(0, error!);
            return null;
        }
        if (variable.Get is null)
        {
            variable.Get = (Session.Session s, Variable v, ref NativeSlice _) =>
                module.WarnUninitialized((HttpRequest)s, v);
        }
        return use.Template(1) is { } value ? new SetStep(variable, value) : null;
    }

    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        NativeSlice text = value.Evaluate(r);
        if (variable.Set is not null)
        {
            variable.Set(r, variable, text);
        }
        else
        {
            r.SetValue(variable, text);
        }
        return true;
    }
}

/// <summary>if (condition) { … }</summary>
internal sealed class IfStep(Condition condition, RewriteStep[] steps, LocationConf? location) : RewriteStep
{
    internal override bool Run(HttpRequest r, ref RewriteRun run)
    {
        switch (condition.Test(r, run.Log))
        {
            case ConditionOutcome.Failed:
                run.Result = PhaseResult.Answer(500);
                return false;
            case ConditionOutcome.False:
                return true;
        }
        if (location is not null)
        {
            r.SwitchLocation(location);
        }
        foreach (RewriteStep step in steps)
        {
            if (!step.Run(r, ref run))
            {
                return false;
            }
        }
        return true;
    }
}

internal enum ConditionOutcome
{
    False,
    True,
    Failed,
}

/// <summary>What stands between the brackets of `if`.</summary>
internal sealed class Condition
{
    private enum Kind
    {
        Truth,
        Equal,
        Match,
        File,
    }

    private Kind _kind;
    private bool _negative;
    private Variable? _variable;
    private Template? _value;
    private Regex? _regex;
    private char _fileTest;

    internal static Condition? Compile(DirectiveUse use)
    {
        string[] words = new string[use.Count];
        for (int i = 0; i < words.Length; i++)
        {
            words[i] = use[i];
        }
        if (!words[0].StartsWith('('))
        {
            return Invalid(use, words[0]);
        }
        if (!words[^1].EndsWith(')'))
        {
            return Invalid(use, words[^1]);
        }
        words[0] = words[0][1..];
        if (words[^1].Length == 0)
        {
            return Invalid(use, use[use.Count - 1]);
        }
        words[^1] = words[^1][..^1];
        int first = words[0].Length == 0 ? 1 : 0;
        int last = words[^1].Length == 0 ? words.Length - 2 : words.Length - 1;
        if (first > last)
        {
            return Invalid(use, "");
        }
        ReadOnlySpan<string> w = words.AsSpan(first, last - first + 1);
        if (w[0].Length > 1 && w[0][0] == '$')
        {
            return w.Length switch
            {
                1 => OfVariable(use, w[0], Kind.Truth),
                3 => Comparison(use, w[0], w[1], w[2]),
                _ => Invalid(use, w[0]),
            };
        }
        bool negated = w[0] is ['!', '-', _];
        if ((negated || w[0] is ['-', _]) && w.Length == 2 && w[0][^1] is 'f' or 'd' or 'e' or 'x')
        {
            Template? path = use.TemplateOf(w[1], use.Count - 1);
            return path is null ? null : new Condition { _kind = Kind.File, _negative = negated, _value = path,
                _fileTest = w[0][^1] };
        }
        return Invalid(use, w[0]);
    }

    private static Condition? Invalid(DirectiveUse use, string word)
    {
        use.Error($"invalid condition \"{word}\"");
        return null;
    }

    private static Condition? OfVariable(DirectiveUse use, string name, Kind kind) =>
        new() { _kind = kind, _variable = use.Build.Configuration.Variables.Use(name[1..]) };

    private static Condition? Comparison(DirectiveUse use, string name, string sign, string value)
    {
        Condition condition = OfVariable(use, name, Kind.Equal)!;
        condition._negative = sign.StartsWith('!');
        switch (sign)
        {
            case "=" or "!=":
                condition._value = use.TemplateOf(value, use.Count - 1);
                return condition._value is null ? null : condition;
            case "~" or "~*" or "!~" or "!~*":
                condition._kind = Kind.Match;
                condition._regex = Regex.Compile(value, sign[^1] == '*', use.Build.Configuration.Variables,
                    out string? error);
                if (condition._regex is null)
                {
                    use.Error(error!);
                    return null;
                }
                use.Build.Configuration.Own(condition._regex.Pattern);
                return condition;
            default:
                use.Error($"unexpected \"{sign}\" in condition");
                return null;
        }
    }

    internal ConditionOutcome Test(HttpRequest r, bool log)
    {
        switch (_kind)
        {
            case Kind.Truth:
                r.TryGet(_variable!, out NativeSlice truth);
                return Of(truth.Length > 1 || truth.Length == 1 && truth.Span[0] != '0');
            case Kind.Equal:
                r.TryGet(_variable!, out NativeSlice left);
                return Of(left.Span.SequenceEqual(_value!.Evaluate(r).Span) != _negative);
            case Kind.Match:
                return Match(r, log);
            default:
                return Of(TestFile(r));
        }
    }

    private static ConditionOutcome Of(bool value) => value ? ConditionOutcome.True : ConditionOutcome.False;

    private ConditionOutcome Match(HttpRequest r, bool log)
    {
        r.TryGet(_variable!, out NativeSlice subject);
        RegexOutcome outcome = _regex!.Match(r, subject);
        if (outcome == RegexOutcome.Failed)
        {
            r.LogError(LogLevel.Alert, $"pcre2_match() failed: match limit on \"{subject}\" using \"{_regex.Source}\"");
            return ConditionOutcome.Failed;
        }
        if (outcome == RegexOutcome.NoMatch)
        {
            r.Captures.Count = 0;
        }
        if (log)
        {
            string verb = outcome == RegexOutcome.Match ? "matches" : "does not match";
            r.LogError(LogLevel.Notice, $"\"{_regex.Source}\" {verb} \"{subject}\"");
        }
        return Of(outcome == RegexOutcome.Match != _negative);
    }

    /// <summary>As nginx, which asks the file system at once: one stat() of a path.</summary>
    private bool TestFile(HttpRequest r)
    {
        NativeSlice path = _value!.EvaluatePath(r);
        SysResult result = Sys.Status(path, followSymlink: true, out FileStatus status);
        if (result.IsError)
        {
            if (result.Errno is not (Errno.ENOENT or Errno.ENOTDIR or Errno.ENAMETOOLONG))
            {
                r.LogError(LogLevel.Crit, $"stat() \"{path}\" failed", result.Errno);
            }
            return _negative;
        }
        const int executeByOwner = 0x40;
        bool holds = _fileTest switch
        {
            'f' => status.IsRegular,
            'd' => status.IsDirectory,
            'e' => true,
            _ => (status.Mode & executeByOwner) != 0,
        };
        return holds != _negative;
    }
}
