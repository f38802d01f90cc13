// The points of a critical section at which a test kills the holder of the lock: behind every single write. A write is
// one aligned word of eight bytes, or many at once where nobody looks before a word that is written later. With an
// audit on, the memory is compared between two points, so that a write without a point is an error, and a holder dies
// also in the midst of many writes. Debug builds only; one per mapping, called by the holder of the lock.
#if DEBUG
using System.Collections.Concurrent;

namespace Weir.Zones;

/// <summary>Where a holder of a lock may be made to die, in one mapping of shared memory.</summary>
internal sealed class FaultPoints(string name, params (int From, int Length)[] unaudited)
{
    private const int WordBytes = sizeof(long), ChunkBytes = 4096;

    private byte[] _seen = [];
    private bool _isSeen;

    /// <summary>How often a holder died at each point, by source file and line.</summary>
    public static ConcurrentDictionary<(string File, int Line), int> Deaths { get; } = new();

    /// <summary>Asked at every point; true kills the holder there: it leaves with the lock taken, as a killed process
    /// does.</summary>
    public Func<bool>? DiesHere { get; set; }

    public bool Audits { get; set; }

    /// <summary>The holder has died; what it does while its stack unwinds is not done.</summary>
    public bool IsDead { get; private set; }

    /// <summary>The lock was taken.</summary>
    public void Begin(Span<byte> bytes)
    {
        _isSeen = Audits;
        if (_isSeen)
        {
            if (_seen.Length != bytes.Length)
            {
                _seen = new byte[bytes.Length];
            }
            bytes.CopyTo(_seen);
        }
    }

    /// <summary>A write was made.</summary>
    public void Point(Span<byte> bytes, bool many, string file, int line)
    {
        if (IsDead || !_isSeen && DiesHere is null)
        {
            return;
        }
        if (_isSeen)
        {
            (int from, int to) = Changed(bytes);
            if (!many && to - from > WordBytes)
            {
                throw new UnmarkedWriteException(
                    $"{name}: two writes and one point, bytes {from} to {to} at {file}:{line}");
            }
            if (many && to - from > WordBytes)
            {
                // Half of it is written: the first, or the second.
                int middle = (from + ((to - from) / 2)) & -WordBytes;
                Tear(bytes, middle, to, file, line);
                Tear(bytes, from, middle, file, line);
            }
            bytes[from..to].CopyTo(_seen.AsSpan(from));
        }
        if (DiesHere is { } dies && dies())
        {
            Die(file, line);
        }
    }

    /// <summary>The lock is about to be given back; what to complain of.</summary>
    public UnmarkedWriteException? End(Span<byte> bytes)
    {
        if (!_isSeen)
        {
            return null;
        }
        (int from, int to) = Changed(bytes);
        _isSeen = false;
        return from == to ? null : new UnmarkedWriteException($"{name}: a write without a point, bytes {from} to {to}");
    }

    private void Tear(Span<byte> bytes, int from, int to, string file, int line)
    {
        if (DiesHere is { } dies && dies())
        {
            _seen.AsSpan(from..to).CopyTo(bytes[from..to]);
            Die(file, line);
        }
    }

    private void Die(string file, int line)
    {
        IsDead = true;
        Deaths.AddOrUpdate((file, line), 1, static (_, n) => n + 1);
        throw new HolderDiedException();
    }

    /// <summary>The words from the first to the last that differ from what was seen.</summary>
    private (int From, int To) Changed(Span<byte> bytes)
    {
        int from = 0, to = 0, at = 0;
        bool isSame = true;
        for (int i = 0; i <= unaudited.Length; i++)
        {
            // Who waits for a lock writes into it at any moment: what is not audited is not even compared.
            (int gap, int length) = i < unaudited.Length ? unaudited[i] : (bytes.Length, 0);
            (int first, int end) = ChangedWithin(bytes[at..gap], _seen.AsSpan(at, gap - at));
            if (first < end)
            {
                from = isSame ? at + first : from;
                to = at + end;
                isSame = false;
            }
            if (length > 0)
            {
                bytes.Slice(gap, length).CopyTo(_seen.AsSpan(gap));
            }
            at = gap + length;
        }
        return (from, to);
    }

    private static (int From, int To) ChangedWithin(Span<byte> bytes, Span<byte> seen)
    {
        int from = bytes.CommonPrefixLength(seen) & -WordBytes;
        if (from >= bytes.Length)
        {
            return (0, 0);
        }
        int to = bytes.Length;
        for (int at = to - ChunkBytes; at > from; at -= ChunkBytes)
        {
            if (!bytes.Slice(at, ChunkBytes).SequenceEqual(seen.Slice(at, ChunkBytes)))
            {
                break;
            }
            to = at;
        }
        while (bytes.Slice(to - WordBytes, WordBytes).SequenceEqual(seen.Slice(to - WordBytes, WordBytes)))
        {
            to -= WordBytes;
        }
        return (from, to);
    }
}

/// <summary>The holder of a lock was made to die.</summary>
internal sealed class HolderDiedException : Exception;

/// <summary>A critical section writes where it has no fault point.</summary>
internal sealed class UnmarkedWriteException(string message) : Exception(message);
#endif
