// The settings outside http: what nginx's core and events modules read. Used by whoever starts processes and loops.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Tls;

namespace Weir.Http;

/// <summary>Settings of the main and events levels.</summary>
public sealed class MainSettings
{
    public Inherited<bool> Daemon;
    public Inherited<bool> MasterProcess;
    public Inherited<string> Pid;
    public Inherited<string> LockFile;

    /// <summary>Number of workers; 0 for auto.</summary>
    public Inherited<int> WorkerProcesses;
    public Inherited<string> User;
    public Inherited<string> Group;
    public Inherited<int> WorkerPriority;

    /// <summary>CPU masks, one per worker, last one repeated; empty for none. "auto" is <see
    /// cref="AffinityAuto"/>.</summary>
    public List<string> WorkerCpuAffinity { get; } = [];
    public bool AffinityAuto { get; private set; }
    public Inherited<int> WorkerRlimitNofile;
    public Inherited<long> WorkerRlimitCore;
    public Inherited<long> WorkerShutdownTimeoutMs;
    public Inherited<string> WorkingDirectory;
    public Inherited<long> TimerResolutionMs;
    public List<string> Env { get; } = [];
    public List<LogTarget> ErrorLogs { get; } = [];

    /// <summary>The main error_log, or the default one.</summary>
    public IReadOnlyList<LogTarget> ErrorLogsOr(string destination) =>
        ErrorLogs.Count > 0 ? ErrorLogs : [new LogTarget(destination, LogLevel.Error, default)];

    public Inherited<int> WorkerConnections;

    /// <summary>"epoll", "io_uring", or unset.</summary>
    public Inherited<string> Use;
    public Inherited<bool> MultiAccept;

    /// <summary>Clients whose requests are told in the error log whatever its level.</summary>
    internal List<Cidr> DebugConnections { get; } = [];
    public Inherited<bool> AcceptMutex;
    public Inherited<long> AcceptMutexDelayMs;
    public int BlockingThreads { get; private set; } = 32;
    private bool _hasEvents;
    private Inherited<string> _engine;

    internal static void Declare(DirectiveRegistry registry, HttpBuild build)
    {
        MainSettings s = build.Main;
        void Add(string name, Action<DirectiveUse> apply) => registry.AddNginx(name, ConfContext.Main, (w, d) =>
            apply(new DirectiveUse(w, d, null!, build)));
        void AddEvents(string name, Action<DirectiveUse> apply) => registry.AddNginx(name, ConfContext.Events, (w, d) =>
            apply(new DirectiveUse(w, d, null!, build)));

        Add("daemon", u => u.SetFlag(ref s.Daemon));
        Add("master_process", u => u.SetFlag(ref s.MasterProcess));
        Add("pid", u => u.SetText(ref s.Pid));
        Add("lock_file", u => u.SetText(ref s.LockFile));
        Add("timer_resolution", u => u.SetMsec(ref s.TimerResolutionMs));
        Add("worker_processes", u => s.SetWorkerProcesses(u));
        Add("user", u => s.SetUser(u));
        Add("worker_priority", u => s.SetPriority(u));
        Add("worker_cpu_affinity", u => s.SetAffinity(u));
        Add("worker_rlimit_nofile", u => u.SetNumber(ref s.WorkerRlimitNofile));
        Add("worker_rlimit_core", u => u.SetOffset(ref s.WorkerRlimitCore));
        Add("worker_shutdown_timeout", u => u.SetMsec(ref s.WorkerShutdownTimeoutMs));
        Add("working_directory", u => u.SetText(ref s.WorkingDirectory));
        Add("env", u => s.Env.Add(u[0]));
        Add("load_module", s.CheckModule);
        Add("pcre_jit", static u => u.Walker.TryFlag(u.Directive, out bool _));
        Add("thread_pool", s.SetThreadPool);
        Add("debug_points", static u =>
            u.Walker.TryEnum(u.Directive, [new ConfChoice<int>("stop", 0), new("abort", 1)], out int _));
        Add("error_log", u => AddErrorLog(u, s.ErrorLogs.Add));
        Add("ssl_engine", s.SetEngine);
        Add("ssl_object_cache_inheritable", static u => u.Walker.TryFlag(u.Directive, out bool _));
        registry.AddNginx("events", ConfContext.Main, (w, d) =>
        {
            if (s._hasEvents)
            {
                w.Duplicate(d);
                return;
            }
            s._hasEvents = true;
            w.WalkBlock(d, ConfContext.Events, build);
        });
        AddEvents("worker_connections", u => u.SetNumber(ref s.WorkerConnections));
        AddEvents("use", s.SetUse);
        AddEvents("debug_connection", s.AddDebugConnection);
        AddEvents("multi_accept", u => u.SetFlag(ref s.MultiAccept));
        AddEvents("accept_mutex", u => u.SetFlag(ref s.AcceptMutex));
        AddEvents("accept_mutex_delay", u => u.SetMsec(ref s.AcceptMutexDelayMs));
        AddEvents("worker_aio_requests", static u => u.Walker.TryNumber(u.Directive, out long _));
        AddEvents("epoll_events", static u => u.Walker.TryNumber(u.Directive, out long _));
    }

