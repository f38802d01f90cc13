// The server's numbers as System.Diagnostics.Metrics instruments: gauges that read the counters when somebody asks, and
// histograms (how long connections were open, the standard http.server.request.duration), recorded only while somebody
// listens. What a framework above measures itself (http.server.*) is left to it.
using System.Diagnostics;
using System.Diagnostics.Metrics;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal sealed class AppInstruments : IDisposable
{
    internal const string MeterName = "Weir.Server";

    private readonly Meter _meter;
    private readonly Histogram<double> _connectionDuration;
    private readonly Histogram<double>? _duration;

    internal AppInstruments(AppCounters counters, string model, bool ofRequests)
    {
        _meter = new Meter(MeterName, null, [new KeyValuePair<string, object?>("weir.server.model", model)]);
        Gauge("weir.server.connections", "{connection}", "Connections that are open.", static m => m.Connections);
        Gauge("weir.server.idle", "{connection}", "Connections that wait for a request.", static m => m.Idle);
        Gauge("weir.server.upgraded", "{connection}", "Connections that speak another protocol (WebSockets).",
            static m => m.Upgraded);
        Gauge("weir.server.queued", "{request}", "Requests that wait for a thread.", static m => m.Queued);
        Gauge("weir.server.threads", "{thread}", "Threads of the server.", static m => m.Threads);
        Gauge("weir.server.stuck", "{handler}", "Handlers past their time that have not come back.",
            static m => m.Stuck);
        Gauge("weir.server.thread.stack_reserved", "By", "Address space of one thread's stack.",
            static m => m.ThreadStackReservedBytes);
        Gauge("weir.server.thread.stack_committed", "By", "Memory that one thread's stack holds.",
            static m => m.ThreadStackCommittedBytes);
        Total("weir.server.accepted", "{connection}", "Connections accepted.", static m => m.Accepted);
        Total("weir.server.refused", "{request}", "Requests and connections turned away.", static m => m.Refused);
        Total("weir.server.answered", "{request}", "Answers given.", static m => m.Answered);
        Total("weir.server.failed", "{request}", "Handlers that threw.", static m => m.Failed);
        Total("weir.server.timed_out", "{request}", "Handlers that were answered for.", static m => m.TimedOut);
        _connectionDuration = _meter.CreateHistogram<double>("weir.server.connection.duration", "s",
            "How long connections were open.");
        if (ofRequests)
        {
            Gauge("http.server.active_requests", "{request}", "Handlers that run.", static m => m.Running);
            _duration = _meter.CreateHistogram<double>("http.server.request.duration", "s",
                "Duration of HTTP server requests.");
        }

        void Gauge(string name, string unit, string description, Func<AppServerMetrics, long> value) =>
            _meter.CreateObservableUpDownCounter(name, () => value(counters.Snapshot()), unit, description);

        void Total(string name, string unit, string description, Func<AppServerMetrics, long> value) =>
            _meter.CreateObservableCounter(name, () => value(counters.Snapshot()), unit, description);
    }

    /// <summary>Somebody wants durations.</summary>
    internal bool MeasuresDuration => _duration is { Enabled: true };

    internal void RecordConnection(long milliseconds)
    {
        if (_connectionDuration.Enabled)
        {
            _connectionDuration.Record(milliseconds / 1000.0);
        }
    }

    internal void Record(ReadOnlySpan<byte> method, int status, long milliseconds)
    {
        var tags = new TagList
        {
            { "http.request.method", MethodName(method) },
            { "http.response.status_code", status },
            { "network.protocol.name", "http" },
        };
        _duration!.Record(milliseconds / 1000.0, tags);
    }

    public void Dispose() => _meter.Dispose();

    /// <summary>Methods that are not well known are one, or a client could make any number of series.</summary>
    private static string MethodName(ReadOnlySpan<byte> method)
    {
        foreach (string known in s_methods)
        {
            if (System.Text.Ascii.Equals(method, known))
            {
                return known;
            }
        }
        return "_OTHER";
    }

    private static readonly string[] s_methods =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE"];
}
