// The wheel against a plain list that knows every due time: random sets, moves, cancels and jumps of the clock, also
// from inside what fires.
using FsCheck;
using FsCheck.Fluent;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class TimerWheelTests
{
    private sealed class Probe(Action<Probe> fired) : LoopTimer
    {
        /// <summary>What the model says: when it must fire, 0 for not at all.</summary>
        public long Expected { get; set; }

        /// <summary>Set from inside a turn for a time that has passed: it may fire in this turn or in the
        /// next.</summary>
        public bool Either { get; set; }

        protected internal override void Fire() => fired(this);
    }

    [Fact(DisplayName = "timers: whatever is set, moved, cancelled and disarmed, exactly what is due fires")]
    public void Model() => Prop.ForAll<int>(seed => RunModel(seed)).QuickCheckThrowOnFailure();

    [Theory(DisplayName = "timers: the same holds at the edges of the wheel's levels")]
    [InlineData(1)]
    [InlineData(63)]
    [InlineData(64)]
    [InlineData(4095)]
    [InlineData(262_143)]
    [InlineData((1L << 36) - 40)]
    [InlineData((1L << 42) + 17)]
    public void Edges(long start)
    {
        for (int seed = 0; seed < 30; seed++)
        {
            RunModel(seed, start);
        }
    }

    private static void RunModel(int seed, long start = 1_000_000)
    {
        var random = new Random(seed);
        long now = start;
        var wheel = new TimerWheel(now);
        var timers = new List<Probe>();
        bool firing = false;
        for (int i = 0; i < 40; i++)
        {
            timers.Add(new Probe(Fired));
        }
        for (int step = 0; step < 300; step++)
        {
            if (random.Next(4) != 0)
            {
                Change();
                continue;
            }
            long nearest = timers.Where(t => t.Expected != 0).Select(t => t.Expected).DefaultIfEmpty(0).Min();
            int delay = wheel.NextDelayMs(now);
            bool inTime = nearest == 0 || (delay >= 0 && now + delay <= Math.Max(nearest, now));
            Assert.True(inTime, "the loop would wake too late");
            now += random.Next(5) switch
            {
                0 => 0,
                1 => random.Next(3),
                2 => Math.Max(delay, 0),
                3 => random.Next(5000),
                _ => (long)(random.NextDouble() * Math.Pow(64, random.Next(1, 7))),
            };
            firing = true;
            wheel.Advance(now);
            firing = false;
            foreach (Probe timer in timers.Where(t => t.Either && t.Expected != 0))
            {
                timer.Expected = Math.Max(timer.Expected, now + 1);
            }
            Assert.All(timers, t => Assert.True(t.Expected == 0 || t.Expected > now, "one that is due did not fire"));
            Assert.All(timers, t => Assert.Equal(t.Expected != 0, t.IsSet));
        }
        foreach (Probe timer in timers)
        {
            timer.Expected = 0;
            wheel.Cancel(timer);
        }
        Assert.Equal(0, wheel.Count);
        Assert.Equal(-1, wheel.NextDelayMs(now));

        void Change()
        {
            Probe timer = timers[random.Next(timers.Count)];
            switch (random.Next(6))
            {
                case 0:
                    timer.Expected = 0;
                    wheel.Cancel(timer);
                    break;
                case 1:
                    timer.Expected = 0;
                    wheel.Disarm(timer);
                    break;
                default:
                    long due = Math.Max(1, now + (long)(random.NextDouble() * Math.Pow(64, random.Next(8))) - 3);
                    timer.Expected = due;
                    timer.Either = firing && due <= now;
                    wheel.Set(timer, due);
                    break;
            }
        }

        void Fired(Probe timer)
        {
            Assert.NotEqual(0, timer.Expected);
            Assert.True(timer.Expected <= now, "fired early");
            Assert.False(timer.IsSet);
            timer.Expected = 0;
            if (random.Next(3) == 0)
            {
                Change();
            }
        }
    }

    [Fact(DisplayName = "timers: due times fire in their order, however far apart")]
    public void Order()
    {
        var wheel = new TimerWheel(1000);
        var fired = new List<long>();
        long[] due = [1001, 1064, 1063, 5000, 5001, 90_000, 1_000_000, 300_000_000, 20_000_000_000, 1L << 37, 1L << 40];
        foreach (long d in due.Reverse())
        {
            wheel.Set(new CallbackTimer(() => fired.Add(d)), d);
        }
        long now = 1000;
        int turns = 0;
        while (wheel.Count > 0)
        {
            now += wheel.NextDelayMs(now);
            wheel.Advance(now);
            Assert.All(fired, f => Assert.True(f <= now));
            Assert.True(++turns < 2000);
        }
        Assert.Equal(due.Order(), fired);
    }

    [Fact(DisplayName = "timers: a deadline that only moves later costs the wheel one early wake, and fires once")]
    public void LazyMove()
    {
        var wheel = new TimerWheel(1000);
        int fired = 0;
        var timer = new CallbackTimer(() => fired++);
        for (int i = 0; i < 1000; i++)
        {
            wheel.Set(timer, 2000 + i);
        }
        wheel.Advance(2998);
        Assert.Equal(0, fired);
        wheel.Advance(2999);
        Assert.Equal(1, fired);
        wheel.Advance(10_000);
        Assert.Equal(1, fired);
    }

    [Fact(DisplayName = "timers: one that sets itself for a time that has passed fires once a turn")]
    public void SetsItself()
    {
        var wheel = new TimerWheel(1000);
        int fired = 0;
        CallbackTimer? timer = null;
        timer = new CallbackTimer(() =>
        {
            fired++;
            wheel.Set(timer!, 1);
        });
        wheel.Set(timer, 1);
        for (int turn = 1; turn <= 5; turn++)
        {
            wheel.Advance(1000 + turn);
            Assert.Equal(turn, fired);
        }
    }

    [Fact(DisplayName = "timers: cancelling and re-setting others of the same millisecond from inside what fires")]
    public void ChangesInsideFire()
    {
        var wheel = new TimerWheel(1000);
        var fired = new List<int>();
        var timers = new CallbackTimer[5];
        for (int i = 0; i < 5; i++)
        {
            int n = i;
            timers[i] = new CallbackTimer(() =>
            {
                fired.Add(n);
                for (int other = 0; other < 5; other++)
                {
                    if (other != n && fired.Count == 1)
                    {
                        if (other % 2 == 0)
                        {
                            wheel.Cancel(timers[other]);
                        }
                        else
                        {
                            wheel.Set(timers[other], 1300);
                        }
                    }
                }
            });
            wheel.Set(timers[i], 1200);
        }
        wheel.Advance(1200);
        int first = Assert.Single(fired);
        wheel.Advance(1299);
        Assert.Single(fired);
        wheel.Advance(1300);
        Assert.Equal(new[] { 1, 3 }.Where(n => n != first).Order(), fired.Skip(1).Order());
        Assert.Equal(0, wheel.Count);
    }

    [Fact(DisplayName = "timers: when one throws, the others of its millisecond still fire in the next turn")]
    public void Throws()
    {
        var wheel = new TimerWheel(1000);
        int fired = 0;
        for (int i = 0; i < 3; i++)
        {
            wheel.Set(new CallbackTimer(() =>
            {
                fired++;
                throw new FormatException();
            }), 1100);
        }
        for (int turn = 0; turn < 3; turn++)
        {
            Assert.InRange(wheel.NextDelayMs(1100), 0, 0);
            Assert.Throws<FormatException>(() => wheel.Advance(1100));
        }
        Assert.Equal(3, fired);
        Assert.Equal(0, wheel.Count);
    }

    [Fact(DisplayName = "timers: setting, moving and firing allocate nothing")]
    public void NoAllocation()
    {
        var wheel = new TimerWheel(1000);
        var timers = new CallbackTimer[100];
        for (int i = 0; i < timers.Length; i++)
        {
            timers[i] = new CallbackTimer(static () => { });
        }
        long now = 1000;
        Turn();
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            Turn();
        }
        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());

        void Turn()
        {
            for (int i = 0; i < timers.Length; i++)
            {
                wheel.Set(timers[i], now + (i * 7));
            }
            wheel.Cancel(timers[3]);
            wheel.Disarm(timers[4]);
            now += 300;
            wheel.Advance(now);
        }
    }
}
