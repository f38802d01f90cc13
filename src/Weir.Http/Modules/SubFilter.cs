// sub_filter, sub_filter_once, sub_filter_types, sub_filter_last_modified: texts in a response's body replaced by
// others, whatever their case, also where a text is cut between two pieces of the body. State of a request: SubFilter,
// which keeps at most the beginning of one text between pushes.
using System.Buffers;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal readonly record struct SubPair(Template Text, Template Value);

internal sealed class SubSettings
{
    internal InheritedList<SubPair> Pairs;
    internal Inherited<bool> Once;
    internal Inherited<bool> LastModified;
    internal Inherited<TypeSet> Types;
}

internal sealed class SubModule : HttpModule<SubSettings>
{
    public override string Name => "http_sub_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<SubSettings>("sub_filter", static (u, s) =>
        {
            if (u[0].Length == 0)
            {
                u.Error(0, "empty search pattern");
            }
            else if (u.TemplateOf(Lower(u[0]), 0) is { } text && u.Template(1) is { } value)
            {
                s.Pairs.Add(new SubPair(text, value));
            }
        });
        d.Location<SubSettings>("sub_filter_once", static (u, s) => u.SetFlag(ref s.Once));
        d.Location<SubSettings>("sub_filter_last_modified", static (u, s) => u.SetFlag(ref s.LastModified));
        d.Location<SubSettings>("sub_filter_types", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Types))
            {
                s.Types.Set(TypeSet.Read(u, "text/html"));
            }
        });
    }

    /// <summary>ASCII letters only: the chars are bytes.</summary>
    private static string Lower(string text) => string.Create(text.Length, text, static (chars, source) =>
    {
        for (int i = 0; i < chars.Length; i++)
        {
            chars[i] = char.IsAsciiLetterUpper(source[i]) ? (char)(source[i] | 0x20) : source[i];
        }
    });

    protected override void Merge(HttpBuild build, SubSettings parent, SubSettings child)
    {
        child.Pairs.Merge(in parent.Pairs);
        child.Once.Merge(in parent.Once, true);
        child.LastModified.Merge(in parent.LastModified, false);
        child.Types.Merge(in parent.Types, null!);
        if (child.Types.Value is null)
        {
            child.Types = default;
            child.Types.Set(TypeSet.Of(build, "text/html"));
        }
    }

    public override void InstallLocation(LocationInstall install)
    {
        SubSettings settings = Settings(install.Location);
        if (settings.Pairs.Array.Length > 0)
        {
            install.AddFilter(FilterPlace.Sub, install.Shared(settings, static s => new SubHeadFilter(s)));
        }
    }
}

internal sealed class SubHeadFilter : HeadFilter
{
    private readonly SubPair[] _pairs;
    private readonly bool _once;
    private readonly bool _keepsTime;
    private readonly TypeSet _types;

    /// <summary>What a text may begin with; null where that depends on the request.</summary>
    private readonly SearchValues<byte>? _firsts;

    internal SubHeadFilter(SubSettings settings)
    {
        _pairs = settings.Pairs.Array;
        _once = settings.Once.Value;
        _keepsTime = settings.LastModified.Value;
        _types = settings.Types.Value;
        if (Array.TrueForAll(_pairs, static p => p.Text.IsConstant))
        {
            var firsts = new List<byte>();
            foreach (SubPair pair in _pairs)
            {
                byte first = pair.Text.Constant.Span[0];
                firsts.Add(first);
                if (first is >= (byte)'a' and <= (byte)'z')
                {
                    firsts.Add((byte)(first - 0x20));
                }
            }
            _firsts = SearchValues.Create(firsts.ToArray());
        }
    }

    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (head.ContentLength == 0 || !_types.Contains(head.ContentType.Span))
        {
            return;
        }
        SubFilter filter = r.Get(SubFilter.Slot);
        if (!filter.Start(r, _pairs, _firsts, _once))
        {
            return;
        }
        if (!head.HeaderOnly)
        {
            r.AddBodyFilter(filter);
        }
        if (!r.IsMain)
        {
            return;
        }
        head.ContentLength = -1;
        if (_keepsTime)
        {
            GzipHeadFilter.WeakenETag(r, head);
            return;
        }
        head.LastModified = -1;
        head.Remove(KnownResponseHeader.LastModified);
        head.Remove(KnownResponseHeader.ETag);
    }
}

/// <summary>Replaces texts in a body.</summary>
internal sealed class SubFilter : BodyFilter
{
    internal static readonly RequestSlot<SubFilter> Slot = new();

    private const int NotFound = -1;

    private struct Text
    {
        internal NativeSlice Lower;
        internal NativeSlice Value;
        internal bool IsEvaluated;
        internal bool IsUsed;
    }

    private Text[] _texts = new Text[4];
    private int _count;
    private int _left;
    private int _longest;
    private SubPair[] _pairs = [];
    private SearchValues<byte>? _firsts;
    private bool _once;
    private byte[] _kept = [];
    private int _keptCount;

