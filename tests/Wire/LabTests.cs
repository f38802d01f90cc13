// The laboratory: what `weir lab` draws, says and saves on small experiments, and its page in a real Chromium. What is
// asserted are orders and counts that hold however slow the machine is; never how long something took.
using System.Globalization;
using System.Text.Json;
using System.Xml.Linq;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

[Trait("Needs", "master")]
public sealed class LabTests : IDisposable
{
    private const int Long = 120_000;
    private readonly TempDir _files = new();

    public void Dispose() => _files.Dispose();

    [Fact]
    public void Thirty_requests_under_each_model_are_told_in_text_pictures_and_JSON()
    {
        string text = Lab("--delay", "50ms");
        foreach (string model in new[]
        {
            "sequential", "thread-per-connection", "thread-pool", "event-driven", "event-driven-thread-pool",
        })
        {
            Assert.Contains($"\n{model} ", text);
            Assert.Contains($"({model})\n", text);
        }
        Assert.DoesNotContain("\e", text);
        Assert.Contains("never two at the same time", text);
        Assert.Equal(5, text.Split("30 requests of 50 ms took").Length - 1);

        var svg = XDocument.Parse(File.ReadAllText(_files.At("lab.svg")));
        XNamespace ns = "http://www.w3.org/2000/svg";
        Assert.Equal(5 * 30, svg.Descendants(ns + "rect").Count(static r => r.Attribute("data-thread") is not null));

        using JsonDocument json = Json();
        JsonElement[] runs = [.. json.RootElement.GetProperty("runs").EnumerateArray()];
        Assert.Equal(5, runs.Length);
        foreach (JsonElement run in runs)
        {
            Assert.Equal(30, run.GetProperty("figures").GetProperty("answered").GetInt32());
            Assert.All(Requests(run), AssertOrder);
            AssertEventsAreThoseOfTheRequests(run);
        }
        Assert.Single(Threads(runs[0]));
        AssertNoOverlap(Requests(runs[0]));
        Assert.Equal(30, Threads(runs[1]).Count);
        AssertWaves(runs[2]);
        Assert.Single(Threads(runs[3]));
        Assert.True(runs[3].GetProperty("figures").GetProperty("at_once").GetInt32() > 1);
        AssertWaves(runs[4]);
    }

    [Fact]
    public void The_delay_decides_where_marks_stand()
    {
        Lab("sequential", "--delay", "20ms");
        long quick = LastStart();
        Lab("sequential", "--delay", "400ms");
        Assert.True(LastStart() >= 780_000, "two requests of 400 ms come before the third");
        Assert.True(quick >= 30_000, "two requests of 20 ms come before the third");

        long LastStart()
        {
            using JsonDocument json = Json();
            return Requests(json.RootElement.GetProperty("runs")[0]).Max(static r => At(r, "started"));
        }
    }

    [Fact]
    public void Slow_clients_hold_a_pool_until_the_timeout_and_no_loop()
    {
        Lab("slow", "--threads", "2", "--slow-clients", "2", "--requests", "3", "--delay", "10ms", "--timeout", "2s");
        using JsonDocument json = Json();
        JsonElement pool = json.RootElement.GetProperty("runs")[0];
        Assert.Equal(2, pool.GetProperty("figures").GetProperty("threads_held_by_slow").GetInt32());
        long[] slowTaken = [.. pool.GetProperty("requests").EnumerateArray()
            .Where(static r => r.TryGetProperty("slow", out _)).Select(static r => At(r, "taken"))];
        Assert.Equal(2, slowTaken.Length);
        Assert.All(Requests(pool), r => Assert.True(At(r, "started") >= slowTaken.Min() + 1_900_000));
        JsonElement loop = json.RootElement.GetProperty("runs")[1];
        Assert.Equal(0, loop.GetProperty("figures").GetProperty("threads_held_by_slow").GetInt32());
        Assert.Equal(3, loop.GetProperty("figures").GetProperty("answered").GetInt32());
    }

    [Fact]
    public void A_blocked_loop_starts_nobody_else_and_a_pool_does()
    {
        Lab("blocked", "--requests", "8");
        using JsonDocument json = Json();
        JsonElement[] runs = [.. json.RootElement.GetProperty("runs").EnumerateArray()];
        (long from, long to) = BlockerOf(runs[0]);
        Assert.DoesNotContain(Requests(runs[0]), r => At(r, "started") > from && At(r, "started") < to);
        (from, to) = BlockerOf(runs[1]);
        Assert.Contains(Requests(runs[1]), r => At(r, "started") > from && At(r, "started") < to);

        static (long From, long To) BlockerOf(JsonElement run)
        {
            JsonElement blocker = Requests(run).Single(static r => r.GetProperty("number").GetInt32() == 5);
            return (At(blocker, "started"), At(blocker, "answered"));
        }
    }

