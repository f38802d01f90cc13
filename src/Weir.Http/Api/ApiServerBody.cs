// The body of a request that adds or changes a server: flat JSON, read field by field into a line. What is wrong comes
// back as one of the API's errors. Pure.
using System.Globalization;
using Weir.Conf;
using Weir.Kernel;
using Weir.Session.Upstream;

namespace Weir.Http.Api;

/// <summary>An error as the API answers with it.</summary>
internal sealed record ApiError(int Status, string Text, string Code);

/// <summary>One body being read; the line that it leads to, or the error.</summary>
internal sealed class ApiServerBody
{
    private const int RouteBytesMax = 32;

    private const string Format = "UpstreamConfFormatError";

    private readonly ServerLine? _from;
    private readonly UpstreamGroup _group;
    private ServerLine _line;
    private ApiError? _error;

    private ApiServerBody(ServerLine? from, UpstreamGroup group)
    {
        _from = from;
        _group = group;
        _line = from ?? new ServerLine { Server = "", Name = "" };
    }

    /// <summary>Reads the body into a line that begins as the given one; null for a new server.</summary>
    public static ServerLine? Read(ReadOnlySpan<byte> body, ServerLine? from, UpstreamGroup group, out ApiError? error)
    {
        var read = new ApiServerBody(from, group);
        var json = new FlatJson(body);
        JsonStep step = JsonStep.Field;
        while (read._error is null && (step = json.Next()) == JsonStep.Field)
        {
            read.Take(in json);
        }
        if (step == JsonStep.Broken)
        {
            read._error = new ApiError(415, "json error", "JsonError");
        }
        if (read._error is null)
        {
            read.Check();
        }
        error = read._error;
        return error is null ? read._line : null;
    }

    private bool Fail(string text, string code = Format)
    {
        _error ??= new ApiError(400, text, code);
        return false;
    }

    private void Take(in FlatJson json)
    {
        string name = json.Name;
        int n = 0;
        long ms = 0;
        switch (name)
        {
            case not null when json.Kind == JsonKind.Nested:
                Fail("nested object or list");
                break;
            case "server" when IsText(in json):
                _line = _line with { Server = json.Value, Name = json.Value };
                break;
            case "weight" when IsNumber(in json, 1, "UpstreamBadWeight", ref n):
                _line = _line with { Weight = n };
                break;
            case "max_conns" when IsNumber(in json, 0, "UpstreamBadMaxConns", ref n):
                _line = _line with { ConnectionsMax = n };
                break;
            case "max_fails" when IsNumber(in json, 0, "UpstreamBadMaxFails", ref n):
                _line = _line with { FailsMax = n };
                break;
            case "fail_timeout" when IsTime(in json, "UpstreamBadFailTimeout", ref ms):
                _line = _line with { FailTimeoutSec = ms / 1000 };
                break;
            case "slow_start" when IsTime(in json, "UpstreamBadSlowStart", ref ms):
                _line = _line with { SlowStartMs = ms };
                break;
            case "route" when IsText(in json):
                _ = json.Value.Length <= RouteBytesMax || Fail("route is too long", "UpstreamBadRoute");
                _line = _line with { Route = json.Value };
                break;
            case "down" when IsTruth(in json):
                _line = _line with { IsDown = json.Kind == JsonKind.True };
                break;
            case "drain" when IsTruth(in json):
                _line = _line with { IsDraining = json.Kind == JsonKind.True };
                break;
            case "backup" when IsTruth(in json):
                _line = _line with { IsBackup = json.Kind == JsonKind.True };
                _ = _from is null || _line.IsBackup == _from.IsBackup || Fail("\"backup\" cannot be changed");
                break;
            case "service" when IsText(in json):
                _line = _line with { Service = json.Value };
                _ = json.Value.Length > 0 || Fail("\"service\" is empty", "UpstreamBadService");
                _ = _from is null || _line.Service == _from.Service || Fail("\"service\" cannot be changed");
                break;
            case "id" when _from is not null && IsNumber(in json, 0, Format, ref n):
                _ = n == _from.Id || Fail("\"id\" cannot be changed");
                break;
            default:
                // What was known but had a wrong value has failed already.
                Fail($"unknown parameter \"{name}\"");
                break;
        }
    }

