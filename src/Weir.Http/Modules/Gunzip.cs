// gunzip: unpacks responses that came compressed (from an upstream, or gzip_static always) for clients that do not take
// gzip. State of a request: GunzipFilter with a zlib stream of its own.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class GunzipSettings
{
    internal Inherited<bool> Enabled;
    internal Inherited<ConfBufs> Buffers;
}

internal sealed class GunzipModule(GzipModule gzip) : HttpModule<GunzipSettings>
{
    public override string Name => "http_gunzip_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<GunzipSettings>("gunzip", static (u, s) => u.SetFlag(ref s.Enabled));
        d.Location<GunzipSettings>("gunzip_buffers", static (u, s) => u.SetBufs(ref s.Buffers));
    }

    protected override void Merge(HttpBuild build, GunzipSettings parent, GunzipSettings child)
    {
        child.Enabled.Merge(in parent.Enabled, false);
        child.Buffers.Merge(in parent.Buffers, new ConfBufs(32, 4096));
        if (child.Enabled.Value && ZlibStream.Load() is { } error)
        {
            build.Errors.Emerg(error, null, null);
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (Settings(install.Location).Enabled.Value)
        {
            GzipSettings settings = gzip.Settings(install.Location);
            install.AddFilter(FilterPlace.Gunzip, install.Shared(settings, static s =>
                new GunzipHeadFilter(s.Acceptance, s.Vary.Value)));
        }
    }
}

internal sealed class GunzipHeadFilter(GzipAcceptance acceptance, bool vary) : HeadFilter
{
    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (!HeaderName.Same(head.Value(KnownResponseHeader.ContentEncoding).Span, "gzip"u8))
        {
            return;
        }
        head.VaryAcceptEncoding |= vary;
        if (acceptance.Accepts(r))
        {
            return;
        }
        if (!head.HeaderOnly)
        {
            GunzipFilter filter = r.Get(GunzipFilter.Slot);
            filter.Start();
            r.AddBodyFilter(filter);
        }
        head.Remove(KnownResponseHeader.ContentEncoding);
        head.ContentLength = -1;
        head.AllowRanges = false;
        head.Remove(KnownResponseHeader.AcceptRanges);
        GzipHeadFilter.WeakenETag(r, head);
    }
}

/// <summary>Unpacks a body.</summary>
internal sealed class GunzipFilter : BodyFilter
{
    internal static readonly RequestSlot<GunzipFilter> Slot = new();

    private ZlibStream? _stream;
    private bool _isActive;
    private bool _isEnded;

    internal void Start()
    {
        _stream ??= ZlibStream.Decompressor();
        _isActive = true;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_stream is null || !_isActive)
        {
            input.Clear();
            Fail(r, "inflateInit2() failed");
            return;
        }
        BufferChain output = r.Loop.RentChain();
        GzipFilter.Output slab = default;
        for (int i = 0; i < input.Count && r.Aborted == AbortReason.None; i++)
        {
            Feed(r, input[i].Memory, output, ref slab);
        }
        input.Clear();
        slab.End(output);
        if ((flags & PushFlags.Last) != 0 && !_isEnded && r.Aborted == AbortReason.None)
        {
            Fail(r, "inflate() returned -5 on response end");
        }
        if (!output.IsEmpty || flags != PushFlags.None)
        {
            PassOn(r, output, flags);
        }
        r.Loop.Return(output);
    }

    private void Feed(HttpRequest r, NativeSlice input, BufferChain output, ref GzipFilter.Output slab)
    {
        while (true)
        {
            if (_isEnded && !input.IsEmpty)
            {
                // Another member may follow the first.
                _stream!.Reset();
                _isEnded = false;
            }
            NativeSlice room = slab.Room(r.Loop, output);
            ZlibResult result = _stream!.Step(input, out int taken, room, out int given, ZlibFlush.None);
            slab.Take(given);
            input = input.Slice(taken);
            _isEnded |= result == ZlibResult.End;
            if (result == ZlibResult.BadData)
            {
                Fail(r, "inflate() failed: -3");
                return;
            }
            if (input.IsEmpty && given < room.Length)
            {
                return;
            }
        }
    }

    private static void Fail(HttpRequest r, string message)
    {
        r.LogError(LogLevel.Error, message);
        r.Abort(AbortReason.Failed);
    }

    protected internal override void Reset()
    {
        _stream?.Reset();
        _isActive = false;
        _isEnded = false;
    }
}
