// Subrequests: an HttpRequest with a parent that walks the phases on its own and whose answer stays inside
// (auth_request, mirror). It shares the main request's head and sees the values of its parent's variables; what it
// assigns is the parent's afterwards, as in nginx. Its memory is its own: what outlives it is copied. One loop's
// thread; rented.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http;

/// <summary>Starts and ends subrequests.</summary>
public static class SubRequest
{
    private static readonly LoopSlot<LoopPool<HttpRequest>> s_pool = new();

    private static LoopPool<HttpRequest> PoolOf(EventLoop loop) =>
        loop.Slot(s_pool, static loop => new LoopPool<HttpRequest>(loop, "subrequests", RequestStatePool.Max));

    /// <summary>A subrequest for a URI, ready to run; null (and a line in the error log) when there are too many below
    /// each other. Whoever starts it awaits <see cref="RunAsync"/> and then ends it.</summary>
    public static HttpRequest? Start(HttpRequest parent, NativeSlice uri, NativeSlice args)
    {
        if (parent.SubrequestsLeft == 0)
        {
            parent.LogError(LogLevel.Error, $"subrequests cycle while processing \"{uri}\"");
            return null;
        }
        HttpRequest r = PoolOf(parent.Loop).TryTake() ?? new HttpRequest();
        r.BeginSub(parent, r.SubStream ??= new SubRequestStream(), uri, args);
        return r;
    }

    /// <summary>Runs a subrequest to the end of its answer.</summary>
    public static LoopTask<Unit> RunAsync(HttpRequest sub) => sub.RunAsync();

    /// <summary>Logs it where log_subrequest is on, gives its assignments to the parent and its memory back.</summary>
    /// <param name="sub">What <see cref="Start"/> gave.</param>
    /// <param name="keepsVariables">False where the parent went on meanwhile and its own values are newer.</param>
    public static void End(HttpRequest sub, bool keepsVariables = true)
    {
        Finish(sub, keepsVariables);
        Release(sub);
    }

    /// <summary>The first half of <see cref="End"/>: its answer is complete.</summary>
    internal static void Finish(HttpRequest sub, bool keepsVariables = true)
    {
        if (sub.Location.LogSubrequest.Value)
        {
            foreach (LogHandler handler in sub.Configuration.LogHandlers)
            {
                handler.OnLog(sub);
            }
        }
        if (keepsVariables)
        {
            sub.ShareVariables(sub.Parent!);
        }
    }

    /// <summary>The other half: nothing of its memory is on its way any more.</summary>
    internal static void Release(HttpRequest sub)
    {
        LoopPool<HttpRequest> pool = PoolOf(sub.Loop);
        sub.End();
        sub.Forget();
        pool.Return(sub);
    }
}

/// <summary>The way of a subrequest's answer: nowhere, or into its place in the parent's body. The head stays readable
/// in the request.</summary>
internal sealed class SubRequestStream : ClientStream
{
    private HttpRequest _parent = null!;
    private BodySink? _sink;
    private bool _isDetached;

    internal void Start(HttpRequest parent)
    {
        _parent = parent;
        _sink = null;
        _isDetached = false;
    }

    /// <summary>It goes on without the client.</summary>
    internal void Detach() => _isDetached = true;

    /// <summary>What it answers is wanted, there.</summary>
    internal void Fill(BodySink sink) => _sink = sink;

    internal bool IsWanted => _sink is not null;

    public override void WriteHead(HttpRequest r)
    {
    }

    public override void WriteBody(HttpRequest r, BufferChain chain, PushFlags flags)
    {
        r.BodyBytesSent += chain.Length;
        r.WireBodyBytes += chain.Length;
        if (_sink is not null && _parent.Aborted == AbortReason.None)
        {
            _sink.Write(chain);
        }
        chain.Clear();
    }

    public override void WriteInterim(HttpRequest r, int status, ReadOnlySpan<ResponseField> fields)
    {
    }

    public override LoopTask<bool> DrainAsync(HttpRequest r, long keptBytes) =>
        _sink is null || !Flush(r) ? new(Flush(r)) : _sink.DrainAsync(keptBytes);

    public override bool Flush(HttpRequest r) =>
        r.Aborted == AbortReason.None && (_isDetached || _parent.Aborted == AbortReason.None);

    public override long UnsentBytes => _sink?.UnsentBytes ?? 0;

    public override LoopTask<BodyPiece> ReadBodyAsync(HttpRequest r) => new(new BodyPiece(default, 0, 0, true, 0));

    public override LoopTask<RecvLease> ReadTunnelAsync(HttpRequest r) => new(RecvLease.End);

    public override void Abort(HttpRequest r)
    {
    }

    public override Connection Transport => _parent.Connection;

    public override IPeerWatcher? Watcher
    {
        get => _parent.Stream.Watcher;
        set => _parent.Stream.Watcher = value;
    }

    public override bool IsClientGone => _parent.Stream.IsClientGone;

    public override void CancelRead() => _parent.Stream.CancelRead();
}
