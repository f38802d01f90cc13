// From a seed to a run: which script, which weather, which faults, how many clients. Seeds are spread over threads that
// share nothing but the scripts and what their calm runs gave.
using System.Collections.Concurrent;
using System.Text;
using Weir.Loop;
using Weir.Tests.Harness.Cases;

namespace Weir.Tests.Simulation;

/// <summary>What a seed decided.</summary>
internal sealed record SeededRun(ulong Seed, Case Case, SimulationPlan Plan, int Copies, bool Overlaps,
    int ReloadMs, int QuitMs);

internal static class Seeds
{
    private static readonly ConcurrentDictionary<string, Outcome> _calm = new();

    internal static SeededRun Draw(ulong seed, IReadOnlyList<Case> cases, PlantedBug planted = PlantedBug.None)
    {
        var draw = new SeededRandom(seed * 0x9E3779B97F4A7C15 + 1);
        Case one = cases[draw.Below(cases.Count)];
        int kind = draw.Below(100);
        bool cutsClients = kind is >= 55 and < 70 or >= 90;
        bool cutsUpstreams = kind is >= 70 and < 90 or >= 90 && one.Origin is not null;
        SimulationPlan weather = SimulationPlan.Weather(seed);
        var plan = new SimulationPlan(seed)
        {
            Splits = weather.Splits,
            Delays = weather.Delays,
            DelayMsMax = weather.DelayMsMax,
            ShortWrites = weather.ShortWrites,
            SlowReceives = weather.SlowReceives,
            Reorders = weather.Reorders,
            SlowWork = weather.SlowWork,
            Recycles = weather.Recycles,
            ClockSteps = seed % 4 == 0 ? 100 : 0,
            ClientCuts = cutsClients ? 400 : 0,
            UpstreamCuts = cutsUpstreams ? 500 : 0,
            ConnectFaults = cutsUpstreams ? 150 : 0,
            LostDatagrams = cutsUpstreams ? 200 : 0,
            CutBytesMax = 1 << (5 + draw.Below(14)),
            Planted = planted,
        };
        bool overlaps = one.MayOverlap && draw.Chance(600);
        int reloadMs = draw.Chance(200) ? 1 + draw.Below(40) : 0;
        int quitMs = draw.Chance(60) ? 1 + draw.Below(40) : 0;
        return new SeededRun(seed, one, plan, overlaps ? 1 + draw.Below(3) : 1, overlaps, reloadMs, quitMs);
    }

    internal static Outcome Calm(Case one, Place place) => _calm.GetOrAdd(one.Id, _ => World.Play(one, null, place));

    /// <summary>Plays a seed. Null, or what it found.</summary>
    internal static string? Play(SeededRun run, Place place, out Outcome outcome)
    {
        Outcome calm = Calm(run.Case, place);
        outcome = World.Play(run.Case, run.Plan, place, run.Copies, run.Overlaps, run.ReloadMs,
            run.QuitMs);
        string? wrong = Judge.Compare(run.Case, calm, outcome, run.Copies,
            isWhole: run.Plan.Splits == 0);
        if (wrong is null)
        {
            return null;
        }
        SimulationPlan p = run.Plan;
        string sideBySide = run.Overlaps ? ", side by side" : "";
        return $"seed {run.Seed}: {run.Case.Id}, {run.Copies} clients per talk{sideBySide}\n"
            + $"splits {p.Splits} delays {p.Delays}/{p.DelayMsMax} ms short writes {p.ShortWrites} slow receives "
            + $"{p.SlowReceives} reorders {p.Reorders} slow work {p.SlowWork} recycles {p.Recycles} "
            + $"clock steps {p.ClockSteps} cuts {p.ClientCuts}/{p.UpstreamCuts} after {p.CutBytesMax} at most, "
            + $"reload at {run.ReloadMs}, quit at {run.QuitMs} ms, faults {outcome.Faults}\n"
            + $"{wrong}\n--- error.log\n{outcome.ErrorLog}\n"
            + $"replay: WEIR_SIMULATION_SEED={run.Seed} dotnet test tests/Simulation\n";
    }

    /// <summary>Plays seeds on all processors until so many have failed; what they found, by seed.</summary>
    internal static SortedDictionary<ulong, string> Play(ulong first, int count, IReadOnlyList<Case> cases,
        int failuresMax, PlantedBug planted = PlantedBug.None) =>
        PlayEach(first, count, failuresMax, (seed, place) => Play(Draw(seed, cases, planted), place, out _));

    /// <summary>Plays each of so many seeds; <paramref name="play"/> says what it found.</summary>
    internal static SortedDictionary<ulong, string> PlayEach(ulong first, int count, int failuresMax,
        Func<ulong, Place, string?> play)
    {
        var failures = new SortedDictionary<ulong, string>();
        int threads = Environment.ProcessorCount;
        var workers = new List<Thread>();
        for (int i = 0; i < threads; i++)
        {
            int own = i;
            var thread = new Thread(() =>
            {
                using var place = new Place();
                for (int n = own; n < count && Volatile.Read(ref failuresMax) > 0; n += threads)
                {
                    ulong seed = first + (ulong)n;
                    string? found;
                    try
                    {
                        found = play(seed, place);
                    }
                    catch (Exception e)
                    {
                        found = $"seed {seed} threw {e}";
                    }
                    if (found is not null)
                    {
                        lock (failures)
                        {
                            failures.Add(seed, found);
                        }
                        Interlocked.Decrement(ref failuresMax);
                    }
                }
            }, 16 * 1024 * 1024);
            thread.Start();
            workers.Add(thread);
        }
        workers.ForEach(static t => t.Join());
        return failures;
    }

    internal static string Told(SortedDictionary<ulong, string> failures)
    {
        var text = new StringBuilder();
        foreach (string failure in failures.Values.Take(8))
        {
            text.Append(failure).Append('\n');
        }
        return text.ToString();
    }
}
