// The one way in which tests let a holder of a lock die at every write in turn, and the census of all of them: which
// fault points the sources have, and at which of them somebody died. Each piece of work is done once, whoever asks for
// the number of its deaths. Debug builds only: the fault points are there alone.
#if DEBUG
using System.Collections.Concurrent;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text.RegularExpressions;
using Weir.Kernel;
using Weir.Zones;
using Xunit;
using Xunit.Abstractions;
using Xunit.Sdk;

namespace Weir.Tests.Unit.Zones;

internal static class FaultSuite
{
    private static readonly ConcurrentDictionary<string, Lazy<int>> s_done = new();

    /// <summary>Lets a holder die at each write in turn, beginning with the first; the number of deaths.</summary>
    /// <param name="diesAt">One life, which ends at this write; false when the work was over before.</param>
    /// <param name="work">Tells the pieces of work of one test apart.</param>
    /// <param name="test">The test.</param>
    public static int AtEveryWrite(Func<int, bool> diesAt, string work = "", [CallerMemberName] string test = "") =>
        s_done.GetOrAdd(test + '/' + work, _ => new Lazy<int>(() =>
        {
            int at = 0;
            while (diesAt(at))
            {
                at++;
            }
            return at;
        })).Value;

    public static int Deaths => s_done.Values.Where(static d => d.IsValueCreated).Sum(static d => d.Value);
}

public sealed partial class FaultPointCensusTests(ITestOutputHelper output)
{
    /// <summary>In whose files there are fault points.</summary>
    private static readonly string[] s_rooms = ["Weir.Zones", "Weir.Session", "Weir.Http", "Weir.Tls"];

    [GeneratedRegex(@"\bWrote(Many)?\(\);")]
    private static partial Regex Point();

    private static void RunAll(Type tests)
    {
        foreach (MethodInfo method in tests.GetMethods(BindingFlags.Public | BindingFlags.Instance))
        {
            if (method.GetCustomAttribute<TheoryAttribute>() is not null)
            {
                foreach (DataAttribute data in method.GetCustomAttributes<DataAttribute>())
                {
                    foreach (object[] row in data.GetData(method)!)
                    {
                        method.Invoke(Activator.CreateInstance(tests), row);
                    }
                }
            }
            else if (method.GetCustomAttribute<FactAttribute>() is not null)
            {
                method.Invoke(Activator.CreateInstance(tests), null);
            }
        }
    }

    [Fact]
    public void Somebody_has_died_at_every_fault_point_that_the_sources_have_and_a_thousand_in_all()
    {
        foreach (Type tests in (Type[])[typeof(FaultPointTests), typeof(FeatureFaultPointTests),
            typeof(GroupFaultPointTests), typeof(CounterFaultPointTests)])
        {
            RunAll(tests);
        }
        string? root = AppContext.BaseDirectory;
        while (!File.Exists(Path.Combine(root!, "Weir.slnx")))
        {
            root = Path.GetDirectoryName(root);
        }
        HashSet<string> died = [.. FaultPoints.Deaths.Keys.Select(static k =>
            k.File[(k.File.LastIndexOf("/src/", StringComparison.Ordinal) + 1)..] + ":" + k.Line)];
        var spared = new List<string>();
        int points = 0;
        foreach (string file in s_rooms.SelectMany(room =>
            Directory.EnumerateFiles(Path.Combine(root!, "src", room), "*.cs", SearchOption.AllDirectories)))
        {
            string[] lines = File.ReadAllLines(file);
            for (int i = 0; i < lines.Length; i++)
            {
                string place = Path.GetRelativePath(root!, file) + ":" + (i + 1);
                if (Point().IsMatch(lines[i]))
                {
                    points++;
                    if (!died.Contains(place))
                    {
                        spared.Add(place);
                    }
                }
            }
        }
        output.WriteLine($"{points} fault points, {FaultSuite.Deaths} deaths");
        Assert.True(spared.Count == 0, $"nobody died at {spared.Count} of {points}:\n" + string.Join('\n', spared));
        Assert.True(points >= 200, $"only {points} fault points");
        Assert.True(FaultSuite.Deaths >= 1000, $"only {FaultSuite.Deaths} deaths");
    }

    [Fact]
    public void A_write_under_the_lock_without_a_fault_point_is_noticed()
    {
        using Zone zone = Zone.CreatePrivate(new ZoneSpec("audit", Zone.SizeBytesMin, 1));
        zone.Faults.Audits = true;
        Assert.Throws<UnmarkedWriteException>(() =>
        {
            using ZoneLock held = zone.Lock();
            zone.UserWords.Layout = 1;
        });
        Assert.Throws<UnmarkedWriteException>(() =>
        {
            using ZoneLock held = zone.Lock();
            zone.UserWords.SeenDepartures = 1;
            zone.UserWords.SeenRepairs = 1;
            zone.Wrote();
        });
        using (zone.Lock())
        {
            zone.UserWords.Layout = 2;
            zone.Wrote();
        }
    }
}
#endif
