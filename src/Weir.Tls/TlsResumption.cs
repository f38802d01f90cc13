// What resumption needs from outside: a place for sessions that all workers share, and the keys of tickets. Whoever
// owns the shared memory implements them; calls come from inside of a handshake and must neither block nor throw.
using System.Buffers.Binary;
using System.Diagnostics;
using System.Runtime.CompilerServices;

namespace Weir.Tls;

/// <summary>Sessions by their id.</summary>
public interface ITlsSessionStore
{
    void Store(ReadOnlySpan<byte> id, ReadOnlySpan<byte> session, long timeoutSec);

    /// <summary>Copies the session; 0 where there is none.</summary>
    int Find(ReadOnlySpan<byte> id, Span<byte> into);

    void Remove(ReadOnlySpan<byte> id);
}

/// <summary>One key of tickets: its name, the key of the code, the key of the cipher.</summary>
[InlineArray(BytesMax)]
public struct TlsTicketKey
{
    public const int NameBytes = 16, BytesMax = 80, ShortBytes = 48;
    private byte _first;

    /// <summary>The key as the bytes of a ticket key file: 48 (AES-128) or 80 bytes (AES-256).</summary>
    public static TlsTicketKey From(ReadOnlySpan<byte> bytes)
    {
        TlsTicketKey key = default;
        Span<byte> into = key;
        bytes[..NameBytes].CopyTo(into);
        if (bytes.Length == ShortBytes)
        {
            // name, HMAC key, AES key of 16 bytes each; what is not used stays zero.
            bytes.Slice(32, 16).CopyTo(into[16..]);
            bytes.Slice(16, 16).CopyTo(into[48..]);
        }
        else
        {
            bytes[NameBytes..BytesMax].CopyTo(into[NameBytes..]);
        }
        return key;
    }
}

/// <summary>The keys of tickets.</summary>
public interface ITlsTicketKeys
{
    /// <summary>The key that new tickets are locked with; false when there is none, and no ticket then.</summary>
    /// <param name="is128">A short key: AES-128 and an HMAC key of 16 bytes.</param>
    bool Current(out TlsTicketKey key, out bool is128);

    /// <summary>The key of a ticket's name.</summary>
    /// <param name="renew">The ticket should be replaced by one under the current key.</param>
    bool Find(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool is128, out bool renew);
}

/// <summary>Keys from files (ssl_session_ticket_key): the first locks, all unlock.</summary>
public sealed class TlsFixedTicketKeys(IReadOnlyList<byte[]> files) : ITlsTicketKeys
{
    private readonly (TlsTicketKey Key, bool Is128)[] _keys =
        [.. files.Select(static f => (TlsTicketKey.From(f), f.Length == TlsTicketKey.ShortBytes))];

    public bool Current(out TlsTicketKey key, out bool is128)
    {
        (key, is128) = _keys[0];
        return true;
    }

    public bool Find(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool is128, out bool renew)
    {
        for (int i = 0; i < _keys.Length; i++)
        {
            (key, is128) = _keys[i];
            if (((ReadOnlySpan<byte>)key)[..TlsTicketKey.NameBytes].SequenceEqual(name))
            {
                renew = i > 0;
                return true;
            }
        }
        key = default;
        is128 = false;
        renew = false;
        return false;
    }
}

/// <summary>Keys that change with time: three of them, of which the oldest makes room for the next, in memory that
/// the owner may share between processes. An entry is the time since when the key locks (0: there is none) and the key;
/// the entry with the latest time is the current one.</summary>
public abstract class TlsRotatingTicketKeys : ITlsTicketKeys
{
    private const int EntryBytes = 8 + TlsTicketKey.BytesMax, EntryCount = 3;

    /// <summary>Bytes of the shared state.</summary>
    public const int StateBytes = EntryCount * EntryBytes;

    /// <summary>Seconds that a key locks new tickets; it unlocks for as long again.</summary>
    protected abstract long PeriodSec { get; }

    protected abstract long NowSec { get; }

