// What the scripted name server knows: every name is 127.0.0.1, except those that begin with nx. One function for the
// real socket and for the simulated one.
using System.Net;
using System.Net.Sockets;

namespace Weir.Tests.Harness;

/// <summary>A name server on a UDP port of its own.</summary>
public sealed class NameServer : IDisposable
{
    /// <summary>A header, a name of one label, type and class.</summary>
    private const int QuestionBytesMin = 12 + 3 + 4;

    private readonly UdpClient _socket = new(new IPEndPoint(IPAddress.Loopback, 0));
    private int _questions;

    public NameServer() => new Thread(Serve) { IsBackground = true, Name = "name server" }.Start();

    public int Port => ((IPEndPoint)_socket.Client.LocalEndPoint!).Port;

    /// <summary>Questions answered so far.</summary>
    public int Questions => Volatile.Read(ref _questions);

    /// <summary>The answer to a question; null for what is none.</summary>
    public static byte[]? Answer(byte[] q)
    {
        if (q.Length < QuestionBytesMin)
        {
            return null;
        }

        bool known = q[13] != 'n';
        byte[] head = [q[0], q[1], 0x81, (byte)(known ? 0x80 : 0x83), 0, 1, 0, (byte)(known ? 1 : 0), 0, 0, 0, 0];
        byte[] answer = known ? [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1] : [];
        return [.. head, .. q[12..], .. answer];
    }

    public void Dispose() => _socket.Dispose();

    private void Serve()
    {
        try
        {
            while (true)
            {
                var from = new IPEndPoint(IPAddress.Any, 0);
                // A stray datagram of a test that had this port before is none of ours.
                if (Answer(_socket.Receive(ref from)) is { } answer)
                {
                    Interlocked.Increment(ref _questions);
                    _socket.Send(answer, answer.Length, from);
                }
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            // The test has ended.
        }
    }
}
