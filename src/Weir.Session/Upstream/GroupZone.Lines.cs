// The list of a group's servers in its zone, as far as the API may change it: one entry per line, kept under the
// group's name and the reading of the configuration that the list began with. A changed line is added anew before the
// old one goes, so that a kill in between leaves both, of which the later counts. Beside it: words of each process
// about a group. Everything but those words is touched under the zone's lock.
using System.Buffers.Binary;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using Weir.Zones;

namespace Weir.Session.Upstream;

public sealed partial class GroupZone
{
    private const int TailBytes = 16;

    private static byte[] LineKey(ReadOnlySpan<byte> group, ulong stamp, int id, int turn)
    {
        byte[] key = new byte[group.Length + TailBytes];
        group.CopyTo(key);
        BinaryPrimitives.WriteUInt64LittleEndian(key.AsSpan(group.Length), stamp);
        BinaryPrimitives.WriteInt32LittleEndian(key.AsSpan(group.Length + 8), id);
        BinaryPrimitives.WriteInt32LittleEndian(key.AsSpan(group.Length + 12), turn);
        return key;
    }

    private bool IsLineOf(uint entry, ReadOnlySpan<byte> group, out ulong stamp, out int id, out int turn)
    {
        ReadOnlySpan<byte> key = _lines.Key(entry);
        bool own = key.Length == group.Length + TailBytes && key[..group.Length].SequenceEqual(group);
        ReadOnlySpan<byte> tail = own ? key[group.Length..] : new byte[TailBytes];
        stamp = BinaryPrimitives.ReadUInt64LittleEndian(tail);
        id = BinaryPrimitives.ReadInt32LittleEndian(tail[8..]);
        turn = BinaryPrimitives.ReadInt32LittleEndian(tail[12..]);
        return own;
    }

    /// <summary>The group's lines by number.</summary>
    internal List<ServerLine> Lines(ReadOnlySpan<byte> group, ulong stamp)
    {
        var found = new SortedList<int, (int Turn, ServerLine Line)>();
        for (uint entry = _lines.Oldest; entry != 0; entry = _lines.Newer(entry))
        {
            if (IsLineOf(entry, group, out ulong of, out int id, out int turn) && of == stamp
                && _lines.Value(entry)[ServerLine.WholeAt] != 0
                && (!found.TryGetValue(id, out (int Turn, ServerLine Line) known) || known.Turn < turn))
            {
                found[id] = (turn, ServerLine.Decode(_lines.Value(entry)));
            }
        }
        return [.. found.Values.Select(static f => f.Line)];
    }

    /// <summary>Adds a line, or puts it in place of that with its number; false when there is no room.</summary>
    internal bool Put(ReadOnlySpan<byte> group, ulong stamp, ServerLine line)
    {
        int last = 0;
        for (uint entry = _lines.Oldest; entry != 0; entry = _lines.Newer(entry))
        {
            if (IsLineOf(entry, group, out ulong of, out int id, out int turn) && of == stamp && id == line.Id)
            {
                last = Math.Max(last, turn);
            }
        }
        byte[] key = LineKey(group, stamp, line.Id, last + 1);
        byte[] value = new byte[line.EncodedBytes];
        line.Encode(value);
        uint hash = SharedTable.HashOf(key);
        uint made = _lines.Add(key, hash, value.Length);
        while (made == 0 && DropUnused())
        {
            made = _lines.Add(key, hash, value.Length);
        }
        if (made == 0)
        {
            return false;
        }
        value.CopyTo(_lines.Value(made));
        WroteMany();
        // Last: a line that a killed worker left half written counts for nothing.
        Volatile.Write(ref _lines.Value(made)[ServerLine.WholeAt], 1);
        Wrote();
        Drop(group, (of, id, turn) => of == stamp && id == line.Id && turn <= last);
        return true;
    }

    internal void Remove(ReadOnlySpan<byte> group, ulong stamp, int id) =>
        Drop(group, (of, i, _) => of == stamp && i == id);

    /// <summary>Makes the group's list this one, and forgets those of other readings of the configuration.</summary>
    internal bool Begin(ReadOnlySpan<byte> group, ulong stamp, IReadOnlyList<ServerLine> lines)
    {
        Drop(group, static (_, _, _) => true);
        foreach (ServerLine line in lines)
        {
            if (!Put(group, stamp, line))
            {
                return false;
            }
        }
        return true;
    }

    private void Drop(ReadOnlySpan<byte> group, Func<ulong, int, int, bool> goes)
    {
        for (uint entry = _lines.Oldest, next; entry != 0; entry = next)
        {
            next = _lines.Newer(entry);
            if (IsLineOf(entry, group, out ulong stamp, out int id, out int turn) && goes(stamp, id, turn))
            {
                _lines.Remove(entry);
            }
        }
    }

    // What each process has of a group: idle connections (the lower half of its word) and places in the queue.

    /// <summary>Says how many idle connections and waiting requests this process has. Its own word: no lock.</summary>
    internal void SetHeld(uint entry, int idle, int queued)
    {
        int index = Owner.Slot - 1;
        if (index < _words)
        {
            uint held = ((uint)Math.Min(queued, ushort.MaxValue) << 16) | (uint)Math.Min(idle, ushort.MaxValue);
            Volatile.Write(ref HeldWords(entry)[index], ((long)Owner.Life << 32) | held);
        }
    }

    /// <summary>The sums over the processes that live.</summary>
    internal (int Idle, int Queued) Held(uint entry)
    {
        Span<long> words = HeldWords(entry);
        int idle = 0, queued = 0;
        for (int i = 0; i < words.Length; i++)
        {
            long word = Volatile.Read(ref words[i]);
            if (word != 0 && Owner.IsLive(i + 1, (uint)(word >> 32)))
            {
                idle += (ushort)word;
                queued += (ushort)(word >> 16);
            }
        }
        return (idle, queued);
    }

    /// <summary>Servers of the group that are in no list any more and still have connections.</summary>
    internal int Zombies(ReadOnlySpan<byte> group, Func<uint, bool> isListed)
    {
        int zombies = 0;
        for (uint entry = _peers.Oldest; entry != 0; entry = _peers.Newer(entry))
        {
            ReadOnlySpan<byte> key = _peers.Key(entry);
            if (key.Length > group.Length + 1 && key[..group.Length].SequenceEqual(group)
                && key[group.Length] is 1 or 2
                && !isListed(entry) && Living(entry).Connections > 0)
            {
                zombies++;
            }
        }
        return zombies;
    }

    private Span<long> HeldWords(uint entry) =>
        MemoryMarshal.Cast<byte, long>(_groups.Value(entry)[Unsafe.SizeOf<GroupRecord>()..])[.._words];
}
