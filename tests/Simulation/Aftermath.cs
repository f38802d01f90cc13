// What must be zero when all clients have gone and every timeout has passed, whatever was done to the server.
using Weir.Loop;
using Weir.Server;
using Weir.Session.Upstream;
using Weir.Zones;

namespace Weir.Tests.Simulation;

internal static class Aftermath
{
    private const long SettleMs = 48L * 3600 * 1000;

    /// <summary>Lets time pass until every timeout has come, then looks at what must be gone.</summary>
    /// <param name="loop">The loop that everything ran on.</param>
    /// <param name="server">The server, still there.</param>
    /// <param name="origins">Its upstream's ends; they close in between.</param>
    /// <param name="violations">Gets what is left.</param>
    internal static void Settle(InMemoryLoop loop, WebServer server, IEnumerable<SimulatedPeer> origins,
        List<string> violations)
    {
        loop.AdvanceClock(SettleMs);
        foreach (SimulatedPeer origin in origins)
        {
            origin.Close();
        }
        loop.AdvanceClock(SettleMs);
        server.Http.FlushLogs();
        Expect(violations, "clients' connections", server.Http.ActiveCount, 0);
        Expect(violations, "connections of the loop", loop.ConnectionCount, 0);
        Expect(violations, "requests in use", server.Http.RequestsInUse, 0);
        Expect(violations, "timers", loop.Timers.Count, 0);
        Expect(violations, "attempts at upstream peers", UpstreamStates.Of(loop).Leases(), 0);
        Expect(violations, "connections to upstream servers", UpstreamStates.Of(loop).OpenConnections, 0);
        foreach (StatusCounter counter in (StatusCounter[])
            [StatusCounter.Active, StatusCounter.Reading, StatusCounter.Writing, StatusCounter.Waiting])
        {
            Expect(violations, $"the counter {counter}", server.Counters.Read(counter), 0);
        }
        Expect(violations, "handled connections", server.Counters.Read(StatusCounter.Handled),
            server.Counters.Read(StatusCounter.Accepted));
    }

    internal static void Expect(List<string> violations, string what, long actual, long expected)
    {
        if (actual != expected)
        {
            violations.Add($"{what}: {actual} instead of {expected}");
        }
    }
}
