// One response on its way into a cache (or to where `store` keeps it): takes the body piece by piece, writes on
// blocking threads, and puts the file into its place when it is complete. Outlives its request. A disk that fails
// costs the file and a line in the log, nothing else. One loop's thread; pooled.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Told when a writer has done its work.</summary>
internal interface ICacheWriterOwner
{
    /// <summary>Waits until the complete file may go into its place; false when it must not any more.</summary>
    LoopTask<bool> TurnAsync() => new(true);

    /// <summary>The file is in its place, or will never be. The writer's memory goes after this.</summary>
    void Written(CacheWriter writer, bool complete);
}

/// <summary>Writes one file.</summary>
internal sealed class CacheWriter
{
    private static readonly LoopSlot<Pool> s_pool = new();

    /// <summary>So much is collected before it is written, unless the body ends before.</summary>
    private const int PieceBytes = 128 * 1024;
    private const int WaitingBytesMax = 1024 * 1024;

    private readonly CacheWrite _write = new();
    private readonly LoopOperation<Unit> _room = new();
    private EventLoop _loop = null!;
    private ICacheWriterOwner _owner = null!;
    private HttpConfiguration _configuration = null!;
    private BufferChain _waiting = null!;
    private BufferChain _writing = null!;
    private BufferSlab? _headSlab;
    private BufferSlab? _markerSlab;
    private FileRef? _copied;
    private bool _active;
    private bool _ended;
    private bool _whole;
    private CacheWriter? _nextFree;

    private sealed class Pool
    {
        internal CacheWriter? Free;
        internal long Names;
    }

    /// <summary>What the caller knows it by.</summary>
    internal object? State { get; set; }

    /// <summary>Bytes of the body so far.</summary>
    internal long BodyBytes { get; private set; }

    internal BufferSlab? HeadSlab => _headSlab;

    /// <summary>A small body, still in memory when the file is complete.</summary>
    internal BufferChain? SmallBody { get; private set; }

    /// <summary>More waits for the disk than should.</summary>
    internal bool IsFull => _active && _waiting.Length > WaitingBytesMax;

    internal bool HasFailed => _write.Error != 0;

    internal int Error => _write.Error;

    internal string FailedCall => _write.FailedCall;

    internal string Path => _write.Path;

    /// <summary>Begins a file. The configuration stays alive until it is written.</summary>
    internal static CacheWriter Begin(HttpRequest r, ICacheWriterOwner owner, string path, string tempDirectory,
        int bodyStart)
    {
        Pool pool = r.Loop.Slot(s_pool, static _ => new Pool());
        CacheWriter writer = pool.Free ?? new CacheWriter();
        pool.Free = writer._nextFree;
        writer._nextFree = null;
        writer._loop = r.Loop;
        writer._owner = owner;
        writer._configuration = r.Configuration;
        writer._configuration.AddReference();
        writer._waiting = r.Loop.RentChain();
        writer._writing = r.Loop.RentChain();
        writer._write.Renew();
        writer._write.Path = path;
        writer._write.BodyStart = bodyStart;
        writer._write.TempPath = $"{tempDirectory}/{Environment.ProcessId:x}.{r.Loop.GetHashCode():x}.{++pool.Names:x}";
        return writer;
    }

    internal void SetHead(BufferSlab slab, int length)
    {
        _headSlab = slab;
        _write.Head = slab.Memory.Slice(0, length);
    }

    /// <summary>A file that has to be there first.</summary>
    internal void SetMarker(BufferSlab slab, int length, string path)
    {
        _markerSlab = slab;
        _write.Marker = slab.Memory.Slice(0, length);
        _write.MarkerPath = path;
    }

    internal void SetMode(int mode, long modifiedSec)
    {
        _write.Mode = mode;
        _write.ModifiedSec = modifiedSec;
    }

    /// <summary>The body is a range of an open file.</summary>
    internal void CopyBody(FileRef file, long from, long bytes)
    {
        file.AddReference();
        _copied = file;
        _write.CopyFd = file.Fd;
        _write.CopyFrom = from;
        _write.CopyBytes = bytes;
        BodyBytes = bytes;
    }

    /// <summary>Only the head is new, and goes into this file, whatever lies in its place by now.</summary>
    internal void InPlace(FileRef file)
    {
        file.AddReference();
        _copied = file;
        _write.CopyFd = file.Fd;
        _write.InPlace = true;
    }

    /// <summary>Takes bytes of the body, by reference where they have an owner.</summary>
    internal void Append(BufferChain body)
    {
        BodyBytes += body.Length;
        if (HasFailed)
        {
            return;
        }
        for (int i = 0; i < body.Count; i++)
        {
            ref ChainSegment segment = ref body[i];
            if (segment.IsOwned)
            {
                _waiting.AppendShared(ref segment);
            }
            else
            {
                _waiting.Append(segment.Memory.Span);
            }
        }
        if (!_active && _waiting.Length >= PieceBytes)
        {
            PumpAsync().Forget();
        }
    }

    /// <summary>Waits until the disk has caught up.</summary>
    internal LoopTask<Unit> RoomAsync() => IsFull ? _room.Begin() : default;

    /// <summary>The body has ended. When it is whole the file goes into its place.</summary>
    internal void End(bool whole)
    {
        _ended = true;
        _whole = whole;
        if (!_active)
        {
            PumpAsync().Forget();
        }
    }

    private async LoopTask<Unit> PumpAsync()
    {
        _active = true;
        while (_ended || _waiting.Length >= PieceBytes)
        {
            bool last = _ended;
            bool small = last && _write.Fd < 0 && _write.CopyBytes == 0;
            _waiting.MoveTo(_writing);
            if (last && !_whole && _write.Error == 0)
            {
                _write.Error = Errno.ECANCELED;
            }
            if (last && _write.Error == 0 && !await _owner.TurnAsync())
            {
                _write.Error = Errno.ECANCELED;
            }
            _write.Completes = last;
            _write.Chain = _writing;
            if (!(last && _write.Error != 0 && _write.Fd < 0))
            {
                await _loop.Blocking.RunAsync(_write);
            }
            if (last)
            {
                SmallBody = small && _write.Error == 0 ? _writing : null;
                break;
            }
            _writing.Clear();
            if (_room.IsWaiting && !IsFull)
            {
                _room.SetResult(default);
            }
        }
        _active = false;
        if (_ended)
        {
            Finish();
        }
        return default;
    }

    private void Finish()
    {
        if (_room.IsWaiting)
        {
            _room.SetResult(default);
        }
        _owner.Written(this, _write.Error == 0);
        SmallBody = null;
        _headSlab?.Release();
        _headSlab = null;
        _markerSlab?.Release();
        _markerSlab = null;
        _copied?.Release();
        _copied = null;
        _loop.Return(_waiting);
        _loop.Return(_writing);
        _ended = false;
        _whole = false;
        BodyBytes = 0;
        State = null;
        HttpConfiguration configuration = _configuration;
        _configuration = null!;
        _owner = null!;
        Pool pool = _loop.Slot(s_pool, static _ => new Pool());
        _nextFree = pool.Free;
        pool.Free = this;
        configuration.Release();
    }
}
