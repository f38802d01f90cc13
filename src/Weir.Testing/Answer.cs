// What became of a request: the answer as the client read it, and what the server knew when the request ended. Plain
// data, copied out of the server's memory; any thread may read it.
using System.Text;

namespace Weir.Testing;

/// <summary>One attempt of a request at an upstream server.</summary>
public sealed class UpstreamVisit
{
    internal UpstreamVisit(string address, string group, int status, TimeSpan time, UpstreamRequest? request)
    {
        Address = address;
        Group = group;
        Status = status;
        Time = time;
        Request = request;
    }

    /// <summary>The server's address as <c>$upstream_addr</c> shows it; of a name in <c>upstream</c>, the address it
    /// has in this test.</summary>
    public string Address { get; }

    /// <summary>What <c>proxy_pass</c> names: the <c>upstream</c> group, or a host and port.</summary>
    public string Group { get; }

    /// <summary>The status it gave, or that stands for its failure (502, 504).</summary>
    public int Status { get; }

    /// <summary>How long it took.</summary>
    public TimeSpan Time { get; }

    /// <summary>What it was sent; null when no scripted server got the request.</summary>
    public UpstreamRequest? Request { get; }
}

/// <summary>The answer to a request.</summary>
public sealed class Answer
{
    internal Answer(IncomingMessage message, Record record, IReadOnlyList<UpstreamVisit> upstreams, bool isClosed,
        IReadOnlyList<string> log)
    {
        Status = message.HasHead ? message.Status : record.Status;
        Reason = message.StartLine.Split(' ', 3) is [_, _, var reason] ? reason : "";
        Headers = message.Fields;
        Bytes = message.Body;
        Server = record.Server;
        ServerAt = record.ServerAt;
        Location = record.Location;
        Variables = record.Variables;
        Time = TimeSpan.FromMilliseconds(record.Ms);
        Upstreams = upstreams;
        IsClosed = isClosed;
        IsAnswered = !message.IsEmpty;
        Log = log;
    }

    /// <summary>The status that the client read; of a connection closed without an answer the one that the access log
    /// shows (444, 499, 408).</summary>
    public int Status { get; }

    /// <summary>The words behind the status.</summary>
    public string Reason { get; }

    /// <summary>The header fields, and trailer fields behind them.</summary>
    public Fields Headers { get; }

    /// <summary>The body, without the framing of chunks, in whatever coding it was sent.</summary>
    public byte[] Bytes { get; }

    /// <summary>The body as UTF-8.</summary>
    public string Body => Encoding.UTF8.GetString(Bytes);

    /// <summary>The first name of the server that served it; empty when it has none.</summary>
    public string Server { get; }

    /// <summary>Where that server's block begins: file and line.</summary>
    public string ServerAt { get; }

    /// <summary>The location that served it in the end, as the file writes it ("/", "= /x", "^~ /x", "~ \.php$",
    /// "@name"); empty when none matched. A <c>limit_except</c> or <c>if</c> block counts as its
    /// location.</summary>
    public string Location { get; }

    /// <summary>The attempts at upstream servers, in order; empty when none was asked.</summary>
    public IReadOnlyList<UpstreamVisit> Upstreams { get; }

    /// <summary>The last attempt; null when no upstream server was asked.</summary>
    public UpstreamVisit? Upstream => Upstreams.Count > 0 ? Upstreams[^1] : null;

    /// <summary>The variables as the access log would see them, without the dollar. Those of a family ($arg_…,
    /// $http_…) are there when the configuration uses them or <see cref="NginxConf.Watch"/> named them.</summary>
    public IReadOnlyDictionary<string, string> Variables { get; }

    /// <summary>How long the request took on the virtual clock.</summary>
    public TimeSpan Time { get; }

    /// <summary>The server ended the connection with it.</summary>
    public bool IsClosed { get; }

    /// <summary>Bytes came at all: false after <c>return 444</c>.</summary>
    public bool IsAnswered { get; }

    /// <summary>Lines of the error log that were written since the request began.</summary>
    public IReadOnlyList<string> Log { get; }

    /// <summary>The value of a header field, of several lines joined by ", "; null when there is none.</summary>
    public string? Header(string name) => Headers[name];

    /// <summary>Status line and header fields, for messages of tests.</summary>
    public override string ToString() => $"{Status} {Reason}\n{Headers}";
}
