// What an answer becomes: stored, in place of what was stored, a new life for what was stored (304), or nothing. The
// head is written anew for the file: without what belongs to one connection, without fields that no-cache and private
// name, and under RFC 9111 without Age, which is counted on from here.
using Weir.Http.Modules;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

using HttpResponse = Weir.Protocol.Http1.ResponseHead;

namespace Weir.Http.Cache;

internal sealed partial class CachedRequest
{
    /// <summary>Room behind a head, for one that grows when it is validated.</summary>
    private const int SlackBytes = 256;

    private CacheWriter? _writer;

    public override bool GoesOnAlone => _cacheable && (!_headSeen || _writer is { HasFailed: false });

    public override bool IsFull => _writer is { IsFull: true };

    public override LoopTask<Unit> RoomAsync() => _writer?.RoomAsync() ?? default;

    public override void OnBody(BufferChain body) => _writer?.Append(body);

    public override void OnEnd(bool whole)
    {
        if (_writer is not { } writer)
        {
            return;
        }
        _writer = null;
        if (whole && SealHead(writer))
        {
            writer.End(whole: true);
        }
        else
        {
            writer.End(whole: false);
        }
    }

    public override bool TakesOver(Exchange x)
    {
        int status = x.Head.Status;
        if (_invalidates)
        {
            if (status is >= 200 and < 400)
            {
                Invalidate(x);
            }
            return false;
        }
        if (_stored is null || Status != CacheStatus.Expired)
        {
            return false;
        }
        if (status == 304 && _rules.Settings.Validates)
        {
            _headSeen = true;
            Freshen(x);
            _takesOver = CacheStatus.Revalidated;
            return true;
        }
        if (status >= 400 && UpstreamFault.ReasonOf(status) is not NextUpstream.None and var reason
            && MayUseStaleFor(reason))
        {
            _headSeen = true;
            Unlock(pass: false);
            _takesOver = CacheStatus.Stale;
            return true;
        }
        return false;
    }

    public override void OnHead(Exchange x)
    {
        HttpRequest r = x.Request;
        _headSeen = true;
        if (_strips)
        {
            Adapt(r.Response, x.Head.Status, x.Head.Has(KnownResponseHeader.AcceptRanges));
        }
        if (!_cacheable)
        {
            return;
        }
        if (x.MethodAsked == HttpMethod.Head)
        {
            FreshenByHead(x);
            Unlock(pass: true);
            _cacheable = false;
            return;
        }
        AnswerFacts facts = FactsOf(x, x.Head, x.HeadBytes, out NativeSlice vary);
        StorePlan plan = _rules.Conforms ? Freshness.PlanRfc(in facts) : Freshness.PlanNginx(in facts);
        if (!plan.Stores || _rules.NoCache.Length > 0 && CacheRules.IsAnySet(_rules.NoCache, r, out NativeSlice _)
            || !TryStore(x, in facts, in plan, vary))
        {
            _cacheable = false;
            Unlock(pass: true);
        }
    }

    /// <summary>What the server left to this side: conditions and ranges of the client's request.</summary>
    private void Adapt(ResponseHead response, int status, bool ranges)
    {
        response.NotModifiedDisabled = status != 200;
        if (!response.LastModifiedText.IsEmpty
            && HttpDate.TryParse(response.LastModifiedText.Span, out long modified))
        {
            response.LastModified = modified;
        }
        if (status == 200 && (_rules.Conforms || ranges) && response.ContentLength >= 0)
        {
            response.AllowRanges = true;
            response.Remove(KnownResponseHeader.AcceptRanges);
        }
    }