    [Fact]
    public void Idle_connections_are_counted_and_a_full_queue_is_answered_503()
    {
        Lab("idle", "--idle", "50", "--requests", "2", "--delay", "10ms");
        using (JsonDocument json = Json())
        {
            JsonElement figures = json.RootElement.GetProperty("runs")[1].GetProperty("figures");
            Assert.True(figures.GetProperty("peak_connections").GetInt64() >= 50);
        }
        string text = Lab("pool", "--threads", "1", "--queue", "1", "--requests", "6", "--delay", "1s");
        Assert.Contains("found the queue full and got 503", text);
    }

    /// <summary>The figures of one run, and what its requests were.</summary>
    private (JsonElement Figures, JsonElement[] Requests) One(params string[] words)
    {
        Lab(words);
        using JsonDocument json = Json();
        JsonElement run = json.RootElement.GetProperty("runs")[0].Clone();
        return (run.GetProperty("figures"), Requests(run));
    }

    [Fact]
    public void Computing_holds_a_loop_and_so_does_blocking_while_waiting_does_not()
    {
        string[] loop = ["--models", "event-driven", "--requests", "4", "--delay"];
        Assert.True(One([.. loop, "60ms"]).Figures.GetProperty("at_once").GetInt32() > 1);
        foreach (string[] held in new string[][] { ["60ms", "--block"], ["1ms", "--cpu", "30ms"] })
        {
            (JsonElement figures, JsonElement[] requests) = One([.. loop, .. held]);
            Assert.Equal(4, figures.GetProperty("answered").GetInt32());
            long[] ends = [.. requests.Select(static r => At(r, "answered")).Order()];
            Assert.All(ends.Zip(ends.Skip(1)), static pair =>
                Assert.True(pair.Second - pair.First >= 25_000, "a request went on while the loop was held"));
        }
    }

    [Fact]
    public void Kept_connections_carry_several_requests_each()
    {
        string[] words = ["pool", "--requests", "2", "--delay", "1ms"];
        Assert.Equal(2, One(words).Figures.GetProperty("answered").GetInt32());
        (JsonElement figures, _) = One([.. words, "--keep-alive", "3"]);
        Assert.Equal(6, figures.GetProperty("answered").GetInt32());
        Assert.True(figures.GetProperty("peak_connections").GetInt64() <= 2, figures.ToString());
    }

    [Fact]
    public void Who_finds_the_queue_full_waits_unaccepted_where_that_was_asked_for()
    {
        string[] words = ["pool", "--threads", "1", "--queue", "1", "--requests", "5", "--delay", "150ms"];
        Assert.True(One(words).Figures.GetProperty("refused").GetInt32() > 0);
        (JsonElement figures, _) = One([.. words, "--stop-accepting"]);
        Assert.Equal(0, figures.GetProperty("refused").GetInt32());
        Assert.Equal(5, figures.GetProperty("answered").GetInt32());
    }

    [Fact]
    public void A_longer_backlog_spares_clients_the_second_try()
    {
        string[] words = ["backlog", "--requests", "7", "--delay", "500ms"];
        Assert.True(One(words).Figures.GetProperty("syn_retransmits").GetInt64() > 0);
        (JsonElement figures, _) = One([.. words, "--backlog", "100"]);
        Assert.Equal(0, figures.GetProperty("syn_retransmits").GetInt64());
        Assert.Equal(7, figures.GetProperty("answered").GetInt32());
    }

    [Theory]
    [InlineData("there is no experiment \"pol\"", "lab", "pol")]
    [InlineData("there is no model \"treads\"", "lab", "--models", "treads")]
    [InlineData("invalid time \"soon\" of \"--delay\"", "lab", "--delay", "soon")]
    [InlineData("invalid number \"0\" of \"--requests\"", "lab", "--requests", "0")]
    public void What_cannot_be_run_is_refused_by_name(string complaint, params string[] words)
    {
        (int code, _, string errors) = ChildProcess.Run(ServerProcess.WeirBinary, Long, words);
        Assert.Equal(1, code);
        Assert.Contains(complaint, errors);
    }

