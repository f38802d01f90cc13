// The laboratory's clients: ordinary ones, slow ones that send a byte a second, idle ones that stay. Each keeps a mark
// with what it saw and when, on the clock that the server's events have too (one machine, one monotonic clock).
using System.Globalization;
using System.Net;
using System.Net.Sockets;
using System.Text;
using Weir.Server;

namespace Weir.Lab;

/// <summary>One request as its client saw it. Times are monotonic microseconds; 0: not yet.</summary>
internal sealed class ClientMark
{
    /// <summary>From 1, in the order of the starts.</summary>
    public required int Number { get; init; }

    /// <summary>Which request of its connection, from 1.</summary>
    public int OnConnection { get; init; } = 1;
    public bool IsSlow { get; init; }
    public bool IsBlocker { get; init; }
    public long BeginUs { get; set; }
    public long ConnectedUs { get; set; }
    public long SentUs { get; set; }
    public long EndUs { get; set; }
    public int Status { get; set; }

    /// <summary>The server's number of the connection; 0: not told.</summary>
    public long Connection { get; set; }

    /// <summary>How often the kernel had to repeat a segment until the connection stood.</summary>
    public int Retransmits { get; set; }
    public bool IsDone => EndUs != 0;
}

internal sealed class LabClient(int port)
{
    private readonly IPEndPoint _server = new(IPAddress.Loopback, port);

    /// <summary>One connection with all its requests.</summary>
    public async Task RequestAsync(ClientMark[] marks, string target, CancellationToken stop)
    {
        using Socket socket = NewSocket();
        try
        {
            await ConnectAsync(socket, marks[0], stop);
            byte[] buffer = new byte[4096];
            for (int i = 0; i < marks.Length; i++)
            {
                ClientMark mark = marks[i];
                if (i > 0)
                {
                    mark.ConnectedUs = mark.BeginUs = AppEventRing.NowUs;
                }
                mark.SentUs = AppEventRing.NowUs;
                string connection = i == marks.Length - 1 ? "close" : "keep-alive";
                await socket.SendAsync(Encoding.ASCII.GetBytes(
                    $"GET {target} HTTP/1.1\r\nHost: lab\r\nConnection: {connection}\r\n\r\n"), stop);
                if (!await ReadAnswerAsync(socket, mark, buffer, stop) || mark.Status != 200)
                {
                    break;
                }
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            // What it did not see stays zero.
        }
        foreach (ClientMark mark in marks)
        {
            mark.BeginUs = mark.BeginUs == 0 ? AppEventRing.NowUs : mark.BeginUs;
            mark.EndUs = mark.EndUs == 0 ? AppEventRing.NowUs : mark.EndUs;
        }
    }

    /// <summary>Connects, then sends the head of a request a byte a second until somebody has enough.</summary>
    public async Task CrawlAsync(ClientMark mark, TaskCompletionSource connected, CancellationToken stop)
    {
        using Socket socket = NewSocket();
        try
        {
            await ConnectAsync(socket, mark, stop);
            connected.TrySetResult();
            mark.SentUs = AppEventRing.NowUs;
            Task<bool> answer = ReadAnswerAsync(socket, mark, new byte[4096], stop);
            byte[] head = Encoding.ASCII.GetBytes("GET / HTTP/1.1\r\nHost: lab\r\nX-Slow: " + new string('a', 4000));
            for (int i = 0; i < head.Length && !answer.IsCompleted; i++)
            {
                await socket.SendAsync(head.AsMemory(i, 1), stop);
                await Task.WhenAny(answer, Task.Delay(1000, stop));
            }
            await answer;
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            // The server has closed it, or the experiment is over.
        }
        connected.TrySetResult();
        mark.EndUs = mark.EndUs == 0 && !stop.IsCancellationRequested ? AppEventRing.NowUs : mark.EndUs;
    }

    /// <summary>Connects, has one request answered, and stays. Null: it could not.</summary>
    public async Task<Socket?> StayAsync(CancellationToken stop)
    {
        Socket socket = NewSocket();
        try
        {
            await socket.ConnectAsync(_server, stop);
            await socket.SendAsync("GET / HTTP/1.1\r\nHost: lab\r\n\r\n"u8.ToArray(), stop);
            var mark = new ClientMark { Number = 0 };
            if (await ReadAnswerAsync(socket, mark, new byte[512], stop) && mark.Status == 200)
            {
                return socket;
            }
        }
        catch (Exception e) when (e is SocketException or OperationCanceledException)
        {
            // One fewer.
        }
        socket.Dispose();
        return null;
    }

    private static Socket NewSocket() =>
        new(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };

    private async Task ConnectAsync(Socket socket, ClientMark mark, CancellationToken stop)
    {
        mark.BeginUs = AppEventRing.NowUs;
        await socket.ConnectAsync(_server, stop);
        mark.ConnectedUs = AppEventRing.NowUs;
        mark.Retransmits = RetransmitsOf(socket);
    }

    /// <summary>tcp_info.tcpi_total_retrans: what Linux sent again, which before the first byte can only be the
    /// SYN.</summary>
    private static int RetransmitsOf(Socket socket)
    {
        const int Tcp = 6, TcpInfo = 11, TotalRetransAt = 100;
        Span<byte> info = stackalloc byte[256];
        return socket.GetRawSocketOption(Tcp, TcpInfo, info) >= TotalRetransAt + 4
            ? BitConverter.ToInt32(info[TotalRetransAt..]) : 0;
    }

    /// <summary>False: the connection ended before the answer did.</summary>
    private static async Task<bool> ReadAnswerAsync(Socket socket, ClientMark mark, byte[] buffer,
        CancellationToken stop)
    {
        int filled = 0;
        while (filled < buffer.Length)
        {
            int n = await socket.ReceiveAsync(buffer.AsMemory(filled), stop);
            if (n == 0)
            {
                mark.EndUs = AppEventRing.NowUs;
                return false;
            }
            filled += n;
            if (TryTake(buffer.AsSpan(0, filled), mark))
            {
                mark.EndUs = AppEventRing.NowUs;
                return true;
            }
        }
        return false;
    }

    private static bool TryTake(ReadOnlySpan<byte> bytes, ClientMark mark)
    {
        int end = bytes.IndexOf("\r\n\r\n"u8);
        if (end < 0)
        {
            return false;
        }
        string head = Encoding.ASCII.GetString(bytes[..(end + 2)]);
        if (NumberOf(head, "\r\nContent-Length: ") is { } length && bytes.Length < end + 4 + length)
        {
            return false;
        }
        mark.Status = head.Length > 12
            && int.TryParse(head.AsSpan(9, 3), NumberStyles.None, CultureInfo.InvariantCulture, out int status)
            ? status : 0;
        mark.Connection = NumberOf(head, "\r\nX-Connection: ") ?? 0;
        return true;
    }

    private static int? NumberOf(string head, string name)
    {
        int at = head.IndexOf(name, StringComparison.OrdinalIgnoreCase);
        if (at < 0)
        {
            return null;
        }
        ReadOnlySpan<char> rest = head.AsSpan(at + name.Length);
        int end = rest.IndexOf('\r');
        return int.TryParse(end < 0 ? rest : rest[..end], NumberStyles.None, CultureInfo.InvariantCulture,
            out int number) ? number : null;
    }
}
