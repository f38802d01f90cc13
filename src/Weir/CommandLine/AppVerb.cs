// `weir app`: its options as values, from the words that Verbs sorted. Start-up only; pure.
using System.Globalization;
using Weir.Conf;
using Weir.Server;

namespace Weir;

/// <summary>`weir app`, understood.</summary>
internal sealed record AppOptions
{
    public required AppServerOptions Server { get; init; }

    /// <summary>How long each request waits.</summary>
    public TimeSpan Delay { get; init; }

    /// <summary>How long each request computes.</summary>
    public TimeSpan Cpu { get; init; }

    /// <summary>Wait without holding the thread.</summary>
    public bool Awaits { get; init; }

    /// <summary>What it shows with --https.</summary>
    public DevelopmentCertificate? Certificate { get; init; }
}

internal static class AppVerb
{
    /// <summary>A request may not ask for more than this.</summary>
    public static readonly TimeSpan LongestWait = TimeSpan.FromHours(1);

    private static readonly string[] _models =
    [
        "sequential", "thread-per-connection", "thread-pool", "event-driven", "event-driven-thread-pool",
        "event-driven-task-pool",
    ];

    public static VerbOption[] Options { get; } =
    [
        new("--model", 'm', "NAME", "sequential, thread-per-connection, thread-pool, event-driven, "
            + "event-driven-thread-pool (the default) or event-driven-task-pool"),
        new("--threads", 't', "N", "threads of a pool, or connections that may have one (default 10)"),
        new("--queue", 'q', "N", "how many may wait for a thread (default 100)"),
        new("--loops", null, "N", "event loops (default 1)"),
        new("--full", null, "WHAT", "when the queue is full: refuse (503, the default) or stop (accept nobody)"),
        new("--backlog", 'b', "N", "connections that the kernel keeps before they are accepted (default 511)"),
        new("--timeout", null, "TIME", "how long a handler may take before it is answered for (default: any time)"),
        new("--header-timeout", null, "TIME", "how long the head of a request may take (default 60s)"),
        new("--idle-timeout", null, "TIME", "how long a connection may wait for a request (default 75s)"),
        new("--delay", 'd', "TIME", "each request waits this long (default 0)"),
        new("--cpu", null, "TIME", "each request computes this long (default 0)"),
        new("--await", null, null, "wait with await: the thread or loop is free meanwhile"),
    ];

    /// <summary>Null after saying in <paramref name="complaint"/> what is wrong.</summary>
    public static AppOptions? Read(IReadOnlyDictionary<string, string> values, IReadOnlySet<string> switches,
        CommonOptions common, out (string Text, string? Hint) complaint)
    {
        var reader = new Reader(values);
        int threads = reader.Number("--threads", 10, 1, 100_000);
        int queue = reader.Number("--queue", 100, 0, 1_000_000);
        int loops = reader.Number("--loops", 1, 1, 1024);
        string model = reader.Word("--model", "event-driven-thread-pool", _models);
        var server = new AppServerOptions
        {
            Concurrency = model switch
            {
                "sequential" => Concurrency.Sequential,
                "thread-per-connection" => Concurrency.ThreadPerConnection(threads),
                "thread-pool" => Concurrency.ThreadPool(threads, queue),
                "event-driven" => Concurrency.EventDriven(loops),
                "event-driven-task-pool" => Concurrency.EventDrivenWithTaskPool(loops),
                _ => Concurrency.EventDrivenWithThreadPool(loops, threads, queue),
            },
            QueueFull = reader.Word("--full", "refuse", ["refuse", "stop"]) == "stop"
                ? QueueFull.StopAccepting : QueueFull.Refuse,
            Backlog = reader.Number("--backlog", 511, 1, 65535),
            HandlerTimeout = reader.Time("--timeout", TimeSpan.Zero),
            HeaderTimeout = reader.Time("--header-timeout", TimeSpan.FromSeconds(60)),
            IdleTimeout = reader.Time("--idle-timeout", TimeSpan.FromSeconds(75)),
            LogLevel = AppLogLevel.Information,
        };
        string scheme = "";
        if (common.Certificate is { } certificate)
        {
            scheme = "https://";
            server.Https.Certificate = ServerCertificate.FromPemFile(certificate.CertificatePath, certificate.KeyPath);
        }
        foreach (string listen in common.Listens)
        {
            server.Listen.Add(scheme + (listen.All(char.IsAsciiDigit) ? "*:" + listen : listen));
        }
        var options = new AppOptions
        {
            Server = server,
            Delay = reader.Time("--delay", TimeSpan.Zero),
            Cpu = reader.Time("--cpu", TimeSpan.Zero),
            Awaits = switches.Contains("--await"),
            Certificate = common.Certificate,
        };
        complaint = reader.Complaint;
        return reader.Complaint.Text.Length == 0 ? options : null;
    }

    /// <summary>"10s", "500ms", "2m", "1h"; a bare number is seconds.</summary>
    public static bool TryTime(string text, out TimeSpan time)
    {
        time = default;
        int unit = text.AsSpan().IndexOfAnyExceptInRange('0', '9');
        ReadOnlySpan<char> digits = unit < 0 ? text : text.AsSpan(0, unit);
        double milliseconds = unit < 0 ? 1000 : text[unit..] switch
        {
            "ms" => 1,
            "s" => 1000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => 0,
        };
        if (milliseconds == 0
            || !int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
            || number * milliseconds > TimeSpan.FromDays(24).TotalMilliseconds)
        {
            return false;
        }
        time = TimeSpan.FromMilliseconds(number * milliseconds);
        return true;
    }

    /// <summary>Values with their first complaint.</summary>
    private sealed class Reader(IReadOnlyDictionary<string, string> values)
    {
        public (string Text, string? Hint) Complaint { get; private set; } = ("", null);

        public int Number(string name, int otherwise, int least, int most)
        {
            if (!values.TryGetValue(name, out string? text))
            {
                return otherwise;
            }
            if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int number)
                && number >= least && number <= most)
            {
                return number;
            }
            Complain($"invalid number \"{text}\" of \"{name}\"", $"{least} to {most}");
            return otherwise;
        }

        public TimeSpan Time(string name, TimeSpan otherwise)
        {
            if (!values.TryGetValue(name, out string? text))
            {
                return otherwise;
            }
            if (TryTime(text, out TimeSpan time))
            {
                return time;
            }
            Complain($"invalid time \"{text}\" of \"{name}\"", "such as 500ms, 10s or 2m");
            return otherwise;
        }

        public string Word(string name, string otherwise, string[] words)
        {
            if (!values.TryGetValue(name, out string? text))
            {
                return otherwise;
            }
            if (words.Contains(text))
            {
                return text;
            }
            Complain($"invalid word \"{text}\" of \"{name}\"",
                NearestName.Hint(words, text) ?? "one of " + string.Join(", ", words));
            return otherwise;
        }

        private void Complain(string text, string hint)
        {
            if (Complaint.Text.Length == 0)
            {
                Complaint = (text, hint);
            }
        }
    }
}
