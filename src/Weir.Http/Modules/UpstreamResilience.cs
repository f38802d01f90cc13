// outlier_ejection and retry_budget inside `upstream`: servers that fail among others are set aside, and retries stay a
// share of the traffic. Both are Weir's own. Used while a configuration is read; the work is GroupState.Health.cs.
using Weir.Conf;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

internal static class UpstreamResilience
{
    internal static void Declare(HttpDeclarations d)
    {
        d.Own(new DirectiveSpec
        {
            Name = "outlier_ejection",
            Contexts = ConfContext.Upstream,
            Arity = ConfArity.Zero | ConfArity.OneToThree,
            Summary = "Sets a server aside that fails again and again: [failures=5] [time=30s] [max=50%].",
            Apply = static (walker, use) => SetEjection(walker, use, walker.Need<UpstreamBlock>()),
        });
        d.Own(new DirectiveSpec
        {
            Name = "retry_budget",
            Contexts = ConfContext.Upstream,
            Arity = ConfArity.OneToThree,
            Summary = "Retries are at most a share of the requests: retry_budget 20% [min=10] [span=10s];",
            Apply = static (walker, use) => SetBudget(walker, use, walker.Need<UpstreamBlock>()),
        });
    }

    private static void SetEjection(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (group.Ejection is not null)
        {
            walker.Complain(use, "is duplicate");
            return;
        }
        long failures = 5, timeMs = 30_000, percent = 50;
        for (int i = 0; i < use.Args.Length; i++)
        {
            string arg = use[i];
            bool good = arg.StartsWith("failures=", StringComparison.Ordinal)
                ? ConfValues.TryNumber(arg[9..], out failures) && failures is > 0 and <= int.MaxValue
                : arg.StartsWith("time=", StringComparison.Ordinal)
                    ? ConfValues.TryMsec(arg[5..], out timeMs) && timeMs > 0
                : arg.StartsWith("max=", StringComparison.Ordinal) && TryPercent(arg[4..], out percent);
            if (!good)
            {
                walker.Error(use.Args[i], $"invalid parameter \"{arg}\"");
                return;
            }
        }
        group.Ejection = new EjectionRule((int)failures, timeMs, (int)percent);
    }

    private static void SetBudget(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (group.RetryBudget is not null)
        {
            walker.Complain(use, "is duplicate");
            return;
        }
        long least = 10, spanMs = 10_000;
        if (!TryPercent(use[0], out long percent))
        {
            walker.Error(use.Args[0], $"invalid percent value \"{use[0]}\"");
            return;
        }
        for (int i = 1; i < use.Args.Length; i++)
        {
            string arg = use[i];
            bool good = arg.StartsWith("min=", StringComparison.Ordinal)
                ? ConfValues.TryNumber(arg[4..], out least) && least <= int.MaxValue
                : arg.StartsWith("span=", StringComparison.Ordinal) && ConfValues.TryMsec(arg[5..], out spanMs)
                    && spanMs > 0;
            if (!good)
            {
                walker.Error(use.Args[i], $"invalid parameter \"{arg}\"");
                return;
            }
        }
        group.RetryBudget = new RetryBudgetRule((int)percent, (int)least, spanMs);
    }

    private static bool TryPercent(string text, out long percent)
    {
        percent = 0;
        return text.EndsWith('%') && ConfValues.TryNumber(text[..^1], out percent) && percent <= 100;
    }
}
