// A request that is under way: several may be, as limits on connections and slow upstream servers need it. On the
// thread that uses the configuration.
using System.Net.Security;
using Weir.Loop;

namespace Weir.Testing;

/// <summary>A request whose answer is still to come.</summary>
public sealed class PendingAnswer : IDisposable
{
    private readonly NginxConf _conf;
    private readonly ConfRequest _request;
    private readonly InMemoryPeer _peer;
    private readonly PumpStream _pump;
    private readonly Stream _stream;
    private readonly string _key;
    private readonly IncomingMessage _message = new();
    private readonly long _order;
    private readonly int _logFrom;
    private Answer? _answer;

    internal PendingAnswer(NginxConf conf, ConfRequest request, InMemoryPeer peer, string key, string? tlsName)
    {
        _conf = conf;
        _request = request;
        _peer = peer;
        _key = key;
        _order = conf.NextOrder();
        _logFrom = conf.LogLines.Count;
        _pump = new PumpStream(conf.Loop, peer, conf.PatienceMs);
        _stream = _pump;
        if (tlsName is not null)
        {
            var tls = new SslStream(_pump, leaveInnerStreamOpen: true);
            tls.AuthenticateAsClient(new SslClientAuthenticationOptions
            {
                TargetHost = tlsName,
                RemoteCertificateValidationCallback = static (_, _, _, _) => true,
            });
            _stream = tls;
        }
        _stream.Write(request.ToBytes());
        _stream.Flush();
        conf.Loop.RunUntilIdle();
    }

    /// <summary>The request has ended as far as the server is concerned, at the present time of the virtual
    /// clock.</summary>
    public bool HasEnded => _answer is not null || _conf.Recorder.Has(_key);

    /// <summary>Lets the client go away before the answer has come.</summary>
    public void Abort()
    {
        _conf.Enter();
        _peer.Reset();
        _conf.Loop.RunUntilIdle();
    }

    /// <summary>Waits, on the virtual clock, for the answer.</summary>
    public Answer Wait()
    {
        if (_answer is not null)
        {
            return _answer;
        }
        _conf.Enter();
        bool isHead = _request.Method == "HEAD";
        byte[] buffer = new byte[16 * 1024];
        bool isEnded = false;
        try
        {
            while (true)
            {
                if (_request.Version != 9 && _message.IsWhole(isAnswer: true, isHead, isEnded))
                {
                    if (_message.Status is >= 200 or 101)
                    {
                        break;
                    }
                    // An interim answer: the one that counts comes behind it.
                    _message.Next();
                    continue;
                }
                if (isEnded)
                {
                    break;
                }
                int n = Receive(buffer);
                _message.Add(buffer.AsSpan(0, n));
                isEnded = n == 0;
            }
        }
        catch (TimeoutException)
        {
            throw new TimeoutException($"{_request.Method} {_request.Url} is not answered within "
                + $"{_conf.Patience}; error log:\n{string.Join('\n', _conf.LogLines.Skip(_logFrom))}");
        }
        if (_message.Length == 0)
        {
            _message.TakeRest();
        }
        _conf.Loop.RunUntil(() => _conf.Recorder.Has(_key), _conf.PatienceMs);
        Record record = _conf.Recorder.Take(_key) ?? throw new InvalidOperationException(
            $"{_request.Method} {_request.Url} came to no end; error log:\n"
            + string.Join('\n', _conf.LogLines.Skip(_logFrom)));
        _conf.Loop.RunUntilIdle();
        bool isClosed = _pump.IsOver;
        _peer.Close();
        _conf.Loop.RunUntilIdle();
        _answer = new Answer(_message, record, Visits(record), isClosed, [.. _conf.LogLines.Skip(_logFrom)]);
        return _answer;
    }

    /// <summary>Ends the connection; an answer that nobody waited for is forgotten.</summary>
    public void Dispose()
    {
        if (_answer is null && !_conf.IsDisposed)
        {
            Abort();
            _conf.Recorder.Take(_key);
        }
        if (_stream is SslStream tls)
        {
            tls.Dispose();
        }
    }

    private int Receive(byte[] buffer)
    {
        try
        {
            return _stream.Read(buffer, 0, buffer.Length);
        }
        catch (IOException) when (_pump.IsOver)
        {
            // Closed without TLS's own farewell.
            return 0;
        }
    }

    /// <summary>The attempts, each with the request that the scripted server of its address received.</summary>
    private List<UpstreamVisit> Visits(Record record)
    {
        string group = record.Variables.GetValueOrDefault("proxy_host", "");
        var visits = new List<UpstreamVisit>();
        var taken = new HashSet<UpstreamRequest>();
        foreach (Attempt attempt in record.Attempts)
        {
            UpstreamRequest? request = _conf.RequestsOf(attempt.Address)
                .FirstOrDefault(r => r.Order > _order && taken.Add(r));
            visits.Add(new UpstreamVisit(attempt.Address, group, attempt.Status,
                TimeSpan.FromMilliseconds(attempt.Ms), request));
        }
        return visits;
    }
}
