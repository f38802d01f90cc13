// One run: starts its server, lets the clients at it, and collects what both tell until every ordinary client is done.
// Whoever draws takes a View at any time; everything that grows stands behind one lock.
using System.Globalization;
using System.Net.Sockets;
using Weir.Server;

namespace Weir.Lab;

internal enum LabState : byte
{
    Waiting,
    Preparing,
    Running,
    Done,
    Failed,
}

internal sealed class LabRun(LabRunSpec spec)
{
    private const int PollMs = 50;
    private const int OpeningAtOnce = 64;

    private readonly Lock _gate = new();
    private readonly List<AppServerEvent> _events = [];
    private readonly List<LabSample> _samples = [];
    private readonly List<ClientMark> _marks = [];
    private readonly List<Socket> _idle = [];
    private LabState _state;
    private long _startUs;
    private string _failure = "";
    private LabSample _before;
    private LabSample _withIdle;

    public LabRunSpec Spec { get; } = spec;

    public LabView View()
    {
        lock (_gate)
        {
            return new LabView
            {
                Spec = Spec,
                State = _state,
                Failure = _failure,
                StartUs = _startUs,
                NowUs = _samples.Count > 0 ? _samples[^1].TimeUs : _startUs,
                Before = _before,
                WithIdle = _withIdle,
                IdleOpen = _idle.Count,
                Samples = [.. _samples],
                Events = [.. _events],
                Rows = LabRow.Of(_events, _marks),
            };
        }
    }

    /// <summary>Runs to the end; what fails is told by the view.</summary>
    public async Task RunAsync(CancellationToken stop)
    {
        try
        {
            Set(LabState.Preparing);
            int connections = Spec.Idle + Spec.SlowClients + Spec.Requests;
            if (!LabLimits.AllowDescriptors(connections))
            {
                throw new IOException($"{connections} connections need more descriptors than \"ulimit -n\" allows");
            }
            using LabServer server = await LabServer.StartAsync(Spec, stop);
            await MeasureAsync(server, stop);
            Set(LabState.Done);
        }
        catch (Exception e) when (e is IOException or OperationCanceledException or SocketException
            or System.ComponentModel.Win32Exception)
        {
            lock (_gate)
            {
                _state = LabState.Failed;
                _failure = e is OperationCanceledException ? "stopped" : e.Message;
            }
        }
        foreach (Socket socket in _idle)
        {
            socket.Dispose();
        }
    }

    private async Task MeasureAsync(LabServer server, CancellationToken stop)
    {
        var client = new LabClient(server.Port);
        // The first answer brings everything up that a server needs once; it belongs to nobody's cost.
        (await client.StayAsync(stop))?.Dispose();
        await Task.Delay(100, stop);
        await OpenIdleAsync(client, server, stop);
        using var over = CancellationTokenSource.CreateLinkedTokenSource(stop);
        var crawlers = new List<Task>();
        lock (_gate)
        {
            _startUs = AppEventRing.NowUs;
            _state = LabState.Running;
        }
        for (int i = 0; i < Spec.SlowClients; i++)
        {
            var mark = new ClientMark { Number = i + 1, IsSlow = true };
            Add(mark);
            var connected = new TaskCompletionSource(TaskCreationOptions.RunContinuationsAsynchronously);
            crawlers.Add(client.CrawlAsync(mark, connected, over.Token));
            await connected.Task;
        }
        if (Spec.SlowClients > 0)
        {
            await PollFor(server, 300, stop);
        }
        Task load = FireAsync(client, stop);
        while (!load.IsCompleted)
        {
            await PollOnceAsync(server);
            await Task.WhenAny(load, Task.Delay(PollMs, stop));
            stop.ThrowIfCancellationRequested();
        }
        // The server closes after its client has seen the answer.
        await PollFor(server, 150, stop);
        over.Cancel();
        await Task.WhenAll(crawlers);
    }

    private async Task OpenIdleAsync(LabClient client, LabServer server, CancellationToken stop)
    {
        _before = await server.PollAsync([]);
        for (int opened = 0; opened < Spec.Idle; opened += OpeningAtOnce)
        {
            var batch = new List<Task<Socket?>>();
            for (int i = opened; i < Math.Min(Spec.Idle, opened + OpeningAtOnce); i++)
            {
                batch.Add(client.StayAsync(stop));
            }
            foreach (Socket? socket in await Task.WhenAll(batch))
            {
                lock (_gate)
                {
                    if (socket is not null)
                    {
                        _idle.Add(socket);
                    }
                }
            }
        }
        if (Spec.Idle > 0)
        {
            await Task.Delay(500, stop);
        }
        _withIdle = await server.PollAsync([]);
    }

    private async Task FireAsync(LabClient client, CancellationToken stop)
    {
        var all = new List<Task>();
        for (int i = 1; i <= Spec.Requests; i++)
        {
            bool blocks = i == Spec.Blocker;
            TimeSpan delay = blocks ? Spec.BlockerDelay : Spec.Delay;
            string target = string.Create(CultureInfo.InvariantCulture, $"/?delay={delay.TotalMilliseconds:0}")
                + string.Create(CultureInfo.InvariantCulture, $"&cpu={Spec.Cpu.TotalMilliseconds:0}")
                + (blocks || Spec.Blocks ? "&block=1" : "");
            var marks = new ClientMark[Spec.KeepAlive];
            for (int k = 0; k < marks.Length; k++)
            {
                marks[k] = new ClientMark { Number = i, OnConnection = k + 1, IsBlocker = blocks };
                Add(marks[k]);
            }
            all.Add(client.RequestAsync(marks, target, stop));
            if (Spec.Spacing > TimeSpan.Zero)
            {
                await Task.Delay(Spec.Spacing, stop);
            }
        }
        await Task.WhenAll(all);
    }

    private async Task PollFor(LabServer server, int milliseconds, CancellationToken stop)
    {
        await Task.Delay(milliseconds, stop);
        await PollOnceAsync(server);
    }

    private async Task PollOnceAsync(LabServer server)
    {
        var events = new List<AppServerEvent>();
        LabSample sample = await server.PollAsync(events);
        lock (_gate)
        {
            _samples.Add(sample);
            _events.AddRange(events);
        }
    }

    private void Add(ClientMark mark)
    {
        lock (_gate)
        {
            _marks.Add(mark);
        }
    }

    private void Set(LabState state)
    {
        lock (_gate)
        {
            _state = state;
        }
    }
}

/// <summary>A run as it stood at one moment.</summary>
internal sealed record LabView
{
    public required LabRunSpec Spec { get; init; }
    public LabState State { get; init; }
    public string Failure { get; init; } = "";

    /// <summary>When the clients began: the zero of the pictures.</summary>
    public long StartUs { get; init; }
    public long NowUs { get; init; }

    /// <summary>Before anybody but one had connected, and with the idle connections open.</summary>
    public LabSample Before { get; init; }
    public LabSample WithIdle { get; init; }
    public int IdleOpen { get; init; }
    public required LabSample[] Samples { get; init; }
    public required AppServerEvent[] Events { get; init; }
    public required LabRow[] Rows { get; init; }

    public LabSample Last => Samples.Length > 0 ? Samples[^1] : WithIdle;

    public long Peak(Func<LabSample, long> of) => Samples.Length > 0 ? Samples.Max(of) : of(WithIdle);
}
