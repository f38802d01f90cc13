// What resumption needs from outside: a place for sessions that all workers share, and the keys of tickets. Whoever
// owns the shared memory implements them; calls come from inside of a handshake and must neither block nor throw.
using System.Buffers.Binary;
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
    /// <summary>The key that new tickets are locked with.</summary>
    /// <param name="is128">A short key: AES-128 and an HMAC key of 16 bytes.</param>
    void Current(out TlsTicketKey key, out bool is128);

    /// <summary>The key of a ticket's name.</summary>
    /// <param name="renew">The ticket should be replaced by one under the current key.</param>
    bool Find(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool is128, out bool renew);
}

/// <summary>Keys from files (ssl_session_ticket_key): the first locks, all unlock.</summary>
public sealed class TlsFixedTicketKeys(IReadOnlyList<byte[]> files) : ITlsTicketKeys
{
    private readonly (TlsTicketKey Key, bool Is128)[] _keys =
        [.. files.Select(static f => (TlsTicketKey.From(f), f.Length == TlsTicketKey.ShortBytes))];

    public void Current(out TlsTicketKey key, out bool is128) => (key, is128) = _keys[0];

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

/// <summary>Keys that change with time: three of them (the next one is not needed before its turn), in memory that
/// the owner may share between processes. Layout: a stamp and an entry for each of two generations.</summary>
public abstract class TlsRotatingTicketKeys : ITlsTicketKeys
{
    private const int EntryBytes = 8 + TlsTicketKey.BytesMax;

    /// <summary>Bytes of the shared state.</summary>
    public const int StateBytes = 3 * EntryBytes;

    /// <summary>Seconds that a key locks new tickets; it unlocks for as long again.</summary>
    protected abstract long PeriodSec { get; }

    protected abstract long NowSec { get; }

    /// <summary>Runs <paramref name="turn"/> alone with the state, which is zero at first.</summary>
    protected abstract void WithState(ref Turn turn);

    /// <summary>One look at the state.</summary>
    public ref struct Turn
    {
        internal ReadOnlySpan<byte> Name;
        internal TlsTicketKey Key;
        internal bool Found;
        internal bool Renew;
        internal long Now;
        internal long Period;

        /// <summary>Called with the state under its lock.</summary>
        public void Run(Span<byte> state)
        {
            Rotate(state);
            for (int i = 0; i < 3; i++)
            {
                Span<byte> entry = state.Slice(i * EntryBytes, EntryBytes);
                long since = BinaryPrimitives.ReadInt64LittleEndian(entry);
                if (since == 0 || Now - since >= 2 * Period)
                {
                    continue;
                }
                if (Name.IsEmpty || entry.Slice(8, TlsTicketKey.NameBytes).SequenceEqual(Name))
                {
                    entry[8..].CopyTo(Key);
                    Found = true;
                    Renew = i > 0;
                    return;
                }
            }
        }

        private readonly unsafe void Rotate(Span<byte> state)
        {
            long since = BinaryPrimitives.ReadInt64LittleEndian(state);
            if (since != 0 && Now - since < Period)
            {
                return;
            }
            // Times first become 0 and are set last: whoever is killed in between leaves fewer keys, never mixed ones.
            for (int i = 1; i >= 0; i--)
            {
                Span<byte> from = state.Slice(i * EntryBytes, EntryBytes);
                Span<byte> to = state.Slice((i + 1) * EntryBytes, EntryBytes);
                BinaryPrimitives.WriteInt64LittleEndian(to, 0);
                from[8..].CopyTo(to[8..]);
                BinaryPrimitives.WriteInt64LittleEndian(to, BinaryPrimitives.ReadInt64LittleEndian(from));
                BinaryPrimitives.WriteInt64LittleEndian(from, 0);
            }
            fixed (byte* p = state)
            {
                Native.RAND_bytes(p + 8, TlsTicketKey.BytesMax);
            }
            BinaryPrimitives.WriteInt64LittleEndian(state, Now);
        }
    }

    public void Current(out TlsTicketKey key, out bool is128)
    {
        is128 = false;
        Look(default, out key, out _);
    }

    public bool Find(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool is128, out bool renew)
    {
        is128 = false;
        return Look(name, out key, out renew);
    }

    private bool Look(ReadOnlySpan<byte> name, out TlsTicketKey key, out bool renew)
    {
        var turn = new Turn { Name = name, Now = NowSec, Period = PeriodSec };
        WithState(ref turn);
        key = turn.Key;
        renew = turn.Renew;
        return turn.Found;
    }
}
