// What a configuration under test opens: its logs are kept in memory or in a folder of the test's own, names have
// addresses made up for them, certificates that are not on this machine are made, temporary paths lie in that folder.
// On the loop's thread; the folder is removed with the configuration.
using System.Globalization;
using System.Security.Cryptography;
using System.Security.Cryptography.X509Certificates;
using System.Text;
using Weir.Http;
using Weir.Kernel;
using Weir.Zones;

namespace Weir.Testing;

/// <summary>Addresses of names, the same for the configuration and for the test.</summary>
internal sealed class TestingNames(NginxConfOptions options)
{
    private readonly Dictionary<string, string> _made = new(StringComparer.OrdinalIgnoreCase);

    internal SocketAddress? Find(string host, int port)
    {
        if (host.StartsWith("unix:", StringComparison.Ordinal))
        {
            return SocketAddress.Unix(host[5..]);
        }
        string address = options.Hosts.TryGetValue(host, out string? given) ? given
            : host.Equals("localhost", StringComparison.OrdinalIgnoreCase) ? "127.0.0.1" : host;
        if (SocketAddress.TryParse(WithPort(address, port), port, out SocketAddress? found, out string _))
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

    private static string WithPort(string address, int port) => string.Create(CultureInfo.InvariantCulture,
        $"{(address.Contains(':') && !address.StartsWith('[') ? $"[{address}]" : address)}:{port}");
}

internal sealed class TestingResources(IBuildResources inner, NginxConfOptions options, TestingNames names,
    List<string> log, string folder) : IBuildResources
{
    private static readonly Lazy<byte[]> _certificate = new(MakeCertificate);
    private readonly Dictionary<LogSpec, int> _logs = [];

    public string Prefix => inner.Prefix;
    public string ConfPrefix => inner.ConfPrefix;
    public string TempPrefix => folder;
    public CounterSlots? Counters => inner.Counters;
    public ulong Stamp => inner.Stamp;

    public PhaseHandler? Application(string name) => inner.Application(name);

    public Zone? Zone(ZoneSpec spec) => inner.Zone(spec);

    public string TempPath(string path) => Inside("temp", path);

    public void NeedDirectory(string path) => Directory.CreateDirectory(path);

    /// <summary>Access logs are files, below the folder, as the log module writes descriptors.</summary>
    public int LogDescriptor(LogSpec spec)
    {
        if (!_logs.TryGetValue(spec, out int fd))
        {
            string path = LogFile(folder, spec.IsStandardError ? "stderr" : spec.Path);
            Directory.CreateDirectory(Path.GetDirectoryName(path)!);
            fd = inner.LogDescriptor(new LogSpec(path));
            _logs.Add(spec, fd);
        }
        return fd;
    }

    internal static string LogFile(string folder, string path) => Inside(folder, "logs", path);

    public LogSink? SinkOf(LogSpec spec, LogLevel level) => new Lines(log, Lower(level));

    public SocketAddress[]? Resolve(string host, int port, out string? error)
    {
        SocketAddress? found = names.Find(host, port);
        error = found is null ? "host not found" : null;
        return found is null ? null : [found];
    }

    /// <summary>What servers wrote on some machine is no part of a test.</summary>
    public byte[]? ReadState(string path) =>
        options.Files.TryGetValue(path, out string? text) ? Encoding.UTF8.GetBytes(text) : null;

    public byte[]? ReadFile(string path, out string? error)
    {
        if (options.Files.TryGetValue(path, out string? text))
        {
            error = null;
            return Encoding.UTF8.GetBytes(text);
        }
        if (inner.ReadFile(path, out error) is { } bytes)
        {
            return bytes;
        }
        error = null;
        return _certificate.Value;
    }

    private string Inside(string kind, string path) => Inside(folder, kind, path);

    private static string Inside(string folder, string kind, string path) =>
        Path.Join(folder, kind, path.TrimStart('/').Replace("..", "__", StringComparison.Ordinal));

    private LogLevel Lower(LogLevel level)
    {
        if (options.LogLevel is not { } name)
        {
            return level;
        }
        LogLevel wanted = Enum.Parse<LogLevel>(name, ignoreCase: true);
        return (LogLevel)Math.Max((int)level, (int)wanted);
    }

    /// <summary>A certificate for every name, its key and Diffie-Hellman parameters: whoever reads the text finds what
    /// it looks for.</summary>
    private static byte[] MakeCertificate()
    {
        using var key = ECDsa.Create(ECCurve.NamedCurves.nistP256);
        var request = new CertificateRequest("CN=weir testing", key, HashAlgorithmName.SHA256);
        var alternatives = new SubjectAlternativeNameBuilder();
        alternatives.AddDnsName("*");
        alternatives.AddDnsName("localhost");
        request.CertificateExtensions.Add(alternatives.Build());
        using X509Certificate2 certificate = request.CreateSelfSigned(DateTimeOffset.UnixEpoch.AddYears(40),
            DateTimeOffset.UnixEpoch.AddYears(130));
        return Encoding.ASCII.GetBytes(
            $"{certificate.ExportCertificatePem()}\n{key.ExportPkcs8PrivateKeyPem()}\n{Parameters}\n");
    }

    // The group ffdhe2048 of RFC 7919.
    private const string Parameters = """
        -----BEGIN DH PARAMETERS-----
        MIIBCAKCAQEA//////////+t+FRYortKmq/cViAnPTzx2LnFg84tNpWp4TZBFGQz
        +8yTnc4kmz75fS/jY2MMddj2gbICrsRhetPfHtXV/WVhJDP1H18GbtCFY2VVPe0a
        87VXE15/V8k1mE8McODmi3fipona8+/och3xWKE2rec1MKzKT0g6eXq8CrGCsyT7
        YdEIqUuyyOP7uWrat2DX9GgdT0Kj3jlN9K5W7edjcrsZCwenyO4KbXCeAvzhzffi
        7MA0BM0oNC9hkXL+nOmFg/+OTxIy7vKBg8P+OxtMb61zO7X8vC7CIAXFjvGDfRaD
        ssbzSibBsu/6iGtCOGEoXJf//////////wIBAg==
        -----END DH PARAMETERS-----
        """;

    private sealed class Lines(List<string> log, LogLevel level) : LogSink(level)
    {
        public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart) =>
            log.Add($"[{level.ToString().ToLowerInvariant()}] "
                + Encoding.UTF8.GetString(line[messageStart..]).TrimEnd('\n'));
    }
}
