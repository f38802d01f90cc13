// What a cache does for one request: looks its key up, answers from what is stored, or lets the exchange ask and
// watches the answer. This file: the decisions, in the order in which they are made. CachedRequest.Answer.cs: what an
// answer becomes, and answers from what is stored. CachedRequest.Head.cs: heads for files. The cache decides before
// the exchange begins; the exchange knows it as its tee. One loop's thread; pooled with its request. A hit allocates
// nothing.
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Cache;

/// <summary>$upstream_cache_status</summary>
internal enum CacheStatus : byte
{
    None, Miss, Bypass, Expired, Stale, Updating, Revalidated, Hit,
}

/// <summary>A request and its cache.</summary>
internal sealed partial class CachedRequest : AnswerTee
{
    internal static readonly RequestSlot<CachedRequest> Slot = new();

    private Exchange _x = null!;
    private CacheRules _rules = null!;
    private CachePath _path = null!;
    private CacheIndex _index = null!;
    private CacheLoop _loop = null!;
    private CacheMemory _memory = null!;
    private NativeSlice _keyText;
    private CacheKey _mainKey;
    private CacheKey _key;
    private ulong _epoch;
    private NativeSlice _varyNames;
    private CacheControl _request;
    private StoredResponse? _stored;
    private CacheKey _lockedKey;
    private long _token;
    private long _waitUntilMs;
    private uint _purges;
    private ushort _forgotten;
    private bool _cacheable;
    private bool _strips;
    private bool _invalidates;
    private bool _allowsStale;
    private bool _headSeen;
    private bool _isBackground;
    private bool _triedDisk;
    private CacheStatus _takesOver;

    internal CacheStatus Status { get; private set; }

    internal NativeSlice KeyText => _keyText;

    /// <summary>The stored response that is validated, for the conditions of the request; null for none.</summary>
    internal StoredResponse? Validated =>
        Status == CacheStatus.Expired && _rules.Settings.Validates ? _stored : null;

    /// <summary>The age of the stored response that was used, or -1.</summary>
    internal long AgeSec => _stored is null || Status < CacheStatus.Stale ? -1
        : _stored.Head.AgeSec(_x.Request.Loop.UnixMs);

    private HttpRequest Request => _x.Request;

    internal HttpRequest OfRequest => _x.Request;

    /// <summary>Gives the right to fetch to an update in the background.</summary>
    internal void HandOver(CachedRequest update)
    {
        update._isBackground = true;
        update._token = _token;
        update._lockedKey = _lockedKey;
        update._index = _index;
        update._loop = _loop;
        _token = 0;
    }

    /// <summary>Runs an exchange whose target is known through the cache.</summary>
    internal static LoopTask<PhaseResult> RunAsync(Exchange x, CacheRules rules)
    {
        HttpRequest r = x.Request;
        if (FindPath(rules, r) is not { Index: { } index } path)
        {
            return x.RunAsync();
        }
        CachedRequest c = r.Get(Slot);
        c.Begin(x, rules, path, index);
        if (rules.PurgeTags.Length > 0 && CacheRules.IsAnySet(rules.PurgeTags, r, out NativeSlice tags))
        {
            return CachePurge.ByTagsAsync(r, path, index, tags);
        }
        if (rules.Purge.Length > 0 && CacheRules.IsAnySet(rules.Purge, r, out NativeSlice _))
        {
            return CachePurge.ByKeyAsync(r, path, index, c._memory, c._keyText);
        }
        if (!rules.Takes(r.Method))
        {
            // RFC 9111 §4.4: what changes a resource makes what is stored of it worthless.
            c._invalidates = rules.Conforms && r.Method is not (HttpMethod.Get or HttpMethod.Head
                or HttpMethod.Options or HttpMethod.Trace or HttpMethod.Propfind);
            x.Tee = c._invalidates ? c : null;
            return x.RunAsync();
        }
        c._strips = true;
        c._cacheable = !c._request.Has(CacheFlags.NoStore);
        if (rules.Bypass.Length > 0 && CacheRules.IsAnySet(rules.Bypass, r, out NativeSlice _))
        {
            c.Status = CacheStatus.Bypass;
            return c.FetchAsync();
        }
        return c.Lookup(c.Use());
    }

