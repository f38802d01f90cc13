// limit_rate, limit_rate_after and $limit_rate: how fast a response may leave, in bytes per second. A body filter that
// keeps what may not leave yet and lets it go by a timer of the loop; the producer waits in r.Drained().
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class LimitRateModule : HttpModule
{
    private const string VariableName = "limit_rate";

    public override string Name => "http_limit_rate";

    public override void Declare(HttpDeclarations d)
    {
        d.Location<LocationConf>("limit_rate", static (u, l) => SetSize(u, ref l.LimitRate));
        d.Location<LocationConf>("limit_rate_after", static (u, l) => SetSize(u, ref l.LimitRateAfter));
        d.Variable(VariableName, GetRate, VariableFlags.Changeable | VariableFlags.NoCache, SetRate);
    }

    private static void SetSize(DirectiveUse use, ref Inherited<Template> setting)
    {
        if (!use.Walker.Fresh(use.Directive, in setting) || use.Template(0) is not { } template)
        {
            return;
        }
        if (template.IsConstant && !ConfValues.TrySize(use[0], out _))
        {
            use.Complain("invalid value");
            return;
        }
        setting.Set(template);
    }

    public override void InstallLocation(LocationInstall install)
    {
        LocationConf location = install.Location;
        Template? rate = location.LimitRate.Value;
        bool isSettable = install.Build.Configuration.Variables.IsUsed(VariableName);
        if (rate is { } && !(rate.IsConstant && Size(rate.Constant.Span) == 0) || isSettable
            || location.ContentHandler is not null)
        {
            install.AddFilter(FilterPlace.LimitRate, new LimitRateHeadFilter(rate, location.LimitRateAfter.Value));
        }
    }

    /// <summary>A size as configurations have it; 0 when it is none.</summary>
    internal static long Size(ReadOnlySpan<byte> text)
    {
        Span<char> chars = stackalloc char[24];
        if (text.Length > chars.Length)
        {
            return 0;
        }
        for (int i = 0; i < text.Length; i++)
        {
            chars[i] = (char)text[i];
        }
        return ConfValues.TrySize(chars[..text.Length], out long size) ? size : 0;
    }

    private static bool GetRate(Session.Session session, Variable variable, ref NativeSlice value)
    {
        var r = (HttpRequest)session;
        // As nginx: the location's rate is none of the request's before its head leaves.
        long rate = r.Find(LimitRateFilter.Slot) is { HasRate: true } filter ? filter.Rate : 0;
        value = r.Arena.StoreNumber(rate);
        return true;
    }

    private static void SetRate(Session.Session session, Variable variable, NativeSlice value) =>
        ((HttpRequest)session).Get(LimitRateFilter.Slot).SetRate(Size(value.Span));
}

internal sealed class LimitRateHeadFilter(Template? rate, Template? after) : HeadFilter
{
    public override void OnHead(HttpRequest r)
    {
        if (!r.IsMain || r.Response.HeaderOnly)
        {
            return;
        }
        LimitRateFilter? filter = r.Find(LimitRateFilter.Slot);
        if (filter is not { HasRate: true })
        {
            long bytes = rate is null ? 0 : LimitRateModule.Size(rate.Evaluate(r).Span);
            if (bytes == 0)
            {
                return;
            }
            filter = r.Get(LimitRateFilter.Slot);
            filter.SetRate(bytes);
        }
        if (filter.Rate > 0)
        {
            filter.Start(r, after is null ? 0 : LimitRateModule.Size(after.Evaluate(r).Span));
            r.AddBodyFilter(filter);
        }
    }
}

/// <summary>Lets a body pass at its rate.</summary>
internal sealed class LimitRateFilter : BodyFilter
{
    internal static readonly RequestSlot<LimitRateFilter> Slot = new();

    private const int StepMs = 100;

    /// <summary>Between two pieces at least, so that a high rate is not cut into crumbs.</summary>
    private const int StepMsMin = 20;