    [Fact]
    public async Task The_page_offers_all_experiments_in_one_run()
    {
        using Port port = Port.Lease();
        string number = port.Number.ToString(CultureInfo.InvariantCulture);
        using var lab = new ChildProcess(ServerProcess.WeirBinary, ["lab", "--web", "--port", number]);
        Wait.For("the laboratory", () => lab.HasExited || lab.Errors.Contains("Stop it with Ctrl-C"));
        using var http = new HttpClient { BaseAddress = new Uri($"http://localhost:{number}/") };
        http.DefaultRequestHeaders.Add("X-Weir-Lab", "1");
        Assert.Contains("<option value=\"all\">", await http.GetStringAsync("/"));
        // Few and short: the experiments' own numbers take minutes.
        using HttpResponseMessage begun = await http.PostAsync(
            "/run?experiment=all&requests=2&delay=10ms&idle=3&slow=1&threads=4&timeout=300ms", null);
        Assert.Equal(204, (int)begun.StatusCode);
        using JsonDocument first = JsonDocument.Parse(await http.GetStringAsync("/state"));
        Assert.Equal("all", first.RootElement.GetProperty("experiment").GetString());
        int runs = first.RootElement.GetProperty("runs").GetArrayLength();
        Assert.True(runs > 10, $"{runs} runs");
        using HttpResponseMessage stopped = await http.PostAsync("/stop", null);
        Assert.Equal(204, (int)stopped.StatusCode);
        Wait.For("the end", () => http.GetStringAsync("/state").GetAwaiter().GetResult().Contains("-over-"));
    }

    [NeedsFact("chromium")]
    public void The_page_runs_experiments_by_keyboard_and_its_marks_follow_the_delay()
    {
        using Port port = Port.Lease();
        string number = port.Number.ToString(CultureInfo.InvariantCulture);
        using var lab = new ChildProcess(ServerProcess.WeirBinary, ["lab", "--web", "--port", number]);
        Wait.For("the laboratory", () => lab.HasExited || lab.Errors.Contains("Stop it with Ctrl-C"));
        Assert.False(lab.HasExited, lab.Errors);
        using var browser = new Browser();
        browser.Resize(1280, 900);
        browser.Open($"http://localhost:{number}/");
        browser.WaitFor("document.body.dataset.state === 'ready'");

        RunWith("60ms");
        Assert.Equal(5, browser.Number("document.querySelectorAll('article[data-state=done]').length"));
        Assert.Equal(5 * 6, browser.Number("document.querySelectorAll('rect[data-thread]').length"));
        double quick = LastStart();
        Shots("quick");
        RunWith("500ms");
        // Five requests of half a second come before the sixth; a timer may be a millisecond short.
        Assert.True(LastStart() >= 2_450_000, "the marks did not move");
        Assert.True(quick >= 250_000);
        Assert.Contains("6 requests of 500 ms took", browser.Text("document.querySelector('.sentence').textContent"));

        // By keyboard: through a picture with the arrows.
        browser.Evaluate("document.querySelector('.picture').focus()");
        browser.Press("ArrowDown");
        Assert.StartsWith("request 1, begins", browser.Text("document.querySelector('.row').textContent"));
        browser.Press("End");
        Assert.StartsWith("request 6, begins", browser.Text("document.querySelector('.row').textContent"));
        Shots("wide");
        browser.Dark(true);
        Shots("dark");
        browser.Resize(380, 800);
        browser.WaitFor("document.querySelector('.picture svg').getAttribute('width') < 380");
        browser.WaitFor("document.documentElement.scrollWidth === 380");
        Shots("narrow-dark");
        browser.Dark(false);
        Shots("narrow");

        // What makes no sense is said on the page.
        browser.Resize(1280, 900);
        browser.Evaluate("document.getElementById('delay').value = 'soon'");
        browser.Evaluate("document.getElementById('run').click()");
        browser.WaitFor("!document.getElementById('wrong').hidden");
        Assert.Contains("invalid time", browser.Text("document.getElementById('wrong').textContent"));

        using var http = new HttpClient();
        string json = http.GetStringAsync($"http://localhost:{number}/result.json").GetAwaiter().GetResult();
        using var result = JsonDocument.Parse(json);
        Assert.Equal(5, result.RootElement.GetProperty("runs").GetArrayLength());
        Assert.NotNull(XDocument.Parse(
            http.GetStringAsync($"http://localhost:{number}/result.svg").GetAwaiter().GetResult()).Root);
        // A foreign page cannot send our field, and a foreign name is not ours.
        Assert.Equal(403, (int)http.PostAsync($"http://localhost:{number}/run", null).GetAwaiter().GetResult()
            .StatusCode);
        using RawClient foreign = RawClient.Connect(port.Number);
        Assert.Equal(403, foreign.Send("GET /state HTTP/1.1\r\nHost: evil.example\r\n\r\n").ReadResponse().Status);
        lab.Stop(Signal.Quit, 20_000);
        Assert.True(lab.HasExited);

        void RunWith(string delay)
        {
            // Typed where Tab leads to, started with Enter.
            browser.Evaluate("document.getElementById('form').reset();"
                + "document.getElementById('experiment').focus()");
            browser.Press("Tab");
            Assert.Equal("requests", browser.Text("document.activeElement.id"));
            browser.Type("6");
            browser.Press("Tab");
            Assert.Equal("delay", browser.Text("document.activeElement.id"));
            browser.Type(delay);
            browser.Press("Enter");
            browser.WaitFor("document.querySelector('article .sentence')?.textContent.includes("
                + $"'6 requests of {delay[..^2]} ms took') && document.body.dataset.state === 'over'");
        }

        double LastStart() => double.Parse(browser.Text(
            "Math.max(...[...document.querySelectorAll('article[data-model=sequential] rect[data-thread]')]"
            + ".map(r => Number(r.dataset.us)))"), CultureInfo.InvariantCulture);

        void Shots(string name)
        {
            if (Environment.GetEnvironmentVariable("WEIR_PICTURES") is { Length: > 0 } folder)
            {
                browser.WaitFor("[...document.querySelectorAll('.picture')].every(p => "
                    + "Math.abs(p.clientWidth - p.firstElementChild.clientWidth) < 4)");
                browser.Picture(Path.Combine(folder, $"lab-{name}.png"));
            }
        }
    }

