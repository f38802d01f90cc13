// The origins that rows ask, each on a thread of its own per connection: HTTP (an echo that tells about its
// connection), FastCGI (the same) and memcached. What a row wants to be answered begins with marks:
//   ~700~ so many milliseconds later   ~early~ before the body   ~large~ twelve mebibytes   ~ss~ what the
//   kernel says of the connection   ~deaf~ never, and nothing is read   !!text!! to standard error
//   ~hold~ at the end: then nothing more until the server ends it
using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Weir.Tests.Harness.Rows;

public sealed class RowOrigins : IDisposable
{
    private const int LargeBytes = 12 << 20;
    private const int Deaf = 60_000;
    private readonly Func<string, string?> _answer;
    private readonly TcpListener[] _listeners;
    private readonly List<Socket> _fillers = [];
    private readonly NameServer _names = new();
    private readonly UdpClient _silent = new(new IPEndPoint(IPAddress.Loopback, 0));
    private readonly ConcurrentDictionary<string, bool> _seen = [];

    /// <param name="answer">What a row wants to be answered, by its name.</param>
    public RowOrigins(Func<string, string?> answer)
    {
        _answer = answer;
        _listeners = [Listen(Http), Listen(FastCgi), Listen(Memcached), new TcpListener(IPAddress.Loopback, 0)];
        // Nobody accepts here; one connection more than the queue holds makes the kernel drop what asks for more.
        _listeners[3].Start(1);
        for (int i = 0; i < 3; i++)
        {
            var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
            socket.Blocking = false;
            _fillers.Add(socket);
            try
            {
                socket.Connect(_listeners[3].LocalEndpoint);
            }
            catch (SocketException)
            {
                // It is under way, or the queue is full already.
            }
        }
    }

    public int HttpPort => PortOf(0);

    public int FastCgiPort => PortOf(1);

    public int MemcachedPort => PortOf(2);

    /// <summary>Where connections wait for ever.</summary>
    public int FullPort => PortOf(3);

    /// <summary>Where every name is 127.0.0.1.</summary>
    public int NamesPort => _names.Port;

    /// <summary>A name server that never answers.</summary>
    public int SilentPort => ((IPEndPoint)_silent.Client.LocalEndPoint!).Port;

    /// <summary>Whether a row's request has come.</summary>
    public bool HasSeen(string id) => _seen.ContainsKey(id);

    private string? Wanted(string id)
    {
        _seen[id] = true;
        return _answer(id);
    }

    public void Dispose()
    {
        foreach (TcpListener listener in _listeners)
        {
            listener.Dispose();
        }
        _fillers.ForEach(static s => s.Dispose());
        _names.Dispose();
        _silent.Dispose();
    }

    private int PortOf(int index) => ((IPEndPoint)_listeners[index].LocalEndpoint).Port;

    private static TcpListener Listen(Action<NetworkStream, Socket> serve)
    {
        var listener = new TcpListener(IPAddress.Loopback, 0);
        listener.Start(512);
        Start(() =>
        {
            while (true)
            {
                Socket socket = listener.AcceptSocket();
                Start(() =>
                {
                    using var stream = new NetworkStream(socket, ownsSocket: true);
                    serve(stream, socket);
                });
            }
        });
        return listener;
    }

    private static void Start(Action work) => new Thread(() =>
    {
        try
        {
            work();
        }
        catch (Exception e) when (e is IOException or SocketException or ObjectDisposedException
            or InvalidOperationException)
        {
            // The other side, or the test, has ended it.
        }
    }) { IsBackground = true }.Start();

    private static string Tell(Socket socket, int nth)
    {
        var peer = (IPEndPoint)socket.RemoteEndPoint!;
        string Hex(EndPoint end) => string.Create(CultureInfo.InvariantCulture,
            $"{BitConverter.ToUInt32(((IPEndPoint)end).Address.GetAddressBytes()):X8}:{((IPEndPoint)end).Port:X4}");
        string key = $"{Hex(peer)} {Hex(socket.LocalEndPoint!)} ";
        string? line = File.ReadLines("/proc/net/tcp").FirstOrDefault(l => l.Contains(key));
        string timer = line?[(line.IndexOf(key, StringComparison.Ordinal) + key.Length)..].Split(' ')[2][..2] ?? "none";
        return $"\nnth={nth} peer={peer.Address} timer={timer}\n";
    }

    /// <summary>What the kernel says of the server's side.</summary>
    private static string Kernel(Socket socket) => ChildProcess.Run(Tools.Require("ss"), "-Htnm", "sport", "=",
        string.Create(CultureInfo.InvariantCulture, $":{((IPEndPoint)socket.RemoteEndPoint!).Port}")).Output;

    private void Http(NetworkStream stream, Socket socket)
    {
        for (int nth = 1; ; nth++)
        {
            string head = "";
            while (!head.EndsWith("\r\n\r\n", StringComparison.Ordinal))
            {
                head += (char)ReadByte(stream);
            }
            string answer = Wanted(head.Split(' ')[1].Split('/')[1]) ?? "";
            string? length = head.Split("\r\n").FirstOrDefault(static l =>
                l.StartsWith("Content-Length: ", StringComparison.OrdinalIgnoreCase));
            string body = "";
            if (answer == "~deaf~")
            {
                new ManualResetEventSlim().Wait(Deaf);
                return;
            }
            if (length is not null && !answer.StartsWith("~early~", StringComparison.Ordinal))
            {
                byte[] bytes = new byte[int.Parse(length[16..], CultureInfo.InvariantCulture)];
                stream.ReadExactly(bytes);
                body = Encoding.Latin1.GetString(bytes);
            }
            if (answer == "~ss~")
            {
                string kernel = Kernel(socket);
                answer = $"HTTP/1.1 200 OK\r\nContent-Length: {kernel.Length}\r\n\r\n{kernel}";
            }
            if (answer == "")
            {
                string echo = head + body + Tell(socket, nth);
                answer = $"HTTP/1.1 200 OK\r\nContent-Length: {echo.Length}\r\n\r\n{echo}";
            }
            if (answer.StartsWith("~large~", StringComparison.Ordinal))
            {
                answer = $"HTTP/1.1 200 OK\r\nContent-Length: {LargeBytes}\r\n\r\n" + new string('l', LargeBytes);
            }
            Answer(stream, answer, static (s, text) => s.Write(Encoding.Latin1.GetBytes(text)));
        }
    }

