// One script: a configuration, files, an upstream if there is one, and the bytes sent on each connection. The same
// scripts are played over real sockets against a binary (Wire, Differential) and in one process with weather and faults
// (Simulation), so everything in them is data.
using System.Text;

namespace Weir.Tests.Harness.Cases;

/// <summary>What is sent on one connection. Pieces are sent in segments of their own.</summary>
public sealed record Talk(params byte[][] Pieces)
{
    /// <summary>Whether the client ends its direction after the last piece.</summary>
    public bool HalfClose { get; init; }

    /// <summary>How long nothing must come before the connection counts as open.</summary>
    public int QuietMs { get; init; } = 150;

    /// <summary>How long the first byte may take.</summary>
    public int FirstMs { get; init; } = 5000;

    /// <summary>Whether something must have come before the next piece is sent.</summary>
    public bool AwaitsBetween { get; init; }

    /// <summary>Whether the answers are those of HEAD requests (and so have no body).</summary>
    public bool IsHead { get; init; }
}

/// <summary>A case of the table.</summary>
public sealed record Case(string Area, string Name)
{
    /// <summary>Text inside the server block; or, when Conf is given, nothing.</summary>
    public string Server { get; init; } = "";

    /// <summary>Text inside the http block before the server.</summary>
    public string Http { get; init; } = "";

    /// <summary>A whole http block's text instead of the two above.</summary>
    public string? Conf { get; init; }

    public (string Name, string Content)[] Files { get; init; } = [];

    public Talk[] Talks { get; init; } = [];

    /// <summary>What the upstream behind %UPSTREAM% does; each server gets one of its own, and what it received
    /// counts.</summary>
    public Origin? Origin { get; init; }

    /// <summary>Whether a name server answers on %DNS%: it knows every name as 127.0.0.1, except those that begin
    /// with nx.</summary>
    public bool HasNames { get; init; }

    /// <summary>What must come back, as <see cref="Transcript"/> writes it, a part per talk; null where another server
    /// says it (the differential table).</summary>
    public string[]? Expect { get; init; }

    /// <summary>Whether talks may run side by side: what the upstream does must not depend on their order.</summary>
    public bool MayOverlap { get; init; } = true;

    /// <summary>Whether %DIR%/access.log is compared after both servers have quit.</summary>
    public bool ComparesAccessLog { get; init; }

    public string Id => Area + ": " + Name;

    public Conf Configuration => Conf is null
        ? Weir.Tests.Harness.Conf.Server(Server, Http) : Weir.Tests.Harness.Conf.Http(Conf);
}

/// <summary>Short forms for the table.</summary>
public static class Say
{
    public static byte[] Bytes(string text) => Encoding.Latin1.GetBytes(text);

    /// <summary>One connection with these exact bytes in one piece.</summary>
    public static Talk Raw(string text) => new(Bytes(text));

    /// <summary>One connection with these pieces.</summary>
    public static Talk Split(params string[] pieces) => new(pieces.Select(Bytes).ToArray());

    /// <summary>A GET on a connection of its own.</summary>
    public static Talk Get(string target, params string[] headers) =>
        Raw(RawClient.Request("GET", target, headers));

    public static Talk Head(string target, params string[] headers) =>
        Raw(RawClient.Request("HEAD", target, headers)) with { IsHead = true };

    public static Talk Post(string target, string body, params string[] headers) =>
        Raw(RawClient.Request("POST", target, headers, body));

    /// <summary>Several requests on one connection, all sent at once.</summary>
    public static Talk Pipeline(params string[] requests) => Raw(string.Concat(requests));

    public static string Line(string target, params string[] headers) => RawClient.Request("GET", target, headers);
}
