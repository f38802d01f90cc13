// What the laboratory does: which servers, under which model, with which load. Plain values, made from options before
// anything starts; pure. An experiment is a name, a question, and the runs that answer it.
using System.Globalization;
using Weir.Server;

namespace Weir.Lab;

/// <summary>One server under one model with its load.</summary>
internal sealed record LabRunSpec
{
    public required string Model { get; init; }

    /// <summary>What stands over the picture.</summary>
    public required string Title { get; init; }
    public int Threads { get; init; } = 10;
    public int Queue { get; init; } = 100;
    public int Loops { get; init; } = 1;
    public int Backlog { get; init; } = 511;

    /// <summary>When the queue is full nobody is accepted, instead of 503.</summary>
    public bool StopsAccepting { get; init; }
    public TimeSpan HandlerTimeout { get; init; }
    public TimeSpan HeaderTimeout { get; init; } = TimeSpan.FromSeconds(60);

    /// <summary>Connections that each send <see cref="KeepAlive"/> requests.</summary>
    public int Requests { get; init; } = 30;
    public TimeSpan Delay { get; init; } = TimeSpan.FromSeconds(1);
    public TimeSpan Cpu { get; init; }

    /// <summary>The handler blocks its thread while it waits, instead of awaiting.</summary>
    public bool Blocks { get; init; }

    /// <summary>Requests of one connection, one after the other; 1 closes it after its answer.</summary>
    public int KeepAlive { get; init; } = 1;

    /// <summary>Time between the starts of two requests; zero: all at once.</summary>
    public TimeSpan Spacing { get; init; }

    /// <summary>The number (from 1) of the one request that blocks its thread, or 0.</summary>
    public int Blocker { get; init; }
    public TimeSpan BlockerDelay { get; init; }

    /// <summary>Clients that send one byte a second and begin before all others.</summary>
    public int SlowClients { get; init; }

    /// <summary>Keep-alive connections that have had one answer and stay.</summary>
    public int Idle { get; init; }

    /// <summary>Handlers run on the loop's own thread.</summary>
    public bool RunsOnLoop => Model == "event-driven";

    /// <summary>The model as the library takes it.</summary>
    public Concurrency Concurrency => Model switch
    {
        "sequential" => Concurrency.Sequential,
        "thread-per-connection" => Concurrency.ThreadPerConnection(Threads),
        "thread-pool" => Concurrency.ThreadPool(Threads, Queue),
        "event-driven" => Concurrency.EventDriven(Loops),
        "event-driven-task-pool" => Concurrency.EventDrivenWithTaskPool(Loops),
        _ => Concurrency.EventDrivenWithThreadPool(Loops, Threads, Queue),
    };
}

/// <summary>An experiment: runs that answer a question.</summary>
internal sealed record LabPlan
{
    public required string Name { get; init; }
    public required string Title { get; init; }
    public required string Question { get; init; }
    public required LabRunSpec[] Runs { get; init; }

    /// <summary>The runs share the machine at the same time; else one follows the other.</summary>
    public bool Together { get; init; }

    public static IReadOnlyList<string> Names { get; } =
        ["compare", "sequential", "threads", "pool", "slow", "backlog", "idle", "blocked"];

    public static IReadOnlyList<string> Models { get; } =
    [
        "sequential", "thread-per-connection", "thread-pool", "event-driven", "event-driven-thread-pool",
        "event-driven-task-pool",
    ];

    /// <summary>What each experiment asks, for help texts and the page.</summary>
    public static string QuestionOf(string name) => name switch
    {
        "sequential" => "Three requests come at once to a server with one thread. How long does the last one wait?",
        "threads" => "A thread for each connection: nobody waits. What does that cost when thousands stay connected?",
        "pool" => "Ten threads and thirty requests: who runs, and who waits?",
        "slow" => "Ten clients send one byte a second. What becomes of everybody else?",
        "backlog" => "Nobody is accepted and the backlog is full. What do the next clients notice?",
        "idle" => "Thousands of connections that do nothing: what do they cost an event loop?",
        "blocked" => "One handler blocks the loop. Who notices?",
        _ => "The same requests, at once, to the same handler under each concurrency model: who waits, where?",
    };

    /// <summary>What <see cref="Everything"/> is called.</summary>
    public const string All = "all";

