// What a configuration opens while a request is explained: nothing that others would notice. Logs are lines of the
// report, temporary paths lie in a folder that goes again, names get addresses made up for them; files that the
// configuration reads are read. On the thread of the simulated loop.
using System.Globalization;
using System.Text;
using Weir.Http;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Zones;

namespace Weir.Explain;

/// <summary>Addresses that stand for names which nobody was asked about.</summary>
internal sealed class ExplainNames
{
    private readonly Dictionary<string, string> _made = new(StringComparer.OrdinalIgnoreCase);

    public SocketAddress? Find(string host, int port)
    {
        if (host.StartsWith("unix:", StringComparison.Ordinal))
        {
            return SocketAddress.Unix(host[5..]);
        }
        string text = host.Equals("localhost", StringComparison.OrdinalIgnoreCase) ? "127.0.0.1" : host;
        if (SocketAddress.TryParse(WithPort(text, port), port, out SocketAddress? found, out string _))
        {
            return found;
        }
        if (!_made.TryGetValue(host, out string? made))
        {
            int n = _made.Count + 1;
            made = string.Create(CultureInfo.InvariantCulture, $"198.18.{n >> 8}.{n & 0xFF}");
            _made.Add(host, made);
        }
        return SocketAddress.Parse(WithPort(made, port));
    }

    /// <summary>The address as people know it: with the name that it was made up for.</summary>
    public string Describe(string address)
    {
        foreach ((string name, string made) in _made)
        {
            if (address.StartsWith(made + ":", StringComparison.Ordinal))
            {
                return $"{name}{address[made.Length..]} (the name was not looked up)";
            }
        }
        return address;
    }

    private static string WithPort(string address, int port) => string.Create(CultureInfo.InvariantCulture,
        $"{(address.Contains(':') && !address.StartsWith('[') ? $"[{address}]" : address)}:{port}");
}

internal sealed class ExplainResources(IBuildResources inner, ExplainNames names, List<string> log, string folder)
    : IBuildResources
{
    private int _null = -1;

    public string Prefix => inner.Prefix;
    public string ConfPrefix => inner.ConfPrefix;
    public string TempPrefix => folder;
    public CounterSlots? Counters => inner.Counters;

    public PhaseHandler? Application(string name) => inner.Application(name);

    public Zone? Zone(ZoneSpec spec) => inner.Zone(spec);

    public string TempPath(string path) =>
        Path.Join(folder, path.TrimStart('/').Replace("..", "__", StringComparison.Ordinal));

    public void NeedDirectory(string path) => Directory.CreateDirectory(path);

    /// <summary>Access logs are not written.</summary>
    public int LogDescriptor(LogSpec spec)
    {
        if (_null < 0)
        {
            SysResult opened = Sys.Open("/dev/null", Sys.O_WRONLY);
            _null = opened.IsError ? -1 : opened.Int;
        }
        return _null;
    }

    public LogSink? SinkOf(LogSpec spec, LogLevel level) => new Lines(log, level);

    public SocketAddress[]? Resolve(string host, int port, out string? error)
    {
        SocketAddress? found = names.Find(host, port);
        error = found is null ? "host not found" : null;
        return found is null ? null : [found];
    }

    public byte[]? ReadFile(string path, out string? error) => inner.ReadFile(path, out error);

    private sealed class Lines(List<string> log, LogLevel level) : LogSink(level)
    {
        public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart)
        {
            string text = $"[{level.ToString().ToLowerInvariant()}] "
                + Encoding.UTF8.GetString(line[messageStart..]).TrimEnd('\n');
            if (level <= LogLevel.Notice && !log.Contains(text))
            {
                log.Add(text);
            }
        }
    }
}
