// `server` inside `upstream` with its parameters, and addresses from hosts. Used while a configuration is read.
using System.Globalization;
using Weir.Conf;
using Weir.Kernel;
using Weir.Session.Upstream;

namespace Weir.Http.Modules;

/// <summary>`server` inside `upstream`, and addresses from hosts.</summary>
internal static class UpstreamServers
{
    internal static void Add(ConfWalker walker, ConfDirective use, UpstreamBlock group)
    {
        if (group.StatePath is not null)
        {
            walker.Error(use.Span, "\"server\" directive is incompatible with \"state\"");
            return;
        }
        var p = default(Parameters);
        p.Weight = 1;
        p.FailsMax = 1;
        p.FailTimeoutSec = 10;
        for (int i = 1; i < use.Args.Length; i++)
        {
            string arg = use[i];
            if (arg == "service=")
            {
                walker.Error(use.Args[i], "\"service\" is empty");
                return;
            }
            if (!TryParameter(arg, ref p))
            {
                walker.Error(use.Args[i], $"invalid parameter \"{arg}\"");
                return;
            }
            string? refused = arg == "backup" && group.RefusesBackup ? arg
                : arg.StartsWith("slow_start=", StringComparison.Ordinal) && group.RefusesSlowStart ? arg : null;
            if (refused is not null)
            {
                walker.Error(use.Args[i], $"balancing method does not support parameter \"{refused}\"");
                return;
            }
        }
        group.ServerCount++;
        string text = use[0];
        if (!TrySplit(text, 80, out string host, out int port, out bool hasPort))
        {
            walker.Error(use.Args[0], $"{(text.Length == 0 ? "no host" : "invalid port")} in upstream \"{text}\"");
            return;
        }
        bool literal = SocketAddress.TryParse(text, 80, out SocketAddress? _, out string _);
        if (p.Service is not null)
        {
            string? wrong = !p.Resolve ? "requires \"resolve\" parameter" : hasPort ? "may not have port"
                : literal ? "requires domain name" : null;
            if (wrong is not null)
            {
                walker.Error(use.Args[0], $"service upstream \"{text}\" {wrong}");
                return;
            }
        }
        var line = new ServerLine
        {
            Server = text,
            Name = text,
            Service = p.Service ?? "",
            Route = p.Route ?? "",
            Weight = p.Weight,
            ConnectionsMax = p.ConnectionsMax,
            FailsMax = p.FailsMax,
            FailTimeoutSec = p.FailTimeoutSec,
            SlowStartMs = p.SlowStartMs,
            IsBackup = p.Backup,
            IsDown = p.Down,
            IsDraining = p.Drain,
        };
        if (p.Resolve && !literal)
        {
            group.Lines.Add(line with
            {
                Id = group.Lines.Count,
                IsNamed = true,
                Server = p.Service is not null ? host : string.Create(CultureInfo.InvariantCulture, $"{host}:{port}"),
            });
            return;
        }
        SocketAddress[]? addresses = Addresses(group.Build, host, port, out string? error);
        if (addresses is null)
        {
            walker.Error(use.Args[0], $"{error} in upstream \"{text}\"");
            return;
        }
        foreach (SocketAddress address in addresses)
        {
            group.Lines.Add(line with { Id = group.Lines.Count, Server = address.ToString() });
        }
    }

    /// <summary>The peers of lines with an address.</summary>
    internal static PeerSpec[] Specs(UpstreamBlock group, bool backup, bool checksFirst) =>
        [.. group.Lines.Where(l => l.IsBackup == backup && !l.IsNamed).Select(l => l.ToSpec(
            SocketAddress.TryParse(l.Server, 80, out SocketAddress? address, out string _) ? address!.Native.ToArray()
                : [], group.Build.Memory.Store, checksFirst))];

    private struct Parameters
    {
        public int Weight;
        public int ConnectionsMax;
        public int FailsMax;
        public long FailTimeoutSec;
        public long SlowStartMs;
        public bool Backup;
        public bool Down;
        public bool Drain;
        public bool Resolve;
        public string? Route;
        public string? Service;
    }

    private static bool TryParameter(string arg, ref Parameters p)
    {
        int equals = arg.IndexOf('=');
        string value = equals < 0 ? "" : arg[(equals + 1)..];
        switch (equals < 0 ? arg : arg[..(equals + 1)])
        {
            case "backup":
                return p.Backup = true;
            case "down":
                return p.Down = true;
            case "drain":
                return p.Drain = true;
            case "resolve":
                return p.Resolve = true;
            case "weight=":
                return TryInt(value, 1, out p.Weight);
            case "max_conns=":
                return TryInt(value, 0, out p.ConnectionsMax);
            case "max_fails=":
                return TryInt(value, 0, out p.FailsMax);
            case "fail_timeout=":
                return ConfValues.TrySec(value, out p.FailTimeoutSec);
            case "slow_start=":
                return ConfValues.TryMsec(value, out p.SlowStartMs);
            case "service=":
                p.Service = value;
                return value.Length > 0;
            case "route=":
                p.Route = value;
                return value.Length > 0;
            default:
                return false;
        }
    }

    private static bool TryInt(string text, int least, out int value)
    {
        bool good = ConfValues.TryNumber(text, out long n) && n >= least && n <= int.MaxValue;
        value = (int)n;
        return good;
    }

    /// <summary>Splits host and port; unix paths stay whole.</summary>
    internal static bool TrySplit(string text, int defaultPort, out string host, out int port, out bool hasPort)
    {
        host = text;
        port = defaultPort;
        hasPort = false;
        if (text.StartsWith("unix:", StringComparison.Ordinal))
        {
            return text.Length > 5;
        }
        int colon = text.StartsWith('[') ? text.IndexOf("]:", StringComparison.Ordinal) + 1 : text.LastIndexOf(':');
        if (colon <= 0)
        {
            return text.Length > 0;
        }
        host = text[..colon];
        hasPort = true;
        bool good = ConfValues.TryNumber(text.AsSpan(colon + 1), out long n) && n is > 0 and < 65536;
        port = (int)n;
        return good;
    }

    internal static SocketAddress[]? Addresses(HttpBuild build, string host, int port, out string? error)
    {
        if (host.StartsWith("unix:", StringComparison.Ordinal))
        {
            SocketAddress? unix = SocketAddress.Unix(host[5..]);
            error = unix is null ? "invalid path" : null;
            return unix is null ? null : [unix];
        }
        if (SocketAddress.TryParse($"{host}:{port}", port, out SocketAddress? literal, out string _))
        {
            error = null;
            return [literal!];
        }
        return build.Resources.Resolve(host, port, out error);
    }
}