    private static CachePath? FindPath(CacheRules rules, HttpRequest r)
    {
        if (rules.Path is { } path)
        {
            return path;
        }
        NativeSlice name = rules.Settings.Zone.Value!.Evaluate(r);
        if (name.IsEmpty || name.Span.SequenceEqual("off"u8))
        {
            return null;
        }
        foreach (CachePath one in rules.Paths!.All)
        {
            if (one.Family == rules.Family && System.Text.Ascii.Equals(name.Span, one.ZoneName))
            {
                return one;
            }
        }
        r.LogError(LogLevel.Error, $"cache \"{name}\" not found");
        return null;
    }

    private void Begin(Exchange x, CacheRules rules, CachePath path, CacheIndex index)
    {
        HttpRequest r = x.Request;
        _x = x;
        _rules = rules;
        _path = path;
        _index = index;
        _loop = CacheLoop.Of(r.Loop);
        _memory = _loop.MemoryOf(index);
        _keyText = rules.Key is { } key ? key.Evaluate(r) : OwnKey(x);
        _mainKey = _key = CacheKey.Of(_keyText.Span);
        _request = new CacheControl();
        if (rules.Conforms)
        {
            ReadRequest(r);
        }
    }

    /// <summary>What nginx takes without a `cache_key`: scheme, host and target as the server is asked.</summary>
    private static NativeSlice OwnKey(Exchange x)
    {
        ReadOnlySpan<byte> scheme = x.Tls is null ? "http://"u8 : "https://"u8;
        NativeSlice text = x.Request.Arena.Allocate(scheme.Length + x.TargetHost.Length + x.TargetUri.Length);
        scheme.CopyTo(text.Span);
        x.TargetHost.Span.CopyTo(text.Span[scheme.Length..]);
        x.TargetUri.Span.CopyTo(text.Span[(scheme.Length + x.TargetHost.Length)..]);
        return text;
    }

    private void ReadRequest(HttpRequest r)
    {
        RequestHead head = r.Head;
        int at = head.Find(KnownHeader.CacheControl);
        if (at < 0)
        {
            // RFC 9111 §5.4.
            int pragma = head.Find(KnownHeader.Pragma);
            if (pragma >= 0 && HeaderTokens.Contains(head[pragma].Value(r.HeadBytes.Span), "no-cache"u8))
            {
                _request.Flags |= CacheFlags.NoCache;
            }
            return;
        }
        for (; at >= 0; at = head.FindNext(at))
        {
            _request.Read(head[at].Value(r.HeadBytes.Span));
        }
    }

    // Looking up.

    /// <summary>Whether all files are known is asked first: what the loader enters in between is seen.</summary>
    private CacheLook Use()
    {
        _isLoaded = _path.HasBeenLoaded;
        return Noted(_index.Use(_key, Request.Loop.NowMs / 1000));
    }

    private CacheLook LookAgain()
    {
        _isLoaded = _path.HasBeenLoaded;
        return Noted(_index.Look(_key, Request.Loop.NowMs / 1000));
    }

    /// <summary>What an answer that is asked for from now on is compared with when it is published.</summary>
    private CacheLook Noted(CacheLook look)
    {
        _purges = look.Purges;
        if (_key == _mainKey)
        {
            _forgotten = look.Forgotten;
        }
        _isNoted = true;
        return look;
    }

    private bool _isLoaded;
    private bool _isNoted;

    private LoopTask<PhaseResult> Lookup(CacheLook look)
    {
        HttpRequest r = Request;
        if (look.Status != 0)
        {
            Status = CacheStatus.Hit;
            return PhaseResult.Answer(look.Status);
        }
        if (!look.Exists && (_triedDisk || _isLoaded))
        {
            return Missed(look);
        }
        StoredResponse? found = look.Exists ? _memory.Find(_key, look.Id) : null;
        return found is null ? LoadAsync(look) : Judge(found, look);
    }

