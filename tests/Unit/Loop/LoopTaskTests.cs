// The task type: what finishes at once, what suspends, what throws and when, and what all of it allocates.
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class LoopTaskTests
{
    [Fact(DisplayName = "task: a method that does not suspend is complete when it returns")]
    public void Synchronous()
    {
        LoopTask<int> task = Add(2, 3);
        Assert.True(task.IsCompleted);
        Assert.Equal(5, task.Result);
        Assert.True(Nothing().IsCompleted);
        Assert.True(LoopTask.Completed.IsCompleted);
        Assert.Equal(7, new LoopTask<int>(7).Result);

        static async LoopTask<int> Add(int a, int b)
        {
            await Nothing();
            return a + b;
        }

        static async LoopTask Nothing() => await LoopTask.Completed;
    }

    [Fact(DisplayName = "task: a suspended method goes on inline when its wait ends, through every caller")]
    public void Suspended()
    {
        var gate = new LoopOperation<int>();
        string log = "";
        LoopTask<string> task = Outer();
        Assert.False(task.IsCompleted);
        Assert.Equal("outer inner ", log);
        gate.SetResult(42);
        Assert.Equal("outer inner resumed returned ", log);
        Assert.True(task.IsCompleted);
        Assert.Equal("<42>", task.Result);

        async LoopTask<string> Outer()
        {
            log += "outer ";
            int n = await Inner();
            log += "returned ";
            return $"<{n}>";
        }

        async LoopTask<int> Inner()
        {
            log += "inner ";
            int n = await gate.Begin();
            log += "resumed ";
            return n;
        }
    }

    [Fact(DisplayName = "task: a method finds what it waits for, whatever shape the result has")]
    public void Shapes()
    {
        Waits((byte)1);
        Waits(true);
        Waits(1L);
        Waits(1.5);
        Waits("text");
        Waits(new object());
        Waits(("text", 1, new object()));
        Waits((1L, "text"));
        Waits(Guid.NewGuid());
        Waits(new ReadOnlyMemory<byte>([1, 2, 3]));
        Waits<(long, long, byte, string?)>((1, 2, 3, null));

        static void Waits<T>(T result)
        {
            var gate = new LoopOperation<T>();
            LoopTask<T> task = Through(gate);
            Assert.False(task.IsCompleted);
            gate.SetResult(result);
            Assert.True(task.IsCompleted);
            Assert.Equal(result, task.Result);
        }

        static async LoopTask<T> Through<T>(LoopOperation<T> gate) => await gate.Begin();
    }

    [Fact(DisplayName = "task: a result that is there before the wait begins is taken without suspending")]
    public void ResultFirst()
    {
        var gate = new LoopOperation<int>();
        LoopTask<int> wait = gate.Begin();
        Assert.True(gate.IsWaiting);
        gate.SetResult(5);
        Assert.True(gate.IsPending);
        Assert.False(gate.IsWaiting);
        LoopTask<int> task = Take();
        Assert.True(task.IsCompleted);
        Assert.Equal(5, task.Result);
        Assert.False(gate.IsPending);

        async LoopTask<int> Take() => await wait;
    }

    [Fact(DisplayName =
        "task: an operation can begin again as soon as its result has been taken, also inside the resumption")]
    public void BeginsAgain()
    {
        var gate = new LoopOperation<int>();
        int sum = 0;
        Reader().Forget();
        for (int i = 1; i <= 10; i++)
        {
            Assert.Throws<InvalidOperationException>(() => gate.Begin());
            gate.SetResult(i);
        }
        Assert.Equal(55, sum);

        async LoopTask Reader()
        {
            while (sum < 55)
            {
                sum += await gate.Begin();
            }
        }
    }

    [Fact(DisplayName = "task: an exception before, between and after suspensions reaches the awaiting method")]
    public void Exceptions()
    {
        for (int at = 0; at < 3; at++)
        {
            var gate = new LoopOperation<int>();
            LoopTask<string> task = Catch(gate, at);
            for (int i = 0; i < at; i++)
            {
                Assert.False(task.IsCompleted);
                gate.SetResult(i);
            }
            Assert.True(task.IsCompleted);
            Assert.Equal("thrown " + at, task.Result);
        }

        static async LoopTask<string> Catch(LoopOperation<int> gate, int at)
        {
            try
            {
                await Middle(gate, at);
                return "nothing";
            }
            catch (FormatException e)
            {
                return e.Message;
            }
        }

        static async LoopTask Middle(LoopOperation<int> gate, int at) => await Throw(gate, at);

        static async LoopTask<int> Throw(LoopOperation<int> gate, int at)
        {
            for (int i = 0; i < at; i++)
            {
                await gate.Begin();
            }
            throw new FormatException("thrown " + at);
        }
    }

    [Fact(DisplayName = "task: a box that carried an exception carries a result the next time")]
    public void BoxAfterException()
    {
        for (int i = 0; i < 10; i++)
        {
            var gate = new LoopOperation<bool>();
            LoopTask<int> task = MayThrow(gate);
            gate.SetResult(i % 2 == 0);
            if (i % 2 == 0)
            {
                Assert.Throws<FormatException>(() => task.Result);
            }
            else
            {
                Assert.Equal(9, task.Result);
            }
        }

        static async LoopTask<int> MayThrow(LoopOperation<bool> gate) =>
            await gate.Begin() ? throw new FormatException() : 9;
    }

    [Fact(DisplayName = "forget: an exception that nobody awaits reaches the loop's fault handler, at once or later")]
    public void Forget()
    {
        using var rig = new Rig(Rig.Memory);
        var gate = new LoopOperation<int>();
        Throw(false).Forget();
        Assert.IsType<FormatException>(rig.Fault);
        rig.Fault = null;
        Throw(true).Forget();
        Assert.Null(rig.Fault);
        gate.SetResult(0);
        Assert.IsType<FormatException>(rig.Fault);
        rig.Fault = null;
        Fine().Forget();
        gate.SetResult(0);
        Assert.Null(rig.Fault);

        async LoopTask Throw(bool later)
        {
            if (later)
            {
                await gate.Begin();
            }
            throw new FormatException();
        }

        async LoopTask<int> Fine() => await gate.Begin();
    }

    [Fact(DisplayName = "task: a plain Task can be awaited, and goes on where the task completes")]
    public void PlainTask()
    {
        // A loop's thread has none either: with one, the task would hop before it resumes.
        SynchronizationContext.SetSynchronizationContext(null);
        var source = new TaskCompletionSource<int>();
        int got = 0;
        Body().Forget();
        source.SetResult(3);
        Assert.Equal(3, got);

        async LoopTask Body() => got = await source.Task.ConfigureAwait(false);
    }

    [Fact(DisplayName = "task: 10,000 suspensions of two nested methods, 64 at once, allocate nothing")]
    public void NoAllocation()
    {
        const int Together = 64;
        var gates = new LoopOperation<int>[Together];
        var named = new LoopOperation<string>[Together];
        long sum = 0;
        for (int i = 0; i < Together; i++)
        {
            gates[i] = new LoopOperation<int>();
            named[i] = new LoopOperation<string>();
            Waiter(gates[i], named[i]).Forget();
        }
        Round(10);
        long before = GC.GetAllocatedBytesForCurrentThread();
        Round(100);
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(0, allocated);
        Assert.Equal(110L * Together * 2, sum);

        void Round(int count)
        {
            for (int r = 0; r < count; r++)
            {
                for (int i = 0; i < Together; i++)
                {
                    gates[i].SetResult(1);
                }
                for (int i = 0; i < Together; i++)
                {
                    named[i].SetResult("1");
                }
            }
        }

        async LoopTask Waiter(LoopOperation<int> gate, LoopOperation<string> name)
        {
            while (true)
            {
                // Added after the wait: the sum that was read before it would be an old one.
                int n = await Inner(gate);
                sum += n;
                string text = await Name(name);
                sum += text.Length;
            }
        }

        static async LoopTask<int> Inner(LoopOperation<int> gate) => await gate.Begin();

        static async LoopTask<string> Name(LoopOperation<string> gate) => await gate.Begin();
    }

    [Fact(DisplayName = "task: starting and forgetting, yielding and delaying allocate nothing once warm")]
    public void NoAllocationOfWaits()
    {
        using var rig = new Rig(Rig.Memory);
        var loop = (InMemoryLoop)rig.Loop;
        int ended = 0;
        Wave();
        Wave();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 50; i++)
        {
            Wave();
        }
        long allocated = GC.GetAllocatedBytesForCurrentThread() - before;
        Assert.Equal(0, allocated);
        Assert.Equal(52 * 64, ended);

        void Wave()
        {
            for (int i = 0; i < 64; i++)
            {
                Wait(i).Forget();
            }
            loop.AdvanceClock(100);
        }

        async LoopTask Wait(int i)
        {
            await loop.YieldAsync();
            await loop.DelayAsync(1 + i);
            ended++;
        }
    }
}
