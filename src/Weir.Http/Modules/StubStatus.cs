// stub_status and $connections_*: what all workers together are doing, in nginx's text; weir_status gives the same as
// JSON for pages and scripts.
using Weir.Conf;
using Weir.Http.Api;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class StubStatusModule : HttpModule
{
    public override string Name => "http_stub_status";

    public override void Declare(HttpDeclarations d)
    {
        CounterSlots? counters = d.Build.Resources.Counters;
        d.Block("stub_status", u => u.Block.Core.ContentHandler = new StubStatusHandler(u.Build.Resources.Counters));
        d.Own(new DirectiveSpec
        {
            Name = "weir_status",
            Contexts = ConfContext.Location,
            Arity = ConfArity.One,
            Summary = "Answers with the state of the server: weir_status json;",
            Apply = static (walker, directive) =>
            {
                if (directive[0] != "json")
                {
                    walker.Error(directive.Args[0], $"invalid parameter \"{directive[0]}\"", "the one format is json");
                    return;
                }
                HttpBlock block = walker.Need<HttpBlock>();
                block.Core.ContentHandler = new StatusHandler(walker.Need<HttpBuild>().Resources.Counters);
            },
        });
        Gauge(d, "connections_active", counters, StatusCounter.Active);
        Gauge(d, "connections_reading", counters, StatusCounter.Reading);
        Gauge(d, "connections_writing", counters, StatusCounter.Writing);
        Gauge(d, "connections_waiting", counters, StatusCounter.Waiting);
    }

    private static void Gauge(HttpDeclarations d, string name, CounterSlots? counters, StatusCounter counter) =>
        d.Variable(name, (Session.Session session, Variable _, ref NativeSlice value) =>
        {
            value = session.Arena.StoreNumber(counters?.Sum(counter) ?? 0);
            return true;
        }, VariableFlags.NoCache);
}

internal sealed class StubStatusHandler(CounterSlots? counters) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head))
        {
            return PhaseResult.Answer(405);
        }
        Span<long> sums = stackalloc long[CounterSlots.CountersPerSlot];
        sums.Clear();
        counters?.Sum(sums);
        NativeSlice body = r.Arena.Allocate(320);
        var w = new SpanWriter(body.Span);
        w.Write("Active connections: "u8);
        w.Number(sums[(int)StatusCounter.Active]);
        w.Write(" \nserver accepts handled requests\n "u8);
        w.Number(sums[(int)StatusCounter.Accepted]);
        w.Write(" "u8);
        w.Number(sums[(int)StatusCounter.Handled]);
        w.Write(" "u8);
        w.Number(sums[(int)StatusCounter.Requests]);
        w.Write(" \nReading: "u8);
        w.Number(sums[(int)StatusCounter.Reading]);
        w.Write(" Writing: "u8);
        w.Number(sums[(int)StatusCounter.Writing]);
        w.Write(" Waiting: "u8);
        w.Number(sums[(int)StatusCounter.Waiting]);
        w.Write(" \n"u8);
        r.Response.Status = 200;
        r.Response.ContentType = NativeSlice.Literal("text/plain"u8);
        return r.SendComplete(body.Slice(0, w.Written));
    }
}

