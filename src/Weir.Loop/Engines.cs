// Which engine a loop gets: the one that is asked for, or io_uring where this kernel and this process may use it, else
// epoll. Called on the thread that runs the loop.
namespace Weir.Loop;

/// <summary>The choice of an engine, as nginx's <c>use</c> directive makes it.</summary>
public static class Engines
{
    public const string IoUring = "io_uring";
    public const string Epoll = "epoll";

    /// <summary>Opens the engine of this name; of none, the best there is. Null with an error when the one that is
    /// asked for cannot be had.</summary>
    /// <param name="name">"io_uring", "epoll", "portable", or empty.</param>
    /// <param name="note">What the log should say: which engine, and why not a better one. Or the error.</param>
    public static EventLoop? Open(string name, out string note)
    {
        if (name == Epoll)
        {
            note = "using the \"epoll\" event method";
            return new EpollLoop();
        }
        if (name == PortableLoop.Name)
        {
            note = "using the \"portable\" event method";
            return new PortableLoop();
        }
        if (UringLoop.TryCreate(out string reason) is { } ring)
        {
            note = "using the \"io_uring\" event method";
            return ring;
        }
        if (name == IoUring)
        {
            note = $"\"use io_uring\" is impossible: {reason}";
            return null;
        }
        note = $"using the \"epoll\" event method: {reason}";
        return new EpollLoop();
    }
}