    private string Lab(params string[] words)
    {
        (int code, string output, string errors) = ChildProcess.Run(ServerProcess.WeirBinary, Long,
            ["lab", .. words, "--json", _files.At("lab.json"), "--svg", _files.At("lab.svg")]);
        Assert.True(code == 0, output + errors);
        return output;
    }

    private JsonDocument Json() => JsonDocument.Parse(File.ReadAllText(_files.At("lab.json")));

    private static JsonElement[] Requests(JsonElement run) => [.. run.GetProperty("requests").EnumerateArray()
        .Where(static r => !r.TryGetProperty("slow", out _))];

    private static HashSet<int> Threads(JsonElement run) =>
        [.. Requests(run).Select(static r => r.GetProperty("thread").GetInt32())];

    private static long At(JsonElement request, string mark) =>
        request.TryGetProperty(mark, out JsonElement at) ? at.GetInt64() : -1;

    private static void AssertOrder(JsonElement request)
    {
        // The blocking models take a connection and then read from it; loops read first and queue the request.
        bool blocking = request.TryGetProperty("taken", out _);
        string[] order = blocking
            ? ["begin", "accepted", "queued", "taken", "received", "started", "answered"]
            : ["begin", "accepted", "received", "queued", "started", "answered"];
        long last = -1;
        foreach (string mark in order)
        {
            long at = At(request, mark);
            if (at < 0 && mark == "queued")
            {
                continue;
            }
            Assert.True(at >= last, $"{mark} before what precedes it: {request}");
            last = at;
        }
        Assert.True(At(request, "end") >= At(request, "started"), request.ToString());
    }

    private static void AssertEventsAreThoseOfTheRequests(JsonElement run)
    {
        var started = run.GetProperty("events").EnumerateArray()
            .Where(static e => e[0].GetString() == "started")
            .Select(static e => (Thread: e[3].GetInt32(), Us: e[6].GetInt64()))
            .ToHashSet();
        Assert.Equal(30, started.Count);
        Assert.All(Requests(run), r =>
            Assert.Contains((r.GetProperty("thread").GetInt32(), At(r, "started")), started));
    }

    private static void AssertNoOverlap(IEnumerable<JsonElement> requests)
    {
        long free = -1;
        foreach (JsonElement request in requests.OrderBy(static r => At(r, "started")))
        {
            Assert.True(At(request, "started") >= free, "two at the same time");
            free = At(request, "answered");
        }
    }

    /// <summary>Ten threads cannot handle thirty requests in fewer than three waves.</summary>
    private static void AssertWaves(JsonElement run)
    {
        JsonElement figures = run.GetProperty("figures");
        Assert.True(Threads(run).Count <= 10);
        Assert.True(figures.GetProperty("at_once").GetInt32() <= 10, figures.ToString());
        Assert.True(figures.GetProperty("waves").GetInt32() >= 3, figures.ToString());
        foreach (IGrouping<int, JsonElement> thread in Requests(run)
            .GroupBy(static r => r.GetProperty("thread").GetInt32()))
        {
            long last = -50_000;
            foreach (long start in thread.Select(static r => At(r, "started")).Order())
            {
                // Each handler holds its thread for its 50 ms; a timer goes by a clock of some milliseconds' grain.
                Assert.True(start - last >= 40_000, "a thread began while it was busy");
                last = start;
            }
        }
    }
}
