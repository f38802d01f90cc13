// The parameters of a `syslog:` destination, shared by error_log and access_log.
using Weir.Kernel;

namespace Weir.Http;

/// <summary>Parses `server=address[,facility=…][,severity=…][,tag=…][,nohostname]`.</summary>
public static class SyslogSettings
{
    private const int TagLengthMax = 32;

    /// <summary>The severities by nginx's names, most severe first.</summary>
    private static readonly string[] s_severities =
        ["emerg", "alert", "crit", "error", "warn", "notice", "info", "debug"];

    public static bool TryParse(string text, IBuildResources resources, out SyslogTarget? target, out string? error) =>
        TryParse(text, resources, out target, out int _, out error);

    public static bool TryParse(string text, IBuildResources resources, out SyslogTarget? target, out int severity,
        out string? error)
    {
        target = null;
        error = null;
        severity = 6;
        SocketAddress? server = null;
        int facility = 23;
        string tag = "weir";
        bool hostName = true;
        foreach (string part in text.Split(','))
        {
            int equals = part.IndexOf('=');
            string name = equals < 0 ? part : part[..equals];
            string value = equals < 0 ? "" : part[(equals + 1)..];
            switch (name)
            {
                case "server":
                    server = ParseServer(value, resources, out error);
                    if (server is null)
                    {
                        return false;
                    }
                    break;
                case "facility":
                    facility = SyslogTarget.FacilityOf(value);
                    if (facility < 0)
                    {
                        error = $"unknown syslog facility \"{value}\"";
                        return false;
                    }
                    break;
                case "severity":
                    severity = Array.IndexOf(s_severities, value);
                    if (severity < 0)
                    {
                        error = $"unknown syslog severity \"{value}\"";
                        return false;
                    }
                    break;
                case "tag":
                    if (value.Length > TagLengthMax)
                    {
                        error = "syslog tag length exceeds 32";
                        return false;
                    }
                    if (value.Length == 0 || !value.All(static c => char.IsAsciiLetterOrDigit(c) || c == '_'))
                    {
                        error = "syslog \"tag\" only allows alphanumeric characters and underscore";
                        return false;
                    }
                    tag = value;
                    break;
                case "nohostname":
                    hostName = false;
                    break;
                default:
                    error = $"unknown syslog parameter \"{part}\"";
                    return false;
            }
        }
        if (server is null)
        {
            error = "no syslog server specified";
            return false;
        }
        target = new SyslogTarget { Server = server, Facility = facility, Tag = tag, WithHostName = hostName };
        return true;
    }

    private static SocketAddress? ParseServer(string value, IBuildResources resources, out string? error)
    {
        if (SocketAddress.TryParse(value, SyslogTarget.DefaultPort, out SocketAddress? address, out string text))
        {
            error = null;
            return address;
        }
        int colon = value.LastIndexOf(':');
        string host = colon < 0 ? value : value[..colon];
        int port = colon < 0 || !int.TryParse(value.AsSpan(colon + 1), out int p) ? SyslogTarget.DefaultPort : p;
        SocketAddress[]? found = resources.Resolve(host, port, out error);
        error = found is null ? $"{error ?? text} in syslog server \"{value}\"" : null;
        return found?[0];
    }
}
