// A client that is a socket and no more: sends the bytes a test gives it, split where the test says, and reads what
// comes.
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>How a connection stands after the last byte that came.</summary>
public enum Ending
{
    /// <summary>Nothing more came in the time given.</summary>
    Open,

    /// <summary>The peer closed in order.</summary>
    Closed,

    /// <summary>The peer reset the connection.</summary>
    Reset,
}

/// <summary>A raw TCP (or unix socket) client.</summary>
public sealed class RawClient : IDisposable
{
    private const int ReceiveTimeoutMs = 30_000;
    private readonly Socket _socket;
    private byte[] _pending = [];

    private RawClient(Socket socket)
    {
        _socket = socket;
        if (socket.AddressFamily != AddressFamily.Unix)
        {
            socket.NoDelay = true;
        }
    }

    public Socket Socket => _socket;

    /// <summary>Whether the peer has ended its side (set by reads).</summary>
    public Ending Ending { get; private set; } = Ending.Open;

    /// <summary>Bytes that came and no read has taken yet.</summary>
    public int PendingBytes => _pending.Length;

    public static RawClient Connect(int port) => Connect(new IPEndPoint(IPAddress.Loopback, port));

    public static RawClient Connect(EndPoint to)
    {
        var socket = new Socket(to.AddressFamily, SocketType.Stream,
            to is UnixDomainSocketEndPoint ? ProtocolType.Unspecified : ProtocolType.Tcp);
        socket.Connect(to);
        return new RawClient(socket);
    }

    /// <summary>A request head with Host: localhost, and a body if there is one.</summary>
    public static string Request(string method, string target, IEnumerable<string> headers, string? body = null)
    {
        var text = new StringBuilder($"{method} {target} HTTP/1.1\r\nHost: localhost\r\n");
        foreach (string header in headers)
        {
            text.Append(header).Append("\r\n");
        }

        if (body is not null)
        {
            text.Append("Content-Length: ").Append(body.Length).Append("\r\n");
        }

        return text.Append("\r\n").Append(body).ToString();
    }

    public RawClient Send(string text) => Send(Encoding.Latin1.GetBytes(text));

    public RawClient Send(byte[] bytes)
    {
        for (int sent = 0; sent < bytes.Length;)
        {
            sent += _socket.Send(bytes, sent, bytes.Length - sent, SocketFlags.None);
        }

        return this;
    }

    /// <summary>Sends; a peer that has closed meanwhile is no error (it may refuse before it has read
    /// everything).</summary>
    public bool TrySend(byte[] bytes)
    {
        try
        {
            Send(bytes);
            return true;
        }
        catch (SocketException)
        {
            return false;
        }
    }

    /// <summary>Sends in pieces that end at the given offsets, each in a segment of its own.</summary>
    public RawClient SendSplit(byte[] bytes, params int[] offsets)
    {
        int from = 0;
        foreach (int to in offsets.Append(bytes.Length))
        {
            if (to > from)
            {
                Send(bytes[from..to]);
                WaitUntilPeerHasRead();
                from = to;
            }
        }

        return this;
    }

    /// <summary>Sends a GET and reads its answer.</summary>
    public HttpResponse Get(string target, params string[] headers) =>
        Send(Request("GET", target, headers)).ReadResponse();

    /// <summary>Reads one response (an interim one counts as one).</summary>
    public HttpResponse ReadResponse(bool answersHead = false, int timeoutMs = ReceiveTimeoutMs)
    {
        while (true)
        {
            if (HttpResponse.Parse(_pending, answersHead, Ending != Ending.Open) is { } response
                && (response.IsComplete || Ending != Ending.Open))
            {
                _pending = _pending[response.Raw.Length..];
                return response;
            }

            if (Ending != Ending.Open)
            {
                throw new EndOfStreamException($"{Ending} after: {Encoding.Latin1.GetString(_pending)}");
            }

            if (!Fill(timeoutMs))
            {
                throw new TimeoutException(
                    $"no response in {timeoutMs} ms; so far: {Encoding.Latin1.GetString(_pending)}");
            }
        }
    }

