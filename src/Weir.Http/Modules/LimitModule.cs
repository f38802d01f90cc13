// What limit_req and limit_conn have in common: zones that are named in one place and used in others, the list of
// limits of a location, and what is said of those who exceed them. How one limits is its own file. Runs while a
// configuration is read.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>A zone of a limit: what counts as one, and where it is counted.</summary>
internal abstract class LimitZone(string name)
{
    public string Name { get; } = name;

    /// <summary>The key that is limited; null while the zone was only used, not defined.</summary>
    public Template? Key { get; set; }
    public long SizeBytes { get; set; }

    /// <summary>Maps it; stays without a table while a master only collects.</summary>
    public abstract void Open(HttpBuild build);
}

/// <summary>A limit of a location.</summary>
internal interface ILimitRule
{
    public LimitZone Zone { get; }
}

/// <summary>The limits of a location, and what is said of those who exceed them.</summary>
internal sealed class LimitSettings<TRule>
    where TRule : ILimitRule
{
    public InheritedList<TRule> Rules;
    public Inherited<LogLevel> LogLevel;
    public Inherited<int> Status;
    public Inherited<bool> DryRun;
}

/// <param name="family">What its directives begin with.</param>
internal abstract class LimitModule<TZone, TRule>(string family, Func<string, TZone> make) : HttpModule
    where TZone : LimitZone
    where TRule : ILimitRule
{
    private static readonly ConfChoice<LogLevel>[] _logLevels =
    [
        new("info", LogLevel.Info), new("notice", LogLevel.Notice), new("warn", LogLevel.Warn),
        new("error", LogLevel.Error),
    ];

    public override string Name => "http_" + family;

    public override bool InheritsWhole => true;

    public override object CreateMain(HttpBuild build) => new List<TZone>();

    public override object CreateLocation(HttpBuild build) => new LimitSettings<TRule>();

    public override void Declare(HttpDeclarations d)
    {
        d.Main<List<TZone>>(family + "_zone", (u, _) => DefineZone(u));
        d.Location<LimitSettings<TRule>>(family, (u, s) => AddRule(u, s));
        d.Location<LimitSettings<TRule>>(family + "_log_level", static (u, s) => u.SetEnum(ref s.LogLevel, _logLevels));
        d.Location<LimitSettings<TRule>>(family + "_status", static (u, s) => SetStatus(u, ref s.Status));
        d.Location<LimitSettings<TRule>>(family + "_dry_run", static (u, s) => u.SetFlag(ref s.DryRun));
    }

    protected abstract void DefineZone(DirectiveUse use);

    protected abstract void AddRule(DirectiveUse use, LimitSettings<TRule> settings);

    protected abstract PhaseHandler Limit(LimitSettings<TRule> settings);

    /// <summary>The zone of this name, made when it is new; null after an error.</summary>
    protected TZone? ZoneOf(DirectiveUse use, string name, int arg)
    {
        var all = use.Block.Main.OfType<List<TZone>>().First();
        return use.Build.ZoneNames.Get(name, family, n =>
        {
            TZone made = make(n);
            all.Add(made);
            return made;
        }, use.Walker, use.Directive.Args[arg].Span);
    }

    /// <summary>The zone that a definition makes; null after an error.</summary>
    protected TZone? Define(DirectiveUse use, Template? key, string? name, int at, long bytes)
    {
        if (string.IsNullOrEmpty(name))
        {
            use.Error($"\"{family}_zone\" must have \"zone\" parameter");
            return null;
        }
        if (key is null || ZoneOf(use, name, at) is not { } zone)
        {
            return null;
        }
        if (zone.Key is not null)
        {
            use.Error($"{family}_zone \"{name}\" is already bound to key \"{zone.Key.Source}\"");
            return null;
        }
        zone.Key = key;
        zone.SizeBytes = bytes;
        return zone;
    }

    /// <summary>Whether a location limits by this zone already; said where it does.</summary>
    protected static bool IsDuplicate(DirectiveUse use, LimitSettings<TRule> settings, TZone zone)
    {
        foreach (TRule known in settings.Rules.Items)
        {
            if (known.Zone == zone)
            {
                use.Complain("is duplicate");
                return true;
            }
        }
        return false;
    }

    private static void SetStatus(DirectiveUse use, ref Inherited<int> setting)
    {
        if (!use.Walker.Fresh(use.Directive, in setting) || !use.Walker.TryNumber(use.Directive, out long value))
        {
            return;
        }
        if (value is < 400 or > 599)
        {
            use.Complain("value must be between 400 and 599");
            return;
        }
        setting.Set((int)value);
    }

    public override void InitMain(HttpBuild build, object main)
    {
        foreach (TZone zone in (List<TZone>)main)
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
        var outer = (LimitSettings<TRule>)parent;
        var own = (LimitSettings<TRule>)child;
        own.Rules.Merge(outer.Rules);
        own.LogLevel.Merge(outer.LogLevel, LogLevel.Error);
        own.Status.Merge(outer.Status, 503);
        own.DryRun.Merge(outer.DryRun, false);
    }

    public override void InstallLocation(LocationInstall install)
    {
        var settings = install.Settings<LimitSettings<TRule>>(this);
        if (settings.Rules.Array.Length > 0)
        {
            install.Add(Phase.PreAccess, install.Shared(settings, s => Limit(s)));
        }
    }
}
