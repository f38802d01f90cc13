// Results as JSON, with every event as the server recorded it; and what the page asks for while a run goes on. Written
// by hand into a Utf8JsonWriter: no reflection. Pure.
using System.Buffers;
using System.Text.Encodings.Web;
using System.Text.Json;
using Weir.Server;

namespace Weir.Lab;

internal static class LabJson
{
    private static readonly JsonWriterOptions _options = new()
    {
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Indented = false,
    };

    /// <summary>Everything about finished runs. Times are microseconds from the clients' start.</summary>
    public static byte[] Result(LabPlan plan, IReadOnlyList<LabView> views) => Write(json =>
    {
        json.WriteStartObject();
        json.WriteString("experiment", plan.Name);
        json.WriteString("title", plan.Title);
        json.WriteString("question", plan.Question);
        json.WriteString("version", VersionText.Product);
        json.WriteString("system", Environment.OSVersion.VersionString);
        json.WriteNumber("cpus", Environment.ProcessorCount);
        json.WriteStartArray("runs");
        foreach (LabView view in views)
        {
            Run(json, view);
        }
        json.WriteEndArray();
        json.WriteEndObject();
    });

    public static byte[] Write(Action<Utf8JsonWriter> write)
    {
        var buffer = new ArrayBufferWriter<byte>();
        using (var json = new Utf8JsonWriter(buffer, _options))
        {
            write(json);
        }
        return buffer.WrittenSpan.ToArray();
    }

    public static void Counters(Utf8JsonWriter json, LabView view)
    {
        LabSample s = view.Samples.Length > 0 ? view.Last : view.WithIdle;
        json.WriteStartObject("counters");
        Figures(json, s);
        json.WriteNumber("stuck", s.Stuck);
        json.WriteEndObject();
    }

    /// <summary>What a moment of a run is described by, wherever it is told.</summary>
    private static void Figures(Utf8JsonWriter json, LabSample s)
    {
        json.WriteNumber("threads", s.Threads);
        json.WriteNumber("server_threads", s.ServerThreads);
        json.WriteNumber("memory", s.MemoryBytes);
        json.WriteNumber("switches", s.Switches);
        json.WriteNumber("connections", s.Connections);
        json.WriteNumber("queued", s.Queued);
        json.WriteNumber("running", s.Running);
    }

