// limit_req and its fellows: requests of one key beyond a rate wait, and beyond a burst are refused. Several limits of
// one location are looked at in order; the request is counted in all of them or in none. $limit_req_status tells what
// came of it. A request that waits holds a timer and watches its client, nothing else.
using System.Globalization;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>One limit_req; burst and delay in thousandths of requests.</summary>
internal sealed record LimitReqRule(LimitReqZone Zone, long Burst, long Delay) : ILimitRule
{
    LimitZone ILimitRule.Zone => Zone;
}

/// <summary>What $limit_req_status and $limit_conn_status say.</summary>
internal enum LimitStatus : byte
{
    None,
    Passed,
    Delayed,
    Rejected,
    DelayedDryRun,
    RejectedDryRun,
}

internal static class LimitValues
{
    /// <summary>Why nginx Plus's `sync` is refused.</summary>
    internal const string NoSync = "zones are shared by the workers of one server, not by a cluster";

    internal static bool Text(LimitStatus status, ref NativeSlice value)
    {
        value = status switch
        {
            LimitStatus.Passed => NativeSlice.Literal("PASSED"u8),
            LimitStatus.Delayed => NativeSlice.Literal("DELAYED"u8),
            LimitStatus.Rejected => NativeSlice.Literal("REJECTED"u8),
            LimitStatus.DelayedDryRun => NativeSlice.Literal("DELAYED_DRY_RUN"u8),
            LimitStatus.RejectedDryRun => NativeSlice.Literal("REJECTED_DRY_RUN"u8),
            _ => default,
        };
        return status != LimitStatus.None;
    }
}

internal sealed class LimitReqModule()
    : LimitModule<LimitReqZone, LimitReqRule>("limit_req", static name => new LimitReqZone(name))
{
    public override void Declare(HttpDeclarations d)
    {
        base.Declare(d);
        d.Variable("limit_req_status", static (Session.Session s, Variable _, ref NativeSlice value) =>
            LimitValues.Text(((HttpRequest)s).Main.Find(LimitReqState.Slot)?.Status ?? LimitStatus.None, ref value),
            VariableFlags.NoCache);
    }

    protected override void DefineZone(DirectiveUse use)
    {
        Template? key = use.Template(0);
        string? name = null;
        long bytes = 0, rate = 1000;
        int at = 0;
        for (int i = 1; i < use.Count; i++)
        {
            string arg = use[i];
            if (arg.StartsWith("zone=", StringComparison.Ordinal))
            {
                if (!SharedZones.TryParse(use.Walker, use.Directive.Args[i], arg[5..], out name, out bytes))
                {
                    return;
                }
                at = i;
                continue;
            }
            if (arg.StartsWith("rate=", StringComparison.Ordinal))
            {
                int scale = arg.EndsWith("r/m", StringComparison.Ordinal) ? 60 : 1;
                bool hasUnit = scale == 60 || arg.EndsWith("r/s", StringComparison.Ordinal);
                string number = hasUnit && arg.Length >= 8 ? arg[5..^3] : arg[5..];
                if (!ConfValues.TryNumber(number, out long n) || n <= 0 || n > int.MaxValue)
                {
                    use.Error(i, $"invalid rate \"{arg}\"");
                    return;
                }
                rate = n * 1000 / scale;
                continue;
            }
            use.Error(i, $"invalid parameter \"{arg}\"", arg == "sync"
                ? LimitValues.NoSync : null);
            return;
        }
        if (Define(use, key, name, at, bytes) is { } zone)
        {
            zone.Rate = rate;
        }
    }

    protected override void AddRule(DirectiveUse use, LimitSettings<LimitReqRule> settings)
    {
        LimitReqZone? zone = null;
        long burst = 0, delay = 0;
        for (int i = 0; i < use.Count; i++)
        {
            string arg = use[i];
            if (arg.StartsWith("zone=", StringComparison.Ordinal))
            {
                zone = ZoneOf(use, arg[5..], i);
                if (zone is null)
                {
                    return;
                }
            }
            else if (arg.StartsWith("burst=", StringComparison.Ordinal))
            {
                if (!TryCount(use, i, arg[6..], "burst", out burst))
                {
                    return;
                }
            }
            else if (arg.StartsWith("delay=", StringComparison.Ordinal))
            {
                if (!TryCount(use, i, arg[6..], "delay", out delay))
                {
                    return;
                }
            }
            else if (arg == "nodelay")
            {
                delay = int.MaxValue / 1000;
            }
            else
            {
                use.InvalidParameter(i);
                return;
            }
        }
        if (zone is null)
        {
            use.Error("\"limit_req\" must have \"zone\" parameter");
            return;
        }
        if (IsDuplicate(use, settings, zone))
        {
            return;
        }
        settings.Rules.Add(new LimitReqRule(zone, burst * 1000, delay * 1000));
    }

    private static bool TryCount(DirectiveUse use, int arg, string text, string what, out long value)
    {
        if (ConfValues.TryNumber(text, out value) && value is > 0 and <= int.MaxValue)
        {
            return true;
        }
        use.Error(arg, $"invalid {what} value \"{use[arg]}\"");
        return false;
    }

    protected override PhaseHandler Limit(LimitSettings<LimitReqRule> settings) => new LimitReqHandler(settings);
}