internal sealed class StatusHandler(CounterSlots? counters) : PhaseHandler
{
    /// <summary>The groups with a zone as the API shows them; empty without such, and then nothing is allocated.
    /// </summary>
    private static string Groups(HttpRequest r)
    {
        UpstreamGroups groups = r.Configuration.Upstreams;
        if (!groups.HasShared)
        {
            return "";
        }
        var all = new ApiObject();
        foreach (UpstreamGroup group in ApiUpstreams.Shown(r.Configuration))
        {
            all.Add(group.Name.ToString(), ApiUpstreams.Of(UpstreamStates.Of(r.Loop).For(group)));
        }
        return ApiObject.Text(all);
    }

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Method is not (HttpMethod.Get or HttpMethod.Head))
        {
            return PhaseResult.Answer(405);
        }
        Span<long> sums = stackalloc long[CounterSlots.CountersPerSlot];
        sums.Clear();
        counters?.Sum(sums);
        int room = 2048;
        foreach (LoopPool pool in r.Loop.Pools)
        {
            room += pool.Name.Length + 24;
        }
        NativeSlice body = r.Arena.Allocate(room);
        var w = new SpanWriter(body.Span);
        w.Write("{\"server\":\"weir\",\"workers\":"u8);
        w.Number(counters?.OwnerCount ?? 0);
        w.Write(",\"uptime_seconds\":"u8);
        w.Number(counters is null ? 0 : Math.Max(0, (r.Loop.UnixMs - counters.CreatedUnixMs) / 1000));
        w.Write(",\"requests\":"u8);
        w.Number(sums[(int)StatusCounter.Requests]);
        w.Write(",\"connections\":{\"accepted\":"u8);
        w.Number(sums[(int)StatusCounter.Accepted]);
        w.Write(",\"handled\":"u8);
        w.Number(sums[(int)StatusCounter.Handled]);
        w.Write(",\"active\":"u8);
        w.Number(sums[(int)StatusCounter.Active]);
        w.Write(",\"reading\":"u8);
        w.Number(sums[(int)StatusCounter.Reading]);
        w.Write(",\"writing\":"u8);
        w.Number(sums[(int)StatusCounter.Writing]);
        w.Write(",\"waiting\":"u8);
        w.Number(sums[(int)StatusCounter.Waiting]);
        w.Write("},\"worker\":{\"pid\":"u8);
        w.Number(Environment.ProcessId);
        w.Write(",\"open\":"u8);
        w.Number(r.Loop.ConnectionCount);
        w.Write(",\"idle\":"u8);
        w.Number(r.Loop.IdleCount);
        w.Write(",\"longest_turn_us\":"u8);
        w.Number(r.Loop.LongestTurnUs);
        w.Write(",\"most_accepted_in_turn\":"u8);
        w.Number(r.Loop.MostAcceptedInTurn);
        w.Write(",\"buffers_rented_bytes\":"u8);
        w.Number(r.Loop.Buffers.RentedBytes);
        w.Write(",\"buffers_free_bytes\":"u8);
        w.Number(r.Loop.Buffers.FreeBytes);
        w.Write(",\"pools\":{"u8);
        for (int i = 0; i < r.Loop.Pools.Count; i++)
        {
            LoopPool pool = r.Loop.Pools[i];
            w.Write(i == 0 ? "\""u8 : ",\""u8);
            w.Write(pool.Name);
            w.Write("\":"u8);
            w.Number(pool.Count);
        }
        w.Write("}"u8);
        w.Write(",\"http2\":{"u8);
        Http2Counts.Of(r.Loop).Write(ref w);
        w.Write("}"u8);
        // The loop is this thread: what it allocated since the worker started.
        w.Write(",\"allocated_bytes\":"u8);
        w.Number(GC.GetAllocatedBytesForCurrentThread());
        w.Write(",\"collections\":"u8);
        w.Number(GC.CollectionCount(0));
        w.Write(",\"collection_pauses_us\":"u8);
        w.Number(GC.GetTotalPauseDuration().Ticks / TimeSpan.TicksPerMicrosecond);
        w.Write("}"u8);
        string groups = Groups(r);
        if (groups.Length > 0)
        {
            NativeSlice shorter = body.Slice(0, w.Written);
            body = r.Arena.Allocate(shorter.Length + groups.Length + 16);
            w = new SpanWriter(body.Span);
            w.Text(shorter.Span);
            w.Write(",\"upstreams\":"u8);
            w.Skip(System.Text.Encoding.Latin1.GetBytes(groups, w.Rest));
        }
        w.Write("}\n"u8);
        r.Response.Status = 200;
        r.Response.ContentType = NativeSlice.Literal("application/json"u8);
        r.Response.Add(NativeSlice.Literal("Cache-Control"u8), NativeSlice.Literal("no-store"u8),
            KnownResponseHeader.CacheControl);
        return r.SendComplete(body.Slice(0, w.Written));
    }
}
