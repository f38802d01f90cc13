// gzip: compresses responses on their way, with zlib. Also declares the settings that gzip_static and gunzip share
// (gzip_vary, gzip_http_version, gzip_proxied, gzip_disable) and $gzip_ratio. State of a request: GzipFilter; zlib
// streams are kept by the loop and used again.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class GzipSettings
{
    internal Inherited<bool> Enabled;
    internal Inherited<ConfBufs> Buffers;
    internal Inherited<TypeSet> Types;
    internal Inherited<int> Level;
    internal Inherited<int> WindowBits;
    internal Inherited<int> MemoryLevel;
    internal Inherited<long> Postpone;
    internal Inherited<bool> NoBuffer;
    internal Inherited<long> MinLength;
    internal Inherited<bool> Vary;
    internal Inherited<int> HttpVersion;
    internal Inherited<int> Proxied;
    internal InheritedList<string> DisableWords;
    internal Regex[] Disabled = [];
    internal bool DisablesMsie6;

    internal GzipAcceptance Acceptance { get; set; } = null!;
}

/// <summary>Content types of gzip_types and its like: lower case, without parameters; empty means every type.</summary>
internal sealed class TypeSet
{
    private readonly ByteTable<bool> _types = new();

    internal bool MatchesAll { get; set; }

    internal void Add(NativeSlice type) => _types.TryAdd(type, true);

    internal bool Contains(ReadOnlySpan<byte> type)
    {
        if (MatchesAll)
        {
            return true;
        }
        if (type.IsEmpty || type.Length > 128)
        {
            return false;
        }
        int end = type.IndexOf((byte)';');
        type = end < 0 ? type : type[..end].TrimEnd((byte)' ');
        Span<byte> lower = stackalloc byte[type.Length];
        for (int i = 0; i < type.Length; i++)
        {
            lower[i] = HeaderName.Lower(type[i]);
        }
        return _types.TryGet(lower, out _);
    }

    /// <summary>Reads a directive of types on top of the standing ones; null after reporting an error.</summary>
    internal static TypeSet Read(DirectiveUse use, params ReadOnlySpan<string> standing)
    {
        var set = new TypeSet();
        foreach (string type in standing)
        {
            set.Add(use.Build.Memory.Store(type));
        }
        for (int i = 0; i < use.Count; i++)
        {
            if (use[i] == "*")
            {
                set.MatchesAll = true;
            }
            else if (standing.Contains(use[i].ToLowerInvariant()))
            {
                use.Walker.Warn(use.Directive.Args[i].Span, $"duplicate MIME type \"{use[i]}\"");
            }
            else
            {
                set.Add(use.Build.Memory.Store(use[i].ToLowerInvariant()));
            }
        }
        return set;
    }

    internal static TypeSet Of(HttpBuild build, params ReadOnlySpan<string> types)
    {
        var set = new TypeSet();
        foreach (string type in types)
        {
            set.Add(build.Memory.Store(type));
        }
        return set;
    }
}

internal sealed class GzipModule : HttpModule<GzipSettings>
{
    private static readonly ConfChoice<int>[] s_proxied =
    [
        new("off", (int)GzipProxied.Off), new("expired", (int)GzipProxied.Expired),
        new("no-cache", (int)GzipProxied.NoCache),
        new("no-store", (int)GzipProxied.NoStore), new("private", (int)GzipProxied.Private),
        new("no_last_modified", (int)GzipProxied.NoLastModified), new("no_etag", (int)GzipProxied.NoETag),
        new("auth", (int)GzipProxied.Auth), new("any", (int)GzipProxied.Any),
    ];

