// What every concurrency model can do, what models share, and the thread that watches over handlers: it sees those that
// hold a thread past their time, and clients that left while nobody was looking at their socket.
using Weir.Kernel;
using Weir.Kernel.Net;

namespace Weir.Server;

/// <summary>A model that serves.</summary>
internal abstract class ServerModel(AppServerOptions options, GuestApplication application, AppCounters counters,
    Log log)
{
    protected AppServerOptions Options { get; } = options;
    protected GuestApplication Application { get; } = application;
    protected AppCounters Counters { get; } = counters;
    protected Log Log { get; } = log;

    /// <summary>Starts threads; the sockets are the model's from now on.</summary>
    internal abstract void Start(IReadOnlyList<OpenListener> listeners);

    /// <summary>Stops accepting, lets what runs end, within the time; then cuts off the rest.</summary>
    internal abstract Task StopAsync(TimeSpan patience, CancellationToken hurry);

    protected void TellThreadCost(ThreadStack stack)
    {
        if (stack.ReservedBytes > 0)
        {
            Log.Write(LogLevel.Notice,
                $"{Options.Concurrency.Name}: a thread's stack reserves {stack.ReservedBytes / 1024} KiB of address "
                + $"space, {stack.CommittedBytes / 1024} KiB of it are in memory");
        }
    }

    protected static int Milliseconds(TimeSpan time) =>
        (int)Math.Clamp(time.TotalMilliseconds, 0, int.MaxValue);
}

/// <summary>A listening socket with the address that it was really bound to.</summary>
internal sealed class OpenListener
{
    internal required int Fd { get; init; }
    internal required SocketAddress Address { get; init; }

    /// <summary>Null for a plain address.</summary>
    internal ListenerTls? Tls { get; init; }

    /// <summary>A path that this server made and removes.</summary>
    internal string? UnixPath { get; init; }

    /// <summary>Opens all addresses of the options.</summary>
    /// <exception cref="IOException">An address cannot be had; the message says who has it.</exception>
    /// <exception cref="ArgumentException">An address is none, or its TLS cannot be.</exception>
    internal static List<OpenListener> OpenAll(AppServerOptions options, Log log)
    {
        var opened = new List<OpenListener>();
        try
        {
            IEnumerable<string> addresses = options.Listen.Count > 0 ? options.Listen : ["127.0.0.1:8080"];
            foreach (string text in addresses)
            {
                HttpsOptions? https = options.HttpsOf(text);
                ListenerTls? tls = https is null ? null
                    : new ListenerTls(text, https, log, options.Http2 && !options.Concurrency.IsBlocking);
                try
                {
                    opened.Add(Open(WithoutScheme(text), options.Backlog, tls));
                }
                catch
                {
                    tls?.Dispose();
                    throw;
                }
            }
            return opened;
        }
        catch
        {
            foreach (OpenListener listener in opened)
            {
                listener.Close();
            }
            throw;
        }
    }

    internal void Close()
    {
        Descriptors.Close(Fd);
        Tls?.Dispose();
        if (UnixPath is not null)
        {
            Descriptors.Unlink(UnixPath);
        }
    }

    private static string WithoutScheme(string text)
    {
        int colon = text.IndexOf("://", StringComparison.Ordinal);
        return colon is 4 or 5 && text.StartsWith("http", StringComparison.OrdinalIgnoreCase) ? text[(colon + 3)..]
            : text;
    }

    /// <summary>What it was asked for as: a TLS address keeps its scheme.</summary>
    internal string Text => Tls is null ? Address.ToString() : AppServerOptions.HttpsScheme + Address;

    private static OpenListener Open(string text, int backlog, ListenerTls? tls)
    {
        SocketAddress address = Parse(text);
        var spec = new ListenSpec { Address = address, Backlog = backlog };
        int fd = ListenSocket.Open(spec, reusePort: false, out ListenFailure failure);
        string? path = address.UnixPath;
        if (fd < 0 && failure.Errno == Errno.EADDRINUSE && path is not null && IsDead(address))
        {
            // The file of a server that is gone.
            Descriptors.Unlink(path);
            fd = ListenSocket.Open(spec, reusePort: false, out failure);
        }
        if (fd < 0)
        {
            string who = failure.Errno == Errno.EADDRINUSE ? $": it {PortOwner.Describe(address)}" : "";
            throw new IOException($"cannot listen on {address}{who} ({failure.Call} failed, {failure.Errno}: "
                + $"{Errno.Describe(failure.Errno)})");
        }
        return new OpenListener
        {
            Fd = fd,
            Tls = tls,
            Address = ListenSocket.AddressOf(fd, out _) ?? address,
            UnixPath = path is null || path.StartsWith('@') ? null : path,
        };
    }