    /// <summary>Takes effect at once, as nginx's: keys that stand below may be the engine's.</summary>
    private void SetEngine(DirectiveUse use)
    {
        if (use.Walker.Fresh(use.Directive, in _engine))
        {
            _engine.Set(use[0]);
            if (TlsKeyPlaces.UseEngine(use[0]) is { } error)
            {
                use.Error(error);
            }
        }
    }

    private void AddDebugConnection(DirectiveUse use)
    {
        if (use[0] == "unix:")
        {
            DebugConnections.Add(Cidr.Unix);
            return;
        }
        if (Cidr.TryParse(use[0], out Cidr network, out bool hasLowBits))
        {
            if (hasLowBits)
            {
                use.Walker.Warn(use.Directive.Args[0].Span, $"low address bits of {use[0]} are meaningless");
            }
            DebugConnections.Add(network);
            return;
        }
        if (use.Build.Resources.Resolve(use[0], 80, out string? error) is not { } addresses)
        {
            use.Error(0, $"{error} in debug_connection \"{use[0]}\"");
            return;
        }
        foreach (SocketAddress address in addresses)
        {
            if (Cidr.TryParse(address.ToText(withPort: false).Trim('[', ']'), out network, out bool _))
            {
                DebugConnections.Add(network);
            }
        }
    }

    /// <summary>nginx requires an events block.</summary>
    public bool HasEvents => _hasEvents;

    public int EffectiveWorkers => WorkerProcesses.IsSet
        ? WorkerProcesses.Value == 0 ? Environment.ProcessorCount : WorkerProcesses.Value
        : 1;

    /// <summary>What only new processes can take up: a change here makes a reload take the classic road.</summary>
    public string ClassicKey => string.Join('\n', User.ValueOr(""), Group.ValueOr(""), string.Join(',', Env),
        WorkingDirectory.ValueOr(""), WorkerRlimitNofile.ValueOr(-1), WorkerRlimitCore.ValueOr(-1),
        WorkerPriority.ValueOr(0), string.Join(',', WorkerCpuAffinity), AffinityAuto,
        WorkerConnections.ValueOr(512), Use.ValueOr(""), UsesAcceptMutex ? EffectiveWorkers : 0,
        AcceptMutexDelayMs.ValueOr(500), KeepsNetRaw);

    /// <summary>Workers that give root up keep CAP_NET_RAW: connections may come from addresses that are not this
    /// machine's (`proxy_bind … transparent`).</summary>
    public bool KeepsNetRaw { get; set; }

    /// <summary>Workers take turns at accepting; with one worker there is nobody to take turns with.</summary>
    public bool UsesAcceptMutex => AcceptMutex.ValueOr(false) && EffectiveWorkers > 1;

    private void SetWorkerProcesses(DirectiveUse use)
    {
        if (!use.Walker.Fresh(use.Directive, in WorkerProcesses))
        {
            return;
        }
        if (use[0] == "auto")
        {
            WorkerProcesses.Set(0);
        }
        else if (use.Walker.TryNumber(use.Directive, out long n))
        {
            if (n is < 1 or > 1000)
            {
                use.Error(0, "invalid number of workers", "\"auto\", or 1 to 1000");
                return;
            }
            WorkerProcesses.Set((int)n);
        }
    }

    private void SetUser(DirectiveUse use)
    {
        if (use.Walker.Fresh(use.Directive, in User))
        {
            User.Set(use[0]);
            Group.Set(use.Count > 1 ? use[1] : use[0]);
        }
    }