    /// <summary>What a head says that matters.</summary>
    private AnswerFacts FactsOf(Exchange x, HttpResponse head, NativeSlice bytes, out NativeSlice vary)
    {
        HttpRequest r = x.Request;
        var facts = new AnswerFacts
        {
            Status = head.Status,
            NowSec = r.Loop.UnixMs / 1000,
            DelaySec = (r.Loop.NowMs - _askedMs) / 1000,
            ConfiguredSec = _rules.ValidFor(head.Status),
            IsAuthorized = _rules.Conforms && r.Head.Has(KnownHeader.Authorization),
            IsNotToBeStored = _request.Has(CacheFlags.NoStore),
        };
        vary = default;
        bool targeted = _rules.Conforms && ReadTargeted(head, bytes, ref facts), isAged = false;
        for (int i = 0; i < head.Count; i++)
        {
            ref readonly HeaderField field = ref head[i];
            NativeSlice value = bytes.Slice(field.ValueStart, field.ValueLength);
            switch (field.KnownResponse)
            {
                case KnownResponseHeader.CacheControl when x.Obeys(IgnoredHeaders.CacheControl) && !targeted:
                    facts.Control.Read(value.Span);
                    break;
                case KnownResponseHeader.Expires when x.Obeys(IgnoredHeaders.Expires) && facts.ExpiresSec < 0:
                    facts.ExpiresSec = HttpDate.TryParse(value.Span, out long expires) ? Math.Max(0, expires) : 0;
                    break;
                case KnownResponseHeader.XAccelExpires when x.Obeys(IgnoredHeaders.XAccelExpires):
                    ReadAccel(value.Span, ref facts);
                    break;
                case KnownResponseHeader.SetCookie or KnownResponseHeader.SetCookie2:
                    facts.SetsCookie |= x.Obeys(IgnoredHeaders.SetCookie);
                    break;
                case KnownResponseHeader.Vary when x.Obeys(IgnoredHeaders.Vary):
                    facts.VariesOnAll |= HeaderTokens.Contains(value.Span, "*"u8);
                    vary = vary.IsEmpty ? VaryFields.Names(r, value.Span)
                        : VaryFields.Names(r, Joined(r, vary, value).Span);
                    break;
                case KnownResponseHeader.Date:
                    facts.DateSec = HttpDate.TryParse(value.Span, out long date) ? date : -1;
                    break;
                case KnownResponseHeader.Age when !isAged:
                    // RFC 9111 §5.1: of several the first counts.
                    isAged = true;
                    ReadOnlySpan<byte> ages = value.Span;
                    facts.AgeSec = HeaderTokens.Next(ref ages, out ReadOnlySpan<byte> age)
                        ? CacheControl.Seconds(age) : 0;
                    break;
                case KnownResponseHeader.LastModified:
                    facts.LastModifiedSec = HttpDate.TryParse(value.Span, out long modified) ? modified : -1;
                    break;
                case KnownResponseHeader.ETag:
                    facts.HasETag = value.Length > 0;
                    break;
            }
        }
        return facts;
    }

    private static NativeSlice Joined(HttpRequest r, NativeSlice a, NativeSlice b) =>
        r.Arena.Concat(r.Arena.Concat(a.Span, ","u8).Span, b.Span);

    /// <summary>CDN-Cache-Control (RFC 9213).</summary>
    private static bool ReadTargeted(HttpResponse head, NativeSlice bytes, ref AnswerFacts facts)
    {
        ReadOnlySpan<byte> name = "CDN-Cache-Control"u8;
        uint hash = HeaderName.Hash(name);
        int at = head.Find(name, hash, bytes.Span);
        for (int i = at; i >= 0; i = head.FindNext(i, bytes.Span))
        {
            if (!CacheControl.IsDictionary(head[i].Value(bytes.Span)))
            {
                return false;
            }
        }
        for (int i = at; i >= 0; i = head.FindNext(i, bytes.Span))
        {
            facts.Control.Read(head[i].Value(bytes.Span));
        }
        return facts.IsTargeted = at >= 0;
    }

    private static void ReadAccel(ReadOnlySpan<byte> value, ref AnswerFacts facts)
    {
        bool absolute = !value.IsEmpty && value[0] == '@';
        long number = HeaderTokens.ContentLength(absolute ? value[1..] : value);
        if (number >= 0)
        {
            facts.AccelSec = absolute ? Math.Max(0, number - facts.NowSec) : number;
        }
    }

