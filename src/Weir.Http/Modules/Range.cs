// Range and If-Range: 206 with one part or several, 416, Accept-Ranges. Works on chains, so that a file's slices reach
// the kernel untouched. max_ranges is a core setting. State of a request: RangeFilter, rented with the response.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class RangeModule : HttpModule
{
    public override string Name => "http_range_filter";

    public override void Declare(HttpDeclarations d)
    {
    }

    public override void InstallLocation(LocationInstall install)
    {
        int rangesMax = install.Location.MaxRanges.Value;
        if (rangesMax > 0)
        {
            install.AddFilter(FilterPlace.Range, install.Shared(rangesMax, static max => new RangeHeadFilter(max)));
        }
    }
}

internal sealed class RangeHeadFilter(int rangesMax) : HeadFilter
{
    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (r.Version < 10 || head.Status != 200 || !r.IsMain || head.ContentLength < 0 || !head.AllowRanges)
        {
            return;
        }
        NativeSlice range = r.Header(KnownHeader.Range);
        if (range.Length >= 7 && HeaderName.Same(range.Span[..6], "bytes="u8) && IfRangeHolds(r, head))
        {
            RangeFilter filter = r.Get(RangeFilter.Slot);
            switch (filter.Parse(range.Span, head.ContentLength, head.SingleRange ? 1 : rangesMax))
            {
                case RangeOutcome.Unsatisfiable:
                    Refuse(r, head);
                    return;
                case RangeOutcome.Single:
                    head.Status = 206;
                    head.StatusText = default;
                    filter.StartSingle(r);
                    return;
                case RangeOutcome.Multi:
                    head.Status = 206;
                    head.StatusText = default;
                    filter.StartMultiple(r);
                    return;
            }
        }
        head.Add(NativeSlice.Literal("Accept-Ranges"u8), NativeSlice.Literal("bytes"u8),
            KnownResponseHeader.AcceptRanges);
    }

    private static bool IfRangeHolds(HttpRequest r, ResponseHead head)
    {
        NativeSlice condition = r.Header(KnownHeader.IfRange);
        if (condition.IsEmpty)
        {
            return true;
        }
        ReadOnlySpan<byte> value = condition.Span;
        if (value.Length >= 2 && value[^1] == '"')
        {
            return value.SequenceEqual(head.Value(KnownResponseHeader.ETag).Span);
        }
        return head.LastModified >= 0 && HttpDate.TryParse(value, out long time) && time == head.LastModified;
    }

    private static void Refuse(HttpRequest r, ResponseHead head)
    {
        Span<byte> text = stackalloc byte[32];
        var w = new SpanWriter(text);
        w.Write("bytes */"u8);
        w.Number(head.ContentLength);
        head.Add(NativeSlice.Literal("Content-Range"u8), r.Arena.Store(text[..w.Written]),
            KnownResponseHeader.ContentRange);
        r.RefuseHead(416);
    }
}

/// <summary>Keeps of a body what was asked for.</summary>
internal sealed class RangeFilter : BodyFilter
{
    internal static readonly RequestSlot<RangeFilter> Slot = new();
    private static readonly LoopSlot<BoundaryCounter> s_counter = new();

    private const int PartTextMax = 70;

    private ByteRange[] _ranges = new ByteRange[16];
    private NativeSlice _partHead;
    private NativeSlice _end;
    private long _length;
    private long _offset;
    private bool _isActive;
    private bool _isDone;

    private sealed class BoundaryCounter
    {
        internal long Last;
    }

    public override bool NeedsBytes => false;

    /// <summary>Ranges in force; 0 when the whole body is sent.</summary>
    internal int Count { get; private set; }

    internal ByteRange this[int index] => _ranges[index];

    /// <summary>What a producer may restrict itself to: it then pushes only [From, End) after
    /// <see cref="SkipTo"/>.</summary>
    internal bool IsSingle => _isActive && Count == 1;

    internal bool IsMultiple => _isActive && Count > 1;

    internal RangeOutcome Parse(ReadOnlySpan<byte> value, long length, int rangesMax)
    {
        _length = length;
        int most = Math.Min(value.Count((byte)',') + 1, rangesMax);
        if (most > _ranges.Length)
        {
            _ranges = new ByteRange[most];
        }
        RangeOutcome outcome = RangeHeader.Parse(value, length, _ranges.AsSpan(0, most), out int count);
        Count = outcome is RangeOutcome.Single or RangeOutcome.Multi ? count : 0;
        return outcome;
    }

