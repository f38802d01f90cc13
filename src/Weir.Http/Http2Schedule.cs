// Which stream of a connection sends next (RFC 9218): by urgency; within one, streams whose response is worth something
// only as a whole go one after the other in the order they were asked for, and those that are of use piece by piece
// take turns. Holds streams that could send at once; one connection's, one loop's thread; owns nothing.
using System.Numerics;
using Weir.Protocol.Http2;

namespace Weir.Http;

/// <summary>The streams of a connection that have something to send and a window to send it into.</summary>
internal sealed class Http2Schedule
{
    private const int UrgencyCount = 8;

    private struct Line
    {
        internal Http2Stream? First;
        internal Http2Stream? Last;
    }

    // For each urgency the line of those that go one after the other, then the round of those that take turns.
    private readonly Line[] _lines = new Line[UrgencyCount * 2];
    private uint _occupied;
    private bool _roundIsNext;

    internal bool IsEmpty => _occupied == 0;

    internal void Add(Http2Stream stream)
    {
        if (stream.Line >= 0)
        {
            return;
        }
        int index = stream.Urgency * 2 + (stream.TakesTurns ? 1 : 0);
        stream.Line = index;
        ref Line line = ref _lines[index];
        Http2Stream? before = line.Last;
        if (!stream.TakesTurns)
        {
            // Nearly always the newest; one that waited for its window goes back to its place.
            while (before is not null && before.Id > stream.Id)
            {
                before = before.PreviousInLine;
            }
        }
        Insert(ref line, before, stream);
        _occupied |= 1u << index;
    }

    private static void Insert(ref Line line, Http2Stream? before, Http2Stream stream)
    {
        Http2Stream? after = before is null ? line.First : before.NextInLine;
        stream.PreviousInLine = before;
        stream.NextInLine = after;
        if (before is null)
        {
            line.First = stream;
        }
        else
        {
            before.NextInLine = stream;
        }
        if (after is null)
        {
            line.Last = stream;
        }
        else
        {
            after.PreviousInLine = stream;
        }
    }

    internal void Remove(Http2Stream stream)
    {
        int index = stream.Line;
        if (index < 0)
        {
            return;
        }
        stream.Line = -1;
        ref Line line = ref _lines[index];
        if (stream.PreviousInLine is { } previous)
        {
            previous.NextInLine = stream.NextInLine;
        }
        else
        {
            line.First = stream.NextInLine;
        }
        if (stream.NextInLine is { } next)
        {
            next.PreviousInLine = stream.PreviousInLine;
        }
        else
        {
            line.Last = stream.PreviousInLine;
        }
        stream.NextInLine = null;
        stream.PreviousInLine = null;
        if (line.First is null)
        {
            _occupied &= ~(1u << index);
        }
    }

    /// <summary>Who sends a frame now; null for nobody. Where both kinds wait at the same urgency they alternate, so
    /// that neither starves.</summary>
    internal Http2Stream? Next()
    {
        if (_occupied == 0)
        {
            return null;
        }
        int index = BitOperations.TrailingZeroCount(_occupied) & ~1;
        uint both = _occupied >> index & 3;
        bool round = both == 2;
        if (both == 3)
        {
            round = _roundIsNext;
            _roundIsNext = !_roundIsNext;
        }
        return _lines[index + (round ? 1 : 0)].First;
    }

    /// <summary>It has sent a frame and has more: where turns are taken, the others come first.</summary>
    internal void Turn(Http2Stream stream)
    {
        if (stream.Line >= 0 && stream.NextInLine is not null && (stream.Line & 1) != 0)
        {
            Remove(stream);
            Add(stream);
        }
    }
}

/// <summary>Priorities of streams that have not begun yet (RFC 9218 §7.1): the last few.</summary>
internal sealed class Http2EarlyPriorities
{
    private const int CountMax = 16;

    private readonly (uint Id, StreamPriority Priority)[] _items = new (uint, StreamPriority)[CountMax];
    private int _count;

    internal void Add(uint id, StreamPriority priority) => _items[_count++ % CountMax] = (id, priority);

    /// <summary>What was said of a stream that begins replaces what its head says.</summary>
    internal void Take(uint id, ref StreamPriority priority)
    {
        foreach (ref (uint Id, StreamPriority Priority) item in _items.AsSpan())
        {
            if (item.Id == id)
            {
                priority = item.Priority;
                item.Id = 0;
            }
        }
    }
}

/// <summary>What a connection needs only while it has streams; of a loop's connections most rest.</summary>
internal sealed class Http2Work
{
    internal Http2Schedule Schedule { get; } = new();
    internal Http2StreamTable Streams { get; } = new();
    internal Http2Work? Next { get; set; }
}

/// <summary>The streams of a connection by their numbers.</summary>
internal sealed class Http2StreamTable
{
    private const int Mask = 63;

    private readonly Http2Stream?[] _places = new Http2Stream?[Mask + 1];

    internal Http2Stream? Find(uint id)
    {
        Http2Stream? stream = _places[PlaceOf(id)];
        while (stream is not null && stream.Id != id)
        {
            stream = stream.NextInTable;
        }
        return stream;
    }

    internal void Add(Http2Stream stream)
    {
        ref Http2Stream? place = ref _places[PlaceOf(stream.Id)];
        stream.NextInTable = place;
        place = stream;
    }

    internal void Remove(Http2Stream stream)
    {
        ref Http2Stream? place = ref _places[PlaceOf(stream.Id)];
        while (place != stream)
        {
            place = ref place!.NextInTable;
        }
        place = stream.NextInTable;
        stream.NextInTable = null;
    }

    internal Http2Stream? First => FirstFrom(0);

    internal Http2Stream? After(Http2Stream stream) => stream.NextInTable ?? FirstFrom(PlaceOf(stream.Id) + 1);

    private Http2Stream? FirstFrom(int place)
    {
        while (place <= Mask)
        {
            if (_places[place++] is { } stream)
            {
                return stream;
            }
        }
        return null;
    }

    private static int PlaceOf(uint id) => (int)(id >> 1) & Mask;
}