    /// <summary>Whether the stored response may answer because asking failed in this way.</summary>
    private bool MayUseStaleFor(NextUpstream reason)
    {
        if (_stored is null || !_allowsStale)
        {
            return false;
        }
        StorePlan plan = _stored.Head.Plan;
        long stale = _stored.Head.AgeSec(Request.Loop.UnixMs) - plan.LifetimeSec;
        bool said = plan.StaleIfErrorSec >= 0 && stale <= plan.StaleIfErrorSec || _request.StaleIfError >= 0
            && stale <= _request.StaleIfError;
        const NextUpstream errors = NextUpstream.Error | NextUpstream.Timeout | NextUpstream.InvalidHeader
            | NextUpstream.Http500 | NextUpstream.Http502 | NextUpstream.Http503 | NextUpstream.Http504
            | NextUpstream.NoLive;
        return said && (reason & errors) != 0 || _rules.MayUseStale(reason == NextUpstream.NoLive
            ? NextUpstream.Error : reason);
    }

    private void RememberStatus(int status)
    {
        long seconds = _rules.ValidFor(status);
        if (seconds > 0)
        {
            _index.Remember(_key, status, Request.Loop.NowMs / 1000 + seconds);
        }
    }

    // Storing.

    private bool TryStore(Exchange x, in AnswerFacts facts, in StorePlan plan, NativeSlice vary)
    {
        HttpRequest r = x.Request;
        CacheKey key = _key;
        ulong epoch = _epoch;
        bool marks = false;
        if (vary.IsEmpty)
        {
            key = _mainKey;
        }
        else if (_epoch == 0 || !vary.Span.SequenceEqual(_varyNames.Span))
        {
            marks = true;
            epoch = _askId;
            key = _mainKey.Variant(epoch, VaryFields.Values(r, vary).Span);
        }
        BufferSlab? slab = WriteHeadTexts(x, vary, out CacheFileHead head);
        if (slab is null)
        {
            r.LogError(LogLevel.Warn, "the response head and its key are too long to be stored in the cache");
            return false;
        }
        Fill(ref head, in facts, in plan, r.Loop.UnixMs);
        head.Id = _askId;
        string file = _path.FileOf(key);
        CacheCommit commit = Commit(r, key, in head);
        string temp = _path.UsesTempPath ? x.Settings.TempPath.Value : Directory(file);
        CacheWriter writer = CacheWriter.Begin(r, commit, file, temp, head.BodyStart);
        writer.SetHead(slab, head.BodyStart);
        if (marks)
        {
            SetMarker(r, writer, commit, epoch, vary);
        }
        _writer = writer;
        _commit = commit;
        return true;
    }

    private CacheCommit? _commit;

    /// <summary>What happens when a file is in its place; the right to fetch goes over to it.</summary>
    private CacheCommit Commit(HttpRequest r, CacheKey key, in CacheFileHead head)
    {
        var commit = new CacheCommit
        {
            EventLoop = r.Loop, Path = _path, Index = _index, Loop = _loop, Memory = _memory, Key = key,
            LookedUp = _key, Purges = _purges, Head = head, MainKey = _mainKey,
            Forgotten = _forgotten, LockedKey = _lockedKey, Token = _token, Log = r.Log,
        };
        _token = 0;
        return commit;
    }

    private static string Directory(string file) => file[..file.LastIndexOf('/')];

    private void SetMarker(HttpRequest r, CacheWriter writer, CacheCommit commit, ulong epoch, NativeSlice vary)
    {
        var head = new CacheFileHead
        {
            Id = _askId, StoredMs = r.Loop.UnixMs, Epoch = epoch, Flags = CacheFileFlags.Marker,
            KeyLength = _keyText.Length, VaryLength = vary.Length, LastModifiedSec = -1, DateSec = -1,
        };
        head.BodyStart = (CacheFileHead.HeadBytes + head.TextLength + 63) & ~63;
        BufferSlab slab = r.Loop.Buffers.Rent(head.BodyStart);
        slab.Span[..head.BodyStart].Clear();
        _keyText.Span.CopyTo(slab.Span[CacheFileHead.HeadBytes..]);
        vary.Span.CopyTo(slab.Span[(CacheFileHead.HeadBytes + head.KeyLength)..]);
        head.Seal(slab.Span);
        commit.MarkerKey = _mainKey;
        commit.MarkerId = head.Id;
        commit.MarkerBytes = head.BodyStart;
        writer.SetMarker(slab, head.BodyStart, _path.FileOf(_mainKey));
    }

