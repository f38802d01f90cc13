// What the scripted name server knows: every name is 127.0.0.1, except those that begin with nx. Of one that begins
// with t the answer does not fit into a datagram, and for tx there is none over TCP either. One function for the real
// socket and for the simulated one.
using System.Net;
using System.Net.Sockets;

namespace Weir.Tests.Harness;

/// <summary>A name server on a port of its own, UDP and TCP.</summary>
public sealed class NameServer : IDisposable
{
    /// <summary>A header, a name of one label, type and class.</summary>
    private const int QuestionBytesMin = 12 + 3 + 4;

    private readonly TcpListener _listener = new(IPAddress.Loopback, 0);
    private readonly UdpClient _socket;
    private int _questions;
    private int _streamQuestions;

    public NameServer()
    {
        _listener.Start();
        _socket = new UdpClient((IPEndPoint)_listener.LocalEndpoint);
        new Thread(Serve) { IsBackground = true, Name = "name server" }.Start();
        new Thread(ServeStreams) { IsBackground = true, Name = "name server, TCP" }.Start();
    }

    public int Port => ((IPEndPoint)_socket.Client.LocalEndPoint!).Port;

    /// <summary>Questions answered so far.</summary>
    public int Questions => Volatile.Read(ref _questions);

    /// <summary>Questions that came over TCP.</summary>
    public int StreamQuestions => Volatile.Read(ref _streamQuestions);

    /// <summary>The answer to a question; null for what is none.</summary>
    public static byte[]? Answer(byte[] q)
    {
        if (q.Length < QuestionBytesMin)
        {
            return null;
        }

        if (q[13] == 't')
        {
            return [q[0], q[1], 0x83, 0x80, 0, 1, 0, 0, 0, 0, 0, 0, .. q[12..]];
        }
        bool known = q[13] != 'n';
        byte[] head = [q[0], q[1], 0x81, (byte)(known ? 0x80 : 0x83), 0, 1, 0, (byte)(known ? 1 : 0), 0, 0, 0, 0];
        byte[] answer = known ? [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1] : [];
        return [.. head, .. q[12..], .. answer];
    }

    public void Dispose()
    {
        _socket.Dispose();
        _listener.Dispose();
    }

    private void ServeStreams()
    {
        try
        {
            while (true)
            {
                using TcpClient client = _listener.AcceptTcpClient();
                NetworkStream stream = client.GetStream();
                byte[] length = new byte[2];
                stream.ReadExactly(length);
                byte[] q = new byte[length[0] << 8 | length[1]];
                stream.ReadExactly(q);
                Interlocked.Increment(ref _streamQuestions);
                if (q[14] == 'x')
                {
                    continue;
                }
                const int records = 60;
                byte[] record = [0xC0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1];
                byte[] message = [q[0], q[1], 0x81, 0x80, 0, 1, 0, records, 0, 0, 0, 0, .. q[12..],
                    .. Enumerable.Repeat(record, records).SelectMany(static r => r)];
                // In pieces, as a network may.
                stream.Write([(byte)(message.Length >> 8)]);
                stream.Write([(byte)message.Length, .. message[..5]]);
                stream.Write(message.AsSpan(5));
            }
        }
        catch (Exception e) when (e is SocketException or IOException or ObjectDisposedException)
        {
            // The test has ended.
        }
    }

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
        catch (Exception e) when (e is SocketException or ObjectDisposedException or NullReferenceException)
        {
            // The test has ended; a disposed UdpClient has no socket any more.
        }
    }
}
