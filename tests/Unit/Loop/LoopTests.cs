// The loop besides its streams: messages from other threads, work that may block, yielding, waiting, slots, the clock.
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class LoopTests
{
    [Theory(DisplayName = "mailbox: every message of many threads runs once, on the loop, in its sender's order")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Mailbox(string engine)
    {
        using var rig = new Rig(engine);
        const int Threads = 4;
        const int Each = 5000;
        int[] last = new int[Threads];
        int total = 0;
        int wrong = 0;
        var threads = new Thread[Threads];
        for (int t = 0; t < Threads; t++)
        {
            int sender = t;
            threads[t] = new Thread(() =>
            {
                for (int i = 1; i <= Each; i++)
                {
                    int number = i;
                    rig.Loop.Post(() =>
                    {
                        wrong += last[sender] == number - 1 && rig.Loop.IsOnThread ? 0 : 1;
                        last[sender] = number;
                        total++;
                        if (total == Threads * Each)
                        {
                            rig.Loop.Stop();
                        }
                    });
                }
            });
            threads[t].Start();
        }
        rig.Loop.Run();
        foreach (Thread thread in threads)
        {
            thread.Join();
        }
        Assert.Equal(Threads * Each, total);
        Assert.Equal(0, wrong);
    }

    [Theory(DisplayName = "mailbox: what one drain leaves is drained in the next turn without another knock")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void MailboxBatches(string engine)
    {
        using var rig = new Rig(engine);
        int ran = 0;
        for (int i = 0; i < 1000; i++)
        {
            rig.Loop.Post(() => ran++);
        }
        for (int turn = 0; turn < 4; turn++)
        {
            rig.Loop.RunTurn(0);
        }
        Assert.Equal(1000, ran);
    }

    [Theory(DisplayName = "mailbox: a message wakes a loop that waits with nothing to do")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void MailboxWakes(string engine)
    {
        using var rig = new Rig(engine);
        var running = new ManualResetEventSlim();
        var thread = new Thread(() =>
        {
            rig.Loop.Post(running.Set);
            rig.Loop.Run();
        });
        thread.Start();
        running.Wait();
        for (int i = 0; i < 200; i++)
        {
            var answered = new ManualResetEventSlim();
            rig.Loop.Post(answered.Set);
            Assert.True(answered.Wait(30_000));
        }
        rig.Loop.Post(rig.Loop.Stop);
        Assert.True(thread.Join(30_000));
    }

    [Theory(DisplayName =
        "blocking work: results come back on the loop, and more pieces run at once than one thread could")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Blocking(string engine)
    {
        using var rig = new Rig(engine);
        // On epoll the pieces wait for each other: with fewer threads than pieces they would never end.
        const int Pieces = 8;
        var barrier = rig.IsMemory ? null : new Barrier(Pieces);
        for (int round = 0; round < 300; round++)
        {
            int done = 0;
            for (int i = 0; i < Pieces; i++)
            {
                Piece(i).Forget();
            }
            rig.RunUntil(() => done == Pieces || rig.Fault is not null);
            Assert.Null(rig.Fault);

            async LoopTask Piece(int n)
            {
                var work = new Square(n, barrier);
                await rig.Loop.Blocking.RunAsync(work);
                Assert.Equal(n * n, work.Result);
                Assert.True(rig.Loop.IsOnThread);
                Assert.Equal(rig.IsMemory, work.Thread == Thread.CurrentThread);
                done++;
            }
        }
        Assert.True(rig.Loop.Blocking.ThreadCount <= rig.Loop.Blocking.ThreadsMax);
    }

    [Theory(DisplayName =
        "blocking work: what the work throws reaches whoever awaits it, and the operation can be used again")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void BlockingThrows(string engine)
    {
        using var rig = new Rig(engine);
        rig.Run(async () =>
        {
            var work = new Square(-1, null);
            for (int i = 0; i < 3; i++)
            {
                string caught = "";
                try
                {
                    await rig.Loop.Blocking.RunAsync(work);
                }
                catch (ArgumentOutOfRangeException e)
                {
                    caught = e.ParamName ?? "";
                }
                Assert.Equal("number", caught);
            }
        });
    }

    private sealed class Square(int number, Barrier? together) : BlockingOperation
    {
        public int Result { get; private set; }
        public Thread? Thread { get; private set; }

        protected internal override void Work()
        {
            ArgumentOutOfRangeException.ThrowIfNegative(number);
            together?.SignalAndWait(TimeSpan.FromSeconds(20));
            Thread = Thread.CurrentThread;
            Result = number * number;
        }
    }

    [Theory(DisplayName = "yield: others run in between")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Yield(string engine)
    {
        using var rig = new Rig(engine);
        var order = new List<string>();
        rig.Run(async () =>
        {
            Other().Forget();
            for (int i = 0; i < 3; i++)
            {
                order.Add("a" + i);
                await rig.Loop.YieldAsync();
            }
        });
        Assert.Equal(["b0", "a0", "b1", "a1", "b2", "a2"], order);

        async LoopTask Other()
        {
            for (int i = 0; i < 3; i++)
            {
                order.Add("b" + i);
                await rig.Loop.YieldAsync();
            }
        }
    }

    [Theory(DisplayName = "delay: waits end in the order of their times, never early")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void Delay(string engine)
    {
        using var rig = new Rig(engine);
        var ended = new List<int>();
        int[] waits = [30, 5, 20, 1, 10, 25];
        foreach (int ms in waits)
        {
            Wait(ms).Forget();
        }
        rig.RunUntil(() => ended.Count == waits.Length || rig.Fault is not null);
        Assert.Null(rig.Fault);
        Assert.Equal(waits.Order(), ended);

        async LoopTask Wait(int ms)
        {
            long start = rig.Loop.NowMs;
            await rig.Loop.DelayAsync(ms);
            Assert.True(rig.Loop.NowMs >= start + ms);
            ended.Add(ms);
        }
    }

    [Theory(DisplayName = "ready: an action that queues itself does not hold the turn")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    [InlineData(Rig.Memory)]
    [InlineData(Rig.Portable)]
    public void ReadyIsBounded(string engine)
    {
        using var rig = new Rig(engine);
        int ran = 0;
        rig.Loop.Ready(Again);
        rig.Loop.RunTurn(0);
        Assert.Equal(1, ran);
        rig.Loop.RunTurn(0);
        Assert.Equal(2, ran);

        void Again()
        {
            ran++;
            rig.Loop.Ready(Again);
        }
    }

    [Fact(DisplayName = "slot: one value per loop and use")]
    public void Slots()
    {
        using var first = new Rig(Rig.Memory);
        using var second = new Rig(Rig.Memory);
        var slots = new LoopSlot<object>[40];
        for (int i = 0; i < slots.Length; i++)
        {
            slots[i] = new LoopSlot<object>();
        }
        object made = first.Loop.Slot(slots[39], _ => new object());
        Assert.Same(made, first.Loop.Slot(slots[39], _ => new object()));
        Assert.NotSame(made, first.Loop.Slot(slots[0], _ => new object()));
        Assert.NotSame(made, second.Loop.Slot(slots[39], _ => new object()));
    }

    [Fact(DisplayName = "fault: an exception on the loop reaches the fault handler and the loop goes on")]
    public void Faults()
    {
        using var rig = new Rig(Rig.Memory);
        int ran = 0;
        rig.Loop.Post(() => throw new FormatException());
        rig.Loop.Post(() => ran++);
        rig.Loop.RunTurn(0);
        Assert.IsType<FormatException>(rig.Fault);
        rig.Loop.RunTurn(0);
        Assert.Equal(1, ran);
    }
}
