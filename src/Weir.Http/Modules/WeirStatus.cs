// weir_status [json]: what the server is doing, summed over all workers, for machines and for the welcome page. The
// figures are nginx's stub_status's, with the workers and the time the server is up. Loop thread; the text is written
// into the request's arena.
using System.Globalization;
using System.Text.Unicode;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class WeirStatusModule : HttpModule
{
    public override string Name => "weir_status";

    public override void Declare(HttpDeclarations d)
    {
        HttpBuild build = d.Build;
        d.Own(new DirectiveSpec
        {
            Name = "weir_status",
            Contexts = ConfContext.Location,
            Arity = ConfArity.Zero | ConfArity.One,
            Summary = "Answers with the server's counters in JSON.",
            Apply = (walker, directive) =>
            {
                if (directive.Args.Length > 0 && directive.Args[0].Text != "json")
                {
                    walker.Error(directive.Args[0], $"invalid parameter \"{directive.Args[0].Text}\"", "\"json\"");
                    return;
                }
                walker.Need<HttpBlock>().Core.ContentHandler = new WeirStatusHandler(build.Resources.Counters);
            },
        });
    }

    private sealed class WeirStatusHandler(CounterSlots? counters) : PhaseHandler
    {
        private const int TextBytesMax = 512;

        public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
        {
            if (r.Method is not (HttpMethod.Get or HttpMethod.Head))
            {
                return PhaseResult.Answer(405);
            }
            if (counters is null)
            {
                return PhaseResult.Answer(500);
            }
            Span<long> sums = stackalloc long[CounterSlots.CountersPerSlot];
            counters.Sum(sums);
            NativeSlice text = r.Arena.Allocate(TextBytesMax);
            long uptime = Math.Max(0, (r.Loop.UnixMs / 1000) - counters.StartedSeconds);
            Utf8.TryWrite(text.Span, CultureInfo.InvariantCulture,
                $$"""
                {"requests":{{sums[(int)StatusCounter.Requests]}},"connections":{"accepted":{{
                sums[(int)StatusCounter.Accepted]}},"handled":{{sums[(int)StatusCounter.Handled]}},"active":{{
                sums[(int)StatusCounter.Active]}},"reading":{{sums[(int)StatusCounter.Reading]}},"writing":{{
                sums[(int)StatusCounter.Writing]}},"waiting":{{sums[(int)StatusCounter.Waiting]}}},"workers":{{
                counters.CountOwners()}},"uptime_seconds":{{uptime}}}

                """, out int length);
            r.Response.Status = 200;
            r.Response.ContentType = NativeSlice.Literal("application/json"u8);
            r.Response.Add(NativeSlice.Literal("Cache-Control"u8), NativeSlice.Literal("no-store"u8));
            return r.SendComplete(text.Slice(0, length));
        }
    }
}
