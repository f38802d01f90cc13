// One row of the table of directives: a directive, two values, and what differs on the wire. All rows are served by one
// process: each has two addresses of its own (127.N.N.1 and .2), one with each value.
//   %V the value           %ID% the row's name, with the value's letter    %HOST% the row's own address
//   %LOG% a log of its own  %UP% HOTS:PORT/ID of an HTTP origin            %UPHOST% its HOST:PORT
//   %CGI% a FastCGI origin  %MEM% a memcached origin
//   %FULL% an address that lets no connection in (and refuses none)
//   %NAMES% and %SILENT% name servers: 127.0.0.1 for every name, and no answer       %UPPORT% the HTTP origin's port
// The request may hold marks: Until waits for an answer's end or its absence, Wait for a while, Touch reads one answer
// and then changes the file held-ID; Poke goes on sending after the server's end; Beside sends what is between two
// of it on a connection beside, until an origin has it; Drop leaves without reading; Answer reads one answer.
namespace Weir.Tests.Harness.Rows;

/// <summary>A row. A text that begins with "!" must not be said.</summary>
public sealed record Row(string Directive, string Server, string A, string B, string SaysA, string SaysB)
{
    /// <summary>Quiet is awaited half a second, an end as long as it takes, whichever the row says.</summary>
    public const string Until = "\u0001";

    /// <summary>So much time that a timer of the row has long run out. It begins at once: Answer before it where the
    /// timer begins with an answer.</summary>
    public const string Wait = "\u0002";

    public const string Touch = "\u0003";

    /// <summary>Sends more after the end, half a second apart: the server takes it or resets the connection.</summary>
    public const string Poke = "\u0004";

    /// <summary>Between two of them: a request on a connection of its own, which is at the origin before the row goes
    /// on.</summary>
    public const string Beside = "\u0005";

    /// <summary>The client leaves once an origin has its request.</summary>
    public const string Drop = "\u0006";

    /// <summary>Reads one answer.</summary>
    public const string Answer = "\u0007";

    public string Send { get; init; } = Get("/");

    /// <summary>Text of the http block, before the servers; once for each value.</summary>
    public string Http { get; init; } = "";

    /// <summary>Text of the http block behind the row's server.</summary>
    public string After { get; init; } = "";

    /// <summary>What the origin answers; null for an echo of the request.</summary>
    public string? Up { get; init; }

    /// <summary>Whether the log is awaited before anything is read.</summary>
    public bool LogFirst { get; init; }

    /// <summary>Whether the machine's nginx does not know it so.</summary>
    public bool IsNewer { get; init; }

    /// <summary>Whether a file "stored-ID-…" in the server's folder is awaited; its rights are told.</summary>
    public bool HasStored => (Server + Http + After).Contains("stored-%ID%");

    public bool HasLog => (Server + Http + After + A + B).Contains("%LOG%");

    public static string Get(string target, params string[] headers) => Ask("GET", target, headers);

    public static string Ask(string method, string target, params string[] headers) =>
        $"{method} {target} HTTP/1.1\r\nHost: row\r\nConnection: close\r\n"
        + string.Concat(headers.Select(static h => h + "\r\n")) + "\r\n";

    public static string Post(string target, string body, params string[] headers) =>
        Ask("POST", target, [.. headers, $"Content-Length: {body.Length}"]) + body;

    /// <summary>A request that leaves the connection open.</summary>
    public static string Keep(string target, params string[] headers) =>
        $"GET {target} HTTP/1.1\r\nHost: row\r\n" + string.Concat(headers.Select(static h => h + "\r\n")) + "\r\n";
}
