// Requests on their way to the thread pool: nobody waits behind a handler that holds its thread, however few threads
// were asked for.
using System.Diagnostics;
using Weir.Loop;
using Weir.Server;
using Xunit;

namespace Weir.Tests.Unit.Server;

public sealed class TurnRunnerTests
{
    private sealed class Work(Action run) : IThreadPoolWorkItem
    {
        public void Execute() => run();
    }

    /// <summary>All but the last of a turn hold their threads until the last one runs.</summary>
    [Theory]
    [InlineData(false, 2)]
    [InlineData(false, 5)]
    [InlineData(true, 2)]
    [InlineData(true, 5)]
    public void A_handler_that_holds_its_thread_holds_nobody_else(bool isAlone, int count)
    {
        using var loop = new EpollLoop();
        loop.Adopt();
        var runner = new TurnRunner(loop, isAlone);
        using var last = new ManualResetEventSlim();
        int done = 0;
        for (int i = 0; i < count; i++)
        {
            bool isLast = i == count - 1;
            runner.Add(new Work(() =>
            {
                if (isLast)
                {
                    last.Set();
                }
                Assert.True(last.Wait(TimeSpan.FromSeconds(30)), "the last request was not run");
                Interlocked.Increment(ref done);
            }));
        }
        runner.Start();
        var watch = Stopwatch.StartNew();
        while (Volatile.Read(ref done) < count && watch.Elapsed < TimeSpan.FromSeconds(30))
        {
            loop.RunTurn(10);
        }
        Assert.Equal(count, done);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Every_request_of_many_turns_runs_once(bool isAlone)
    {
        using var loop = new EpollLoop();
        loop.Adopt();
        var runner = new TurnRunner(loop, isAlone);
        int[] runs = new int[5_000];
        int done = 0;
        for (int i = 0; i < runs.Length;)
        {
            for (int turn = 0; turn < 100; turn++, i++)
            {
                int number = i;
                runner.Add(new Work(() =>
                {
                    Interlocked.Increment(ref runs[number]);
                    Interlocked.Increment(ref done);
                }));
            }
            runner.Start();
            loop.RunTurn(0);
        }
        var watch = Stopwatch.StartNew();
        while (Volatile.Read(ref done) < runs.Length && watch.Elapsed < TimeSpan.FromSeconds(30))
        {
            loop.RunTurn(10);
        }
        Assert.All(runs, static count => Assert.Equal(1, count));
    }
}