    private static void Answer(NetworkStream stream, string text, Action<NetworkStream, string> write)
    {
        if (text.StartsWith("~early~", StringComparison.Ordinal))
        {
            text = text[7..];
        }
        else if (text.StartsWith('~'))
        {
            int end = text.IndexOf('~', 1);
            Thread.Sleep(int.Parse(text[1..end], CultureInfo.InvariantCulture));
            text = text[(end + 1)..];
        }
        bool holds = text.EndsWith("~hold~", StringComparison.Ordinal);
        write(stream, holds ? text[..^6] : text);
        if (holds)
        {
            ReadByte(stream);
        }
    }

    private static int ReadByte(NetworkStream stream)
    {
        int b = stream.ReadByte();
        return b >= 0 ? b : throw new IOException("the end");
    }

    private void Memcached(NetworkStream stream, Socket socket)
    {
        while (true)
        {
            string line = "";
            while (!line.EndsWith("\r\n", StringComparison.Ordinal))
            {
                line += (char)ReadByte(stream);
                if (line.Length > 1000)
                {
                    // Deaf to a key of that length.
                    new ManualResetEventSlim().Wait(Deaf);
                    return;
                }
            }
            string id = line.Trim().Split(' ')[1];
            string tell = Tell(socket, 1);
            string answer = Wanted(id) ?? $"VALUE {id} 0 {tell.Length}\r\n{tell}\r\nEND\r\n";
            Answer(stream, answer, static (s, text) => s.Write(Encoding.Latin1.GetBytes(text)));
        }
    }

    private void FastCgi(NetworkStream stream, Socket socket)
    {
        string parameters = "", input = "";
        int flags = 0;
        while (true)
        {
            byte[] head = new byte[8];
            stream.ReadExactly(head);
            byte[] content = new byte[head[4] * 256 + head[5]];
            stream.ReadExactly(content);
            stream.ReadExactly(new byte[head[6]]);
            flags = head[1] == 1 ? content[2] : flags;
            parameters += head[1] == 4 ? Names(content) : "";
            input += head[1] == 5 ? Encoding.Latin1.GetString(content) : "";
            string id = parameters.Split('\n').FirstOrDefault(static l => l.StartsWith("ROW=",
                StringComparison.Ordinal))
                ?[4..] ?? "";
            string? wanted = head[1] == 4 && content.Length == 0 ? Wanted(id) : _answer(id);
            bool early = wanted is not null && wanted.StartsWith("~early~", StringComparison.Ordinal);
            if (wanted == "~deaf~" && head[1] == 4 && content.Length == 0)
            {
                new ManualResetEventSlim().Wait(Deaf);
                return;
            }
            bool isWhole = early ? head[1] == 4 && content.Length == 0 : head[1] == 5 && content.Length == 0;
            if (!isWhole)
            {
                continue;
            }
            string answer = wanted ?? $"Status: 200\r\n\r\n{parameters}flags={flags}\n{input}{Tell(socket, 1)}";
            if (answer.StartsWith("!!", StringComparison.Ordinal))
            {
                int end = answer.IndexOf("!!", 2, StringComparison.Ordinal);
                Record(stream, 7, answer[2..end]);
                answer = answer[(end + 2)..];
            }
            if (answer == "~ss~")
            {
                answer = "Status: 200\r\n\r\n" + Kernel(socket);
            }
            if (answer == "~large~")
            {
                answer = "Status: 200\r\n\r\n" + new string('l', LargeBytes);
            }
            Answer(stream, answer, static (s, text) =>
            {
                for (int at = 0; at < text.Length; at += 32768)
                {
                    Record(s, 6, text.Substring(at, Math.Min(32768, text.Length - at)));
                }
            });
            Record(stream, 6, "");
            Record(stream, 3, "\0\0\0\0\0\0\0\0");
            if (flags == 0)
            {
                return;
            }
            (parameters, input) = ("", "");
        }
    }

    private static void Record(NetworkStream stream, byte type, string content)
    {
        byte[] bytes = Encoding.Latin1.GetBytes(content);
        stream.Write([1, type, 0, 1, (byte)(bytes.Length >> 8), (byte)bytes.Length, 0, 0, .. bytes]);
    }

    private static string Names(byte[] content)
    {
        var text = new StringBuilder();
        int at = 0;
        int Length() => content[at] < 128 ? content[at++]
            : (content[at++] & 127) << 24 | content[at++] << 16 | content[at++] << 8 | content[at++];
        while (at < content.Length)
        {
            int name = Length(), value = Length();
            text.Append(Encoding.Latin1.GetString(content, at, name)).Append('=')
                .Append(Encoding.Latin1.GetString(content, at + name, value)).Append('\n');
            at += name + value;
        }
        return text.ToString();
    }
}
