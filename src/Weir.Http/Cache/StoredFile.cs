// proxy_store and fastcgi_store: whole answers are kept as plain files where the location (or a text) says, for a
// static location to serve. Written under another name and renamed when complete; a truncated answer leaves nothing.
// The file's time is the answer's Last-Modified. One loop's thread; pooled with its request.
using System.Text;
using Weir.Http.Modules;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Cache;

/// <summary>Watches an answer that is to be kept as a file.</summary>
internal sealed class StoredFile : AnswerTee
{
    internal static readonly RequestSlot<StoredFile> Slot = new();

    private Template? _path;
    private int _mode;
    private CacheWriter? _writer;
    private Exchange _x = null!;
    private bool _headSeen;

    /// <summary>Watches this exchange.</summary>
    /// <param name="x">Begun, not running yet.</param>
    /// <param name="settings">Where `store` is on.</param>
    internal static void Watch(Exchange x, CacheSettings settings)
    {
        StoredFile tee = x.Request.Get(Slot);
        tee._x = x;
        tee._path = settings.Store.Value!;
        tee._mode = settings.StoreMode.Value;
        x.Tee = tee;
    }

    public override bool GoesOnAlone => !_headSeen || _writer is { HasFailed: false };

    public override bool IsFull => _writer is { IsFull: true };

    public override LoopTask<Unit> RoomAsync() => _writer?.RoomAsync() ?? default;

    public override bool TakesOver(Exchange x) => false;

    public override void OnHead(Exchange x)
    {
        _headSeen = true;
        HttpRequest r = x.Request;
        if (x.Head.Status != 200 || r.Method == HttpMethod.Head)
        {
            return;
        }
        NativeSlice path;
        if (_path!.IsConstant && _path.Constant.IsEmpty)
        {
            if (!FilePaths.TryMap(r, default, out path, out _))
            {
                return;
            }
        }
        else
        {
            path = _path.Evaluate(r);
        }
        string file = Encoding.UTF8.GetString(path.Span);
        if (file.Length == 0 || file.EndsWith('/'))
        {
            return;
        }
        int modified = x.Head.Find(KnownResponseHeader.LastModified);
        long seconds = modified >= 0 && HttpDate.TryParse(AnswerHead.ValueOf(x, in x.Head[modified]).Span, out long s)
            ? s : -1;
        _writer = CacheWriter.Begin(r, new Owner(r.Log), file, x.Settings.TempPath.Value, 0);
        _writer.SetMode(_mode, seconds);
    }

    public override void OnBody(BufferChain body) => _writer?.Append(body);

    public override void OnEnd(bool whole)
    {
        if (_writer is { } writer)
        {
            _writer = null;
            long length = _x.Protocol.BodyLength(_x);
            writer.End(whole && (length < 0 || length == writer.BodyBytes));
        }
    }

    protected internal override void Reset()
    {
        CacheWriter? writer = _writer;
        _writer = null;
        writer?.End(whole: false);
        _path = null;
        _headSeen = false;
    }

    /// <summary>Says what went wrong, when the request may be long gone.</summary>
    private sealed class Owner(Log log) : ICacheWriterOwner
    {
        public void Written(CacheWriter writer, bool complete)
        {
            if (!complete && writer.Error != Errno.ECANCELED && log.Enabled(LogLevel.Crit))
            {
                log.Write(LogLevel.Crit, $"{writer.FailedCall} of \"{writer.Path}\" failed", writer.Error);
            }
        }
    }
}
