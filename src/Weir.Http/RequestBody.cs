// The body of a request: read as a stream of pieces, collected in memory and beyond client_body_buffer_size in a spill
// file, or discarded. One per request, reused. The bytes come decoded from the client stream.
using Weir.Http.Modules;
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Http;

/// <summary>A request's body.</summary>
public sealed class RequestBody
{
    private readonly HttpRequest _request;
    private BufferChain? _memory;
    private FileRef? _file;
    private SpillWrite? _spill;
    private long _fileBytes;
    private byte[] _trailers = [];
    private int _trailerBytes;

    internal RequestBody(HttpRequest request) => _request = request;

    /// <summary>All of it has been read from the client (or there is none).</summary>
    public bool IsComplete { get; private set; }

    /// <summary>It was collected by <see cref="CollectAsync"/>.</summary>
    public bool IsCollected { get; private set; }

    /// <summary>It is being thrown away.</summary>
    public bool IsDiscarding { get; private set; }

    /// <summary>Bytes read so far, decoded.</summary>
    public long Bytes { get; private set; }

    /// <summary>Whether trailer lines after a chunked body are kept; they are dropped unless somebody set this before
    /// the end was read.</summary>
    public bool KeepsTrailers { get; set; }

    /// <summary>The trailer lines as they came, with their line ends.</summary>
    public ReadOnlySpan<byte> TrailerLines => _trailers.AsSpan(0, _trailerBytes);

    /// <summary>Whether the head announces one.</summary>
    public bool IsExpected => _request.IsMain && _request.Head.HasBody;

    /// <summary>The spill file, or -1.</summary>
    public int SpillDescriptor => _file?.Fd ?? -1;

    /// <summary>Its name while it exists under one; null for an unnamed one.</summary>
    public string? SpillPath { get; private set; }

    /// <summary>The collected part that is in memory.</summary>
    public BufferChain? Memory => _memory;

    /// <summary>Reads the next piece. The caller releases it.</summary>
    public async LoopTask<BodyPiece> ReadAsync()
    {
        if (IsComplete || !IsExpected)
        {
            IsComplete = true;
            return new BodyPiece(default, 0, 0, true, 0);
        }
        BodyPiece piece = await _request.Stream.ReadBodyAsync(_request);
        if (piece.Status != 0)
        {
            _request.KeepAlive = false;
            return piece;
        }
        Bytes += piece.Length;
        if (_request.Location.MaxBodyBytes > 0 && Bytes > _request.Location.MaxBodyBytes)
        {
            piece.Release();
            _request.KeepAlive = false;
            _request.LogError(LogLevel.Error, $"client intended to send too large chunked body: {Bytes} bytes");
            return new BodyPiece(default, 0, 0, false, 413);
        }
        IsComplete = piece.IsLast;
        return piece;
    }

    /// <summary>Reads all of it, to memory and beyond the buffer to a file. Returns 0 or the status to answer
    /// with.</summary>
    public LoopTask<int> CollectAsync()
    {
        if (IsCollected || !IsExpected)
        {
            IsCollected = true;
            IsComplete = true;
            return new LoopTask<int>(0);
        }
        return CollectSlowAsync();
    }

    private async LoopTask<int> CollectSlowAsync()
    {
        _memory ??= _request.Loop.RentChain();
        int limit = _request.Location.ClientBodyBufferSize;
        if (_request.Head.ContentLength > limit && _request.Head.ContentLength < limit + limit / 4)
        {
            // As nginx: a body that is not much longer than its buffer is spared the file.
            limit = (int)_request.Head.ContentLength;
        }
        while (!IsComplete)
        {
            BodyPiece piece = await ReadAsync();
            if (piece.Status != 0)
            {
                return piece.Status;
            }
            if (piece.Length > 0)
            {
                if (piece.Length <= 2048)
                {
                    _memory.Append(piece.Span);
                }
                else
                {
                    _memory.AppendSlice(piece.Memory, piece.Lease.Slab);
                }
            }
            piece.Release();
            if ((_memory.Length > limit || _file is not null) && _memory.Length >= Math.Min(limit, 65536))
            {
                int status = await SpillAsync();
                if (status != 0)
                {
                    return status;
                }
            }
        }
        if ((_file is not null || _request.Location.ClientBodyInFileOnly.Value != 0) && _memory.Length > 0)
        {
            int status = await SpillAsync();
            if (status != 0)
            {
                return status;
            }
        }
        IsCollected = true;
        return 0;
    }

    /// <summary>Appends the collected body to a chain (memory by reference, the file as a slice).</summary>
    public void AppendTo(BufferChain chain)
    {
        if (_file is not null)
        {
            chain.AppendFile(_file, 0, _fileBytes);
        }
        for (int i = 0; _memory is not null && i < _memory.Count; i++)
        {
            ref ChainSegment item = ref _memory[i];
            chain.AppendShared(ref item);
        }
    }

    private bool _isNameRemoved;