    private bool IsText(in FlatJson json) => json.Kind == JsonKind.Text && json.Value.Length <= ServerLine.TextBytesMax
        && json.Value.AsSpan().IndexOfAnyInRange('\0', '\x1f') < 0 || Fail($"invalid \"{json.Name}\" value");

    private bool IsTruth(in FlatJson json) =>
        json.Kind is JsonKind.True or JsonKind.False || Fail($"invalid \"{json.Name}\" value");

    private bool IsNumber(in FlatJson json, int least, string code, ref int n) =>
        (json.Kind == JsonKind.Number || Fail($"invalid \"{json.Name}\" value"))
        && (int.TryParse(json.Value, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out n) && n >= least
            || Fail($"invalid \"{json.Name}\"", code));

    /// <summary>A time of the configuration's form, or seconds.</summary>
    private bool IsTime(in FlatJson json, string code, ref long ms) =>
        (json.Kind is JsonKind.Number or JsonKind.Text || Fail($"invalid \"{json.Name}\" value"))
        && (ConfValues.TryMsec(json.Kind == JsonKind.Number ? json.Value + "s" : json.Value, out ms)
            || Fail($"invalid \"{json.Name}\"", code));

    private void Check()
    {
        ServerLine line = _line;
        if (line.Server.Length == 0)
        {
            Fail("missing \"server\" argument");
            return;
        }
        if (line.IsBackup && _group.RefusesBackup)
        {
            Fail($"upstream \"{_group.Name}\" has no backup", "UpstreamNoBackup");
        }
        if (line.SlowStartMs > 0 && _group.RefusesBackup)
        {
            Fail("invalid \"slow_start\"", "UpstreamBadSlowStart");
        }
        if (_from is not null && line.Server == _from.Server)
        {
            _line = line with { Name = _from.Name };
            return;
        }
        bool literal = SocketAddress.TryParse(line.Server, 80, out SocketAddress? address, out string why)
            && !address!.IsWildcard;
        if (_from is { IsNamed: true } || _from is not null && !literal)
        {
            Fail($"server \"{_from.Id}\" address is immutable", "UpstreamServerImmutable");
            return;
        }
        if (line.Service.Length > 0 && literal)
        {
            Fail($"service upstream \"{line.Server}\" requires domain name", "UpstreamBadAddress");
            return;
        }
        if (literal)
        {
            string text = address!.ToString();
            _line = line with { Server = text, Name = text };
            return;
        }
        CheckName(line, why.Length > 0 ? why : "invalid host");
    }

    private void CheckName(ServerLine line, string why)
    {
        string server = line.Server;
        if (!Modules.UpstreamServers.TrySplit(server, 80, out string host, out int port, out bool hasPort)
            || host.StartsWith("unix:", StringComparison.Ordinal) || host.AsSpan().IndexOfAny(" /[];{}\"'*") >= 0
            || host.AsSpan().IndexOfAnyExceptInRange('0', '9') < 0)
        {
            Fail($"{why} while parsing \"{server}\"", "UpstreamBadAddress");
        }
        else if (line.Service.Length > 0 && hasPort)
        {
            Fail($"service upstream \"{server}\" may not have port", "UpstreamBadAddress");
        }
        else if (_group.Resolver is null)
        {
            Fail("no resolver defined to resolve", "UpstreamConfNoResolver");
        }
        else
        {
            _line = line with
            {
                IsNamed = true,
                Server = line.Service.Length > 0 ? host : string.Create(CultureInfo.InvariantCulture, $"{host}:{port}"),
            };
        }
    }
}