    private readonly PaceTimer _timer;
    private readonly LoopOperation<bool> _drained = new();
    private HttpRequest? _request;
    private BufferChain? _held;
    private PushFlags _heldFlags;
    private long _free;
    private long _startMs;
    private long _passed;

    public LimitRateFilter() => _timer = new PaceTimer(this);

    private sealed class PaceTimer(LimitRateFilter filter) : LoopTimer
    {
        protected override void Fire() => filter.OnTimer();
    }

    internal long Rate { get; private set; }
    internal bool HasRate { get; private set; }

    public override bool NeedsBytes => false;

    public override long HeldBytes => _held?.Length ?? 0;

    internal void SetRate(long bytesPerSecond)
    {
        Rate = bytesPerSecond;
        HasRate = true;
    }

    internal void Start(HttpRequest r, long free)
    {
        _request = r;
        _free = free;
        _startMs = r.Loop.NowMs;
        _passed = 0;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_held is null && input.Length <= Allowed(r))
        {
            _passed += input.Length;
            PassOn(r, input, flags);
            return;
        }
        _held ??= r.Loop.RentChain();
        input.MoveTo(_held);
        _heldFlags |= flags;
        if (!_timer.IsSet)
        {
            Release(r);
        }
    }

    /// <summary>As nginx: a second's worth at once, and the head counts. What follows waits until the rate has caught
    /// up with that.</summary>
    private long Allowed(HttpRequest r) =>
        _free + Rate * Math.Max(1000, r.Loop.NowMs - _startMs + StepMs) / 1000 - _passed - r.HeadBytesSent;

    private void Release(HttpRequest r)
    {
        long allowed = Allowed(r);
        if (allowed > 0)
        {
            BufferChain part = r.Loop.RentChain();
            _held!.MoveTo(part, allowed);
            _passed += part.Length;
            bool ends = _held.IsEmpty;
            PassOn(r, part, ends ? _heldFlags : PushFlags.None);
            r.Loop.Return(part);
            if (ends)
            {
                _heldFlags = PushFlags.None;
                r.Loop.Return(_held);
                _held = null;
                return;
            }
        }
        // When the next piece of a step's length may leave.
        long due = _startMs + (_passed + r.HeadBytesSent - _free) * 1000 / Rate;
        r.Loop.Timers.Set(_timer, Math.Max(due, r.Loop.NowMs + StepMsMin));
    }

    private void OnTimer()
    {
        if (_request is not { } r || _held is null)
        {
            return;
        }
        if (r.Aborted != AbortReason.None)
        {
            Drop(r);
            return;
        }
        Release(r);
        if (!r.Stream.Flush(r))
        {
            Drop(r);
            return;
        }
        if (_held is null && _drained.IsWaiting)
        {
            _drained.SetResult(true);
        }
    }

    private void Drop(HttpRequest r)
    {
        r.Loop.Timers.Cancel(_timer);
        if (_held is not null)
        {
            r.Loop.Return(_held);
            _held = null;
        }
        if (_drained.IsWaiting)
        {
            _drained.SetResult(false);
        }
    }

    public override LoopTask<bool> DrainAsync(HttpRequest r)
    {
        if (_held is null)
        {
            return new LoopTask<bool>(true);
        }
        // What may leave now must not wait for the rest.
        if (!r.Stream.Flush(r))
        {
            Drop(r);
            return new LoopTask<bool>(false);
        }
        return _drained.Begin();
    }

    protected internal override void Reset()
    {
        if (_request is { } r)
        {
            r.Loop.Timers.Cancel(_timer);
            if (_held is not null)
            {
                r.Loop.Return(_held);
                _held = null;
            }
        }
        _request = null;
        _heldFlags = PushFlags.None;
        Rate = 0;
        HasRate = false;
        _free = 0;
        _passed = 0;
    }
}