    /// <summary>Reads the file into memory.</summary>
    private async LoopTask<PhaseResult> LoadAsync(CacheLook look)
    {
        HttpRequest r = Request;
        if (!_index.HasReadMarks)
        {
            await CachePurge.EnsureMarksAsync(r.Loop, _path, _index);
        }
        for (int tries = 0; tries < 3; tries++)
        {
            CacheLoads.Result read = await CacheLoads.ReadAsync(r.Loop, _path.FileOf(_key), _key);
            if (read.Response is { } found)
            {
                CacheLook now = _index.Look(_key, r.Loop.NowMs / 1000);
                if (!now.Exists || now.Id == 0)
                {
                    look = look with { Exists = false, Id = found.Head.Id, Status = 0, LooksAtPurges = true };
                }
                else if (now.Id != found.Head.Id)
                {
                    // It was replaced while it was read.
                    found.Release();
                    continue;
                }
                else
                {
                    look = look with { Exists = true, Id = now.Id, Status = 0, LooksAtPurges = now.LooksAtPurges };
                }
                _memory.Keep(found, _path.MemoryBytes);
                LoopTask<PhaseResult> judged = Judge(found, look);
                found.Release();
                return await judged;
            }
            if (read.Error == Errno.EINVAL)
            {
                CacheLook now = _index.Look(_key, r.Loop.NowMs / 1000);
                if (now.Id != look.Id && now.Id != 0)
                {
                    look = now;
                    continue;
                }
                r.LogError(LogLevel.Crit, $"cache file \"{_path.FileOf(_key)}\" is not whole, it is dropped");
                CachePurge.Unlink(r.Loop, _path.FileOf(_key));
            }
            else if (read.Error != Errno.ENOENT)
            {
                r.LogError(LogLevel.Crit, $"open() \"{_path.FileOf(_key)}\" failed", read.Error);
            }
            if (look.Exists)
            {
                _index.Forget(_key, look.Id);
            }
            break;
        }
        _triedDisk = true;
        return await Missed(look);
    }

    /// <summary>Something is stored under the key: it serves, or has to be asked for, or is the way to a
    /// variant.</summary>
    private LoopTask<PhaseResult> Judge(StoredResponse found, CacheLook look)
    {
        HttpRequest r = Request;
        if (!found.Texts.Key.Span.SequenceEqual(_keyText.Span))
        {
            r.LogError(LogLevel.Crit, $"cache file \"{_path.FileOf(_key)}\" is of another key");
            _cacheable = false;
            return Missed(look);
        }
        if (look.LooksAtPurges && IsPurged(found, look))
        {
            return Missed(look);
        }
        if (found.Head.IsMarker)
        {
            return ToVariant(found);
        }
        SetStored(found);
        StorePlan plan = found.Head.Plan;
        long age = found.Head.AgeSec(r.Loop.UnixMs);
        Usability usability = Freshness.Judge(age, in plan, in _request, out _allowsStale);
        if (usability == Usability.Fresh && !_isBackground)
        {
            Status = CacheStatus.Hit;
            return ServeAsync();
        }
        return Expired(in plan, age);
    }

    private LoopTask<PhaseResult> Expired(in StorePlan plan, long age)
    {
        HttpRequest r = Request;
        bool whileRevalidate = _allowsStale && !_isBackground && (plan.StaleWhileRevalidateSec > 0
            && age - plan.LifetimeSec <= plan.StaleWhileRevalidateSec || _rules.MayUseStale(UseStale.Updating));
        long ageMs = _rules.Locks ? _rules.Settings.LockAgeMs.Value : LockForeverMs;
        switch (TryLock(ageMs))
        {
            case CacheLockOutcome.Taken when whileRevalidate && _rules.Settings.Updates
                && BackgroundUpdate.TryStart(this):
                Status = CacheStatus.Stale;
                return ServeAsync();
            case CacheLockOutcome.Busy when whileRevalidate:
                Status = CacheStatus.Updating;
                return ServeAsync();
            case CacheLockOutcome.Busy when Waits(r) && (_rules.Conforms || _loop.Waits.IsWriting(_index, _key)):
                return WaitAsync();
        }
        Status = CacheStatus.Expired;
        return FetchAsync();
    }