    private static void Run(Utf8JsonWriter json, LabView view)
    {
        LabFigures f = LabFigures.Of(view);
        LabRunSpec spec = view.Spec;
        json.WriteStartObject();
        json.WriteString("model", spec.Model);
        json.WriteString("title", spec.Title);
        json.WriteString("sentence", LabSentence.Of(view, f));
        json.WriteStartObject("options");
        json.WriteNumber("requests", spec.Requests);
        json.WriteNumber("delay_ms", spec.Delay.TotalMilliseconds);
        json.WriteNumber("cpu_ms", spec.Cpu.TotalMilliseconds);
        json.WriteBoolean("blocks", spec.Blocks);
        json.WriteNumber("threads", spec.Threads);
        json.WriteNumber("queue", spec.Queue);
        json.WriteNumber("loops", spec.Loops);
        json.WriteNumber("backlog", spec.Backlog);
        json.WriteBoolean("stop_accepting", spec.StopsAccepting);
        json.WriteNumber("handler_timeout_ms", spec.HandlerTimeout.TotalMilliseconds);
        json.WriteNumber("header_timeout_ms", spec.HeaderTimeout.TotalMilliseconds);
        json.WriteNumber("keep_alive", spec.KeepAlive);
        json.WriteNumber("slow_clients", spec.SlowClients);
        json.WriteNumber("idle", spec.Idle);
        json.WriteEndObject();
        Figures(json, f);
        Counters(json, view);
        json.WriteStartArray("requests");
        foreach (LabRow row in view.Rows)
        {
            Row(json, view, row);
        }
        json.WriteEndArray();
        json.WriteStartArray("events");
        foreach (AppServerEvent e in view.Events)
        {
            json.WriteStartArray();
            json.WriteStringValue(NameOf(e.Kind));
            json.WriteNumberValue(e.Connection);
            json.WriteNumberValue(e.Request);
            json.WriteNumberValue(e.Thread);
            json.WriteNumberValue(e.Loop);
            json.WriteNumberValue(e.Status);
            json.WriteNumberValue(e.TimeUs - view.StartUs);
            json.WriteEndArray();
        }
        json.WriteEndArray();
        json.WriteStartArray("samples");
        // A hundred of them tell the course of any run.
        int every = Math.Max(1, view.Samples.Length / 100);
        for (int i = 0; i < view.Samples.Length; i += every)
        {
            LabSample s = view.Samples[i];
            json.WriteStartObject();
            json.WriteNumber("us", s.TimeUs - view.StartUs);
            json.WriteNumber("cpu_us", s.CpuUs);
            Figures(json, s);
            json.WriteEndObject();
        }
        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void Figures(Utf8JsonWriter json, LabFigures f)
    {
        json.WriteStartObject("figures");
        json.WriteNumber("total_s", Math.Round(f.TotalSeconds, 4));
        json.WriteNumber("answered", f.Answered);
        json.WriteNumber("refused", f.Refused);
        json.WriteNumber("timed_out", f.TimedOut);
        json.WriteNumber("at_once", f.AtOnce);
        json.WriteNumber("handler_threads", f.HandlerThreads);
        json.WriteNumber("waves", f.Waves);
        json.WriteNumber("shortest_s", Math.Round(f.ShortestSeconds, 4));
        json.WriteNumber("longest_s", Math.Round(f.LongestSeconds, 4));
        json.WriteNumber("starved_s", Math.Round(f.StarvedSeconds, 4));
        json.WriteNumber("threads_held_by_slow", f.ThreadsHeldBySlow);
        json.WriteNumber("longest_gap_s", Math.Round(f.LongestGapSeconds, 4));
        json.WriteNumber("syn_retransmits", f.Retransmits);
        json.WriteStartArray("late_connects_s");
        foreach (double late in f.LateConnects)
        {
            json.WriteNumberValue(Math.Round(late, 3));
        }
        json.WriteEndArray();
        json.WriteNumber("peak_threads", f.PeakThreads);
        json.WriteNumber("peak_memory", f.PeakMemoryBytes);
        json.WriteNumber("peak_connections", f.PeakConnections);
        json.WriteNumber("context_switches", f.Switches);
        json.WriteNumber("cpu_s", Math.Round(f.CpuSeconds, 4));
        json.WriteNumber("idle_memory", f.IdleMemoryBytes);
        json.WriteNumber("idle_bytes_each", Math.Round(f.IdleBytesEach));
        json.WriteNumber("idle_threads", f.IdleThreads);
        json.WriteEndObject();
    }

    private static void Row(Utf8JsonWriter json, LabView view, LabRow row)
    {
        void At(string name, long us)
        {
            if (us != 0)
            {
                json.WriteNumber(name, us - view.StartUs);
            }
        }

        json.WriteStartObject();
        json.WriteNumber("number", row.Client.Number);
        json.WriteNumber("on_connection", row.Client.OnConnection);
        if (row.Client.IsSlow)
        {
            json.WriteBoolean("slow", true);
        }
        json.WriteNumber("connection", row.Connection);
        json.WriteNumber("thread", row.Thread);
        json.WriteNumber("loop", row.Loop);
        json.WriteNumber("status", row.Client.Status);
        json.WriteNumber("syn_retransmits", row.Client.Retransmits);
        At("begin", row.Client.BeginUs);
        At("connected", row.Client.ConnectedUs);
        At("accepted", row.AcceptedUs);
        At("taken", row.TakenUs);
        At("received", row.ReceivedUs);
        At("queued", row.QueuedUs);
        At("started", row.StartedUs);
        At("timed_out", row.TimedOutUs);
        At("refused", row.RefusedUs);
        At("answered", row.AnsweredUs);
        At("end", row.Client.EndUs);
        json.WriteEndObject();
    }

    private static string NameOf(AppServerEventKind kind) => kind switch
    {
        AppServerEventKind.Accepted => "accepted",
        AppServerEventKind.Received => "received",
        AppServerEventKind.Queued => "queued",
        AppServerEventKind.Started => "started",
        AppServerEventKind.Answered => "answered",
        AppServerEventKind.Failed => "failed",
        AppServerEventKind.TimedOut => "timed out",
        AppServerEventKind.CameBack => "came back",
        AppServerEventKind.Refused => "refused",
        AppServerEventKind.ClientGone => "client gone",
        AppServerEventKind.Taken => "taken",
        _ => "closed",
    };
}
