// add_before_body, add_after_body, addition_types: the answers of subrequests before and behind a response's body.
// State of a request: AdditionFilter; the order of the parts is Postpone.cs'.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class AdditionSettings
{
    internal Inherited<string> Before;
    internal Inherited<string> After;
    internal Inherited<TypeSet> Types;
    internal NativeSlice BeforeBytes { get; set; }
    internal NativeSlice AfterBytes { get; set; }
}

internal sealed class AdditionModule : HttpModule<AdditionSettings>
{
    public override string Name => "http_addition_filter";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<AdditionSettings>("add_before_body", static (u, s) => u.SetText(ref s.Before));
        d.Location<AdditionSettings>("add_after_body", static (u, s) => u.SetText(ref s.After));
        d.Location<AdditionSettings>("addition_types", static (u, s) =>
        {
            if (u.Walker.Fresh(u.Directive, in s.Types))
            {
                s.Types.Set(TypeSet.Read(u, "text/html"));
            }
        });
    }

    protected override void Merge(HttpBuild build, AdditionSettings parent, AdditionSettings child)
    {
        child.Before.Merge(in parent.Before, "");
        child.After.Merge(in parent.After, "");
        child.Types.Merge(in parent.Types, null!);
        if (child.Types.Value is null)
        {
            child.Types = default;
            child.Types.Set(TypeSet.Of(build, "text/html"));
        }
        child.BeforeBytes = build.Memory.Store(child.Before.Value);
        child.AfterBytes = build.Memory.Store(child.After.Value);
    }

    public override void InstallLocation(LocationInstall install)
    {
        AdditionSettings settings = Settings(install.Location);
        if (!settings.BeforeBytes.IsEmpty || !settings.AfterBytes.IsEmpty)
        {
            install.AddFilter(FilterPlace.Addition, install.Shared(settings, static s => new AdditionHeadFilter(s)));
            install.AddFilter(FilterPlace.Ssi, PostponeHeadFilter.Instance);
        }
    }
}

internal sealed class AdditionHeadFilter(AdditionSettings settings) : HeadFilter
{
    private readonly NativeSlice _before = settings.BeforeBytes;
    private readonly NativeSlice _after = settings.AfterBytes;
    private readonly TypeSet _types = settings.Types.Value;

    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (!r.IsMain || head.Status != 200 || !_types.Contains(head.ContentType.Span))
        {
            return;
        }
        head.ContentLength = -1;
        head.AllowRanges = false;
        head.Remove(KnownResponseHeader.AcceptRanges);
        GzipHeadFilter.WeakenETag(r, head);
        if (!head.HeaderOnly)
        {
            AdditionFilter filter = r.Get(AdditionFilter.Slot);
            filter.Start(PostponeFilter.For(r), _before, _after);
            r.AddBodyFilter(filter);
        }
    }
}

/// <summary>Asks for the parts when the body begins.</summary>
internal sealed class AdditionFilter : BodyFilter
{
    internal static readonly RequestSlot<AdditionFilter> Slot = new();

    private PostponeFilter? _order;
    private NativeSlice _before;
    private NativeSlice _after;

    public override bool NeedsBytes => false;

    internal void Start(PostponeFilter order, NativeSlice before, NativeSlice after)
    {
        _order = order;
        _before = before;
        _after = after;
    }

    public override void Push(HttpRequest r, BufferChain input, PushFlags flags)
    {
        if (_order is { } order)
        {
            _order = null;
            if (!_after.IsEmpty)
            {
                order.IncludeAtEnd(_after);
            }
            if (!_before.IsEmpty)
            {
                order.Include(_before, default);
            }
        }
        PassOn(r, input, flags);
    }

    protected internal override void Reset()
    {
        _order = null;
        _before = default;
        _after = default;
    }
}
