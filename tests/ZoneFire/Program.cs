// Shared zones under fire: random operations in several processes, one of them killed at random in every round, and
// every invariant compared with journals after it. Usage: zone-fire [ROUNDS [ACTORS [SEED]]]; tests/zone-fire is the
// long form. As "zone-fire actor …" it is one of the processes that are killed.
using System.Diagnostics;
using System.Globalization;
using Weir.Tests.ZoneFire;

static int Number(string text) => int.Parse(text, CultureInfo.InvariantCulture);

if (args is ["actor", var pid, var fds, var index, var slot, var seedText])
{
    var arena = Arena.Open(Number(pid), [.. fds.Split(',').Select(Number)], Number(slot));
    new Actor(arena, Number(index), Number(slot), Number(seedText)).Run();
}
int rounds = args.Length > 0 ? Number(args[0]) : 10_000;
int actors = args.Length > 1 ? Number(args[1]) : 3;
int seed = args.Length > 2 ? Number(args[2]) : 1;
long start = Stopwatch.GetTimestamp();
FireReport report = Driver.Run(Environment.ProcessPath!, rounds, actors, seed, Console.WriteLine);
Console.WriteLine(string.Create(CultureInfo.InvariantCulture, $"{report.Rounds} kills, {report.KilledInLock} of them "
    + $"inside a lock, {report.Operations} operations, no broken invariant, "
    + $"{Stopwatch.GetElapsedTime(start).TotalSeconds:f0} s"));