/// <summary>What the limits made of a client's request, and its wait.</summary>
internal sealed class LimitReqState : RequestState, IPeerWatcher
{
    public static readonly RequestSlot<LimitReqState> Slot = new();

    private readonly LoopOperation<bool> _wait = new();
    private readonly CallbackTimer _timer;
    private ClientStream? _client;
    private EventLoop? _loop;

    public LimitReqState() => _timer = new CallbackTimer(() => End(goesOn: true));

    public LimitStatus Status { get; set; }

    /// <summary>Keys of the rules under way: one evaluation for the look and the count.</summary>
    internal NativeSlice[] Keys = new NativeSlice[4];

    protected internal override bool SurvivesRedirect => true;

    /// <summary>Waits; false when the client is gone.</summary>
    public LoopTask<bool> WaitAsync(HttpRequest r, long ms)
    {
        LoopTask<bool> task = _wait.Begin();
        _loop = r.Loop;
        _loop.Timers.Set(_timer, _loop.NowMs + Math.Max(ms, 1));
        if (r.IsMain)
        {
            _client = r.Stream;
            _client.Watcher = this;
            if (_client.IsClientGone)
            {
                End(goesOn: false);
            }
        }
        return task;
    }

    void IPeerWatcher.PeerGone(Connection connection, bool reset) => End(goesOn: false);

    private void End(bool goesOn)
    {
        if (!_wait.IsWaiting)
        {
            return;
        }
        Detach();
        _wait.SetResult(goesOn);
    }

    private void Detach()
    {
        _loop?.Timers.Cancel(_timer);
        _loop = null;
        if (_client is { } client)
        {
            _client = null;
            if (client.Watcher == this)
            {
                client.Watcher = null;
            }
        }
    }

    protected internal override void Reset()
    {
        Status = LimitStatus.None;
        Detach();
        Array.Clear(Keys);
    }
}