    /// <summary>Every experiment but the comparison, one run after the other: a picture for each claim of
    /// docs/concurrency.md.</summary>
    public static LabPlan Everything(LabOptions o) => new()
    {
        Name = All,
        Title = "All of them, one after the other",
        Question = "From one request at a time to event-driven: what does each step cure, and what does it cost?",
        Runs = [.. Names.Skip(1).Select(name => Of(name, o)).SelectMany(static plan => plan.Runs)],
    };

    /// <summary>The experiment of that name, with the options' numbers in place of its own.</summary>
    public static LabPlan Of(string name, LabOptions o)
    {
        if (name == All)
        {
            return Everything(o);
        }

        LabPlan Plan(string title, params LabRunSpec[] runs) => new()
        {
            Name = name,
            Title = title,
            Question = QuestionOf(name),
            Runs = [.. runs.Select(run => o.ApplyTo(run))],
        };

        LabRunSpec Run(string model, string title) => new() { Model = model, Title = title };

        TimeSpan ten = TimeSpan.FromSeconds(10);
        switch (name)
        {
            case "sequential":
                return Plan("One request at a time", Run("sequential", "One thread") with
                {
                    Requests = 3,
                    Delay = ten,
                });
            case "threads":
                int many = o.Idle ?? 5000;
                return Plan("A thread for each connection",
                    Run("thread-per-connection", "A thread for each of the requests") with { Delay = ten, Idle = 0 },
                    Run("thread-per-connection", $"A thread for each of {Number(many)} connections that stay") with
                    {
                        Threads = many + 1000,
                        Delay = ten,
                        Idle = many,
                    },
                    Run("event-driven", $"One event loop with the same {Number(many)} connections") with
                    {
                        Delay = ten,
                        Idle = many,
                    }).Fixing(0, static run => run with { Idle = 0 });
            case "pool":
                return Plan("A pool of threads", Run("thread-pool", "A pool of threads"));
            case "slow":
                LabRunSpec slow = Run("thread-pool", "A pool: each thread reads for its client") with
                {
                    Requests = 20,
                    Delay = TimeSpan.FromMilliseconds(200),
                    SlowClients = 10,
                    HeaderTimeout = TimeSpan.FromSeconds(5),
                };
                return Plan("Slow clients", slow, slow with
                {
                    Model = "event-driven-thread-pool",
                    Title = "A loop reads for everybody, threads only run handlers",
                });
            case "backlog":
                return Plan("A full backlog", Run("thread-pool", "One thread, no queue, a backlog of one") with
                {
                    Threads = 1,
                    Queue = 0,
                    Backlog = 1,
                    StopsAccepting = true,
                    Requests = 8,
                    Delay = TimeSpan.FromMilliseconds(2500),
                    Spacing = TimeSpan.FromMilliseconds(50),
                });
            case "idle":
                int idle = o.Idle ?? 10_000;
                return Plan("Connections that idle",
                    Run("event-driven", "Nobody else is connected") with { Idle = 0 },
                    Run("event-driven", $"{Number(idle)} idle keep-alive connections beside the requests") with
                    {
                        Idle = idle,
                    }).Fixing(0, static run => run with { Idle = 0 });
            case "blocked":
                LabRunSpec blocked = Run("event-driven", "Handlers on the loop, one of them blocks") with
                {
                    Delay = TimeSpan.FromMilliseconds(20),
                    Spacing = TimeSpan.FromMilliseconds(100),
                    Blocker = 5,
                    BlockerDelay = TimeSpan.FromSeconds(2),
                };
                return Plan("A handler that blocks", blocked, blocked with
                {
                    Model = "event-driven-thread-pool",
                    Title = "Connections on the loop, handlers on threads",
                });
            default:
                return Plan("The same requests under each model",
                    [.. o.ModelsOr(Models.Take(5)).Select(model => Run(model, TitleOf(model)))]) with
                {
                    Together = true,
                };
        }
    }

    public static string TitleOf(string model) => model switch
    {
        "sequential" => "Sequential: one thread",
        "thread-per-connection" => "A thread per connection",
        "thread-pool" => "A pool of threads",
        "event-driven" => "Event-driven: handlers on the loop",
        "event-driven-thread-pool" => "Event-driven with a pool of threads",
        _ => "Event-driven with the runtime's task pool",
    };

    public static string Number(long number) => number.ToString("#,0", CultureInfo.InvariantCulture);

    private LabPlan Fixing(int index, Func<LabRunSpec, LabRunSpec> fix) => this with
    {
        Runs = [.. Runs.Select((run, i) => i == index ? fix(run) : run)],
    };
}
