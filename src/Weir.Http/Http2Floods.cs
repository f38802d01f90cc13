// What a client may do on an HTTP/2 connection that costs more than it is worth: each kind has an allowance that fills
// again with time, and one that is used up ends the connection. Counted per loop as well, for the status. One loop's
// thread; values only.
using System.Runtime.CompilerServices;
using Weir.Loop;

namespace Weir.Http;

/// <summary>Kinds of frames that do no work by themselves.</summary>
internal enum Http2Glitch : byte
{
    /// <summary>Streams given up before they were answered (rapid reset).</summary>
    Reset,
    Ping,
    Settings,
    Priority,
    /// <summary>DATA without data.</summary>
    EmptyData,
    /// <summary>WINDOW_UPDATE beyond what our frames explain.</summary>
    WindowUpdate,
    /// <summary>Frames of unknown types.</summary>
    Unknown,
    /// <summary>Streams that were refused or malformed.</summary>
    BadStream,
    /// <summary>Header blocks that were too large or came in too many pieces.</summary>
    HeaderBlock,
    /// <summary>Connections that were ended for a violation of the protocol.</summary>
    Violation,
}

/// <summary>The sums of one loop.</summary>
internal sealed class Http2Counts
{
    internal const int KindCount = (int)Http2Glitch.Violation + 1;

    private static readonly LoopSlot<Http2Counts> s_slot = new();

    internal long[] Glitches { get; } = new long[KindCount];
    internal long Connections { get; set; }
    internal long Streams { get; set; }

    /// <summary>Connections that were ended because of a flood.</summary>
    internal long Floods { get; set; }

    /// <summary>A kind's name, in the status and in logs.</summary>
    internal static ReadOnlySpan<byte> Name(Http2Glitch kind) => kind switch
    {
        Http2Glitch.Reset => "reset"u8,
        Http2Glitch.Ping => "ping"u8,
        Http2Glitch.Settings => "settings"u8,
        Http2Glitch.Priority => "priority"u8,
        Http2Glitch.EmptyData => "empty_data"u8,
        Http2Glitch.WindowUpdate => "window_update"u8,
        Http2Glitch.Unknown => "unknown"u8,
        Http2Glitch.BadStream => "bad_stream"u8,
        Http2Glitch.HeaderBlock => "header_block"u8,
        _ => "violation"u8,
    };

    /// <summary>The counts as the members of a JSON object.</summary>
    internal void Write(ref SpanWriter w)
    {
        w.Write("\"connections\":"u8);
        w.Number(Connections);
        w.Write(",\"streams\":"u8);
        w.Number(Streams);
        w.Write(",\"floods\":"u8);
        w.Number(Floods);
        w.Write(",\"glitches\":{"u8);
        for (int i = 0; i < KindCount; i++)
        {
            w.Write(i == 0 ? "\""u8 : ",\""u8);
            w.Write(Name((Http2Glitch)i));
            w.Write("\":"u8);
            w.Number(Glitches[i]);
        }
        w.Write("}"u8);
    }

    internal static Http2Counts Of(EventLoop loop) => loop.Slot(s_slot, static _ => new Http2Counts());
}

/// <summary>The allowances of one connection.</summary>
internal struct Http2Floods
{
    /// <summary>How long it takes until a used-up allowance is whole again.</summary>
    private const int RefillMs = 10_000;

    [InlineArray(Http2Counts.KindCount)]
    private struct Used
    {
        private int _first;
    }

    private Used _used;
    private long _sinceMs;

    /// <summary>How many of a kind a client may send in <see cref="RefillMs"/>.</summary>
    internal static int Allowance(Http2Glitch kind) => kind switch
    {
        Http2Glitch.Reset => 200,
        Http2Glitch.Ping => 500,
        Http2Glitch.Settings => 100,
        Http2Glitch.Priority => 1000,
        Http2Glitch.EmptyData => 200,
        Http2Glitch.WindowUpdate => 2000,
        Http2Glitch.BadStream => 100,
        _ => 500,
    };

    /// <summary>One more. False when that is too many.</summary>
    internal bool Note(Http2Glitch kind, long nowMs, int allowed)
    {
        if (nowMs - _sinceMs >= RefillMs)
        {
            _used = default;
            _sinceMs = nowMs;
        }
        return ++_used[(int)kind] <= allowed;
    }
}

/// <summary>Streams that were reset from this side, about which frames may still be on their way.</summary>
internal struct Http2RecentResets
{
    private const int CountMax = 64;

    // There is none until something is reset, which few connections see.
    private uint[]? _ids;
    private int _count;

    internal void Add(uint id)
    {
        _ids ??= new uint[CountMax];
        _ids[_count++ % CountMax] = id;
    }

    /// <summary>The client may not have heard yet that the stream is reset. When there were more than are remembered
    /// that is assumed of any.</summary>
    internal readonly bool Contains(uint id) => _count > CountMax || Remembers(id);

    /// <summary>It is one of the last that were reset.</summary>
    internal readonly bool Remembers(uint id) => _ids.AsSpan(0, Math.Min(_count, CountMax)).Contains(id);
}

/// <summary>Numbers that a client passed over: it may never use them (RFC 9113 §5.1.1), and using one is told from
/// speaking of a stream that was closed.</summary>
internal struct Http2SkippedNumbers
{
    private const int CountMax = 8;

    private (uint From, uint To)[]? _gaps;
    private int _count;

    internal void Add(uint from, uint to) => (_gaps ??= new (uint, uint)[CountMax])[_count++ % CountMax] = (from, to);

    internal readonly bool Contains(uint id)
    {
        foreach ((uint from, uint to) in _gaps.AsSpan())
        {
            if (id >= from && id <= to)
            {
                return true;
            }
        }
        return false;
    }
}
