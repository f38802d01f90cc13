// A name server whose answers a test decides and changes: addresses, service records, names that do not exist, failures
// and silence. Every answer is good for a second. UDP alone, on a port of its own.
using System.Buffers.Binary;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>What a name server does with questions.</summary>
public enum NameServerMode
{
    Answering,

    /// <summary>"Server failure".</summary>
    Failing,
    Silent,
}

public sealed class ScriptedNameServer : IDisposable
{
    private const ushort TypeA = 1, TypeSrv = 33;
    private const int HeadBytes = 12, NoSuchName = 3, ServerFailure = 2;

    private readonly UdpClient _socket = new(new IPEndPoint(IPAddress.Loopback, 0));
    private readonly Dictionary<(string Name, ushort Type), byte[][]> _records = [];
    private int _questions;
    private volatile NameServerMode _mode;

    public ScriptedNameServer() => new Thread(Serve) { IsBackground = true, Name = "scripted name server" }.Start();

    public int Port => ((IPEndPoint)_socket.Client.LocalEndPoint!).Port;

    /// <summary>Questions that came and were answered, or not.</summary>
    public int Questions => Volatile.Read(ref _questions);

    public NameServerMode Mode
    {
        set => _mode = value;
    }

    public void Set(string name, params string[] addresses)
    {
        lock (_records)
        {
            _records[(name, TypeA)] = [.. addresses.Select(static a => IPAddress.Parse(a).GetAddressBytes())];
        }
    }

    public void SetServices(string name, params (int Priority, int Weight, int Port, string Host)[] services)
    {
        lock (_records)
        {
            _records[(name, TypeSrv)] = [.. services.Select(static s => (byte[])[.. Two(s.Priority), .. Two(s.Weight),
                .. Two(s.Port), .. s.Host.Split('.').SelectMany(static l => (byte[])[(byte)l.Length,
                .. Encoding.ASCII.GetBytes(l)]), 0])];
        }
    }

    public void Remove(string name)
    {
        lock (_records)
        {
            _records.Remove((name, TypeA));
            _records.Remove((name, TypeSrv));
        }
    }

    public void Dispose() => _socket.Dispose();

    private static byte[] Two(int value) => [(byte)(value >> 8), (byte)value];

    private byte[] Answer(byte[] q)
    {
        var name = new StringBuilder();
        int at = HeadBytes;
        for (; q[at] != 0; at += q[at] + 1)
        {
            name.Append(name.Length > 0 ? "." : "").Append(Encoding.ASCII.GetString(q, at + 1, q[at]));
        }
        ushort type = BinaryPrimitives.ReadUInt16BigEndian(q.AsSpan(at + 1));
        byte[][]? records;
        lock (_records)
        {
            _records.TryGetValue((name.ToString(), type), out records);
        }
        int code = _mode == NameServerMode.Failing ? ServerFailure : records is null ? NoSuchName : 0;
        records = code == 0 ? records! : [];
        return
        [
            q[0], q[1], 0x81, (byte)(0x80 | code), 0, 1, .. Two(records.Length), 0, 0, 0, 0,
            .. q.AsSpan(HeadBytes, at + 5 - HeadBytes),
            .. records.SelectMany(r => (byte[])[0xC0, HeadBytes, .. Two(type), 0, 1, 0, 0, 0, 1, .. Two(r.Length),
                .. r]),
        ];
    }

    private void Serve()
    {
        try
        {
            while (true)
            {
                var from = new IPEndPoint(IPAddress.Any, 0);
                byte[] question = _socket.Receive(ref from);
                if (question.Length > HeadBytes + 4 && _mode != NameServerMode.Silent)
                {
                    byte[] answer = Answer(question);
                    _socket.Send(answer, answer.Length, from);
                }
                Interlocked.Increment(ref _questions);
            }
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or NullReferenceException)
        {
            // The test has ended.
        }
    }
}
