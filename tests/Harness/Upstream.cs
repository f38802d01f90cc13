// An origin server that does what a script says: reads requests, answers with given bytes, closes, resets or holds.
// One thread per connection; it counts connections and keeps every request as it came.
using System.Collections.Concurrent;
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>A scripted upstream on a port of its own.</summary>
public sealed class Upstream : IDisposable
{
    private readonly Port _port = Harness.Port.Lease();
    private readonly Socket _listener;
    private readonly Action<UpstreamConnection> _script;
    private readonly ConcurrentBag<UpstreamConnection> _open = [];
    private readonly List<byte[]> _requests = [];
    private int _connections;

    /// <summary>Runs the script for every connection; the connection is closed when the script ends.</summary>
    public Upstream(Action<UpstreamConnection> script, int backlog = 512)
    {
        _script = script;
        _listener = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
        _listener.Bind(new IPEndPoint(IPAddress.Loopback, _port.Number));
        _listener.Listen(backlog);
        new Thread(Accept) { IsBackground = true, Name = "upstream" }.Start();
    }

    public int Port => _port.Number;

    /// <summary>Connections accepted so far.</summary>
    public int Connections => Volatile.Read(ref _connections);

    /// <summary>Requests read so far, each with head and body, in the order of their arrival.</summary>
    public IReadOnlyList<byte[]> Requests
    {
        get
        {
            lock (_requests)
            {
                return [.. _requests];
            }
        }
    }

    /// <summary>Answers every request on every connection with the same bytes.</summary>
    public static Upstream Answering(string response) => new(c =>
    {
        while (c.ReadRequest() is not null)
        {
            c.Send(response);
        }
    });

    /// <summary>Answers every request with what the function makes of it.</summary>
    public static Upstream Answering(Func<UpstreamRequest, string> respond) => new(c =>
    {
        while (c.ReadRequest() is { } request)
        {
            c.Send(respond(request));
        }
    });

    /// <summary>Reads one request, answers and closes.</summary>
    public static Upstream AnsweringOnce(string response) => new(c =>
    {
        if (c.ReadRequest() is not null)
        {
            c.Send(response);
        }
    });

    /// <summary>Plays a script that is data.</summary>
    public static Upstream Playing(Origin origin) => new(c => c.Play(origin));

    /// <summary>A complete answer with Content-Length.</summary>
    public static string Ok(string body, params string[] headers) =>
        "HTTP/1.1 200 OK\r\nContent-Length: " + body.Length.ToString(CultureInfo.InvariantCulture) + "\r\n"
        + string.Concat(headers.Select(h => h + "\r\n")) + "\r\n" + body;

    public void Dispose()
    {
        _listener.Dispose();
        foreach (UpstreamConnection connection in _open)
        {
            connection.Close();
        }

        _port.Dispose();
    }

    internal void Record(byte[] request)
    {
        lock (_requests)
        {
            _requests.Add(request);
        }
    }

    private void Accept()
    {
        while (true)
        {
            Socket socket;
            try
            {
                socket = _listener.Accept();
            }
            catch (Exception e) when (e is SocketException or ObjectDisposedException)
            {
                return;
            }

            int index = Interlocked.Increment(ref _connections) - 1;
            var connection = new UpstreamConnection(this, socket, index);
            _open.Add(connection);
            new Thread(() => Serve(connection)) { IsBackground = true, Name = "upstream connection" }.Start();
        }
    }

    private void Serve(UpstreamConnection connection)
    {
        try
        {
            _script(connection);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException or IOException)
        {
            // The server under test ended the connection; the test looks at what it answered.
        }

        connection.Close();
    }
}

/// <summary>A request as it reached an upstream.</summary>
public sealed record UpstreamRequest(byte[] Bytes, int HeadBytes)
{
    public string Text => Encoding.Latin1.GetString(Bytes);

    public string Head => Encoding.Latin1.GetString(Bytes, 0, HeadBytes);

    public string Body => Encoding.Latin1.GetString(Bytes, HeadBytes, Bytes.Length - HeadBytes);

    public string Line => Head.Split("\r\n")[0];

    public string Target => Line.Split(' ') is { Length: > 1 } words ? words[1] : "";

    public string? Header(string name) => Field(Head, name);

    /// <summary>The bytes of the request at the front by its framing; 0 when it is not complete.</summary>
    public static int Measure(ReadOnlySpan<byte> bytes, out int headBytes)
    {
        headBytes = bytes.IndexOf("\r\n\r\n"u8) + 4;
        if (headBytes < 4)
        {
            return 0;
        }

        string head = Encoding.Latin1.GetString(bytes[..headBytes]);
        int total = headBytes;
        if (Field(head, "Content-Length") is { } length)
        {
            total += int.Parse(length, CultureInfo.InvariantCulture);
        }
        else if (Field(head, "Transfer-Encoding") is not null)
        {
            int end = bytes[headBytes..].IndexOf("0\r\n\r\n"u8);
            total = end < 0 ? int.MaxValue : headBytes + end + 5;
        }

        return total <= bytes.Length ? total : 0;
    }