internal sealed class LimitReqHandler(LimitSettings<LimitReqRule> settings) : PhaseHandler
{
    private readonly LimitReqRule[] _rules = settings.Rules.Array;
    private readonly bool _dryRun = settings.DryRun.Value;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        LimitReqState state = r.Main.Get(LimitReqState.Slot);
        if (state.Status != LimitStatus.None)
        {
            return PhaseResult.Next;
        }
        if (state.Keys.Length < _rules.Length)
        {
            Array.Resize(ref state.Keys, _rules.Length);
        }
        long nowMs = r.Loop.NowMs;
        long excess = 0;
        LimitReqRule? last = null;
        bool counted = false;
        for (int i = 0; i < _rules.Length; i++)
        {
            LimitReqRule rule = _rules[i];
            NativeSlice key = rule.Zone.Key!.Evaluate(r);
            state.Keys[i] = key;
            if (key.IsEmpty)
            {
                continue;
            }
            if (key.Length > LimitReqZone.KeyBytesMax)
            {
                r.LogError(LogLevel.Error,
                    $"the value of the \"{rule.Zone.Key.Source}\" key is more than 65535 bytes: \"{key}\"");
                state.Keys[i] = default;
                continue;
            }
            last = rule;
            counted = i == _rules.Length - 1;
            LimitVerdict verdict = rule.Zone.Look(key.Span, rule.Burst, counted, nowMs, out excess);
            if (verdict != LimitVerdict.Admitted)
            {
                return Refuse(r, state, rule, verdict, excess);
            }
        }
        if (last is null)
        {
            return PhaseResult.Next;
        }
        long delayMs = Account(state, nowMs, counted, ref excess, ref last);
        if (delayMs == 0)
        {
            state.Status = LimitStatus.Passed;
            return PhaseResult.Next;
        }
        LogLevel level = settings.LogLevel.Value;
        level = level == LogLevel.Info ? level : level + 1;
        if (r.Logs(level))
        {
            string what = _dryRun ? ", dry run" : "";
            r.LogError(level, $"delaying request{what}, excess: {Thousandths(excess)}, by zone \"{last.Zone.Name}\"");
        }
        if (_dryRun)
        {
            state.Status = LimitStatus.DelayedDryRun;
            return PhaseResult.Next;
        }
        state.Status = LimitStatus.Delayed;
        return DelayAsync(r, state, delayMs);
    }

    private PhaseResult Refuse(HttpRequest r, LimitReqState state, LimitReqRule rule, LimitVerdict verdict, long excess)
    {
        if (verdict == LimitVerdict.NoRoom)
        {
            r.LogError(LogLevel.Alert, $"could not allocate node in limit_req zone \"{rule.Zone.Name}\"");
        }
        else if (r.Logs(settings.LogLevel.Value))
        {
            string what = _dryRun ? ", dry run" : "";
            r.LogError(settings.LogLevel.Value,
                $"limiting requests{what}, excess: {Thousandths(excess)} by zone \"{rule.Zone.Name}\"");
        }
        state.Status = _dryRun ? LimitStatus.RejectedDryRun : LimitStatus.Rejected;
        return _dryRun ? PhaseResult.Next : PhaseResult.Answer(settings.Status.Value);
    }

    /// <summary>Counts the request in every zone that only looked so far; the longest wait of all.</summary>
    private long Account(LimitReqState state, long nowMs, bool lastIsCounted, ref long excess, ref LimitReqRule rule)
    {
        long longest = 0;
        LimitReqRule at = rule;
        long worst = 0;
        for (int i = _rules.Length - 1; i >= 0; i--)
        {
            NativeSlice key = state.Keys[i];
            if (key.IsEmpty)
            {
                continue;
            }
            LimitReqRule one = _rules[i];
            long ahead = lastIsCounted && i == _rules.Length - 1 ? excess : one.Zone.Account(key.Span, nowMs);
            long delay = ahead > one.Delay ? (ahead - one.Delay) * 1000 / one.Zone.Rate : 0;
            if (delay > longest)
            {
                longest = delay;
                worst = ahead;
                at = one;
            }
        }
        excess = worst;
        rule = at;
        return longest;
    }

    private static async LoopTask<PhaseResult> DelayAsync(HttpRequest r, LimitReqState state, long delayMs) =>
        await state.WaitAsync(r, delayMs) ? PhaseResult.Next : PhaseResult.Answer(499);

    private static string Thousandths(long n) =>
        string.Create(CultureInfo.InvariantCulture, $"{n / 1000}.{n % 1000:000}");
}
