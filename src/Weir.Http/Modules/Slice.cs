// slice, $slice_range: a large answer of an upstream asked for in parts, one subrequest behind the other, so that each
// part can be kept by itself. State of a request: SliceFilter, which begins as soon as $slice_range is asked for. The
// parts are the location's own content handler run again; what they answer goes through the filters of the request.
using System.Buffers.Text;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class SliceSettings
{
    internal Inherited<long> Bytes;
}

internal sealed class SliceModule : HttpModule<SliceSettings>
{
    public override string Name => "http_slice_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<SliceSettings>("slice", static (u, s) => u.SetSize(ref s.Bytes));
        d.Variable("slice_range", GetRange, VariableFlags.NoCache);
    }

    protected override void Merge(HttpBuild build, SliceSettings parent, SliceSettings child) =>
        child.Bytes.Merge(in parent.Bytes, 0);

    public override void InstallLocation(LocationInstall install)
    {
        long bytes = Settings(install.Location).Bytes.Value;
        if (bytes > 0)
        {
            install.AddFilter(FilterPlace.Slice, install.Shared(bytes, static n => new SliceHeadFilter(n)));
            install.AddFilter(FilterPlace.SliceEnd, SliceEndFilter.Instance);
        }
    }

    private bool GetRange(Session.Session session, Variable variable, ref NativeSlice value)
    {
        var r = (HttpRequest)session;
        SliceFilter? filter = r.Main.Find(SliceFilter.Slot);
        if (filter is { IsActive: true } && (r.IsMain || filter.Part == r))
        {
            value = filter.Range;
            return true;
        }
        long bytes = Settings(r.Location).Bytes.Value;
        if (!r.IsMain || r.Response.IsSent || bytes == 0)
        {
            return false;
        }
        filter = r.Get(SliceFilter.Slot);
        filter.Begin(r, bytes, FirstByte(r) / bytes * bytes);
        value = filter.Range;
        return true;
    }

    /// <summary>The first byte that the client wants: of one range that begins somewhere.</summary>
    private static long FirstByte(HttpRequest r)
    {
        ReadOnlySpan<byte> range = r.Header(KnownHeader.Range).Span;
        if (!r.Header(KnownHeader.IfRange).IsEmpty || range.Length < 7 || !HeaderName.Same(range[..6], "bytes="u8)
            || range.IndexOf((byte)',') >= 0)
        {
            return 0;
        }
        range = range[6..].TrimStart((byte)' ');
        return !range.IsEmpty && range[0] != '-' && Utf8Parser.TryParse(range, out long first, out _) && first >= 0
            ? first : 0;
    }
}

/// <summary>A part's head becomes that of the whole, or is checked against it.</summary>
internal sealed class SliceHeadFilter(long bytes) : HeadFilter
{
    public override void OnHead(HttpRequest r)
    {
        if (r.Main.Find(SliceFilter.Slot) is not { IsActive: true } filter || !r.IsMain && filter.Part != r)
        {
            return;
        }
        ResponseHead head = r.Response;
        if (head.Status != 206)
        {
            if (r.IsMain)
            {
                filter.Stop();
                return;
            }
            Fail(r, filter, $"unexpected status code {head.Status} in slice response");
            return;
        }
        if (!filter.MatchesTag(head.Value(KnownResponseHeader.ETag)))
        {
            Fail(r, filter, "etag mismatch in slice response");
            return;
        }
        if (!TryContentRange(head.Value(KnownResponseHeader.ContentRange).Span, out long start, out long end,
            out long whole))
        {
            Fail(r, filter, "invalid range in slice response");
            return;
        }
        if (whole < 0)
        {
            Fail(r, filter, "no complete length in slice response");
            return;
        }
        if (start != filter.Start || end != Math.Min(start + bytes, whole))
        {
            Fail(r, filter, $"unexpected range in slice response: {start}-{end}");
            return;
        }
        filter.Take(end);
        if (!r.IsMain)
        {
            r.SkipsFilters = true;
            return;
        }
        head.Status = 200;
        head.StatusText = default;
        head.ContentLength = whole;
        head.ContentOffset = start;
        head.Remove(KnownResponseHeader.ContentRange);
        head.Remove(KnownResponseHeader.AcceptRanges);
        head.AllowRanges = true;
        head.SingleRange = true;
        if (!head.HeaderOnly && r.Method != HttpMethod.Head)
        {
            r.AddBodyFilter(filter);
        }
    }

    private static void Fail(HttpRequest r, SliceFilter filter, string message)
    {
        r.LogError(LogLevel.Error, message);
        filter.Stop();
        if (r.IsMain)
        {
            r.RefuseHead(500);
            return;
        }
        r.SkipsFilters = true;
        r.Main.Abort(AbortReason.Failed);
    }

