// brotli and zstd beside gzip: brotli, brotli_types, brotli_comp_level, brotli_window, brotli_min_length,
// brotli_buffers and the same for zstd, with the names of the widely used modules. Of the encodings that are on, the
// one that the client likes best is taken; among equals brotli, then zstd, then gzip. `gzip_vary` says whether Vary is
// sent. State of a request: EncodingFilter.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class EncodingSettings
{
    internal Inherited<bool> Enabled;
    internal Inherited<TypeSet> Types;
    internal Inherited<int> Level;
    internal Inherited<int> WindowBits;
    internal Inherited<long> MinLength;
    internal Inherited<ConfBufs> Buffers;
    internal Inherited<GzipStaticMode> Static;
}

/// <summary>What brotli and zstd have in common.</summary>
internal abstract class EncodingModule(GzipModule gzip) : HttpModule<EncodingSettings>
{
    private const ConfContext Everywhere = ConfContext.HttpServerLocation | ConfContext.IfInLocation;

    public sealed override bool InheritsWhole => true;

    /// <summary>"brotli", "zstd".</summary>
    internal abstract string Family { get; }

    internal abstract NativeSlice Coding { get; }

    internal abstract int LevelMin { get; }

    internal abstract int LevelMax { get; }

    internal abstract int LevelDefault { get; }

    internal GzipModule Gzip => gzip;

    internal abstract string? Load();

    internal abstract BodyEncoder? Create(int level, int windowBits);

    public override void Declare(HttpDeclarations d)
    {
        Own(d, Family, ConfArity.Flag, static (u, s) => u.SetFlag(ref s.Enabled), "Compresses responses.");
        Own(d, Family + "_types", ConfArity.OneOrMore, static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Types))
            {
                s.Types.Set(TypeSet.Read(u, "text/html"));
            }
        }, "Types of responses that are compressed besides text/html.");
        Own(d, Family + "_comp_level", ConfArity.One, (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Level) && u.Walker.TryNumber(u.Directive, out long level))
            {
                if (level < LevelMin || level > LevelMax)
                {
                    u.Complain($"value must be between {LevelMin} and {LevelMax}");
                    return;
                }
                s.Level.Set((int)level);
            }
        }, "How hard it tries.");
        Own(d, Family + "_min_length", ConfArity.One, static (u, s) => u.SetSize(ref s.MinLength),
            "Responses known to be shorter are left alone.");
        Own(d, Family + "_buffers", ConfArity.Two, static (u, s) => u.SetBufs(ref s.Buffers),
            "Accepted and without effect: output goes into the worker's buffers.");
        Own(d, Family + "_static", ConfArity.One, static (u, s) => u.SetEnum(ref s.Static,
            [new ConfChoice<GzipStaticMode>("off", GzipStaticMode.Off), new("on", GzipStaticMode.On),
                new("always", GzipStaticMode.Always)]), "Sends files that were compressed before.");
        d.Variable(Family + "_ratio", (Session.Session s, Variable _, ref NativeSlice value) =>
            ((HttpRequest)s).Find(EncodingFilter.Slot) is { BytesOut: > 0 } filter && filter.Module == this
            && GzipModule.WriteRatio(s, filter.BytesIn, filter.BytesOut, ref value), VariableFlags.NoCache);
    }

    protected void Own(HttpDeclarations d, string name, ConfArity arity, Action<DirectiveUse, EncodingSettings> apply,
        string summary)
    {
        HttpBuild build = d.Build;
        d.Own(new DirectiveSpec
        {
            Name = name, Contexts = Everywhere, Arity = arity, Summary = summary,
            Apply = (walker, directive) =>
            {
                HttpBlock block = walker.Need<HttpBlock>();
                apply(new DirectiveUse(walker, directive, block, build), (EncodingSettings)block.OwnLocation(this)!);
            },
        });
    }

    protected override void Merge(HttpBuild build, EncodingSettings parent, EncodingSettings child)
    {
        child.Enabled.Merge(in parent.Enabled, false);
        child.Types.Merge(in parent.Types, null!);
        if (child.Types.Value is null)
        {
            child.Types = default;
            child.Types.Set(TypeSet.Of(build, "text/html"));
        }
        child.Level.Merge(in parent.Level, LevelDefault);
        child.WindowBits.Merge(in parent.WindowBits, 19);
        child.MinLength.Merge(in parent.MinLength, 20);
        child.Buffers.Merge(in parent.Buffers, new ConfBufs(32, 4096));
        child.Static.Merge(in parent.Static, GzipStaticMode.Off);
        if (child.Enabled.Value && Load() is { } error)
        {
            build.Errors.Emerg(error, null, null);
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (Settings(install.Location).Enabled.Value)
        {
            install.AddFilter(FilterPlace.Compression, new EncodingHeadFilter(this, install.Location));
        }
    }
}