    private static string? Field(string head, string name) => head.Split("\r\n").Skip(1)
        .Where(l => l.StartsWith(name + ":", StringComparison.OrdinalIgnoreCase))
        .Select(l => l[(name.Length + 1)..].Trim())
        .FirstOrDefault();
}

/// <summary>One connection to a scripted upstream.</summary>
public sealed class UpstreamConnection(Upstream owner, Socket socket, int index)
{
    private readonly ManualResetEventSlim _closed = new();
    private byte[] _pending = [];

    /// <summary>0 for the first connection.</summary>
    public int Index => index;

    public Socket Socket => socket;

    /// <summary>The upstream's port, as a location header needs it.</summary>
    public string Port => owner.Port.ToString(CultureInfo.InvariantCulture);

    /// <summary>Reads a whole request by its framing; null at the end of the connection.</summary>
    public UpstreamRequest? ReadRequest()
    {
        int total;
        int headBytes;
        while ((total = UpstreamRequest.Measure(_pending, out headBytes)) == 0)
        {
            if (!Fill())
            {
                return null;
            }
        }

        byte[] request = _pending[..total];
        _pending = _pending[total..];
        owner.Record(request);
        return new UpstreamRequest(request, headBytes);
    }

    /// <summary>Waits for a request's head and leaves its body unread; the head's bytes, or null at the end.</summary>
    public int? ReadHead()
    {
        int end;
        while ((end = _pending.AsSpan().IndexOf("\r\n\r\n"u8)) < 0)
        {
            if (!Fill())
            {
                return null;
            }
        }

        return end + 4;
    }

    /// <summary>Reads some bytes; none at the end.</summary>
    public byte[] Read()
    {
        if (_pending.Length == 0)
        {
            Fill();
        }

        byte[] bytes = _pending;
        _pending = [];
        return bytes;
    }

    /// <summary>Plays the acts of a script.</summary>
    public void Play(Origin origin)
    {
        IReadOnlyList<Act> acts = origin.Script(index);
        UpstreamRequest? request = null;
        do
        {
            foreach (Act act in acts)
            {
                switch (act.Kind)
                {
                    case ActKind.Read:
                        request = ReadRequest();
                        if (request is null)
                        {
                            return;
                        }

                        break;
                    case ActKind.ReadHead:
                        if (ReadHead() is null)
                        {
                            return;
                        }

                        break;
                    case ActKind.Send:
                        Send(act.Text!(new OriginTurn(request, index, owner.Port)));
                        break;
                    case ActKind.Relay:
                        for (int left = act.Count; left > 0;)
                        {
                            byte[] some = Read();
                            if (some.Length == 0)
                            {
                                return;
                            }

                            Send(some);
                            left -= some.Length;
                        }

                        break;
                    case ActKind.RelayAll:
                        for (byte[] bytes = Read(); bytes.Length > 0; bytes = Read())
                        {
                            Send(bytes);
                        }

                        return;
                    case ActKind.Hold:
                        Hold();
                        return;
                    case ActKind.Reset:
                        Reset();
                        return;
                    case ActKind.HalfClose:
                        socket.Shutdown(SocketShutdown.Send);
                        break;
                    case ActKind.Wait:
                        _closed.Wait(act.Ms);
                        break;
                }
            }
        }
        while (origin.Repeats);
    }

    public UpstreamConnection Send(string text) => Send(Encoding.Latin1.GetBytes(text));

    public UpstreamConnection Send(byte[] bytes)
    {
        for (int sent = 0; sent < bytes.Length;)
        {
            sent += socket.Send(bytes, sent, bytes.Length - sent, SocketFlags.None);
        }

        return this;
    }

    /// <summary>Holds the connection until the peer or the test ends it.</summary>
    public void Hold()
    {
        while (!_closed.IsSet && Fill())
        {
        }
    }

    /// <summary>Says that nothing more comes, without the reset that unread bytes would make of a close.</summary>
    public void HalfClose() => socket.Shutdown(SocketShutdown.Send);

    public void Close()
    {
        _closed.Set();
        socket.Dispose();
    }

    public void Reset()
    {
        socket.LingerState = new LingerOption(true, 0);
        Close();
    }

    private bool Fill()
    {
        byte[] buffer = new byte[65536];
        int count;
        try
        {
            count = socket.Receive(buffer);
        }
        catch (Exception e) when (e is SocketException or ObjectDisposedException)
        {
            return false;
        }

        _pending = [.. _pending, .. buffer.AsSpan(0, count)];
        return count > 0;
    }
}
