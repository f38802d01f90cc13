// The streams of an engine that were closed: free for the next descriptor at the end of the turn's dispatch, not while
// callers may still look, and not before whoever waited on one has taken its result. One loop's thread.
using System.Runtime.CompilerServices;

namespace Weir.Loop;

/// <summary>Closed and free streams of one engine.</summary>
internal sealed class ClosedStreams<T>(EventLoop loop) where T : SocketStream
{
    private readonly LoopPool<T> _free = new(loop, "streams");
    private SocketStream? _closed;

    /// <summary>A free one, or null.</summary>
    internal T? TryTake() => _free.TryTake();

    /// <summary>It is closed, and no operation of the kernel is under way on it.</summary>
    internal void Return(T stream)
    {
        stream.NextClosed = _closed;
        _closed = stream;
    }

    /// <summary>The turn's dispatch is over.</summary>
    internal void Recycle()
    {
        SocketStream? next = _closed;
        if (next is null)
        {
            return;
        }
        _closed = null;
        while (next is { } stream)
        {
            next = stream.NextClosed;
            if (stream.IsQuiet)
            {
                stream.NextClosed = null;
                _free.Return(Unsafe.As<T>(stream));
            }
            else
            {
                // A result that nobody has taken yet: it may take a turn more.
                stream.NextClosed = _closed;
                _closed = stream;
            }
        }
    }
}
