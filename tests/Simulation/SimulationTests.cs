// The whole server under seeded networks: docs/simulation.md. WEIR_SIMULATION_SEEDS sets how many seeds are played,
// WEIR_SIMULATION_FIRST where they begin, WEIR_SIMULATION_SEED plays one alone.
using System.Diagnostics;
using System.Globalization;
using Weir.Loop;
using Weir.Tests.Harness.Cases;
using Xunit;
using Xunit.Abstractions;

namespace Weir.Tests.Simulation;

public sealed class SimulationTests(ITestOutputHelper output)
{
    private const int SeedsByDefault = 2000;

    private static ulong Number(string variable, ulong otherwise) =>
        ulong.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out ulong value)
            ? value : otherwise;

    [Fact]
    public void No_seed_finds_an_answer_that_its_network_does_not_explain()
    {
        ulong one = Number("WEIR_SIMULATION_SEED", 0);
        ulong first = one != 0 ? one : Number("WEIR_SIMULATION_FIRST", 1);
        int count = one != 0 ? 1 : (int)Number("WEIR_SIMULATION_SEEDS", SeedsByDefault);
        long start = Stopwatch.GetTimestamp();
        SortedDictionary<ulong, string> failures = Seeds.Play(first, count, Table.All, failuresMax: 20);
        output.WriteLine($"{count} seeds in {Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s");
        Assert.True(failures.Count == 0, $"{failures.Count} seeds failed\n" + Seeds.Told(failures));
    }

    public static TheoryData<string> Ids
    {
        get
        {
            var data = new TheoryData<string>();
            foreach (Case one in Table.All)
            {
                data.Add(one.Id);
            }
            return data;
        }
    }

    [Theory, MemberData(nameof(Ids))]
    public void A_calm_run_leaves_nothing_behind(string id)
    {
        using var place = new Place();
        Case one = Table.All.Single(c => c.Id == id);
        Outcome outcome = World.Play(one, null, place);
        Assert.True(outcome.Violations.Count == 0,
            string.Join('\n', outcome.Violations) + "\n" + outcome.ErrorLog);
        Assert.All(outcome.Heard, h => Assert.True(h.Bytes.Length > 0 || h.IsOver));
        if (one.Expect is { } expected)
        {
            Assert.Equal(string.Join("=====\n", expected), string.Join("=====\n", outcome.Heard.Select(h =>
                Transcript.Of(h.Bytes, h.Talk, h.IsOver, outcome.Around))));
        }
    }

    [Theory, MemberData(nameof(Ids))]
    public void Nothing_but_dates_depends_on_the_wall_clock(string id)
    {
        using var place = new Place();
        Case one = Table.All.Single(c => c.Id == id);
        Outcome calm = Seeds.Calm(one, place);
        // At every third turn of the loop somebody sets the clock, by up to an hour either way.
        Outcome set = World.Play(one, new SimulationPlan(5) { ClockSteps = 333 }, place);
        string? wrong = Judge.Compare(one, calm, set, copies: 1, isWhole: true);
        Assert.True(wrong is null, wrong);
    }

    [Fact]
    public void An_hour_passes_as_soon_as_nothing_else_can_happen()
    {
        const int hourMs = 3600 * 1000;
        var one = new Case("time", "an hour")
        {
            Server = "keepalive_timeout 1h; error_page 504 =200 @late; location @late { return 200 late; } "
                + "location / { proxy_read_timeout 1h; proxy_pass http://127.0.0.1:%UPSTREAM%; }",
            Origin = Harness.Origin.Of(Harness.Act.Read, Harness.Act.Hold),
            Talks = [Say.Get("/") with { QuietMs = hourMs + 1000, FirstMs = hourMs + 1000 }],
        };
        using var place = new Place();
        Outcome outcome = World.Play(one, null, place);
        Assert.Empty(outcome.Violations);
        Assert.EndsWith("late", System.Text.Encoding.Latin1.GetString(outcome.Heard[0].Bytes));
        Assert.True(outcome.Heard[0].IsOver, "an hour after its answer an idle connection is closed");
    }

    [Fact]
    public void A_seed_replays_exactly()
    {
        using var place = new Place();
        for (ulong seed = 1; seed <= 60; seed++)
        {
            _ = Seeds.Play(Seeds.Draw(seed, Table.All), place, out Outcome first);
            _ = Seeds.Play(Seeds.Draw(seed, Table.All), place, out Outcome second);
            Assert.Equal(first.Fingerprint, second.Fingerprint);
            Assert.Equal(first.Heard.Select(static h => h.Bytes), second.Heard.Select(static h => h.Bytes));
        }
    }

    [Theory]
    [InlineData("SendOvertakes")]
    [InlineData("DrainTooEarly")]
    [InlineData("StaleCompletion")]
    public void A_planted_ordering_bug_is_found(string name)
    {
        PlantedBug bug = Enum.Parse<PlantedBug>(name);
        SortedDictionary<ulong, string> failures = Seeds.Play(1, 10_000, Table.All, failuresMax: 1, bug);
        Assert.NotEmpty(failures);
        output.WriteLine(Seeds.Told(failures));
    }
}