    /// <summary>Runs <paramref name="turn"/> alone with the state, which is zero at first; not at all where there is
    /// no room for it.</summary>
    protected abstract void WithState(ref Turn turn);

    /// <summary>Random bytes that nobody can guess; false when there are none to be had.</summary>
    protected virtual unsafe bool TryFill(Span<byte> key)
    {
        fixed (byte* p = key)
        {
            return Native.RAND_bytes(p, key.Length) == 1;
        }
    }

    /// <summary>A word of the state was written.</summary>
    [Conditional("DEBUG")]
    protected internal virtual void Wrote([CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
    }

    /// <summary>Bytes of the state were written that nobody looks at yet.</summary>
    [Conditional("DEBUG")]
    protected internal virtual void WroteMany([CallerFilePath] string file = "", [CallerLineNumber] int line = 0)
    {
    }

    /// <summary>One look at the state.</summary>
    public ref struct Turn
    {
        internal TlsRotatingTicketKeys Keys;
        internal ReadOnlySpan<byte> Name;
        internal TlsTicketKey Key;
        internal bool Found;
        internal bool Renew;
        internal long Now;
        internal long Period;

        /// <summary>Called with the state under its lock.</summary>
        public void Run(Span<byte> state)
        {
            (int newest, int oldest) = Order(state);
            if (TimeOf(state, newest) == 0 || Now - TimeOf(state, newest) >= Period)
            {
                newest = Rotate(state, oldest) ? oldest : newest;
            }
            for (int i = 0; i < EntryCount; i++)
            {
                long since = TimeOf(state, i);
                if (since == 0 || Now - since >= 2 * Period)
                {
                    continue;
                }
                Span<byte> key = state.Slice((i * EntryBytes) + 8, TlsTicketKey.BytesMax);
                if (Name.IsEmpty ? i == newest : key[..TlsTicketKey.NameBytes].SequenceEqual(Name))
                {
                    key.CopyTo(Key);
                    Found = true;
                    Renew = i != newest;
                    return;
                }
            }
        }

        /// <summary>Puts a new key in the place of the oldest. Its time becomes 0 first and is set last: whoever is
        /// killed in between leaves no key there, and the others as they are.</summary>
        private readonly bool Rotate(Span<byte> state, int oldest)
        {
            Span<byte> made = stackalloc byte[TlsTicketKey.BytesMax];
            if (!Keys.TryFill(made))
            {
                return false;
            }
            Span<byte> entry = state.Slice(oldest * EntryBytes, EntryBytes);
            BinaryPrimitives.WriteInt64LittleEndian(entry, 0);
            Keys.Wrote();
            made.CopyTo(entry[8..]);
            Keys.WroteMany();
            made.Clear();
            BinaryPrimitives.WriteInt64LittleEndian(entry, Now);
            Keys.Wrote();
            return true;
        }

        private static (int Newest, int Oldest) Order(ReadOnlySpan<byte> state)
        {
            int newest = 0, oldest = 0;
            for (int i = 1; i < EntryCount; i++)
            {
                newest = TimeOf(state, i) > TimeOf(state, newest) ? i : newest;
                oldest = TimeOf(state, i) < TimeOf(state, oldest) ? i : oldest;
            }
            return (newest, oldest);
        }

        private static long TimeOf(ReadOnlySpan<byte> state, int i) =>
            BinaryPrimitives.ReadInt64LittleEndian(state[(i * EntryBytes)..]);
    }

    public bool Current(out TlsTicketKey key, out bool is128)
    {
        is128 = false;
        return Look(default, out key, out _);
    }

    public bool Find(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool is128, out bool renew)
    {
        is128 = false;
        return Look(name, out key, out renew);
    }

    private bool Look(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool renew)
    {
        var turn = new Turn { Keys = this, Name = name, Now = NowSec, Period = PeriodSec };
        WithState(ref turn);
        key = turn.Key;
        renew = turn.Renew;
        return turn.Found;
    }
}
