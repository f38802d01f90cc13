// allow, deny: rules over the client's address, the first that matches decides. Rules of one level replace those
// around.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Modules;

/// <summary>A rule for one network.</summary>
internal readonly record struct AccessRule(Cidr Network, bool Deny);

internal sealed class AccessSettings
{
    public InheritedList<AccessRule> Rules;
}

internal sealed class AccessModule : HttpModule<AccessSettings>
{
    public override string Name => "http_access";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<AccessSettings>("allow", static (u, s) => Add(u, s, deny: false));
        d.Location<AccessSettings>("deny", static (u, s) => Add(u, s, deny: true));
    }

    private static void Add(DirectiveUse use, AccessSettings settings, bool deny)
    {
        if (use[0] == "all")
        {
            settings.Rules.Add(new AccessRule(Cidr.AllInet, deny));
            settings.Rules.Add(new AccessRule(Cidr.AllInet6, deny));
            settings.Rules.Add(new AccessRule(Cidr.Unix, deny));
            return;
        }
        if (use[0] == "unix:")
        {
            settings.Rules.Add(new AccessRule(Cidr.Unix, deny));
            return;
        }
        if (!Cidr.TryParse(use[0], out Cidr network, out bool hasLowBits))
        {
            use.InvalidParameter(0);
            return;
        }
        if (hasLowBits)
        {
            use.Walker.Warn(use.Directive.Args[0].Span, $"low address bits of {use[0]} are meaningless");
        }
        settings.Rules.Add(new AccessRule(network, deny));
    }

    protected override void Merge(HttpBuild build, AccessSettings parent, AccessSettings child) =>
        child.Rules.Merge(parent.Rules);

    public override void InstallLocation(LocationInstall install)
    {
        AccessRule[] rules = install.Settings<AccessSettings>(this).Rules.Array;
        if (rules.Length > 0)
        {
            install.Add(Phase.Access, install.Shared(rules, static r => new AccessRulesHandler(r)));
        }
    }
}

internal sealed class AccessRulesHandler(AccessRule[] rules) : PhaseHandler
{
    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        (SocketFamily family, UInt128 address) = Cidr.Read(r.RemoteAddress);
        foreach (ref readonly AccessRule rule in rules.AsSpan())
        {
            if (!rule.Network.Contains(family, address))
            {
                continue;
            }
            r.Configuration.Trace?.OnAccessRule(r, rules.AsSpan().IndexOf(rule));
            if (!rule.Deny)
            {
                return PhaseResult.Allow;
            }
            if (r.Location.SatisfyMode.Value == Satisfy.All)
            {
                r.LogError(LogLevel.Error, "access forbidden by rule");
            }
            return PhaseResult.Answer(403);
        }
        return PhaseResult.Next;
    }
}