    private const long LockForeverMs = 24L * 3600 * 1000;

    /// <summary>Nothing is stored that could serve.</summary>
    private LoopTask<PhaseResult> Missed(CacheLook look)
    {
        HttpRequest r = Request;
        if (Status == CacheStatus.None)
        {
            Status = CacheStatus.Miss;
        }
        if (look.Uses < _rules.MinUses || !_cacheable)
        {
            _cacheable = false;
            return FetchAsync();
        }
        long ageMs = _rules.Locks ? _rules.Settings.LockAgeMs.Value : LockForeverMs;
        if (_loop.Waits.IsWriting(_index, _key) || TryLock(ageMs) == CacheLockOutcome.Busy && Waits(r))
        {
            return WaitAsync();
        }
        return FetchAsync();
    }

    private CacheLockOutcome TryLock(long ageMs)
    {
        if (_token != 0)
        {
            return CacheLockOutcome.Taken;
        }
        CacheLockOutcome outcome = _index.TryLock(_key, Request.Loop.NowMs, ageMs, out long token);
        if (outcome == CacheLockOutcome.Taken)
        {
            _token = token;
            _lockedKey = _key;
        }
        return outcome;
    }

    /// <summary>Whether to wait for somebody else's answer: where that is wanted, and for one that only has to reach
    /// the disk.</summary>
    private bool Waits(HttpRequest r)
    {
        if (_loop.Waits.IsWriting(_index, _key))
        {
            return true;
        }
        if (!_rules.Locks)
        {
            return false;
        }
        if (_waitUntilMs == 0)
        {
            _waitUntilMs = r.Loop.NowMs + _rules.Settings.LockTimeoutMs.Value;
        }
        if (r.Loop.NowMs >= _waitUntilMs)
        {
            // As nginx: it goes on alone, and what it gets is not stored.
            _cacheable = false;
            return false;
        }
        return true;
    }

    private async LoopTask<PhaseResult> WaitAsync()
    {
        HttpRequest r = Request;
        ForgetStored();
        long forMs = _waitUntilMs == 0 ? 1000 : Math.Max(1, _waitUntilMs - r.Loop.NowMs);
        await _loop.Waits.WaitAsync(_index, _key, forMs);
        _triedDisk = false;
        if (!_epoch.Equals(0))
        {
            // Back to the resource: its marker may be another now.
            _key = _mainKey;
            _epoch = 0;
            _varyNames = default;
        }
        CacheLook look = LookAgain();
        return await Lookup(look with { Uses = uint.MaxValue });
    }

    /// <summary>The resource varies: on to what is stored for requests like this one.</summary>
    private LoopTask<PhaseResult> ToVariant(StoredResponse marker)
    {
        if (_epoch != 0)
        {
            _cacheable = false;
            return Missed(default);
        }
        HttpRequest r = Request;
        _epoch = marker.Head.Epoch;
        _varyNames = r.Arena.Store(marker.Texts.Vary.Span);
        _key = _mainKey.Variant(_epoch, VaryFields.Values(r, _varyNames).Span);
        _triedDisk = false;
        return Lookup(Use());
    }

    /// <summary>Whether a purge means what was found; also where that can no longer be said, because a purge was
    /// carried out since the look. A file that nobody knew becomes known.</summary>
    private bool IsPurged(StoredResponse found, CacheLook look)
    {
        if (_index.IsPurged(found.Texts.Key.Span, found.Texts.Tags.Span, found.Head.StoredMs, Request.Loop.UnixMs,
            out uint purges))
        {
            _index.Forget(_key, found.Head.Id);
            _memory.Forget(_key);
            CachePurge.Unlink(Request.Loop, _path.FileOf(_key));
            return true;
        }
        bool passed = look.Exists
            ? _index.PassedPurges(_key, found.Head.Id, purges, look.MarkDrops)
            : _index.Learn(_key, found.Head.Id, found.Head.FileBytes, Request.Loop.NowMs / 1000, purges,
                look.MarkDrops);
        if (!passed)
        {
            _memory.Forget(_key);
        }
        return !passed;
    }

