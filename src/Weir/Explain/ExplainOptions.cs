// `weir explain`: its command line as a value, and what was found out as values, before any of it is printed. Pure.
namespace Weir.Explain;

/// <summary>The request to explain.</summary>
internal sealed record ExplainOptions
{
    public required string Method { get; init; }

    /// <summary>A URL, or a path for the first listening address.</summary>
    public required string Url { get; init; }

    public string ConfPath { get; init; } = Invocation.DefaultConfPath;
    public string Prefix { get; init; } = Invocation.DefaultPrefix;
    public string Globals { get; init; } = "";

    /// <summary>Header lines.</summary>
    public IReadOnlyList<string> Headers { get; init; } = [];

    /// <summary>Variables to show, without their dollars.</summary>
    public IReadOnlyList<string> Variables { get; init; } = [];

    /// <summary>The client's address.</summary>
    public string From { get; init; } = "127.0.0.1";

    /// <summary>The listening address; empty: the one that the URL's scheme and port say.</summary>
    public string To { get; init; } = "";

    public string Body { get; init; } = "";

    /// <summary>The status that upstream servers are taken to answer with.</summary>
    public int UpstreamStatus { get; init; } = 200;

    public bool Json { get; init; }
}

/// <summary>One step on the way.</summary>
/// <param name="Kind">What kind: listen, server, location, rewrite, if, error_page…</param>
/// <param name="Text">The directive or the fact.</param>
/// <param name="Where">FILE:LINE; null where no line says it.</param>
/// <param name="Outcome">What came of it; empty for nothing to say.</param>
/// <param name="Depth">0 for the client's request, 1 for a subrequest, and so on.</param>
internal sealed record ExplainStep(string Kind, string Text, string? Where, string Outcome, int Depth);

/// <summary>A field of the answer.</summary>
internal sealed record ExplainField(string Name, string Value, string? Directive, string? Where);

/// <summary>A server that the request was passed to.</summary>
internal sealed record ExplainUpstream(string Address, string Group, string? Where, string Line,
    IReadOnlyList<string> Fields, bool IsAnswered);

/// <summary>A request explained.</summary>
internal sealed class ExplainReport
{
    public string RequestLine { get; set; } = "";
    public string Host { get; set; } = "";
    public List<ExplainStep> Steps { get; } = [];
    public List<ExplainUpstream> Upstreams { get; } = [];
    public List<ExplainField> Fields { get; } = [];

    /// <summary>What one might have expected in the answer and why it is not there.</summary>
    public List<ExplainStep> Missing { get; } = [];
    public List<(string Name, string? Value)> Variables { get; } = [];
    public List<string> Log { get; } = [];

    /// <summary>0: closed without an answer.</summary>
    public int Status { get; set; }

    /// <summary>Bytes of the body as they would be sent.</summary>
    public long BodyBytes { get; set; }

    /// <summary>What happens from here on only the upstream server knows.</summary>
    public bool IsOpen { get; set; }
}
