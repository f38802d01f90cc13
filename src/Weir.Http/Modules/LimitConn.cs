// limit_conn and its fellows: at most so many requests of one key under way at the same time. The counts live in a zone
// with their owner's slot, so a worker that dies takes its counts with it. $limit_conn_status tells what came of it.
// One loop's thread; the zone's lock is held for a lookup and one write.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class LimitConnZone(string name) : LimitZone(name)
{
    private const ulong Layout = 0x4302;
    private const int EntryBytesTypical = 64;

    /// <summary>The counts; null while a master only collects.</summary>
    public OwnedTable? Table { get; private set; }

    public override void Open(HttpBuild build)
    {
        Zone? zone = build.Resources.Zone(
            new ZoneSpec("limit_conn:" + Name, SizeBytes, SharedZones.LayoutOf(Layout, Key!.Source)));
        Table = zone is null ? null : OwnedTable.Open(zone, (int)(SizeBytes / EntryBytesTypical / 2),
            build.Resources.Owner, build.Main.EffectiveWorkers);
    }
}

/// <summary>One limit_conn.</summary>
internal sealed record LimitConnRule(LimitConnZone Zone, int Max) : ILimitRule
{
    LimitZone ILimitRule.Zone => Zone;
}

internal sealed class LimitConnModule()
    : LimitModule<LimitConnZone, LimitConnRule>("limit_conn", static name => new LimitConnZone(name))
{
    public override void Declare(HttpDeclarations d)
    {
        base.Declare(d);
        d.Variable("limit_conn_status", static (Session.Session s, Variable _, ref NativeSlice value) =>
            LimitValues.Text(((HttpRequest)s).Main.Find(LimitConnState.Slot)?.Status ?? LimitStatus.None, ref value),
            VariableFlags.NoCache);
    }

    protected override void DefineZone(DirectiveUse use)
    {
        Template? key = use.Template(0);
        string? name = null;
        long bytes = 0;
        int at = 0;
        for (int i = 1; i < use.Count; i++)
        {
            if (!use[i].StartsWith("zone=", StringComparison.Ordinal))
            {
                use.InvalidParameter(i);
                return;
            }
            if (!SharedZones.TryParse(use.Walker, use.Directive.Args[i], use[i][5..], out name, out bytes))
            {
                return;
            }
            at = i;
        }
        Define(use, key, name, at, bytes);
    }

    protected override void AddRule(DirectiveUse use, LimitSettings<LimitConnRule> settings)
    {
        if (ZoneOf(use, use[0], 0) is not { } zone || IsDuplicate(use, settings, zone))
        {
            return;
        }
        if (!ConfValues.TryNumber(use[1], out long n) || n <= 0)
        {
            use.Error(1, $"invalid number of connections \"{use[1]}\"");
            return;
        }
        if (n > 65535)
        {
            use.Error(1, "connection limit must be less 65536");
            return;
        }
        settings.Rules.Add(new LimitConnRule(zone, (int)n));
    }

    protected override PhaseHandler Limit(LimitSettings<LimitConnRule> settings) => new LimitConnHandler(settings);
}

/// <summary>What a client's request counts for; given back when it ends.</summary>
internal sealed class LimitConnState : RequestState
{
    public static readonly RequestSlot<LimitConnState> Slot = new();

    private Hold[] _holds = new Hold[4];
    private int _count;

    private struct Hold
    {
        public OwnedTable? Table;
        public NativeSlice Key;
    }

    public LimitStatus Status { get; set; }

    protected internal override bool SurvivesRedirect => true;

    public void Keep(OwnedTable table, NativeSlice key)
    {
        if (_count == _holds.Length)
        {
            Array.Resize(ref _holds, _count * 2);
        }
        _holds[_count++] = new Hold { Table = table, Key = key };
    }

    public void GiveBack()
    {
        while (_count > 0)
        {
            ref Hold hold = ref _holds[--_count];
            hold.Table!.Remove(hold.Key.Span);
            hold = default;
        }
    }

    protected internal override void Reset()
    {
        GiveBack();
        Status = LimitStatus.None;
    }
}

internal sealed class LimitConnHandler(LimitSettings<LimitConnRule> settings) : PhaseHandler
{
    private readonly LimitConnRule[] _rules = settings.Rules.Array;
    private readonly bool _dryRun = settings.DryRun.Value;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        LimitConnState state = r.Main.Get(LimitConnState.Slot);
        if (state.Status != LimitStatus.None)
        {
            return PhaseResult.Next;
        }
        foreach (LimitConnRule rule in _rules)
        {
            NativeSlice key = rule.Zone.Key!.Evaluate(r);
            if (key.IsEmpty || rule.Zone.Table is not { } table)
            {
                continue;
            }
            if (key.Length > OwnedTable.KeyBytesMax)
            {
                r.LogError(LogLevel.Error,
                    $"the value of the \"{rule.Zone.Key.Source}\" key is more than 255 bytes: \"{key}\"");
                continue;
            }
            state.Status = LimitStatus.Passed;
            OwnedOutcome outcome = table.TryAdd(key.Span, rule.Max);
            if (outcome == OwnedOutcome.Added)
            {
                // A value may lie in the connection's or a subrequest's memory, which can go before this request does.
                state.Keep(table, rule.Zone.Key.IsConstant ? key : r.Main.Arena.Store(key.Span));
                continue;
            }
            if (outcome == OwnedOutcome.NoRoom)
            {
                r.LogError(LogLevel.Crit, $"no memory in limit_conn_zone \"{rule.Zone.Name}\"");
            }
            else if (r.Logs(settings.LogLevel.Value))
            {
                string what = _dryRun ? ", dry run" : "";
                r.LogError(settings.LogLevel.Value, $"limiting connections{what} by zone \"{rule.Zone.Name}\"");
            }
            state.GiveBack();
            state.Status = _dryRun ? LimitStatus.RejectedDryRun : LimitStatus.Rejected;
            return _dryRun ? PhaseResult.Next : PhaseResult.Answer(settings.Status.Value);
        }
        return PhaseResult.Next;
    }
}