    /// <summary>`bytes start-last/whole`; whole is -1 for a star. <paramref name="end"/> is behind the last.</summary>
    private static bool TryContentRange(ReadOnlySpan<byte> text, out long start, out long end, out long whole)
    {
        start = 0;
        end = 0;
        whole = -1;
        if (!text.StartsWith("bytes "u8))
        {
            return false;
        }
        text = text[6..].TrimStart((byte)' ');
        if (!Utf8Parser.TryParse(text, out start, out int n) || n == text.Length || text[n] != '-')
        {
            return false;
        }
        text = text[(n + 1)..];
        if (!Utf8Parser.TryParse(text, out long last, out n) || n == text.Length || text[n] != '/' || start > last)
        {
            return false;
        }
        end = last + 1;
        text = text[(n + 1)..].Trim((byte)' ');
        return text.SequenceEqual("*"u8) || Utf8Parser.TryParse(text, out whole, out n) && n == text.Length;
    }
}

/// <summary>Behind all other head filters: what of the whole is really wanted.</summary>
internal sealed class SliceEndFilter : HeadFilter
{
    internal static readonly SliceEndFilter Instance = new();

    public override void OnHead(HttpRequest r)
    {
        if (r.IsMain && r.Find(SliceFilter.Slot) is { IsActive: true } filter)
        {
            filter.Narrow(r.Response);
        }
    }
}

/// <summary>Asks for one part after the other, and is where their bytes arrive.</summary>
internal sealed class SliceFilter : BodyFilter
{
    internal static readonly RequestSlot<SliceFilter> Slot = new();

    private readonly Sink _sink;
    private HttpRequest? _main;
    private NativeSlice _tag;
    private long _bytes;
    private long _end;
    private bool _isTaken;

    public SliceFilter() => _sink = new Sink(this);

    private sealed class Sink(SliceFilter owner) : BodySink
    {
        internal override void Write(BufferChain chain) => owner.PassOn(owner._main!, chain, PushFlags.None);

        internal override LoopTask<bool> DrainAsync(long keptBytes) => owner._main!.DrainedBelow(owner, keptBytes);

        internal override long UnsentBytes => owner._main!.Stream.UnsentBytes;
    }

    public override bool NeedsBytes => false;

    internal bool IsActive { get; private set; }

    /// <summary>The subrequest that is under way.</summary>
    internal HttpRequest? Part { get; private set; }
    internal long Start { get; private set; }
    internal NativeSlice Range { get; private set; }

    internal void Begin(HttpRequest r, long bytes, long start)
    {
        _main = r;
        _bytes = bytes;
        Start = start;
        IsActive = true;
        WriteRange();
    }

    private void WriteRange()
    {
        Span<byte> text = stackalloc byte[48];
        var w = new SpanWriter(text);
        w.Write("bytes="u8);
        w.Number(Start);
        w.Write("-"u8);
        w.Number(Start + _bytes - 1);
        Range = _main!.Arena.Store(text[..w.Written]);
    }

    internal void Stop() => IsActive = false;

    /// <summary>Whether a part is of the same file as the first.</summary>
    internal bool MatchesTag(NativeSlice tag)
    {
        if (_tag.IsEmpty)
        {
            _tag = tag.IsEmpty ? default : _main!.Arena.Store(tag.Span);
            return true;
        }
        return tag.Span.SequenceEqual(_tag.Span);
    }

    internal void Take(long end)
    {
        Start = end;
        _isTaken = true;
    }

    internal void Narrow(ResponseHead head)
    {
        if (head.Status == 206)
        {
            if (Start + _bytes <= head.ContentOffset)
            {
                Start = head.ContentOffset / _bytes * _bytes;
            }
            _end = head.ContentOffset + head.ContentLength;
            return;
        }
        _end = head.ContentLength;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (!IsActive || (flags & PushFlags.Last) == 0)
        {
            PassOn(r, input, flags);
            return;
        }
        PassOn(r, input, PushFlags.None);
        r.Attach();
        RunAsync(r).Forget();
    }

    private async LoopTask<Unit> RunAsync(HttpRequest r)
    {
        while (Start < _end && r.Aborted == AbortReason.None)
        {
            if (SubRequest.Start(r, r.Uri, r.Args) is not { } part)
            {
                r.Abort(AbortReason.Failed);
                break;
            }
            Part = part;
            _isTaken = false;
            WriteRange();
            r.Find(RangeFilter.Slot)?.SkipTo(Start);
            part.SubStream!.Fill(_sink);
            part.Method = r.Method;
            part.MethodName = r.MethodName;
            try
            {
                await part.RunAsCloneAsync(r);
                // What the part lent to the output leaves before it ends.
                await r.DrainedBelow(this, 0);
            }
            finally
            {
                Part = null;
                SubRequest.End(part, keepsVariables: false);
            }
            if (!_isTaken && r.Aborted == AbortReason.None)
            {
                r.LogError(LogLevel.Error, "missing slice response");
                r.Abort(AbortReason.Failed);
            }
        }
        BufferChain nothing = r.Loop.RentChain();
        PassOn(r, nothing, PushFlags.Last);
        r.Loop.Return(nothing);
        r.Detach();
        return default;
    }

    protected internal override void Reset()
    {
        _main = null;
        _tag = default;
        Range = default;
        IsActive = false;
        Part = null;
    }
}
