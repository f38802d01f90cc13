// The upstream servers of an explained request: nobody is connected to; each address is played here, takes the request,
// writes it down and gives the answer that the caller assumes. What cannot be played (HTTP/2, anything unknown) ends
// the explanation. On the thread of the simulated loop.
using System.Globalization;
using System.Text;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Explain;

/// <summary>A request as an upstream server got it.</summary>
internal sealed record PlayedRequest(string Address, string Line, IReadOnlyList<string> Fields, bool IsAnswered);

internal sealed class ExplainUpstreams
{
    /// <summary>Long enough for filters that leave short answers alone.</summary>
    private const int BodyBytes = 2048;

    private readonly InMemoryLoop _loop;
    private readonly ExplainTrace _trace;
    private readonly int _status;

    public ExplainUpstreams(InMemoryLoop loop, ExplainTrace trace, int status)
    {
        _loop = loop;
        _trace = trace;
        _status = status;
        loop.Missing = address => loop.ListenPeers(address, peer => Accept(peer, address));
    }

    public List<PlayedRequest> Requests { get; } = [];

    private void Accept(InMemoryPeer peer, byte[] address)
    {
        var received = new List<byte>();
        string name = SocketAddress.FromNative(address).ToString();
        peer.Arrived = p =>
        {
            received.AddRange(p.Read());
            Play(p, received, name);
            if (p.IsEnded)
            {
                p.Close();
            }
        };
        peer.Arrived(peer);
    }

    private void Play(InMemoryPeer peer, List<byte> received, string address)
    {
        if (received.Count == 0)
        {
            return;
        }
        byte[] bytes = [.. received];
        string text = Encoding.Latin1.GetString(bytes);
        if (bytes[0] == 1)
        {
            PlayFastCgi(peer, received, bytes, address);
        }
        else if (text.StartsWith("get ", StringComparison.Ordinal) && text.EndsWith("\r\n", StringComparison.Ordinal))
        {
            received.Clear();
            Requests.Add(new PlayedRequest(address, text.Trim(), [], true));
            string key = text[4..].Trim();
            peer.Send(_status == 404 ? "END\r\n" : $"VALUE {key} 0 7\r\nassumed\r\nEND\r\n");
        }
        else if (bytes[0] is < (byte)'A' or > (byte)'Z' || text.StartsWith("PRI * ", StringComparison.Ordinal))
        {
            received.Clear();
            Stop(peer, address, bytes[0] == 'P' ? "a request in HTTP/2" : "a request in a protocol that is not shown");
        }
        else if (IsWhole(text))
        {
            received.Clear();
            PlayHttp(peer, text, address);
        }
    }

    /// <summary>What comes back is not known.</summary>
    private void Stop(InMemoryPeer peer, string address, string what)
    {
        Requests.Add(new PlayedRequest(address, what, [], false));
        _trace.IsStopped = true;
        peer.Close();
    }

    private static bool IsWhole(string text)
    {
        int end = text.IndexOf("\r\n\r\n", StringComparison.Ordinal);
        if (end < 0)
        {
            return false;
        }
        foreach (string line in text[..end].Split("\r\n"))
        {
            if (line.StartsWith("Content-Length:", StringComparison.OrdinalIgnoreCase)
                && long.TryParse(line[15..], NumberStyles.Integer, CultureInfo.InvariantCulture, out long length))
            {
                return text.Length - end - 4 >= length;
            }
            if (line.StartsWith("Transfer-Encoding:", StringComparison.OrdinalIgnoreCase))
            {
                return text.EndsWith("0\r\n\r\n", StringComparison.Ordinal);
            }
        }
        return true;
    }

    private void PlayHttp(InMemoryPeer peer, string text, string address)
    {
        string[] lines = text[..text.IndexOf("\r\n\r\n", StringComparison.Ordinal)].Split("\r\n");
        Requests.Add(new PlayedRequest(address, lines[0], lines[1..], true));
        bool isHead = lines[0].StartsWith("HEAD ", StringComparison.Ordinal);
        string body = _status is 204 or 304 ? "" : new string('.', BodyBytes);
        string length = string.Create(CultureInfo.InvariantCulture, $"Content-Length: {body.Length}\r\n");
        peer.Send($"HTTP/1.1 {_status} Assumed\r\nContent-Type: text/html\r\n"
            + (body.Length > 0 ? length : "") + "\r\n" + (isHead ? "" : body));
        if (Array.Exists(lines, static l => l.Equals("Connection: close", StringComparison.OrdinalIgnoreCase)))
        {
            peer.Close();
        }
    }

    // FastCGI: records of eight bytes and their content.

    private void PlayFastCgi(InMemoryPeer peer, List<byte> received, byte[] bytes, string address)
    {
        const int headBytes = 8;
        const int parameters = 4;
        const int input = 5;
        var pairs = new List<byte>();
        bool isWhole = false;
        for (int at = 0; at + headBytes <= bytes.Length;)
        {
            int length = bytes[at + 4] << 8 | bytes[at + 5];
            if (at + headBytes + length > bytes.Length)
            {
                break;
            }
            if (bytes[at + 1] == parameters)
            {
                pairs.AddRange(bytes.AsSpan(at + headBytes, length));
            }
            isWhole |= bytes[at + 1] == input && length == 0;
            at += headBytes + length + bytes[at + 6];
        }
        if (!isWhole)
        {
            return;
        }
        received.Clear();
        Requests.Add(new PlayedRequest(address, "a FastCGI request", Pairs([.. pairs]), true));
        string answer = $"Status: {_status}\r\nContent-Type: text/html\r\n\r\n" + new string('.', BodyBytes);
        peer.Send([1, 6, 0, 1, (byte)(answer.Length >> 8), (byte)answer.Length, 0, 0]);
        peer.Send(answer);
        peer.Send([1, 6, 0, 1, 0, 0, 0, 0, 1, 3, 0, 1, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    }

    private static List<string> Pairs(byte[] bytes)
    {
        var found = new List<string>();
        int at = 0;
        int Length()
        {
            int first = bytes[at++];
            if (first < 0x80)
            {
                return first;
            }
            int value = (first & 0x7F) << 24 | bytes[at] << 16 | bytes[at + 1] << 8 | bytes[at + 2];
            at += 3;
            return value;
        }
        while (at < bytes.Length)
        {
            int name = Length();
            int value = Length();
            found.Add($"{Encoding.Latin1.GetString(bytes, at, name)}: "
                + Encoding.Latin1.GetString(bytes, at + name, value));
            at += name + value;
        }
        return found;
    }
}
