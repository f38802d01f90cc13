// Clients that ask without pause over keep-alive connections until they are told to stop, and remember every answer
// that was not one: an end in the middle, a reset, a refused connection. After such an end a client asks the same again
// on another connection, once; what fails then as well is lost. What the answers must be is the test's to say.
using System.Collections.Concurrent;
using System.Net.Sockets;
using Weir.Tests.Harness;

namespace Weir.Tests.Chaos;

/// <summary>A steady load on one port.</summary>
internal sealed class Load : IDisposable
{
    private readonly List<Thread> _threads = [];
    private readonly ConcurrentQueue<string> _failures = new();
    private readonly int _port;
    private readonly Func<HttpResponse, bool> _isGood;
    private readonly int _requestsPerConnection;
    private readonly Func<long, string>? _path;
    private volatile bool _stop;
    private long _asked, _answers, _connections, _lost;

    /// <param name="requestsPerConnection">After so many a client opens another connection; 0 for never.</param>
    /// <param name="path">What the request with this number asks for; without it always "/".</param>
    public Load(int port, int clients, Func<HttpResponse, bool> isGood, int requestsPerConnection = 0,
        Func<long, string>? path = null)
    {
        _path = path;
        _port = port;
        _isGood = isGood;
        _requestsPerConnection = requestsPerConnection;
        for (int i = 0; i < clients; i++)
        {
            var thread = new Thread(Ask) { IsBackground = true };
            _threads.Add(thread);
            thread.Start();
        }
    }

    public long Answers => Interlocked.Read(ref _answers);

    public long Connections => Interlocked.Read(ref _connections);

    /// <summary>Answers that were none, or not what they should be.</summary>
    public IReadOnlyCollection<string> Failures => _failures;

    /// <summary>Requests that failed once more on another connection.</summary>
    public long Lost => Interlocked.Read(ref _lost);

    /// <summary>Waits until so many more answers have come.</summary>
    public void WaitFor(int answers)
    {
        long until = Answers + answers;
        Wait.For($"{answers} more answers", () => Answers >= until || _threads.TrueForAll(t => !t.IsAlive),
            20_000 + (answers * 10));
    }

    public void Stop()
    {
        _stop = true;
        _threads.ForEach(static t => t.Join());
    }

    public void Dispose() => Stop();

    private void Ask()
    {
        string? again = null;
        while (!_stop)
        {
            string path = "/";
            try
            {
                using RawClient client = RawClient.Connect(_port);
                Interlocked.Increment(ref _connections);
                for (int i = 0; !_stop && (_requestsPerConnection == 0 || i < _requestsPerConnection); i++)
                {
                    path = again ?? _path?.Invoke(Interlocked.Increment(ref _asked)) ?? "/";
                    HttpResponse response = client.Get(path);
                    Interlocked.Increment(ref _answers);
                    bool isGood = response.IsComplete && _isGood(response);
                    if (!isGood)
                    {
                        _failures.Enqueue($"answer {i}: {response.Status} {response.Text}");
                        Interlocked.Add(ref _lost, again is null ? 0 : 1);
                    }
                    again = null;
                    if (!response.IsComplete || response["Connection"] == "close")
                    {
                        break;
                    }
                }
            }
            catch (Exception e) when (
                e is IOException or SocketException or TimeoutException or InvalidOperationException)
            {
                _failures.Enqueue(e.Message);
                Interlocked.Add(ref _lost, again is null ? 0 : 1);
                again = path;
            }
        }
    }
}