    internal void StartSingle(HttpRequest r)
    {
        _isActive = true;
        Span<byte> text = stackalloc byte[PartTextMax];
        var w = new SpanWriter(text);
        w.Write("bytes "u8);
        WriteRange(ref w, _ranges[0]);
        ResponseHead head = r.Response;
        _offset = head.ContentOffset;
        head.ContentOffset = _ranges[0].Start;
        head.Add(NativeSlice.Literal("Content-Range"u8), r.Arena.Store(text[..w.Written]),
            KnownResponseHeader.ContentRange);
        head.ContentLength = _ranges[0].Length;
        r.AddBodyFilter(this);
    }

    internal void StartMultiple(HttpRequest r)
    {
        _isActive = true;
        ResponseHead head = r.Response;
        BoundaryCounter counter = r.Loop.Slot(s_counter, static _ => new BoundaryCounter());
        Span<byte> boundary = stackalloc byte[20];
        System.Buffers.Text.Utf8Formatter.TryFormat(++counter.Last, boundary, out _,
            new System.Buffers.StandardFormat('D', 20));
        NativeSlice partHead = r.Arena.Allocate(100 + head.ContentType.Length + head.Charset.Length);
        var w = new SpanWriter(partHead.Span);
        w.Write("\r\n--"u8);
        w.Write(boundary);
        if (!head.ContentType.IsEmpty)
        {
            w.Write("\r\nContent-Type: "u8);
            w.Write(head.ContentType.Span);
            if (!head.Charset.IsEmpty)
            {
                w.Write("; charset="u8);
                w.Write(head.Charset.Span);
            }
        }
        w.Write("\r\nContent-Range: bytes "u8);
        _partHead = partHead.Slice(0, w.Written);
        _end = r.Arena.Allocate(28);
        w = new SpanWriter(_end.Span);
        w.Write("\r\n--"u8);
        w.Write(boundary);
        w.Write("--\r\n"u8);
        long length = _end.Length;
        Span<byte> text = stackalloc byte[PartTextMax];
        for (int i = 0; i < Count; i++)
        {
            var part = new SpanWriter(text);
            WriteRange(ref part, _ranges[i]);
            length += _partHead.Length + part.Written + 4 + _ranges[i].Length;
        }
        head.ContentLength = length;
        head.ContentType = r.Arena.Concat("multipart/byteranges; boundary="u8, boundary);
        head.Charset = default;
        r.AddBodyFilter(this);
    }

    private void WriteRange(ref SpanWriter w, ByteRange range)
    {
        w.Number(range.Start);
        w.Write("-"u8);
        w.Number(range.End - 1);
        w.Write("/"u8);
        w.Number(_length);
    }

    /// <summary>Tells that the bytes before this offset will not be pushed.</summary>
    internal void SkipTo(long offset) => _offset = offset;

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_isDone)
        {
            input.Clear();
            return;
        }
        if (Count > 1)
        {
            PushMultiple(r, input, flags);
            return;
        }
        ByteRange range = _ranges[0];
        if (_offset < range.Start)
        {
            long skipped = Math.Min(range.Start - _offset, input.Length);
            input.Consume(skipped);
            _offset += skipped;
        }
        long left = range.End - _offset;
        bool ends = input.Length >= left;
        if (!ends)
        {
            _offset += input.Length;
            PassOn(r, input, flags);
            return;
        }
        _offset = range.End;
        _isDone = true;
        BufferChain wanted = r.Loop.RentChain();
        input.MoveTo(wanted, left);
        input.Clear();
        PassOn(r, wanted, PushFlags.Last);
        r.Loop.Return(wanted);
    }

    private void PushMultiple(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (input.IsEmpty && (flags & PushFlags.Last) == 0)
        {
            PassOn(r, input, flags);
            return;
        }
        if (input.Length < _length)
        {
            // As nginx: several parts need the whole body at once.
            input.Clear();
            r.LogError(LogLevel.Alert, "range in overlapped buffers");
            r.Abort(AbortReason.Failed);
            return;
        }
        _isDone = true;
        BufferChain output = r.Loop.RentChain();
        Span<byte> text = stackalloc byte[PartTextMax];
        for (int i = 0; i < Count; i++)
        {
            var w = new SpanWriter(text);
            WriteRange(ref w, _ranges[i]);
            w.Write("\r\n\r\n"u8);
            output.Append(_partHead.Span);
            output.Append(text[..w.Written]);
            output.AppendRangeOf(input, _ranges[i].Start, _ranges[i].Length);
        }
        output.Append(_end.Span);
        input.Clear();
        PassOn(r, output, PushFlags.Last);
        r.Loop.Return(output);
    }

    protected internal override void Reset()
    {
        _partHead = default;
        _end = default;
        _length = 0;
        _offset = 0;
        _isActive = false;
        _isDone = false;
        Count = 0;
    }
}