    private void Fill(ref CacheFileHead head, in AnswerFacts facts, in StorePlan plan, long nowMs)
    {
        head.StoredMs = nowMs;
        head.InitialAgeSec = plan.InitialAgeSec;
        head.LifetimeSec = plan.LifetimeSec;
        head.StaleWhileRevalidateSec = plan.StaleWhileRevalidateSec;
        head.StaleIfErrorSec = plan.StaleIfErrorSec;
        head.DateSec = facts.DateSec;
        head.LastModifiedSec = facts.LastModifiedSec;
        head.Flags = (_rules.IsCgi ? CacheFileFlags.Cgi : 0) | (plan.AlwaysAsks ? CacheFileFlags.AlwaysAsks : 0)
            | (plan.NeverStale ? CacheFileFlags.NeverStale : 0) | (_rules.Conforms ? CacheFileFlags.Conforms : 0);
        head.Status = facts.Status;
    }

    /// <summary>The body is whole: its length completes the head.</summary>
    private bool SealHead(CacheWriter writer)
    {
        long length = _x.Protocol.BodyLength(_x);
        if (length >= 0 && length != writer.BodyBytes)
        {
            return false;
        }
        CacheCommit commit = _commit!;
        commit.Head.BodyBytes = writer.BodyBytes;
        commit.Head.Seal(writer.HeadSlab!.Span);
        commit.BeginWriting();
        return true;
    }

    // Answering from what is stored.

    private LoopTask<PhaseResult> ServeAsync()
    {
        HttpRequest r = Request;
        StoredResponse stored = _stored!;
        Exchange x = _x;
        if (!x.ReadStored(stored.Texts.Response, (stored.Head.Flags & CacheFileFlags.Cgi) != 0))
        {
            r.LogError(LogLevel.Crit, $"the head in cache file \"{_path.FileOf(_key)}\" cannot be read");
            _index.Forget(_key, stored.Head.Id);
            return PhaseResult.Answer(500);
        }
        if (AnswerHead.TryRedirect(x, out PhaseResult redirect))
        {
            return redirect;
        }
        AnswerHead.Pass(x);
        ResponseHead response = r.Response;
        response.ContentLength = stored.Head.Status == 204 ? -1 : stored.Head.BodyBytes;
        Adapt(response, stored.Head.Status, x.Head.Has(KnownResponseHeader.AcceptRanges));
        if ((stored.Head.Flags & CacheFileFlags.Conforms) != 0)
        {
            TellAge(r, x, stored);
        }
        if (stored.Head.BodyBytes == 0)
        {
            r.SendHead();
            r.Push(default, null, PushFlags.Last);
            return PhaseResult.Done;
        }
        if (stored.HasBody)
        {
            return r.SendComplete(stored.Body, stored.Slab);
        }
        FileRef file = stored.File!;
        r.SendHead();
        file.AddReference();
        return FileSender.SendWholeAsync(r, file, stored.Head.BodyBytes, stored.BodyAt);
    }

    /// <summary>Age, and the Date that it counts from (RFC 9111 §5.1).</summary>
    private static void TellAge(HttpRequest r, Exchange x, StoredResponse stored)
    {
        long age = stored.Head.AgeSec(r.Loop.UnixMs);
        r.Response.Add(NativeSlice.Literal("Age"u8), r.Arena.StoreNumber(age), KnownResponseHeader.Age);
        int date = x.Head.Find(KnownResponseHeader.Date);
        if (date >= 0)
        {
            r.Response.Date = AnswerHead.ValueOf(x, in x.Head[date]);
        }
    }
}