    /// <summary>Reads exactly this many bytes, or fewer when the peer ends.</summary>
    public byte[] ReadBytes(int count, int timeoutMs = ReceiveTimeoutMs)
    {
        while (_pending.Length < count && Ending == Ending.Open && Fill(timeoutMs))
        {
        }

        int taken = Math.Min(count, _pending.Length);
        byte[] bytes = _pending[..taken];
        _pending = _pending[taken..];
        return bytes;
    }

    /// <summary>Reads until the peer ends; throws when it does not.</summary>
    public byte[] ReadToEnd(int timeoutMs = ReceiveTimeoutMs)
    {
        while (Ending == Ending.Open)
        {
            if (!Fill(timeoutMs))
            {
                throw new TimeoutException($"still open after {timeoutMs} ms");
            }
        }

        return TakePending();
    }

    /// <summary>Waits until something has come or the peer has ended; false when neither happens in time.</summary>
    public bool WaitForBytes(int timeoutMs) => _pending.Length > 0 || Ending != Ending.Open || Fill(timeoutMs);

    /// <summary>Reads until the peer ends or nothing has come for the time given.</summary>
    public byte[] ReadUntilQuiet(int quietMs)
    {
        while (Ending == Ending.Open && Fill(quietMs))
        {
        }

        return TakePending();
    }

    /// <summary>Whether the peer ends the connection within the time, without another byte.</summary>
    public bool WaitClosed(int timeoutMs = ReceiveTimeoutMs)
    {
        while (Ending == Ending.Open && _pending.Length == 0)
        {
            if (!Fill(timeoutMs))
            {
                return false;
            }
        }

        return Ending != Ending.Open && _pending.Length == 0;
    }

    /// <summary>Ends our direction; the other stays.</summary>
    public RawClient HalfClose()
    {
        _socket.Shutdown(SocketShutdown.Send);
        return this;
    }

    /// <summary>Closes with a reset.</summary>
    public void Reset()
    {
        _socket.LingerState = new LingerOption(true, 0);
        _socket.Dispose();
    }

    public void Dispose() => _socket.Dispose();

    private byte[] TakePending()
    {
        byte[] bytes = _pending;
        _pending = [];
        return bytes;
    }

    // False when nothing came in time; an end counts as something.
    private bool Fill(int timeoutMs)
    {
        if (!_socket.Poll(TimeSpan.FromMilliseconds(timeoutMs), SelectMode.SelectRead))
        {
            return false;
        }

        byte[] buffer = new byte[65536];
        try
        {
            int count = _socket.Receive(buffer);
            if (count == 0)
            {
                Ending = Ending.Closed;
            }
            else
            {
                _pending = [.. _pending, .. buffer.AsSpan(0, count)];
            }
        }
        catch (SocketException)
        {
            Ending = Ending.Reset;
        }

        return true;
    }

    // The kernel's table of connections tells what the peer's process has not read yet. A peer that does not want to
    // read is not waited for.
    private void WaitUntilPeerHasRead()
    {
        if (_socket.RemoteEndPoint is not IPEndPoint peer || _socket.LocalEndPoint is not IPEndPoint own)
        {
            return;
        }

        string ports = $":{peer.Port:X4} ";
        string remote = $":{own.Port:X4} ";
        string table = own.AddressFamily == AddressFamily.InterNetwork ? "/proc/net/tcp" : "/proc/net/tcp6";
        Wait.Until(() =>
        {
            string? line = File.ReadLines(table).FirstOrDefault(l =>
            {
                int at = l.IndexOf(ports, StringComparison.Ordinal);
                int to = l.IndexOf(remote, StringComparison.Ordinal);
                return at > 0 && to > at;
            });
            // The fifth column is tx_queue:rx_queue.
            return line is null || line.Split(' ', StringSplitOptions.RemoveEmptyEntries)[4].EndsWith(":00000000",
                StringComparison.Ordinal);
        }, 300);
    }
}
