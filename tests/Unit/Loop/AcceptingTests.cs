// Accepting under pressure, as decisions: tiers, back-off, batches; and on epoll with a real descriptor limit's errors
// replaced by their tiers. What a whole process does is in tests/Wire/AcceptingTests.cs.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;
using Xunit;

namespace Weir.Tests.Unit.Loop;

public sealed class AcceptingTests
{
    [Theory(DisplayName = "accept: every error has a tier")]
    [InlineData(Errno.EAGAIN, AcceptAnswer.Empty)]
    [InlineData(Errno.ECONNABORTED, AcceptAnswer.Next)]
    [InlineData(Errno.EPROTO, AcceptAnswer.Next)]
    [InlineData(Errno.EMFILE, AcceptAnswer.Shed)]
    [InlineData(Errno.ENFILE, AcceptAnswer.Shed)]
    [InlineData(Errno.ENOBUFS, AcceptAnswer.BackOff)]
    [InlineData(Errno.ENOMEM, AcceptAnswer.BackOff)]
    [InlineData(Errno.EINVAL, AcceptAnswer.BackOff)]
    public void Tiers(int errno, AcceptAnswer tier) => Assert.Equal(tier, AcceptPressure.TierOf(errno));

    [Fact(DisplayName = "accept: a shortage is told once, backs off longer each time, and ends after a calm second")]
    public void Shortage()
    {
        var pressure = new AcceptPressure();
        Assert.True(pressure.Begin(1000));
        Assert.False(pressure.Begin(1001));
        int[] waits = [.. Enumerable.Range(0, 8).Select(_ => pressure.NextBackOffMs())];
        Assert.Equal([10, 20, 40, 80, 160, 320, 500, 500], waits);
        Assert.False(pressure.End(1001 + AcceptPressure.CalmMs - 1));
        Assert.True(pressure.IsOn);
        Assert.True(pressure.End(1001 + AcceptPressure.CalmMs));
        Assert.False(pressure.End(9999));
        Assert.True(pressure.Begin(10_000));
        Assert.Equal(10, pressure.NextBackOffMs());
    }

    [Fact(DisplayName = "accept: one connection a turn, doubled while the queue is there in the next turn")]
    public void Batches()
    {
        var batch = default(AcceptBatch);
        Assert.Equal([1, 2, 4, 8, 16, 32, 64, 64], Enumerable.Range(5, 8).Select(t => batch.Next(t, false, false)));
        batch.Emptied();
        Assert.Equal(1, batch.Next(13, false, false));
        Assert.Equal(1, batch.Next(15, false, false));
        Assert.Equal([2, 4, 4], Enumerable.Range(16, 3).Select(t => batch.Next(t, true, false)));
        Assert.Equal(AcceptBatch.MostMulti, batch.Next(30, true, true));
    }

    [Theory(DisplayName = "accept: with multi_accept one turn takes all that wait, without it a fair share")]
    [InlineData(true, 40, 40)]
    [InlineData(false, 1, 8)]
    public void Multi(bool multi, int least, int most)
    {
        using var rig = new Rig(Rig.Epoll);
        rig.Loop.MultiAccept = multi;
        int accepted = 0;
        byte[] address = rig.Listen(_ => accepted++, out Listener listener);
        listener.Pause();
        rig.Run(async () =>
        {
            for (int i = 0; i < 40; i++)
            {
                await rig.Connect(address);
            }
        });
        listener.Resume();
        rig.Loop.RunTurn(1000);
        Assert.InRange(accepted, least, most);
        rig.RunUntil(() => accepted == 40);
    }

    [Theory(DisplayName = "accept: a client that has reset its connection is still known by its address")]
    [InlineData(Rig.Epoll)]
    [InlineData(Rig.Uring)]
    public unsafe void NameAfterReset(string engine)
    {
        using var rig = new Rig(engine);
        Connection? accepted = null;
        byte[] address = rig.Listen(c => accepted = c);
        using var client = new System.Net.Sockets.Socket(System.Net.Sockets.AddressFamily.InterNetwork,
            System.Net.Sockets.SocketType.Stream, System.Net.Sockets.ProtocolType.Tcp);
        client.Connect(System.Net.IPAddress.Loopback, SocketAddress.PortOf(address));
        int port = ((System.Net.IPEndPoint)client.LocalEndPoint!).Port;
        rig.RunUntil(() => accepted is not null);
        client.LingerState = new System.Net.Sockets.LingerOption(true, 0);
        client.Close();
        // The kernel has forgotten the peer by now, and who asks it only here learns nothing.
        byte* name = stackalloc byte[112];
        int length = 112;
        int fd = ((SocketStream)accepted!).Fd;
        Assert.Equal(Errno.ENOTCONN, Sys.PeerName(fd, name, ref length).Errno);
        Assert.Equal(port, SocketAddress.PortOf(accepted.PeerAddress));
        Assert.True(accepted.LocalAddress.SequenceEqual(address));
        accepted.Close();
    }

    [Fact(DisplayName = "accept gate: of two loops on one socket only the one inside accepts")]
    public void Gate()
    {
        using var rig = new Rig(Rig.Epoll);
        var gate = new OneInside { DelayMs = 5 };
        rig.Loop.AcceptGate = gate;
        (int fd, byte[] address) = Rig.OpenListening(10);
        int accepted = 0;
        gate.IsTaken = true;
        Listener listener = rig.Loop.Listen(fd, true, _ => accepted++);
        Assert.Equal(AcceptHold.Gate, listener.Holds);
        rig.Run(async () =>
        {
            await rig.Connect(address);
            await rig.Loop.DelayAsync(30);
        });
        Assert.Equal(0, accepted);
        gate.IsTaken = false;
        rig.RunUntil(() => accepted == 1);
        Assert.False(gate.IsTaken);
        Assert.Equal(AcceptHold.None, listener.Holds);
        gate.IsTaken = true;
        rig.Loop.RunTurn(0);
        Assert.Equal(AcceptHold.Gate, listener.Holds);
        // A listener that is held for another reason keeps nobody out.
        gate.IsTaken = false;
        listener.Pause();
        rig.Loop.RunTurn(0);
        Assert.Equal(0, gate.EnteredSinceTaken);
        listener.Resume();
        rig.Loop.RunTurn(0);
        Assert.True(gate.EnteredSinceTaken > 0);
        listener.Stop();
    }

    private sealed class OneInside : AcceptGate
    {
        private bool _taken;

        public int EnteredSinceTaken { get; private set; }

        public bool IsTaken
        {
            get => _taken;
            set
            {
                _taken = value;
                EnteredSinceTaken = 0;
            }
        }

        public override bool TryEnter()
        {
            if (_taken)
            {
                return false;
            }
            _taken = true;
            EnteredSinceTaken++;
            return true;
        }

        public override void Leave() => _taken = false;
    }
}
