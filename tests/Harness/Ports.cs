// Free TCP ports for servers under test: taken outside the kernel's ephemeral range (a client's own port can then never
// be the one a server is about to listen on), leased across processes by a lock file, given back on dispose.
using System.Globalization;
using System.Net;
using System.Net.Sockets;

namespace Weir.Tests.Harness;

/// <summary>A TCP port that nobody else in this test run uses until it is disposed.</summary>
public sealed class Port : IDisposable
{
    private static readonly object _gate = new();
    private static int _next = -1;
    private readonly FileStream _lease;

    private Port(int number, FileStream lease)
    {
        Number = number;
        _lease = lease;
    }

    public int Number { get; }

    /// <summary>Leases a port; WEIR_TEST_PORTS=FIRST-LAST narrows the range.</summary>
    public static Port Lease()
    {
        (int first, int last) = Range();
        lock (_gate)
        {
            int count = last - first + 1;
            if (_next < 0)
            {
                _next = Environment.ProcessId * 37 % count;
            }

            for (int tried = 0; tried < count; tried++)
            {
                int number = first + _next;
                _next = (_next + 1) % count;
                if (TryLock(number) is { } lease)
                {
                    if (IsFree(number))
                    {
                        return new Port(number, lease);
                    }

                    lease.Dispose();
                }
            }
        }

        throw new InvalidOperationException($"no free port between {first} and {last}");
    }

    public void Dispose() => _lease.Dispose();

    private static (int First, int Last) Range()
    {
        string[] parts = (Environment.GetEnvironmentVariable("WEIR_TEST_PORTS") ?? "20000-29999").Split('-');
        return (int.Parse(parts[0], CultureInfo.InvariantCulture), int.Parse(parts[1], CultureInfo.InvariantCulture));
    }

    private static FileStream? TryLock(int number)
    {
        string folder = "/tmp/weir-test-ports";
        Directory.CreateDirectory(folder);
        try
        {
            return new FileStream(Path.Combine(folder, number.ToString(CultureInfo.InvariantCulture)),
                FileMode.OpenOrCreate, FileAccess.ReadWrite, FileShare.None);
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static bool IsFree(int number)
    {
        using var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        try
        {
            socket.Bind(new IPEndPoint(IPAddress.Any, number));
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }
}