    public override string Name => "http_gzip_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<GzipSettings>("gzip", static (u, s) => u.SetFlag(ref s.Enabled));
        d.Location<GzipSettings>("gzip_buffers", static (u, s) => u.SetBufs(ref s.Buffers));
        d.Location<GzipSettings>("gzip_types", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Types))
            {
                s.Types.Set(TypeSet.Read(u, "text/html"));
            }
        });
        d.Location<GzipSettings>("gzip_comp_level", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Level) && u.Walker.TryNumber(u.Directive, out long level))
            {
                if (level is < 1 or > 9)
                {
                    u.Complain("value must be between 1 and 9");
                    return;
                }
                s.Level.Set((int)level);
            }
        });
        d.Location<GzipSettings>("gzip_window", static (u, s) => SetPower(u, ref s.WindowBits, 32 * 1024, 15, 512,
            "512, 1k, 2k, 4k, 8k, 16k, or 32k"));
        d.Location<GzipSettings>("gzip_hash", static (u, s) => SetPower(u, ref s.MemoryLevel, 128 * 1024, 9, 512,
            "512, 1k, 2k, 4k, 8k, 16k, 32k, 64k, or 128k"));
        d.Location<GzipSettings>("postpone_gzipping", static (u, s) => u.SetSize(ref s.Postpone));
        d.Location<GzipSettings>("gzip_no_buffer", static (u, s) => u.SetFlag(ref s.NoBuffer));
        d.Location<GzipSettings>("gzip_min_length", static (u, s) => u.SetSize(ref s.MinLength));
        d.Location<GzipSettings>("gzip_vary", static (u, s) => u.SetFlag(ref s.Vary));
        d.Location<GzipSettings>("gzip_http_version", static (u, s) =>
            u.SetEnum(ref s.HttpVersion, [new ConfChoice<int>("1.0", 10), new("1.1", 11)]));
        d.Location<GzipSettings>("gzip_proxied", static (u, s) => u.SetBitmask(ref s.Proxied, s_proxied));
        d.Location<GzipSettings>("gzip_disable", SetDisable);
        d.Variable("gzip_ratio", GetRatio, VariableFlags.NoCache);
    }

    /// <summary>nginx takes these as sizes that halve from the greatest: what zlib wants is the exponent.</summary>
    internal static void SetPower(DirectiveUse use, ref Inherited<int> setting, long greatest, int bits,
        long least, string choices)
    {
        if (!use.Walker.Fresh(use.Directive, in setting) || !use.Walker.TrySize(use.Directive, out long size))
        {
            return;
        }
        for (long power = greatest; power >= least; power /= 2, bits--)
        {
            if (power == size)
            {
                setting.Set(bits);
                return;
            }
        }
        use.Complain($"must be {choices}");
    }

    private static void SetDisable(DirectiveUse use, GzipSettings settings)
    {
        var list = new List<Regex>();
        for (int i = 0; i < use.Count; i++)
        {
            settings.DisableWords.Add(use[i]);
            if (use[i] == "msie6")
            {
                settings.DisablesMsie6 = true;
                continue;
            }
            Regex? regex = Regex.Compile(use[i], caseless: true, use.Build.Configuration.Variables, out string? error);
            if (regex is null)
            {
                use.Error(i, error!);
                return;
            }
            use.Build.Configuration.Own(regex.Pattern);
            list.Add(regex);
        }
        settings.Disabled = [.. settings.Disabled, .. list];
    }

    protected override void Merge(HttpBuild build, GzipSettings p, GzipSettings c)
    {
        c.Enabled.Merge(in p.Enabled, false);
        c.Buffers.Merge(in p.Buffers, new ConfBufs(32, 4096));
        c.Types.Merge(in p.Types, null!);
        if (c.Types.Value is null)
        {
            c.Types = default;
            c.Types.Set(TypeSet.Of(build, "text/html"));
        }
        c.Level.Merge(in p.Level, 1);
        c.WindowBits.Merge(in p.WindowBits, 15);
        c.MemoryLevel.Merge(in p.MemoryLevel, 8);
        c.Postpone.Merge(in p.Postpone, 0);
        c.NoBuffer.Merge(in p.NoBuffer, false);
        c.MinLength.Merge(in p.MinLength, 20);
        c.Vary.Merge(in p.Vary, false);
        c.HttpVersion.Merge(in p.HttpVersion, 11);
        c.Proxied.Merge(in p.Proxied, (int)GzipProxied.Off);
        if (!c.DisableWords.IsSet)
        {
            c.Disabled = p.Disabled;
            c.DisablesMsie6 = p.DisablesMsie6;
        }
        c.DisableWords.Merge(in p.DisableWords);
        c.Acceptance = new GzipAcceptance(c.HttpVersion.Value, (GzipProxied)c.Proxied.Value, c.DisablesMsie6,
            c.Disabled);
        if (c.Enabled.Value && ZlibStream.Load() is { } error)
        {
            build.Errors.Emerg(error, null, null);
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (Settings(install.Location) is { Enabled.Value: true } settings)
        {
            install.AddFilter(FilterPlace.Compression, install.Shared(settings, static s => new GzipHeadFilter(s)));
        }
    }

    private static bool GetRatio(Session.Session session, Variable variable, ref NativeSlice value)
    {
        return ((HttpRequest)session).Find(GzipFilter.Slot) is { BytesOut: > 0 } filter
            && WriteRatio(session, filter.BytesIn, filter.BytesOut, ref value);
    }

    /// <summary>How many times larger the body was, with two digits.</summary>
    internal static bool WriteRatio(Session.Session session, long bytesIn, long bytesOut, ref NativeSlice value)
    {
        long whole = bytesIn / bytesOut;
        long part = bytesIn * 100 / bytesOut % 100;
        if (bytesIn * 1000 / bytesOut % 10 > 4 && ++part > 99)
        {
            whole++;
            part = 0;
        }
        Span<byte> text = stackalloc byte[32];
        var w = new SpanWriter(text);
        w.Number(whole);
        w.Write(part < 10 ? ".0"u8 : "."u8);
        w.Number(part);
        value = session.Arena.Store(text[..w.Written]);
        return true;
    }
}

