// Keep-alive clients that ask without pause and judge every answer: each on a thread and a connection of its own.
// A connection that ends between two requests is opened again and counted; one that ends within a request is a failure.
using System.Collections.Concurrent;
using System.Net.Sockets;
using Weir.Tests.Harness;

namespace Weir.Tests.Chaos;

internal sealed class LoadClient : IDisposable
{
    private readonly int _port;
    private readonly string _path;
    private readonly Func<HttpResponse, string?> _judge;
    private readonly Thread[] _threads;
    private volatile bool _stop;
    private long _answers;
    private long _connections;

    /// <param name="judge">Null for a good answer, else what is wrong with it.</param>
    public LoadClient(int port, int clients, Func<HttpResponse, string?> judge, string path = "/")
    {
        _port = port;
        _path = path;
        _judge = judge;
        _threads = [.. Enumerable.Range(0, clients).Select(_ => new Thread(Run) { IsBackground = true })];
        foreach (Thread thread in _threads)
        {
            thread.Start();
        }
    }

    public long Answers => Interlocked.Read(ref _answers);

    /// <summary>Connections opened so far.</summary>
    public long Connections => Interlocked.Read(ref _connections);

    public ConcurrentQueue<string> Failures { get; } = new();

    /// <summary>Stops all clients and waits for them.</summary>
    public void Stop()
    {
        _stop = true;
        foreach (Thread thread in _threads)
        {
            thread.Join(20_000);
        }
    }

    public void Dispose() => Stop();

    private void Run()
    {
        while (!_stop)
        {
            try
            {
                using RawClient client = RawClient.Connect(_port);
                Interlocked.Increment(ref _connections);
                Ask(client);
            }
            catch (SocketException e)
            {
                Failures.Enqueue($"connect: {e.SocketErrorCode}");
                return;
            }
        }
    }

    private void Ask(RawClient client)
    {
        while (!_stop)
        {
            try
            {
                HttpResponse answer = client.Get(_path);
                Interlocked.Increment(ref _answers);
                if (_judge(answer) is { } wrong)
                {
                    Failures.Enqueue(wrong);
                }
                if (answer["Connection"] == "close")
                {
                    return;
                }
            }
            catch (Exception e) when (e is EndOfStreamException or SocketException or TimeoutException)
            {
                Failures.Enqueue($"{e.GetType().Name}: {e.Message}");
                return;
            }
        }
    }
}