    private async LoopTask<int> SpillAsync()
    {
        if (_file is null)
        {
            string directory = _request.Location.ClientBodyTempPath.Value;
            const int stays = 1;
            int inFileOnly = _request.Location.ClientBodyInFileOnly.Value;
            _isNameRemoved = inFileOnly != stays;
            bool isNamed = inFileOnly != 0
                || _request.Configuration.Variables.IsUsed(VariablesModule.RequestBodyFile);
            SysResult fd = SpillFile.Create(directory, isNamed, out string? path);
            if (fd.IsError)
            {
                _request.LogError(LogLevel.Crit, $"open() \"{directory}\" failed", fd.Errno);
                return 500;
            }
            SpillPath = path;
            _file = FileRef.Own(fd.Int);
            if (_request.Log.Enabled(LogLevel.Warn))
            {
                _request.LogError(LogLevel.Warn,
                    $"a client request body is buffered to a temporary file {path ?? directory}");
            }
        }
        _spill ??= new SpillWrite();
        _spill.Start(_file.Fd, _fileBytes, _memory!);
        await _request.Loop.Blocking.RunAsync(_spill);
        if (_spill.Error != 0)
        {
            _request.LogError(LogLevel.Crit, "pwrite() to a temporary file failed", _spill.Error);
            return 500;
        }
        _fileBytes += _spill.Bytes;
        _memory!.Clear();
        return 0;
    }

    /// <summary>A piece of trailer lines; their size is bounded by who decodes them.</summary>
    internal void AddTrailers(ReadOnlySpan<byte> piece)
    {
        if (!KeepsTrailers || piece.IsEmpty)
        {
            return;
        }
        if (_trailerBytes + piece.Length > _trailers.Length)
        {
            Array.Resize(ref _trailers, Math.Max(256, (_trailerBytes + piece.Length) * 2));
        }
        piece.CopyTo(_trailers.AsSpan(_trailerBytes));
        _trailerBytes += piece.Length;
    }

    internal void StartDiscarding() => IsDiscarding = true;

    internal void Reset()
    {
        if (_memory is not null)
        {
            _request.Loop.Return(_memory);
            _memory = null;
        }
        if (_file is not null)
        {
            if (SpillPath is not null && _isNameRemoved)
            {
                Sys.Unlink(SpillPath);
            }
            _file.Release();
            _file = null;
        }
        SpillPath = null;
        _fileBytes = 0;
        Bytes = 0;
        _trailerBytes = 0;
        KeepsTrailers = false;
        IsComplete = false;
        IsCollected = false;
        IsDiscarding = false;
    }
}

/// <summary>Temporary files for bodies.</summary>
public static class SpillFile
{
    private const int TmpFileAttempts = 8;

    /// <summary>Creates a file that is gone when it is closed, or (with <paramref name="keepName"/>) one with a
    /// name.</summary>
    public static SysResult Create(string directory, bool keepName, out string? path)
    {
        path = null;
        if (!keepName)
        {
            SysResult unnamed = Sys.Open(directory, Sys.O_TMPFILE | Sys.O_RDWR, 0x180);
            if (unnamed.IsOk || unnamed.Errno is not (Errno.EOPNOTSUPP or Errno.EISDIR or Errno.EINVAL))
            {
                return unnamed;
            }
        }
        SysResult result = SysResult.Error(Errno.EEXIST);
        Span<byte> random = stackalloc byte[8];
        for (int i = 0; i < TmpFileAttempts && result.IsError && result.Errno == Errno.EEXIST; i++)
        {
            Sys.Random(random);
            path = $"{directory}/{Convert.ToHexStringLower(random)}";
            result = Sys.Open(path, Sys.O_CREAT | Sys.O_EXCL | Sys.O_RDWR, 0x180);
        }
        if (result.IsOk && !keepName)
        {
            Sys.Unlink(path!);
            path = null;
        }
        return result;
    }
}

/// <summary>Writes a chain's memory to a file on a blocking thread. The chain is not touched meanwhile.</summary>
public sealed class SpillWrite : BlockingOperation
{
    private int _fd;
    private long _offset;
    private BufferChain _chain = null!;

    public int Error { get; private set; }
    public long Bytes { get; private set; }

    public void Start(int fd, long offset, BufferChain chain)
    {
        _fd = fd;
        _offset = offset;
        _chain = chain;
        Error = 0;
        Bytes = 0;
    }

    protected override void Work()
    {
        for (int i = 0; i < _chain.Count; i++)
        {
            ref ChainSegment item = ref _chain[i];
            NativeSlice rest = item.Memory;
            while (rest.Length > 0)
            {
                SysResult n = Sys.WriteAt(_fd, rest, _offset + Bytes);
                if (n.IsError)
                {
                    if (n.Errno == Errno.EINTR)
                    {
                        continue;
                    }
                    Error = n.Errno;
                    return;
                }
                Bytes += n.Value;
                rest = rest.Slice(n.Int);
            }
        }
    }
}