internal sealed class GzipHeadFilter(GzipSettings settings) : HeadFilter
{
    private readonly TypeSet _types = settings.Types.Value;
    private readonly long _minLength = settings.MinLength.Value;
    private readonly bool _vary = settings.Vary.Value;
    private readonly GzipAcceptance _acceptance = settings.Acceptance;
    private readonly int _level = settings.Level.Value;
    private readonly int _windowBits = settings.WindowBits.Value;
    private readonly int _memoryLevel = settings.MemoryLevel.Value;
    private readonly long _postpone = settings.Postpone.Value;

    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (head.Status is not (200 or 403 or 404) || head.HasEncoding
            || head.ContentLength >= 0 && head.ContentLength < _minLength || !_types.Contains(head.ContentType.Span))
        {
            return;
        }
        head.VaryAcceptEncoding = _vary;
        if (!_acceptance.Accepts(r))
        {
            return;
        }
        // A HEAD is answered as the GET would be, without a compressor.
        if (!head.HeaderOnly && !Start(r, head.ContentLength))
        {
            return;
        }
        head.Add(NativeSlice.Literal("Content-Encoding"u8), NativeSlice.Literal("gzip"u8),
            KnownResponseHeader.ContentEncoding);
        head.ContentLength = -1;
        head.AllowRanges = false;
        head.Remove(KnownResponseHeader.AcceptRanges);
        WeakenETag(r, head);
    }

    /// <summary>Small bodies get small windows, as in nginx.</summary>
    private bool Start(HttpRequest r, long length)
    {
        int windowBits = _windowBits;
        int memoryLevel = _memoryLevel;
        while (length > 0 && length < (1 << (windowBits - 1)) - 262)
        {
            windowBits--;
            memoryLevel--;
        }
        GzipFilter filter = r.Get(GzipFilter.Slot);
        if (!filter.Start(r, _level, windowBits, Math.Max(memoryLevel, 1), _postpone))
        {
            return false;
        }
        r.AddBodyFilter(filter);
        return true;
    }

    /// <summary>A transformed body is only weakly the same; a tag that is no quoted text goes.</summary>
    internal static void WeakenETag(HttpRequest r, ResponseHead head)
    {
        int i = head.Find(KnownResponseHeader.ETag);
        if (i < 0)
        {
            return;
        }
        ReadOnlySpan<byte> tag = head[i].Value.Span;
        if (tag.StartsWith("W/"u8))
        {
            return;
        }
        if (tag.IsEmpty || tag[0] != '"')
        {
            head.Remove(KnownResponseHeader.ETag);
            return;
        }
        head[i].Value = r.Arena.Concat("W/"u8, tag);
    }
}

