// If-Modified-Since, If-Unmodified-Since, If-Match and If-None-Match: 304 and 412 for responses that carry a time or an
// ETag. A head filter without settings of its own; if_modified_since is a core setting.
using Weir.Kernel;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal sealed class NotModifiedModule : HttpModule
{
    public override string Name => "http_not_modified_filter";

    public override void Declare(HttpDeclarations d)
    {
    }

    public override void InstallLocation(LocationInstall install) =>
        install.AddFilter(FilterPlace.NotModified, install.Shared(install.Location.IfModifiedSince.Value, static mode =>
            new NotModifiedFilter(mode)));
}

internal sealed class NotModifiedFilter(IfModifiedSinceMode mode) : HeadFilter
{
    private const ulong Conditions = 1UL << (int)KnownHeader.IfUnmodifiedSince | 1UL << (int)KnownHeader.IfMatch
        | 1UL << (int)KnownHeader.IfModifiedSince | 1UL << (int)KnownHeader.IfNoneMatch;

    public override void OnHead(HttpRequest r)
    {
        ResponseHead head = r.Response;
        if (!r.Head.HasAny(Conditions) || head.Status != 200 || !r.IsMain || head.NotModifiedDisabled)
        {
            return;
        }
        NativeSlice unmodified = r.Header(KnownHeader.IfUnmodifiedSince);
        if (!unmodified.IsEmpty && !IsUnmodified(head, unmodified.Span))
        {
            r.RefuseHead(412);
            return;
        }
        NativeSlice match = r.Header(KnownHeader.IfMatch);
        if (!match.IsEmpty && !Matches(head, match.Span, weak: false))
        {
            r.RefuseHead(412);
            return;
        }
        NativeSlice modified = r.Header(KnownHeader.IfModifiedSince);
        NativeSlice noneMatch = r.Header(KnownHeader.IfNoneMatch);
        if (modified.IsEmpty && noneMatch.IsEmpty)
        {
            return;
        }
        if (!modified.IsEmpty && IsModified(head, modified.Span))
        {
            return;
        }
        if (!noneMatch.IsEmpty && !Matches(head, noneMatch.Span, weak: true))
        {
            return;
        }
        head.Status = 304;
        head.StatusText = default;
        head.ContentType = default;
        head.Charset = default;
        head.ContentLength = -1;
        head.AllowRanges = false;
        head.Remove(KnownResponseHeader.AcceptRanges);
        head.Remove(KnownResponseHeader.ContentEncoding);
    }

    private static bool IsUnmodified(ResponseHead head, ReadOnlySpan<byte> since) =>
        head.LastModified >= 0 && HttpDate.TryParse(since, out long time) && time >= head.LastModified;

    private bool IsModified(ResponseHead head, ReadOnlySpan<byte> since)
    {
        if (head.LastModified < 0 || mode == IfModifiedSinceMode.Off)
        {
            return true;
        }
        if (!HttpDate.TryParse(since, out long time))
        {
            time = -1;
        }
        return time != head.LastModified && (mode == IfModifiedSinceMode.Exact || time < head.LastModified);
    }

    /// <summary>Whether a list of entity tags has the response's; weak comparison ignores W/.</summary>
    private static bool Matches(ResponseHead head, ReadOnlySpan<byte> list, bool weak)
    {
        if (list is [(byte)'*'])
        {
            return true;
        }
        ReadOnlySpan<byte> tag = head.Value(KnownResponseHeader.ETag).Span;
        if (tag.IsEmpty)
        {
            return false;
        }
        if (weak && tag.StartsWith("W/"u8))
        {
            tag = tag[2..];
        }
        while (!list.IsEmpty)
        {
            if (weak && list.StartsWith("W/"u8))
            {
                list = list[2..];
            }
            if (list.StartsWith(tag))
            {
                ReadOnlySpan<byte> rest = list[tag.Length..].TrimStart(" \t"u8);
                if (rest.IsEmpty || rest[0] == ',')
                {
                    return true;
                }
            }
            int comma = list.IndexOf((byte)',');
            if (comma < 0)
            {
                return false;
            }
            list = list[(comma + 1)..].TrimStart(" \t,"u8);
        }
        return false;
    }
}