internal sealed class BrotliModule(GzipModule gzip) : EncodingModule(gzip)
{
    public override string Name => "http_brotli_filter";

    internal override string Family => "brotli";
    internal override NativeSlice Coding => NativeSlice.Literal("br"u8);
    internal override int LevelMin => 0;
    internal override int LevelMax => 11;
    internal override int LevelDefault => 6;

    internal override string? Load() => BrotliEncoder.Load();

    internal override BodyEncoder? Create(int level, int windowBits) => BrotliEncoder.Create(level, windowBits);

    public override void Declare(HttpDeclarations d)
    {
        base.Declare(d);
        Own(d, "brotli_window", ConfArity.One, static (u, s) => GzipModule.SetPower(u, ref s.WindowBits,
            16 * 1024 * 1024, 24, 1024, "1k, 2k, 4k, 8k, 16k, 32k, 64k, 128k, 256k, 512k, 1m, 2m, 4m, 8m, or 16m"),
            "The window of the compressor.");
    }
}

internal sealed class ZstdModule(GzipModule gzip) : EncodingModule(gzip)
{
    public override string Name => "http_zstd_filter";

    internal override string Family => "zstd";
    internal override NativeSlice Coding => NativeSlice.Literal("zstd"u8);
    internal override int LevelMin => 1;
    internal override int LevelMax => 22;
    internal override int LevelDefault => 1;

    internal override string? Load() => ZstdEncoder.Load();

    internal override BodyEncoder? Create(int level, int windowBits) => ZstdEncoder.Create(level);
}

/// <summary>How much a client likes an encoding.</summary>
internal static class AcceptedEncodings
{
    private const int Whole = 1000;

    /// <summary>In thousandths; 0 for not at all. A star stands for what is not named.</summary>
    internal static int Quality(ReadOnlySpan<byte> list, ReadOnlySpan<byte> coding)
    {
        int star = 0;
        while (HeaderTokens.Next(ref list, out ReadOnlySpan<byte> item))
        {
            int semicolon = item.IndexOf((byte)';');
            ReadOnlySpan<byte> name = HeaderTokens.Trim(semicolon < 0 ? item : item[..semicolon]);
            bool isStar = name.SequenceEqual("*"u8);
            if (!isStar && (name.Length != coding.Length || !HeaderName.Same(name, coding)))
            {
                continue;
            }
            int quality = semicolon < 0 ? Whole : Weight(HeaderTokens.Trim(item[(semicolon + 1)..]));
            if (!isStar)
            {
                return quality;
            }
            star = quality;
        }
        return star;
    }

    /// <summary>RFC 9110, 12.4.2; what is no weight is none.</summary>
    private static int Weight(ReadOnlySpan<byte> text)
    {
        if (text.Length < 3 || text[0] is not ((byte)'q' or (byte)'Q') || text[1] != '=')
        {
            return 0;
        }
        text = text[2..];
        if (text[0] is not ((byte)'0' or (byte)'1') || text.Length > 5 || text.Length > 1 && text[1] != '.')
        {
            return 0;
        }
        int weight = (text[0] - '0') * Whole;
        int scale = Whole / 10;
        for (int i = 2; i < text.Length; i++, scale /= 10)
        {
            if (text[i] is < (byte)'0' or > (byte)'9')
            {
                return 0;
            }
            weight += (text[i] - '0') * scale;
        }
        return Math.Min(weight, Whole);
    }
}

internal sealed class EncodingHeadFilter : HeadFilter
{
    private readonly EncodingModule _module;
    private readonly TypeSet _types;
    private readonly long _minLength;
    private readonly int _level;
    private readonly int _windowBits;
    private readonly bool _vary;
    private readonly Rival[] _rivals;

    /// <summary>Another encoding of the location.</summary>
    private readonly record struct Rival(NativeSlice Coding, TypeSet Types, long MinLength, GzipAcceptance? Acceptance);

