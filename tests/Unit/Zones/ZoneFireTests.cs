// The short form of tests/zone-fire: processes that share zones, one of them killed at random in every round, and
// everything compared with what each of them had written down. One test; the processes are its own.
using Weir.Tests.ZoneFire;
using Xunit;

namespace Weir.Tests.Unit.Zones;

public sealed class ZoneFireTests
{
    [Fact]
    public void Nothing_is_lost_or_left_behind_when_processes_are_killed_at_random()
    {
        FireReport report = Driver.Run(AppContext.BaseDirectory + "zone-fire", rounds: 25, actors: 3, seed: 11);
        Assert.Equal(25, report.Rounds);
    }
}
