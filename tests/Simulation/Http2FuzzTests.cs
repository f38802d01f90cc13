// The HTTP/2 driver and the HTTP/2 side towards upstream servers, whole and on the simulated engine, under frames that
// a seed draws and breaks: docs/simulation.md. WEIR_HTTP2_SEEDS sets how many seeds are played, WEIR_HTTP2_FIRST where
// they begin, WEIR_HTTP2_SEED plays one alone.
using System.Diagnostics;
using System.Globalization;
using Xunit;
using Xunit.Abstractions;

namespace Weir.Tests.Simulation;

public sealed class Http2FuzzTests(ITestOutputHelper output)
{
    private const int SeedsByDefault = 700;

    private static ulong Number(string variable, ulong otherwise) =>
        ulong.TryParse(Environment.GetEnvironmentVariable(variable), CultureInfo.InvariantCulture, out ulong value)
            ? value : otherwise;

    [Fact]
    public void No_client_breaks_more_than_its_own_connection() => Play(Http2World.PlayClients);

    [Fact]
    public void No_upstream_server_breaks_more_than_its_own_answers() => Play(Http2World.PlayUpstream);

    [Fact]
    public void A_client_that_reads_nothing_leaves_the_loop_at_rest()
    {
        using var place = new Place();
        Assert.Null(Http2World.PlayDeafClient(place));
    }

    private void Play(Func<ulong, Place, string?> play)
    {
        ulong one = Number("WEIR_HTTP2_SEED", 0);
        ulong first = one != 0 ? one : Number("WEIR_HTTP2_FIRST", 1);
        int count = one != 0 ? 1 : (int)Number("WEIR_HTTP2_SEEDS", SeedsByDefault);
        long start = Stopwatch.GetTimestamp();
        SortedDictionary<ulong, string> failures = Seeds.PlayEach(first, count, failuresMax: 10, (seed, place) =>
            play(seed, place) is { } wrong
                ? $"seed {seed}: {wrong}\n"
                    + $"replay: WEIR_HTTP2_SEED={seed} dotnet test tests/Simulation --filter Http2Fuzz\n"
                : null);
        output.WriteLine($"{count} seeds in {Stopwatch.GetElapsedTime(start).TotalSeconds:F1} s");
        Assert.True(failures.Count == 0, $"{failures.Count} seeds failed\n" + Seeds.Told(failures));
    }
}