    private static SocketAddress Parse(string text)
    {
        string full = text.All(char.IsAsciiDigit) ? "127.0.0.1:" + text
            : text.StartsWith("localhost", StringComparison.OrdinalIgnoreCase) ? "127.0.0.1" + text[9..]
            : text;
        // A port of 0 asks for any; the parser of configurations knows no such port.
        bool any = full.EndsWith(":0", StringComparison.Ordinal);
        if (!SocketAddress.TryParse(any ? full[..^1] + "1" : full, 80, out SocketAddress? address, out string error))
        {
            throw new ArgumentException($"\"{text}\" is no address to listen on: {error}", nameof(text));
        }
        return !any ? address! : address!.Family == SocketFamily.Inet6
            ? SocketAddress.Inet6(address.AddressBytes, 0) : SocketAddress.Inet(address.AddressBytes, 0);
    }

    private static bool IsDead(SocketAddress address)
    {
        using var probe = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.Unix,
            System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Unspecified);
        try
        {
            probe.Connect(new System.Net.Sockets.UnixDomainSocketEndPoint(address.UnixPath!));
            return false;
        }
        catch (System.Net.Sockets.SocketException e)
        {
            return e.SocketErrorCode == System.Net.Sockets.SocketError.ConnectionRefused;
        }
    }
}

/// <summary>Something that the watchdog looks at again and again.</summary>
internal interface IWatched
{
    void Watch(long nowMs);
}

/// <summary>The thread that looks at handlers which may not come back.</summary>
internal sealed class Watchdog(AppCounters counters)
{
    private readonly object _gate = new();
    private readonly HashSet<IWatched> _watched = [];
    private Thread? _thread;
    private bool _stopped;
    private int _everyMs = 100;

    /// <summary>Begins to look; every <paramref name="everyMs"/> from now on, if nobody asked for more
    /// often.</summary>
    internal void Add(IWatched watched, int everyMs)
    {
        lock (_gate)
        {
            _watched.Add(watched);
            _everyMs = Math.Clamp(everyMs, 1, _everyMs);
            if (_thread is null)
            {
                _thread = new Thread(Run, 128 * 1024) { IsBackground = true, Name = "weir-watchdog" };
                counters.Thread(1);
                _thread.Start();
            }
            else if (_watched.Count == 1)
            {
                Monitor.Pulse(_gate);
            }
        }
    }

    internal void Remove(IWatched watched)
    {
        lock (_gate)
        {
            _watched.Remove(watched);
        }
    }

    internal void Stop()
    {
        lock (_gate)
        {
            _stopped = true;
            Monitor.PulseAll(_gate);
        }
        _thread?.Join();
    }

    private void Run()
    {
        var now = new List<IWatched>();
        while (true)
        {
            lock (_gate)
            {
                if (_stopped)
                {
                    break;
                }
                Monitor.Wait(_gate, _watched.Count == 0 ? Timeout.Infinite : _everyMs);
                now.Clear();
                now.AddRange(_watched);
            }
            long nowMs = Sys.MonotonicMs();
            foreach (IWatched watched in now)
            {
                watched.Watch(nowMs);
            }
        }
        counters.Thread(-1);
    }
}

/// <summary>Log lines for the program that embeds the server.</summary>
internal sealed class CallbackSink(Action<AppLogLevel, string> write, LogLevel level) : LogSink(level)
{
    public override void Write(LogLevel level, ReadOnlySpan<byte> line, int messageStart) => write(
        level switch
        {
            <= LogLevel.Error => AppLogLevel.Error,
            LogLevel.Warn => AppLogLevel.Warning,
            LogLevel.Debug => AppLogLevel.Debug,
            _ => AppLogLevel.Information,
        },
        System.Text.Encoding.UTF8.GetString(line[messageStart..].TrimEnd((byte)'\n')));

    internal static LogLevel LevelOf(AppLogLevel level) => level switch
    {
        AppLogLevel.Debug => LogLevel.Debug,
        AppLogLevel.Information => LogLevel.Info,
        AppLogLevel.Warning => LogLevel.Warn,
        _ => LogLevel.Error,
    };
}