    // Asking.

    private async LoopTask<PhaseResult> FetchAsync()
    {
        HttpRequest r = Request;
        Exchange x = _x;
        if (_request.Has(CacheFlags.OnlyIfCached))
        {
            Unlock(pass: false);
            return PhaseResult.Answer(504);
        }
        if (_strips && IsBeyondRange(r))
        {
            // As nginx: a far range is asked for as it is and not stored.
            Unlock(pass: true);
            _cacheable = false;
            _strips = false;
        }
        if (_strips)
        {
            x.UseProtocol(_rules.Protocol);
        }
        if (_cacheable && !_isNoted)
        {
            Noted(_index.Look(_mainKey, r.Loop.NowMs / 1000));
        }
        x.Tee = this;
        if (_cacheable && r.Method == HttpMethod.Head && _rules.Settings.ConvertHead.Value)
        {
            x.MethodInstead = HttpMethod.Get;
        }
        _askedMs = r.Loop.NowMs;
        _askId = _loop.NewId();
        PhaseResult result = await x.RunAsync();
        x.Tee = null;
        if (_takesOver != CacheStatus.None)
        {
            Status = _takesOver;
            return _isBackground ? PhaseResult.Done : await ServeAsync();
        }
        if (!x.Fault.IsNone && _stored is not null && MayUseStaleFor(x.Fault.Reason))
        {
            Unlock(pass: false);
            Status = CacheStatus.Stale;
            // It was meant for the 503 that an application whose time is up is answered for with.
            r.Response.Remove(KnownResponseHeader.RetryAfter);
            return _isBackground ? PhaseResult.Done : await ServeAsync();
        }
        if (result.Outcome == PhaseOutcome.Answer && _cacheable)
        {
            RememberStatus(result.Status);
        }
        if (_writer is null)
        {
            Unlock(pass: _headSeen);
        }
        return result;
    }

    private long _askedMs;

    /// <summary>The number of what will be stored: orders answers by when they were asked for.</summary>
    private ulong _askId;

    private bool IsBeyondRange(HttpRequest r)
    {
        long most = _rules.Settings.MaxRangeOffset.Value;
        if (most == long.MaxValue)
        {
            return false;
        }
        ReadOnlySpan<byte> range = r.Header(KnownHeader.Range).Span;
        if (range.Length < 7 || !HeaderName.Same(range[..6], "bytes="u8))
        {
            return false;
        }
        range = range[6..];
        int dash = range.IndexOf((byte)'-');
        // A suffix needs the length that nobody knows yet.
        return dash <= 0 || HeaderTokens.ContentLength(HeaderTokens.Trim(range[..dash])) is var from
            && (from < 0 || from >= most);
    }

    // Memory.

    private void Unlock(bool pass)
    {
        if (_token != 0)
        {
            _index.Unlock(_lockedKey, _token, pass ? Request.Loop.NowMs + CacheIndex.PassMs : 0);
            _token = 0;
            _loop.Waits.Wake(_index, _lockedKey);
        }
    }

    private void SetStored(StoredResponse response)
    {
        response.AddReference();
        _stored?.Release();
        _stored = response;
    }

    private void ForgetStored()
    {
        _stored?.Release();
        _stored = null;
    }

    protected internal override void Reset()
    {
        if (_writer is { } writer)
        {
            _writer = null;
            writer.End(whole: false);
        }
        if (_token != 0)
        {
            _index.Unlock(_lockedKey, _token);
            _loop.Waits.Wake(_index, _lockedKey);
            _token = 0;
        }
        ForgetStored();
        _keyText = _varyNames = default;
        _epoch = 0;
        _waitUntilMs = 0;
        _purges = 0;
        _isNoted = _isLoaded = false;
        _cacheable = _strips = _invalidates = _allowsStale = _headSeen = _isBackground = _triedDisk = false;
        _takesOver = CacheStatus.None;
        Status = CacheStatus.None;
    }
}
