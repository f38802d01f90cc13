// limit_conn and its fellows: at most so many requests of one key under way at the same time. The counts live in a zone
// with their owner's slot, so a worker that dies takes its counts with it. $limit_conn_status tells what came of it.
// One loop's thread; the zone's lock is held for a lookup and one write.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session;
using Weir.Zones;

namespace Weir.Http.Modules;

internal sealed class LimitConnZone(string name)
{
    private const ulong Layout = 0x4302;
    private const int EntryBytesTypical = 64;

    public string Name { get; } = name;
    public Template? Key { get; set; }
    public long SizeBytes { get; set; }

    /// <summary>The counts; null while a master only collects.</summary>
    public OwnedTable? Table { get; private set; }

    public void Open(HttpBuild build)
    {
        Zone? zone = build.Resources.Zone(
            new ZoneSpec("limit_conn:" + Name, SizeBytes, SharedZones.LayoutOf(Layout, Key!.Source)));
        Table = zone is null ? null : OwnedTable.Open(zone, (int)(SizeBytes / EntryBytesTypical / 2),
            build.Resources.Owner, build.Main.EffectiveWorkers);
    }
}

/// <summary>One limit_conn.</summary>
internal sealed record LimitConnRule(LimitConnZone Zone, int Max);

internal sealed class LimitConnSettings
{
    public InheritedList<LimitConnRule> Rules;
    public Inherited<LogLevel> LogLevel;
    public Inherited<int> Status;
    public Inherited<bool> DryRun;
}

internal sealed class LimitConnModule : HttpModule
{
    private const string ZoneUse = "limit_conn";

    public override string Name => "http_limit_conn";

    public override bool InheritsWhole => true;

    public override object CreateMain(HttpBuild build) => new List<LimitConnZone>();

    public override object CreateLocation(HttpBuild build) => new LimitConnSettings();

    public override void Declare(HttpDeclarations d)
    {
        d.Main<List<LimitConnZone>>("limit_conn_zone", static (u, _) => DefineZone(u));
        d.Location<LimitConnSettings>("limit_conn", static (u, s) => AddRule(u, s));
        d.Location<LimitConnSettings>("limit_conn_log_level",
            static (u, s) => u.SetEnum(ref s.LogLevel, LimitValues.LogLevels));
        d.Location<LimitConnSettings>("limit_conn_status", static (u, s) => LimitValues.SetStatus(u, ref s.Status));
        d.Location<LimitConnSettings>("limit_conn_dry_run", static (u, s) => u.SetFlag(ref s.DryRun));
        d.Variable("limit_conn_status", static (Session.Session s, Variable _, ref NativeSlice value) =>
            LimitValues.Text(((HttpRequest)s).Main.Find(LimitConnState.Slot)?.Status ?? LimitStatus.None, ref value),
            VariableFlags.NoCache);
    }

    private static LimitConnZone? ZoneOf(DirectiveUse use, string name, int arg)
    {
        var all = use.Block.Main.OfType<List<LimitConnZone>>().First();
        return use.Build.ZoneNames.Get(name, ZoneUse, n =>
        {
            var made = new LimitConnZone(n);
            all.Add(made);
            return made;
        }, use.Walker, use.Directive.Args[arg].Span);
    }

    private static void DefineZone(DirectiveUse use)
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
        if (string.IsNullOrEmpty(name))
        {
            use.Error("\"limit_conn_zone\" must have \"zone\" parameter");
            return;
        }
        if (key is null || ZoneOf(use, name, at) is not { } zone)
        {
            return;
        }
        if (zone.Key is not null)
        {
            use.Error($"limit_conn_zone \"{name}\" is already bound to key \"{zone.Key.Source}\"");
            return;
        }
        zone.Key = key;
        zone.SizeBytes = bytes;
    }

    private static void AddRule(DirectiveUse use, LimitConnSettings settings)
    {
        if (ZoneOf(use, use[0], 0) is not { } zone)
        {
            return;
        }
        foreach (LimitConnRule known in settings.Rules.Items)
        {
            if (known.Zone == zone)
            {
                use.Complain("is duplicate");
                return;
            }
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

    public override void InitMain(HttpBuild build, object main)
    {
        foreach (LimitConnZone zone in (List<LimitConnZone>)main)
        {
            if (zone.Key is null)
            {
                build.Errors.Emerg($"zero size shared memory zone \"{zone.Name}\"", null, null);
                continue;
            }
            zone.Open(build);
        }
    }

    public override void MergeLocation(HttpBuild build, object parent, object child)
    {
        var outer = (LimitConnSettings)parent;
        var own = (LimitConnSettings)child;
        own.Rules.Merge(outer.Rules);
        own.LogLevel.Merge(outer.LogLevel, LogLevel.Error);
        own.Status.Merge(outer.Status, 503);
        own.DryRun.Merge(outer.DryRun, false);
    }

    public override void InstallLocation(LocationInstall install)
    {
        var settings = install.Settings<LimitConnSettings>(this);
        if (settings.Rules.Array.Length > 0)
        {
            install.Add(Phase.PreAccess, install.Shared(settings, static s => new LimitConnHandler(s)));
        }
    }
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

internal sealed class LimitConnHandler(LimitConnSettings settings) : PhaseHandler
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
