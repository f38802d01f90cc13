// match: what an answer to a health check must look like. Compiled when the configuration is read; without one a status
// of 2xx or 3xx passes. Used by the checker on one loop; never throws.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

using HttpResponse = Weir.Protocol.Http1.ResponseHead;

namespace Weir.Http.Modules;

/// <summary>The tests of one `match` block; all must hold.</summary>
internal sealed class HealthMatch
{
    private readonly List<(int From, int To)> _statuses = [];
    private readonly List<HeaderTest> _headers = [];
    private readonly List<(Regex Pattern, bool Not)> _bodies = [];
    private readonly List<Variable> _required = [];
    private bool _hasStatus;
    private bool _statusNot;

    private sealed record HeaderTest(byte[] Name, bool Not, byte[]? Value, Regex? Pattern);

    /// <summary>The default: 2xx and 3xx.</summary>
    public static HealthMatch Usual { get; } = new() { _hasStatus = true, _statuses = { (200, 399) } };

    /// <summary>The answer's body is looked at.</summary>
    public bool NeedsBody => _bodies.Count > 0;

    /// <summary>Null when everything holds, else what does not.</summary>
    public string? Fault(HttpResponse head, ReadOnlySpan<byte> bytes, ReadOnlySpan<byte> body, HttpRequest request)
    {
        if (_hasStatus && _statuses.Exists(s => head.Status >= s.From && head.Status <= s.To) == _statusNot)
        {
            return $"status {head.Status}";
        }
        foreach (HeaderTest test in _headers)
        {
            if (Holds(test, head, bytes) == test.Not)
            {
                return $"header \"{Latin(test.Name)}\"";
            }
        }
        foreach ((Regex pattern, bool not) in _bodies)
        {
            // One that reaches its match limit has not passed, whatever was asked.
            if (pattern.Test(body) != (not ? RegexOutcome.NoMatch : RegexOutcome.Match))
            {
                return $"body, \"{pattern.Source}\"";
            }
        }
        foreach (Variable variable in _required)
        {
            if (!request.TryGet(variable, out NativeSlice value) || value.IsEmpty || value.Span.SequenceEqual("0"u8))
            {
                return $"variable \"${variable.Name}\"";
            }
        }
        return null;
    }

    private static bool Holds(HeaderTest test, HttpResponse head, ReadOnlySpan<byte> bytes)
    {
        foreach (ref readonly HeaderField field in head.Fields)
        {
            if (!HeaderName.Same(field.Name(bytes), test.Name))
            {
                continue;
            }
            ReadOnlySpan<byte> value = field.Value(bytes);
            if (test.Value is { } wanted ? value.SequenceEqual(wanted)
                : test.Pattern is not { } pattern || pattern.IsMatch(value))
            {
                return true;
            }
        }
        return false;
    }

    private static string Latin(byte[] text) => System.Text.Encoding.Latin1.GetString(text);

    /// <summary>Reads a block; null after an error.</summary>
    public static HealthMatch? Read(HttpBuild build, ConfWalker walker, ConfDirective block)
    {
        var match = new HealthMatch();
        foreach (ConfDirective line in block.Block!)
        {
            string? error = line.Name switch
            {
                "status" => match.AddStatus(line),
                "header" => match.AddHeader(build, line),
                "body" => match.AddBody(build, line),
                "require" => match.AddRequired(build, line),
                _ => $"unknown directive \"{line.Name}\" in \"match\"",
            };
            if (error is not null)
            {
                walker.Error(line.Span, error);
                return null;
            }
        }
        return match;
    }

    private string? AddStatus(ConfDirective line)
    {
        int first = line.Args.Length > 0 && line[0] == "!" ? 1 : 0;
        if (_hasStatus || line.Args.Length == first)
        {
            return "invalid \"status\" condition";
        }
        _statusNot = first == 1;
        _hasStatus = true;
        for (int i = first; i < line.Args.Length; i++)
        {
            string[] ends = line[i].Split('-');
            if (ends.Length > 2 || !ConfValues.TryNumber(ends[0], out long from)
                || !ConfValues.TryNumber(ends[^1], out long to) || from < 100 || to > 599 || from > to)
            {
                return $"invalid status \"{line[i]}\"";
            }
            _statuses.Add(((int)from, (int)to));
        }
        return null;
    }

    private string? AddHeader(HttpBuild build, ConfDirective line)
    {
        byte[] Bytes(int i) => System.Text.Encoding.Latin1.GetBytes(line[i]);
        switch (line.Args.Length)
        {
            case 1:
                _headers.Add(new HeaderTest(Bytes(0), false, null, null));
                return null;
            case 2 when line[0] == "!":
                _headers.Add(new HeaderTest(Bytes(1), true, null, null));
                return null;
            case 3 when line[1] is "=" or "!=":
                _headers.Add(new HeaderTest(Bytes(0), line[1] == "!=", Bytes(2), null));
                return null;
            case 3 when line[1] is "~" or "!~":
                Regex? pattern = Compile(build, line[2], out string? error);
                if (pattern is not null)
                {
                    _headers.Add(new HeaderTest(Bytes(0), line[1] == "!~", null, pattern));
                }
                return error;
            default:
                return "invalid \"header\" condition";
        }
    }

    private string? AddBody(HttpBuild build, ConfDirective line)
    {
        if (line.Args.Length != 2 || line[0] is not ("~" or "!~"))
        {
            return "invalid \"body\" condition";
        }
        Regex? pattern = Compile(build, line[1], out string? error);
        if (pattern is not null)
        {
            _bodies.Add((pattern, line[0] == "!~"));
        }
        return error;
    }

    private string? AddRequired(HttpBuild build, ConfDirective line)
    {
        if (line.Args.Length == 0)
        {
            return "invalid number of arguments in \"require\" directive";
        }
        for (int i = 0; i < line.Args.Length; i++)
        {
            if (line[i].Length < 2 || line[i][0] != '$')
            {
                return $"invalid variable name \"{line[i]}\"";
            }
            _required.Add(build.Configuration.Variables.Use(line[i][1..]));
        }
        return null;
    }

    private static Regex? Compile(HttpBuild build, string text, out string? error)
    {
        Regex? pattern = Regex.Compile(text, caseless: false, build.Configuration.Variables, out error);
        if (pattern is not null)
        {
            build.Configuration.Own(pattern.Pattern);
        }
        return pattern;
    }
}
