// An upstream server that plays what a test tells it, on the loop of the configuration under test. It speaks HTTP/1.1
// as a server: reads whole requests, answers one after another on each connection. Loop thread only.
using System.Globalization;
using System.Text;
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Testing;

/// <summary>A request that a scripted upstream server received.</summary>
public sealed class UpstreamRequest
{
    internal UpstreamRequest(IncomingMessage message, long order)
    {
        string[] line = message.StartLine.Split(' ');
        Line = message.StartLine;
        Method = line[0];
        Target = line.Length > 1 ? line[1] : "";
        Headers = message.Fields;
        Bytes = message.Body;
        Order = order;
    }

    /// <summary>The request line.</summary>
    public string Line { get; }

    /// <summary>The method.</summary>
    public string Method { get; }

    /// <summary>The target: path and query.</summary>
    public string Target { get; }

    /// <summary>The header fields.</summary>
    public Fields Headers { get; }

    /// <summary>The body.</summary>
    public byte[] Bytes { get; }

    /// <summary>The body as UTF-8.</summary>
    public string Body => Encoding.UTF8.GetString(Bytes);

    internal long Order { get; }

    /// <summary>The value of a header field; null when there is none.</summary>
    public string? Header(string name) => Headers[name];
}

/// <summary>What a scripted upstream server answers.</summary>
public sealed record UpstreamAnswer
{
    /// <summary>An answer.</summary>
    /// <param name="status">The status.</param>
    /// <param name="body">The body, sent as UTF-8.</param>
    /// <param name="headers">Header lines such as "Content-Type: text/html".</param>
    public UpstreamAnswer(int status, string body = "", params string[] headers)
    {
        Status = status;
        Body = body;
        Headers = headers;
    }

    /// <summary>The status.</summary>
    public int Status { get; init; }

    /// <summary>The body.</summary>
    public string Body { get; init; }

    /// <summary>Header lines; Content-Length is added.</summary>
    public IReadOnlyList<string> Headers { get; init; }

    /// <summary>How long it waits before it answers.</summary>
    public TimeSpan After { get; init; }

    internal byte[] ToBytes(string method)
    {
        byte[] body = Encoding.UTF8.GetBytes(Body);
        string length = body.Length.ToString(CultureInfo.InvariantCulture);
        string framing = Status is < 200 or 204 or 304 ? "" : $"Content-Length: {length}\r\n";
        string head = $"HTTP/1.1 {Status} Scripted\r\n{string.Concat(Headers.Select(static h => h + "\r\n"))}"
            + $"{framing}\r\n";
        return [.. Encoding.Latin1.GetBytes(head), .. method == "HEAD" || framing.Length == 0 ? [] : body];
    }
}

/// <summary>An upstream server of a configuration under test. Until a test says otherwise it answers 200 with an empty
/// body.</summary>
public sealed class ScriptedUpstream
{
    private readonly NginxConf _conf;
    private readonly byte[] _address;
    private readonly List<UpstreamRequest> _requests = [];
    private InMemoryListener? _listener;
    private Func<UpstreamRequest, UpstreamAnswer?> _answer = static _ => new UpstreamAnswer(200);
    private TimeSpan _after;
    private bool _closes;

    internal ScriptedUpstream(NginxConf conf, string name, byte[] address)
    {
        _conf = conf;
        _address = address;
        Name = name;
        Address = SocketAddress.FromNative(address).ToString();
        Listen();
    }

    /// <summary>The address as the test named it.</summary>
    public string Name { get; }

    /// <summary>The address as logs show it.</summary>
    public string Address { get; }

    /// <summary>The requests it received, in order.</summary>
    public IReadOnlyList<UpstreamRequest> Requests => _requests;

    /// <summary>Connections that were opened to it.</summary>
    public int Connections { get; private set; }

    /// <summary>Answers every request so from now on.</summary>
    public ScriptedUpstream Answers(int status, string body = "", params string[] headers) =>
        Answers(_ => new UpstreamAnswer(status, body, headers));

    /// <summary>Answers every request as the function says; null closes the connection without an answer.</summary>
    public ScriptedUpstream Answers(Func<UpstreamRequest, UpstreamAnswer?> answer)
    {
        Listen();
        _answer = answer;
        _closes = false;
        return this;
    }

    /// <summary>Waits so long before each answer.</summary>
    public ScriptedUpstream After(TimeSpan delay)
    {
        _after = delay;
        return this;
    }

    /// <summary>Closes each connection without an answer.</summary>
    public ScriptedUpstream Closes()
    {
        Listen();
        _closes = true;
        return this;
    }

    /// <summary>Refuses connections: nobody listens.</summary>
    public ScriptedUpstream Refuses()
    {
        _conf.Enter();
        _listener?.Stop();
        _listener = null;
        return this;
    }

    /// <summary>Does not even answer connection attempts, as a lost host does.</summary>
    public ScriptedUpstream IsLost()
    {
        Listen();
        _listener!.IsSilent = true;
        return this;
    }

    private void Listen()
    {
        _conf.Enter();
        _listener ??= _conf.Loop.ListenPeers(_address, Accept);
        _listener.IsSilent = false;
    }

    private void Accept(InMemoryPeer peer)
    {
        Connections++;
        var message = new IncomingMessage();
        bool waits = false;
        void Take()
        {
            while (!waits && message.IsWhole(isAnswer: false, isBodiless: false, isEnded: false))
            {
                var request = new UpstreamRequest(message, _conf.NextOrder());
                message.Next();
                _requests.Add(request);
                UpstreamAnswer? answer = _closes ? null : _answer(request);
                TimeSpan delay = _after + (answer?.After ?? TimeSpan.Zero);
                if (delay <= TimeSpan.Zero)
                {
                    Give(request, answer);
                    continue;
                }
                waits = true;
                _conf.Loop.Timers.Set(new CallbackTimer(() =>
                {
                    waits = false;
                    Give(request, answer);
                    Take();
                }), _conf.Loop.NowMs + (long)Math.Ceiling(delay.TotalMilliseconds));
            }
        }
        void Give(UpstreamRequest request, UpstreamAnswer? answer)
        {
            if (answer is null)
            {
                peer.Close();
                return;
            }
            peer.Send(answer.ToBytes(request.Method));
            if (request.Header("Connection")?.Contains("close", StringComparison.OrdinalIgnoreCase) == true)
            {
                peer.Close();
            }
        }
        void Arrive(InMemoryPeer p)
        {
            message.Add(p.Read());
            Take();
            if (p.IsEnded && !waits)
            {
                p.Close();
            }
        }
        peer.Arrived = Arrive;
        Arrive(peer);
    }
}