    internal EncodingHeadFilter(EncodingModule module, LocationConf location)
    {
        EncodingSettings settings = module.Settings(location);
        GzipSettings gzip = module.Gzip.Settings(location);
        _module = module;
        _types = settings.Types.Value;
        _minLength = settings.MinLength.Value;
        _level = settings.Level.Value;
        _windowBits = settings.WindowBits.Value;
        _vary = gzip.Vary.Value;
        var rivals = new List<Rival>();
        foreach (HttpModule other in Catalog.Modules)
        {
            if (other is EncodingModule encoding && other != module && encoding.Settings(location) is
                { Enabled.Value: true } theirs)
            {
                rivals.Add(new Rival(encoding.Coding, theirs.Types.Value, theirs.MinLength.Value, null));
            }
        }
        if (gzip.Enabled.Value)
        {
            rivals.Add(new Rival(NativeSlice.Literal("gzip"u8), gzip.Types.Value, gzip.MinLength.Value,
                gzip.Acceptance));
        }
        _rivals = [.. rivals];
    }

    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (head.Status is not (200 or 403 or 404) || head.HasEncoding
            || head.ContentLength >= 0 && head.ContentLength < _minLength || !_types.Contains(head.ContentType.Span))
        {
            return;
        }
        head.VaryAcceptEncoding |= _vary;
        ReadOnlySpan<byte> accepted = r.Header(KnownHeader.AcceptEncoding).Span;
        int quality = r.IsMain ? AcceptedEncodings.Quality(accepted, _module.Coding.Span) : 0;
        if (quality == 0 || IsOutdone(r, head, accepted, quality))
        {
            return;
        }
        if (!head.HeaderOnly)
        {
            EncodingFilter filter = r.Get(EncodingFilter.Slot);
            if (!filter.Start(r, _module, _level, _windowBits))
            {
                return;
            }
            r.AddBodyFilter(filter);
        }
        head.Add(NativeSlice.Literal("Content-Encoding"u8), _module.Coding, KnownResponseHeader.ContentEncoding);
        head.ContentLength = -1;
        head.AllowRanges = false;
        head.Remove(KnownResponseHeader.AcceptRanges);
        GzipHeadFilter.WeakenETag(r, head);
    }

    /// <summary>Whether the client likes another one better that would be taken here.</summary>
    private bool IsOutdone(HttpRequest r, ResponseHead head, ReadOnlySpan<byte> accepted, int quality)
    {
        foreach (ref readonly Rival rival in _rivals.AsSpan())
        {
            if (AcceptedEncodings.Quality(accepted, rival.Coding.Span) > quality
                && (head.ContentLength < 0 || head.ContentLength >= rival.MinLength)
                && rival.Types.Contains(head.ContentType.Span) && (rival.Acceptance?.Accepts(r) ?? true))
            {
                return true;
            }
        }
        return false;
    }
}

/// <summary>Compresses a body.</summary>
internal sealed class EncodingFilter : BodyFilter
{
    internal static readonly RequestSlot<EncodingFilter> Slot = new();

    private EncoderPool? _owner;
    private EncodingEncoder? _encoder;

    internal EncodingModule? Module { get; private set; }
    internal long BytesIn { get; private set; }
    internal long BytesOut { get; private set; }

    internal bool Start(HttpRequest r, EncodingModule module, int level, int windowBits)
    {
        Module = module;
        _owner = EncoderPool.Of(r.Loop);
        var key = new EncoderKey(module, level, windowBits, 0);
        _encoder = (EncodingEncoder?)_owner.TryTake(key) ?? EncodingEncoder.Create(key);
        if (_encoder is null)
        {
            r.LogError(LogLevel.Alert, $"no memory for {module.Family}");
        }
        return _encoder is not null;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_encoder is null)
        {
            input.Clear();
            return;
        }
        BufferChain output = r.Loop.RentChain();
        GzipFilter.Output slab = default;
        for (int i = 0; i < input.Count; i++)
        {
            Feed(r, input[i].Memory, output, ref slab, EncoderFlush.None);
        }
        input.Clear();
        bool last = (flags & PushFlags.Last) != 0;
        if (flags != PushFlags.None)
        {
            Feed(r, default, output, ref slab, last ? EncoderFlush.Finish : EncoderFlush.Flush);
        }
        slab.End(output);
        if (last)
        {
            _owner!.Return(_encoder);
            _encoder = null;
        }
        if (!output.IsEmpty || flags != PushFlags.None)
        {
            PassOn(r, output, flags);
        }
        r.Loop.Return(output);
    }

    private void Feed(HttpRequest r, NativeSlice input, BufferChain output, ref GzipFilter.Output slab,
        EncoderFlush flush)
    {
        BytesIn += input.Length;
        bool hasMore = true;
        while (hasMore)
        {
            NativeSlice room = slab.Room(r.Loop, output);
            if (!_encoder!.Body.Step(input, out int taken, room, out int given, flush, out hasMore))
            {
                r.LogError(LogLevel.Alert, $"{Module!.Family} failed");
                r.Abort(AbortReason.Failed);
                return;
            }
            slab.Take(given);
            BytesOut += given;
            input = input.Slice(taken);
        }
    }

    protected internal override void Reset()
    {
        if (_encoder is not null)
        {
            _owner!.Return(_encoder);
            _encoder = null;
        }
        _owner = null;
        Module = null;
        BytesIn = 0;
        BytesOut = 0;
    }
}
