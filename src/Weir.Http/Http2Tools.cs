// What an HTTP/2 connection needs while its client is awake and not while it is silent: the compression of its answers,
// the waits of its tasks, its place in the loop's ready list. Rented by drivers, given back when a connection rests.
// One loop's thread.
using Weir.Loop;
using Weir.Protocol.Http2;

namespace Weir.Http;

/// <summary>The tools of one connection that is awake.</summary>
internal sealed class Http2Tools
{
    internal Http2Tools() => Flush = FlushNow;

    internal Http2Driver? Driver { get; set; }
    internal HpackEncoder Encoder { get; } = new();
    internal LoopOperation<Unit> LastEnded { get; } = new();
    internal LoopOperation<Unit> Room { get; } = new();
    internal Action Flush { get; }
    internal Http2Tools? Next { get; set; }

    private void FlushNow() => Driver?.FlushNow();
}

/// <summary>What remains of them in a connection that rests: what its client allows for the table, and that its own
/// table has to be told to begin anew.</summary>
internal struct Http2Rest
{
    private uint _tableAllowed;
    private bool _owesUpdate;

    internal static Http2Rest New => new() { _tableAllowed = Http2Limits.TableSizeDefault };

    /// <summary>The client's SETTINGS_HEADER_TABLE_SIZE.</summary>
    internal void Allow(uint bytes) => _tableAllowed = bytes;

    internal void Keep(Http2Tools tools) => _owesUpdate = !tools.Encoder.IsUntouched;

    internal readonly void Hand(Http2Tools tools) => tools.Encoder.Restart(_tableAllowed, _owesUpdate);
}
