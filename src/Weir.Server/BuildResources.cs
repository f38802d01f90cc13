// The resources of a build that happens in the process that will use them: log files are opened, names are resolved.
using System.Diagnostics;
using System.Net;
using System.Net.Sockets;
using Weir.Http;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Zones;
using SocketAddress = Weir.Kernel.SocketAddress;

namespace Weir.Server;

/// <summary>Opens what a configuration asks for, in this process; log files are closed with it. Zones stay: they belong
/// to the server, whose configurations come and go.</summary>
public sealed class OwnResources(string prefix, string confPrefix, CounterSlots counters,
    Dictionary<ZoneSpec, Zone> zones) : IBuildResources, IDisposable
{
    private readonly Dictionary<LogSpec, int> _logs = [];

    /// <inheritdoc/>
    public string Prefix { get; } = prefix;
    /// <inheritdoc/>
    public string ConfPrefix { get; } = confPrefix;
    /// <inheritdoc/>
    public string TempPrefix { get; } = "/tmp";
    /// <inheritdoc/>
    public CounterSlots? Counters { get; } = counters;
    /// <inheritdoc/>
    public ulong Stamp { get; } = (ulong)Stopwatch.GetTimestamp();

    /// <summary>The applications of this process; null where there are none.</summary>
    public Func<string, PhaseHandler?>? ApplicationOf { get; init; }

    /// <inheritdoc/>
    public PhaseHandler? Application(string name) => ApplicationOf?.Invoke(name);

    /// <summary>What could not be opened, in nginx's words.</summary>
    public List<string> Failures { get; } = [];

    /// <inheritdoc/>
    public int LogDescriptor(LogSpec spec)
    {
        if (spec.IsStandardError)
        {
            return 2;
        }
        if (!_logs.TryGetValue(spec, out int fd))
        {
            SysResult opened = Sys.Open(spec.Path, Sys.O_WRONLY | Sys.O_CREAT | Sys.O_APPEND, 0x1A4);
            if (opened.IsError)
            {
                Failures.Add($"open() \"{spec.Path}\" failed ({opened.Errno}: {Errno.Describe(opened.Errno)})");
            }
            fd = opened.IsError ? -1 : opened.Int;
            _logs.Add(spec, fd);
        }
        return fd;
    }

    /// <inheritdoc/>
    public Zone? Zone(ZoneSpec spec)
    {
        if (!zones.TryGetValue(spec, out Zone? zone))
        {
            zone = Zones.Zone.CreatePrivate(spec);
            zones.Add(spec, zone);
        }
        return zone;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (int fd in _logs.Values)
        {
            if (fd >= 0)
            {
                Sys.Close(fd);
            }
        }
        _logs.Clear();
    }

    /// <inheritdoc/>
    public SocketAddress[]? Resolve(string host, int port, out string? error) => HostNames.Resolve(host, port,
        out error);

    /// <inheritdoc/>
    public void NeedDirectory(string path) => Directory.CreateDirectory(path);

    /// <inheritdoc/>
    public byte[]? ReadFile(string path, out string? error) => Read(path, out error);

    /// <summary>A whole file, or nginx's words for why not.</summary>
    public static byte[]? Read(string path, out string? error)
    {
        error = null;
        SysResult fd = Sys.Open(path, Sys.O_RDONLY);
        if (fd.IsError)
        {
            error = $"open() \"{path}\" failed ({fd.Errno}: {Errno.Describe(fd.Errno)})";
            return null;
        }
        Sys.Close(fd.Int);
        return File.ReadAllBytes(path);
    }
}

/// <summary>Names at start-up, through the system's resolver.</summary>
public static class HostNames
{
    /// <summary>The addresses of a name; null and nginx's words where there are none.</summary>
    public static SocketAddress[]? Resolve(string host, int port, out string? error)
    {
        if (host.Length == 0)
        {
            // The system would answer with this machine's own addresses.
            error = "host not found";
            return null;
        }
        try
        {
            var found = new List<SocketAddress>();
            // A number is an address, 0 too, which the system's resolver refuses to look at.
            IPAddress[] addresses = IPAddress.TryParse(host, out IPAddress? number) ? [number]
                : Dns.GetHostAddresses(host);
            foreach (IPAddress address in addresses)
            {
                byte[] bytes = address.GetAddressBytes();
                found.Add(address.AddressFamily == AddressFamily.InterNetwork
                    ? SocketAddress.Inet(bytes, port) : SocketAddress.Inet6(bytes, port));
            }
            error = found.Count == 0 ? "host not found" : null;
            return found.Count == 0 ? null : [.. found];
        }
        catch (SocketException)
        {
            error = "host not found";
            return null;
        }
    }
}