/// <summary>Compresses a body.</summary>
internal sealed class GzipFilter : BodyFilter
{
    internal static readonly RequestSlot<GzipFilter> Slot = new();
    private const int OutputBytes = 16 * 1024;

    private EncoderPool? _owner;
    private GzipEncoder? _compressor;
    private BufferChain? _held;
    private long _postpone;

    internal long BytesIn { get; private set; }
    internal long BytesOut { get; private set; }

    internal bool Start(HttpRequest r, int level, int windowBits, int memoryLevel, long postpone)
    {
        _owner = EncoderPool.Of(r.Loop);
        var key = new EncoderKey(null, level, windowBits, memoryLevel);
        _compressor = (GzipEncoder?)_owner.TryTake(key) ?? GzipEncoder.Create(key);
        _postpone = postpone;
        if (_compressor is null)
        {
            r.LogError(LogLevel.Alert, "deflateInit2() failed");
        }
        return _compressor is not null;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_compressor is null)
        {
            input.Clear();
            return;
        }
        if (_postpone > 0)
        {
            _held ??= r.Loop.RentChain();
            input.MoveTo(_held);
            if (flags == PushFlags.None && _held.Length <= _postpone)
            {
                return;
            }
            _postpone = 0;
        }
        BufferChain source = _held ?? input;
        BufferChain output = r.Loop.RentChain();
        Output slab = default;
        for (int i = 0; i < source.Count; i++)
        {
            Feed(r, source[i].Memory, output, ref slab, ZlibFlush.None);
        }
        source.Clear();
        if (_held is not null)
        {
            r.Loop.Return(_held);
            _held = null;
        }
        bool last = (flags & PushFlags.Last) != 0;
        if (flags != PushFlags.None)
        {
            Feed(r, default, output, ref slab, last ? ZlibFlush.Finish : ZlibFlush.Sync);
        }
        slab.End(output);
        if (last)
        {
            _owner!.Return(_compressor);
            _compressor = null;
        }
        if (!output.IsEmpty || flags != PushFlags.None)
        {
            PassOn(r, output, flags);
        }
        r.Loop.Return(output);
    }

    private void Feed(HttpRequest r, NativeSlice input, BufferChain output, ref Output slab, ZlibFlush flush)
    {
        BytesIn += input.Length;
        while (true)
        {
            NativeSlice room = slab.Room(r.Loop, output);
            ZlibResult result = _compressor!.Stream.Step(input, out int taken, room, out int given, flush);
            slab.Take(given);
            BytesOut += given;
            input = input.Slice(taken);
            if (result == ZlibResult.BadData)
            {
                r.LogError(LogLevel.Alert, "deflate() failed");
                r.Abort(AbortReason.Failed);
                return;
            }
            // Room left over means that zlib has nothing more to give for now.
            if (result == ZlibResult.End || given < room.Length && input.IsEmpty)
            {
                return;
            }
        }
    }

    protected internal override void Reset()
    {
        if (_compressor is not null)
        {
            _owner!.Return(_compressor);
            _compressor = null;
        }
        if (_held is not null)
        {
            _held.Clear();
            _held = null;
        }
        _owner = null;
        _postpone = 0;
        BytesIn = 0;
        BytesOut = 0;
    }

    /// <summary>The slab that is being filled.</summary>
    internal struct Output
    {
        private BufferSlab? _slab;
        private int _used;

        internal NativeSlice Room(EventLoop loop, BufferChain output)
        {
            if (_slab is not null && _used == _slab.Capacity)
            {
                End(output);
            }
            _slab ??= loop.Buffers.Rent(OutputBytes);
            return _slab.Memory.Slice(_used);
        }

        internal void Take(int count) => _used += count;

        internal void End(BufferChain output)
        {
            if (_slab is not null)
            {
                output.AppendSlice(_slab.Memory.Slice(0, _used), _slab);
                _slab.Release();
                _slab = null;
                _used = 0;
            }
        }
    }
}