    /// <summary>False when there is nothing to look for.</summary>
    internal bool Start(HttpRequest r, SubPair[] pairs, SearchValues<byte>? firsts, bool once)
    {
        if (_texts.Length < pairs.Length)
        {
            _texts = new Text[pairs.Length];
        }
        _pairs = pairs;
        _firsts = firsts;
        _once = once;
        _count = pairs.Length;
        _longest = 0;
        _left = 0;
        _keptCount = 0;
        for (int i = 0; i < pairs.Length; i++)
        {
            NativeSlice text = pairs[i].Text.Evaluate(r);
            if (!pairs[i].Text.IsConstant)
            {
                text = r.Arena.Store(text.Span);
                foreach (ref byte c in text.Span)
                {
                    c = HeaderName.Lower(c);
                }
            }
            _texts[i] = new Text { Lower = text, IsUsed = text.IsEmpty };
            _left += text.IsEmpty ? 0 : 1;
            _longest = Math.Max(_longest, text.Length);
        }
        if (_kept.Length < _longest)
        {
            _kept = new byte[_longest];
        }
        return _left > 0;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        BufferChain output = r.Loop.RentChain();
        bool last = (flags & PushFlags.Last) != 0;
        while (!input.IsEmpty)
        {
            if (_left == 0)
            {
                input.MoveTo(output);
                break;
            }
            NativeSlice piece = input[0].Memory;
            if (_keptCount == 0)
            {
                Replace(r, piece, null, input, output);
            }
            else
            {
                // What was kept and what follows it are looked at as one.
                BufferSlab joined = r.Loop.Buffers.Rent(_keptCount + piece.Length);
                NativeSlice text = joined.Memory.Slice(0, _keptCount + piece.Length);
                _kept.AsSpan(0, _keptCount).CopyTo(text.Span);
                piece.Span.CopyTo(text.Span[_keptCount..]);
                _keptCount = 0;
                Replace(r, text, joined, input, output);
                joined.Release();
            }
            input.Consume(piece.Length);
        }
        if (last || _left == 0)
        {
            output.Append(_kept.AsSpan(0, _keptCount));
            _keptCount = 0;
        }
        if (!output.IsEmpty || flags != PushFlags.None)
        {
            PassOn(r, output, flags);
        }
        r.Loop.Return(output);
    }

    /// <summary>Passes on one piece with what is replaced in it; its end is kept where a text may begin
    /// there.</summary>
    private void Replace(HttpRequest r, NativeSlice text, BufferSlab? owner, BufferChain input, BufferChain output)
    {
        int from = 0;
        int at = 0;
        while (_left > 0 && (at = NextCandidate(text.Span, at)) >= 0)
        {
            int found = Find(text.Span[at..], out bool isCut);
            if (isCut)
            {
                Give(text, from, at, owner, input, output);
                text.Span[at..].CopyTo(_kept);
                _keptCount = text.Length - at;
                return;
            }
            if (found == NotFound)
            {
                at++;
                continue;
            }
            Give(text, from, at, owner, input, output);
            ref Text one = ref _texts[found];
            if (!one.IsEvaluated)
            {
                one.IsEvaluated = true;
                one.Value = _pairs[found].Value.Evaluate(r);
            }
            output.Append(one.Value.Span);
            at += one.Lower.Length;
            from = at;
            if (_once)
            {
                one.IsUsed = true;
                _left--;
            }
        }
        Give(text, from, text.Length, owner, input, output);
    }

    /// <summary>Bytes that stay as they are: shared with the slab they were joined in, or with the input.</summary>
    private static void Give(NativeSlice text, int from, int end, BufferSlab? owner, BufferChain input,
        BufferChain output)
    {
        if (end <= from)
        {
            return;
        }
        if (owner is not null)
        {
            output.AppendSlice(text.Slice(from, end - from), owner);
        }
        else
        {
            output.AppendRangeOf(input, from, end - from);
        }
    }

    private int NextCandidate(ReadOnlySpan<byte> text, int from)
    {
        if (_firsts is not null)
        {
            int next = text[from..].IndexOfAny(_firsts);
            return next < 0 ? NotFound : from + next;
        }
        for (int i = from; i < text.Length; i++)
        {
            byte c = HeaderName.Lower(text[i]);
            foreach (ref readonly Text one in _texts.AsSpan(0, _count))
            {
                if (!one.IsUsed && one.Lower.Span[0] == c)
                {
                    return i;
                }
            }
        }
        return NotFound;
    }

    /// <summary>The first of the texts, in the configuration's order, that stands here.</summary>
    private int Find(ReadOnlySpan<byte> text, out bool isCut)
    {
        isCut = false;
        for (int i = 0; i < _count; i++)
        {
            ref readonly Text one = ref _texts[i];
            if (one.IsUsed)
            {
                continue;
            }
            int n = Math.Min(one.Lower.Length, text.Length);
            if (HeaderName.Same(text[..n], one.Lower.Span[..n]))
            {
                isCut = n < one.Lower.Length;
                return i;
            }
        }
        return NotFound;
    }

    protected internal override void Reset()
    {
        Array.Clear(_texts, 0, _count);
        _count = 0;
        _left = 0;
        _keptCount = 0;
        _pairs = [];
        _firsts = null;
    }
}
