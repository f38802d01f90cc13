// Keys of tickets that change with time, in memory that workers share: what locked a ticket before a change unlocks it
// after one, and not after two.
using Weir.Tls;
using Xunit;

namespace Weir.Tests.Unit.Tls;

public sealed class TlsTicketKeyTests
{
    private const long Period = 100;

    /// <summary>A worker's view of the shared state.</summary>
    private sealed class Keys(byte[] state, Func<long> now) : TlsRotatingTicketKeys
    {
        protected override long PeriodSec => Period;
        protected override long NowSec => now();

        public bool HasRoom { get; set; } = true;
        public bool HasRandom { get; set; } = true;

        protected override void WithState(ref Turn turn)
        {
            if (HasRoom)
            {
                turn.Run(state);
            }
        }

        protected override bool TryFill(Span<byte> key) => HasRandom && base.TryFill(key);
    }

    private long _now = 1_000_000;
    private readonly byte[] _state = new byte[TlsRotatingTicketKeys.StateBytes];

    public TlsTicketKeyTests()
    {
        // The library is loaded by whoever needs it first.
        using TlsContext context = TlsContext.Create(TlsProtocols.Tls13, out string? error)!;
        Assert.Null(error);
    }

    private Keys Worker() => new(_state, () => _now);

    private static byte[] Name(Keys keys)
    {
        Assert.True(keys.Current(out TlsTicketKey key, out _));
        return ((ReadOnlySpan<byte>)key)[..TlsTicketKey.NameBytes].ToArray();
    }

    [Fact]
    public void All_workers_have_the_same_key()
    {
        Keys one = Worker(), two = Worker();
        one.Current(out TlsTicketKey mine, out bool short1);
        two.Current(out TlsTicketKey theirs, out bool short2);
        Assert.Equal(((ReadOnlySpan<byte>)mine).ToArray(), ((ReadOnlySpan<byte>)theirs).ToArray());
        Assert.False(short1 || short2);
    }

    [Fact]
    public void A_ticket_made_before_a_rotation_resumes_and_is_renewed()
    {
        byte[] before = Name(Worker());
        _now += Period - 1;
        Assert.Equal(before, Name(Worker()));
        _now += 1;
        Assert.NotEqual(before, Name(Worker()));
        Assert.True(Worker().Find(before, out TlsTicketKey key, out _, out bool renew));
        Assert.True(renew);
        Assert.Equal(before, ((ReadOnlySpan<byte>)key)[..TlsTicketKey.NameBytes].ToArray());
    }

    [Fact]
    public void A_ticket_made_two_rotations_ago_does_not()
    {
        byte[] before = Name(Worker());
        _now += Period;
        byte[] between = Name(Worker());
        _now += Period;
        Assert.NotEqual(between, Name(Worker()));
        Assert.False(Worker().Find(before, out _, out _, out _));
        Assert.True(Worker().Find(between, out _, out _, out _));
    }

    [Fact]
    public void A_key_that_nobody_used_for_long_is_good_for_nothing()
    {
        byte[] before = Name(Worker());
        _now += 10 * Period;
        Assert.False(Worker().Find(before, out _, out _, out _));
    }

    [Fact]
    public void Without_room_for_keys_there_is_none()
    {
        Assert.False(new Keys(_state, () => _now) { HasRoom = false }.Current(out _, out _));
    }

    [Fact]
    public void Without_random_bytes_there_is_no_new_key_and_the_last_one_serves_while_it_is_good()
    {
        var without = new Keys(_state, () => _now) { HasRandom = false };
        Assert.False(without.Current(out _, out _));
        Assert.True(_state.AsSpan().IndexOfAnyExcept((byte)0) < 0);
        byte[] last = Name(Worker());
        _now += Period;
        Assert.Equal(last, Name(without));
        Assert.NotEqual(last, Name(Worker()));
        _now += 2 * Period;
        Assert.False(without.Current(out _, out _));
    }

    [Fact]
    public void The_current_key_is_not_renewed()
    {
        Assert.True(Worker().Find(Name(Worker()), out _, out _, out bool renew));
        Assert.False(renew);
        Assert.False(Worker().Find(new byte[TlsTicketKey.NameBytes], out _, out _, out _));
    }
}
