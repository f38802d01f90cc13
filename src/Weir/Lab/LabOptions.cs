// `weir lab`: its options as values, read from a command line's words or from the page's form by the same code. Pure.
using System.Globalization;
using Weir.Conf;

namespace Weir.Lab;

/// <summary>`weir lab`, understood. A number that is null is the experiment's own.</summary>
internal sealed record LabOptions
{
    private const int RequestsMax = 20_000;
    private static readonly TimeSpan _longest = TimeSpan.FromMinutes(10);

    public string Experiment { get; init; } = "compare";
    public string[]? Models { get; init; }
    public int? Requests { get; init; }
    public TimeSpan? Delay { get; init; }
    public TimeSpan? Cpu { get; init; }
    public bool Blocks { get; init; }
    public int? Threads { get; init; }
    public int? Queue { get; init; }
    public int? Backlog { get; init; }
    public bool StopsAccepting { get; init; }
    public TimeSpan? Timeout { get; init; }
    public int? KeepAlive { get; init; }
    public int? SlowClients { get; init; }
    public int? Idle { get; init; }

    /// <summary>Where the results go, or null.</summary>
    public string? JsonPath { get; init; }
    public string? SvgPath { get; init; }
    public bool IsWeb { get; init; }
    public IReadOnlyList<string> Listens { get; init; } = [];

    public IEnumerable<string> ModelsOr(IEnumerable<string> otherwise) => Models ?? otherwise;

    public IEnumerable<string> Experiments => Experiment == LabPlan.All ? LabPlan.Names.Skip(1) : [Experiment];

    public LabRunSpec ApplyTo(LabRunSpec run) => run with
    {
        Requests = Requests ?? run.Requests,
        Delay = Delay ?? run.Delay,
        Cpu = Cpu ?? run.Cpu,
        Blocks = Blocks || run.Blocks,
        // Where a run has a thread per connection the number is a limit, and the load must fit below it.
        Threads = run.Model == "thread-per-connection"
            ? Math.Max(Threads ?? 0, (Requests ?? run.Requests) + (Idle ?? run.Idle) + (SlowClients ?? run.SlowClients))
            : Threads ?? run.Threads,
        Queue = Queue ?? run.Queue,
        Backlog = Backlog ?? run.Backlog,
        StopsAccepting = StopsAccepting || run.StopsAccepting,
        // A slow client is late with its head, a slow handler with its answer.
        HandlerTimeout = run.SlowClients > 0 ? run.HandlerTimeout : Timeout ?? run.HandlerTimeout,
        HeaderTimeout = Timeout ?? run.HeaderTimeout,
        KeepAlive = KeepAlive ?? run.KeepAlive,
        SlowClients = SlowClients ?? run.SlowClients,
        Idle = Idle ?? run.Idle,
    };

    /// <summary>Null after saying in <paramref name="complaint"/> what is wrong.</summary>
    public static LabOptions? Read(string experiment, IReadOnlyDictionary<string, string> values,
        IReadOnlySet<string> switches, out (string Text, string? Hint) complaint)
    {
        var reader = new Reader(values);
        string[] experiments = [.. LabPlan.Names, LabPlan.All];
        if (!experiments.Contains(experiment))
        {
            reader.Complain($"there is no experiment \"{experiment}\"",
                NearestName.Hint(experiments, experiment) ?? "one of " + string.Join(", ", experiments));
        }
        var options = new LabOptions
        {
            Experiment = experiment,
            Models = reader.Models("--models"),
            Requests = reader.Number("--requests", 1, RequestsMax),
            Delay = reader.Time("--delay", _longest),
            Cpu = reader.Time("--cpu", _longest),
            Blocks = switches.Contains("--block"),
            Threads = reader.Number("--threads", 1, 30_000),
            Queue = reader.Number("--queue", 0, 1_000_000),
            Backlog = reader.Number("--backlog", 1, 65535),
            StopsAccepting = switches.Contains("--stop-accepting"),
            Timeout = reader.Time("--timeout", _longest),
            KeepAlive = reader.Number("--keep-alive", 1, 1000),
            SlowClients = reader.Number("--slow-clients", 0, 1000),
            Idle = reader.Number("--idle", 0, 25_000),
            JsonPath = values.GetValueOrDefault("--json"),
            SvgPath = values.GetValueOrDefault("--svg"),
            IsWeb = switches.Contains("--web"),
        };
        complaint = reader.Complaint;
        return complaint.Text.Length == 0 ? options : null;
    }

    /// <summary>Values with their first complaint.</summary>
    private sealed class Reader(IReadOnlyDictionary<string, string> values)
    {
        public (string Text, string? Hint) Complaint { get; private set; } = ("", null);

        public int? Number(string name, int least, int most)
        {
            if (!values.TryGetValue(name, out string? text))
            {
                return null;
            }
            if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                && number >= least && number <= most)
            {
                return number;
            }
            Complain($"invalid number \"{text}\" of \"{name}\"", $"{least} to {most}");
            return null;
        }

        public TimeSpan? Time(string name, TimeSpan most)
        {
            if (!values.TryGetValue(name, out string? text))
            {
                return null;
            }
            if (AppVerb.TryTime(text, out TimeSpan time) && time <= most)
            {
                return time;
            }
            Complain($"invalid time \"{text}\" of \"{name}\"", "such as 50ms, 1s or 2m; ten minutes at most");
            return null;
        }

        public string[]? Models(string name)
        {
            if (!values.TryGetValue(name, out string? text))
            {
                return null;
            }
            string[] models = text.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries);
            if (Array.Find(models, static m => !LabPlan.Models.Contains(m)) is { } wrong)
            {
                Complain($"there is no model \"{wrong}\"",
                    NearestName.Hint(LabPlan.Models, wrong) ?? "some of " + string.Join(",", LabPlan.Models));
            }
            return models.Length > 0 ? models : null;
        }

        public void Complain(string text, string hint)
        {
            if (Complaint.Text.Length == 0)
            {
                Complaint = (text, hint);
            }
        }
    }
}