    private void SetPriority(DirectiveUse use)
    {
        if (!use.Walker.Fresh(use.Directive, in WorkerPriority))
        {
            return;
        }
        bool negative = use[0].StartsWith('-');
        if (ConfValues.TryNumber(use[0].AsSpan(negative ? 1 : 0), out long n))
        {
            // The kernel takes what is beyond its range as the end of it.
            WorkerPriority.Set((int)Math.Min(n, 100) * (negative ? -1 : 1));
        }
        else
        {
            use.Complain("invalid number");
        }
    }

    private void SetAffinity(DirectiveUse use)
    {
        if (WorkerCpuAffinity.Count > 0 || AffinityAuto)
        {
            use.Complain("is duplicate");
            return;
        }
        int first = 0;
        if (use[0] == "auto")
        {
            if (use.Count > 2)
            {
                use.Error("invalid number of arguments in \"worker_cpu_affinity\" directive");
                return;
            }
            AffinityAuto = true;
            first = 1;
        }
        for (int i = first; i < use.Count; i++)
        {
            foreach (char c in use[i])
            {
                if (c is not ('0' or '1' or ' '))
                {
                    use.Error(i, $"invalid character \"{c}\" in \"worker_cpu_affinity\"");
                    return;
                }
            }
            WorkerCpuAffinity.Add(use[i].Replace(" ", "", StringComparison.Ordinal));
        }
    }

    private void CheckModule(DirectiveUse use)
    {
        // nginx's own dynamic modules are part of the binary or absent; a directive of an absent one is the error.
        string file = Path.GetFileName(use[0]);
        string[] known =
        [
            "ngx_http_geoip_module.so", "ngx_http_image_filter_module.so", "ngx_http_perl_module.so",
            "ngx_http_xslt_filter_module.so", "ngx_mail_module.so", "ngx_stream_module.so",
                "ngx_stream_geoip_module.so",
        ];
        if (!known.Contains(file))
        {
            use.Error(0, $"module \"{file}\" is not one that nginx ships; weir cannot load foreign modules");
        }
    }

    private void SetThreadPool(DirectiveUse use)
    {
        for (int i = 1; i < use.Count; i++)
        {
            if (use[i].StartsWith("threads=", StringComparison.Ordinal)
                && ConfValues.TryNumber(use[i].AsSpan(8), out long threads) && threads > 0)
            {
                if (use[0] == "default")
                {
                    BlockingThreads = (int)Math.Min(threads, 1024);
                }
            }
            else if (!use[i].StartsWith("max_queue=", StringComparison.Ordinal)
                || !ConfValues.TryNumber(use[i].AsSpan(10), out long _))
            {
                use.InvalidParameter(i);
            }
        }
    }

    private void SetUse(DirectiveUse use)
    {
        if (!use.Walker.Fresh(use.Directive, in Use))
        {
            return;
        }
        if (use[0] is not (Engines.Epoll or Engines.IoUring or PortableLoop.Name))
        {
            use.Error(0, $"invalid event type \"{use[0]}\"",
                "this build has \"io_uring\", \"epoll\" and \"portable\"");
        }
        else if (use[0] == Engines.IoUring && UringLoop.WhyUnavailable() is { } reason)
        {
            use.Error(0, $"\"use io_uring\" is impossible: {reason}",
                "without \"use\" the best engine there is is taken");
        }
        else
        {
            Use.Set(use[0]);
        }
    }

    /// <summary>error_log, on any level.</summary>
    internal static void AddErrorLog(DirectiveUse use, Action<LogTarget> add)
    {
        LogLevel level = LogLevel.Error;
        string target = use[0];
        if (use.Count > 2)
        {
            use.Error("only one log level is supported", "name the least severe level that you want");
            return;
        }
        if (use.Count == 2 && !LogLevels.TryParse(use[1], out level))
        {
            use.Error(1, $"invalid log level \"{use[1]}\"", "debug, info, notice, warn, error, crit, alert or emerg");
            return;
        }
        if (target.StartsWith("memory:", StringComparison.Ordinal))
        {
            use.Error(0, "nginx was built without debug support", "weir has no memory log; use a file");
            return;
        }
        if (!target.StartsWith("syslog:", StringComparison.Ordinal) && target != LogSpec.StandardError)
        {
            target = use.Build.FullPath(target);
        }
        add(new LogTarget(target, level, use.Directive.Args[0].Span));
    }
}
