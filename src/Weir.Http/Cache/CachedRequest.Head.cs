// Heads for files: written from an answer's, merged with a 304's, made worthless by other requests.
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

using HttpResponse = Weir.Protocol.Http1.ResponseHead;

namespace Weir.Http.Cache;

internal sealed partial class CachedRequest
{
    /// <summary>Key, names of Vary, head and tags in a slab behind room for the fixed part; null when they are too
    /// long.</summary>
    private BufferSlab? WriteHeadTexts(Exchange x, NativeSlice vary, out CacheFileHead head)
    {
        head = new CacheFileHead { KeyLength = _keyText.Length, VaryLength = vary.Length };
        long room = CacheFileHead.HeadBytes + _keyText.Length + vary.Length + 2L * x.HeadBytes.Length + SlackBytes
            + 192;
        if (room > CacheFileHead.BodyStartMax)
        {
            return null;
        }
        BufferSlab slab = x.Request.Loop.Buffers.Rent((int)room);
        slab.Span[..(int)room].Clear();
        var w = new SpanWriter(slab.Span[CacheFileHead.HeadBytes..(int)room]);
        w.Write(_keyText.Span);
        w.Write(vary.Span);
        int from = w.Written;
        WriteStatus(x.Head, x.HeadBytes, ref w);
        WriteFields(x, x.Head, x.HeadBytes, null, ref w);
        if (_rules.Conforms && !x.Head.Has(KnownResponseHeader.Date))
        {
            WriteDate(x.Request.Loop.UnixMs / 1000, ref w);
        }
        w.Write("\r\n"u8);
        head.ResponseLength = w.Written - from;
        from = w.Written;
        WriteTags(x.Head, x.HeadBytes, ref w);
        head.TagsLength = w.Written - from;
        head.BodyStart = (CacheFileHead.HeadBytes + w.Written + SlackBytes + 63) & ~63;
        if (head.BodyStart > slab.Capacity)
        {
            slab.Release();
            return null;
        }
        return slab;
    }

    private static void WriteStatus(HttpResponse head, NativeSlice bytes, ref SpanWriter w)
    {
        if (head.StatusLine.Length > 0)
        {
            w.Write(head.StatusLine.Of(bytes.Span));
            w.Write("\r\n"u8);
        }
    }

    private static void WriteDate(long second, ref SpanWriter w)
    {
        Span<byte> date = stackalloc byte[HttpDate.Length];
        HttpDate.Format(second, date);
        w.Write("Date: "u8);
        w.Write(date);
        w.Write("\r\n"u8);
    }

    /// <summary>The fields that are kept, but those that a newer head has; of a head without a body none that describe
    /// one.</summary>
    private void WriteFields(Exchange x, HttpResponse head, NativeSlice bytes, HttpResponse? newer, ref SpanWriter w,
        bool hasBody = true)
    {
        for (int i = 0; i < head.Count; i++)
        {
            ref readonly HeaderField field = ref head[i];
            ReadOnlySpan<byte> name = field.Name(bytes.Span);
            bool isOfBody = DescribesBody(field.KnownResponse);
            if (!IsKept(field.KnownResponse) || isOfBody && !hasBody
                || HeaderName.Same(name, "Proxy-Authentication-Info"u8)
                || newer is not null && !isOfBody && IsIn(newer, x.HeadBytes, in field, name)
                || _rules.Conforms && (IsNamed(head, bytes, name) || IsNominated(head, bytes, name)))
            {
                continue;
            }
            w.Write(name);
            w.Write(": "u8);
            w.Write(field.Value(bytes.Span));
            w.Write("\r\n"u8);
        }
    }

    private bool IsKept(KnownResponseHeader known) => known switch
    {
        KnownResponseHeader.Connection or KnownResponseHeader.KeepAlive or KnownResponseHeader.TransferEncoding
            or KnownResponseHeader.Upgrade or KnownResponseHeader.Trailer or KnownResponseHeader.ProxyConnection
            or KnownResponseHeader.ContentLength or KnownResponseHeader.ProxyAuthenticate => false,
        KnownResponseHeader.Age => !_rules.Conforms,
        _ => true,
    };

    /// <summary>What a stored body is read by: a 304, which has none, does not change it (RFC 9111 §3.2).</summary>
    private static bool DescribesBody(KnownResponseHeader known) =>
        known is KnownResponseHeader.ContentEncoding or KnownResponseHeader.ContentRange;

    private static bool IsIn(HttpResponse head, NativeSlice bytes, in HeaderField field, ReadOnlySpan<byte> name) =>
        field.KnownId != 0 ? head.Has(field.KnownResponse) : head.Find(name, field.Hash, bytes.Span) >= 0;

    /// <summary>Whether no-cache="…" or private="…" names it.</summary>
    private static bool IsNamed(HttpResponse head, NativeSlice bytes, ReadOnlySpan<byte> name)
    {
        for (int i = head.Find(KnownResponseHeader.CacheControl); i >= 0; i = head.FindNext(i))
        {
            ReadOnlySpan<byte> value = head[i].Value(bytes.Span);
            if (value.IndexOf((byte)'"') >= 0 && CacheControl.Names(value, name))
            {
                return true;
            }
        }
        return false;
    }

    private static bool IsNominated(HttpResponse head, NativeSlice bytes, ReadOnlySpan<byte> name)
    {
        for (int i = head.Find(KnownResponseHeader.Connection); i >= 0; i = head.FindNext(i))
        {
            if (HeaderTokens.Contains(head[i].Value(bytes.Span), name))
            {
                return true;
            }
        }
        return false;
    }

    private static void WriteTags(HttpResponse head, NativeSlice bytes, ref SpanWriter w)
    {
        for (int i = 0; i < head.Count; i++)
        {
            ref readonly HeaderField field = ref head[i];
            ReadOnlySpan<byte> name = field.Name(bytes.Span);
            if (field.KnownId == 0
                && (HeaderName.Same(name, "Surrogate-Key"u8) || HeaderName.Same(name, "Cache-Tag"u8)))
            {
                w.Write(field.Value(bytes.Span));
                w.Write(" "u8);
            }
        }
    }

    // Validating.

    /// <summary>A 304 came: what is stored lives on, with what the 304 says (RFC 9111 §4.3.4).</summary>
    private void Freshen(Exchange x)
    {
        HttpRequest r = x.Request;
        StoredResponse old = _stored!;
        CacheFileHead head = old.Head;
        if (_rules.Conforms && !IsSame(x, old, KnownResponseHeader.ETag))
        {
            // Of another version than the one that was asked about: what is stored is used once more, as the server
            // said, and never again (RFC 9111 §4.3.4).
            CachePurge.Forget(r.Loop, _path, _index, _memory, _key);
            Unlock(pass: false);
            return;
        }
        BufferSlab? slab = _rules.Conforms ? Merge(x, old, ref head) : null;
        StorePlan plan;
        AnswerFacts facts;
        if (slab is not null)
        {
            NativeSlice merged = slab.Memory.Slice(CacheFileHead.HeadBytes + head.KeyLength + head.VaryLength,
                head.ResponseLength);
            TryParse(merged, out HttpResponse both);
            facts = FactsOf(x, both, merged, out NativeSlice _);
            plan = Freshness.PlanRfc(in facts);
        }
        else
        {
            facts = FactsOf(x, x.Head, x.HeadBytes, out NativeSlice _);
            facts.Status = head.Status;
            facts.ConfiguredSec = _rules.ValidFor(head.Status);
            facts.LastModifiedSec = head.LastModifiedSec;
            plan = _rules.Conforms ? Freshness.PlanRfc(in facts) : Freshness.PlanNginx(in facts);
        }
        if (!plan.Stores)
        {
            // It says nothing that would keep it: used once more, then asked for again.
            slab?.Release();
            Unlock(pass: false);
            return;
        }
        if (slab is null)
        {
            slab = r.Loop.Buffers.Rent(old.HasBody ? (int)head.FileBytes : head.BodyStart);
            old.Slab.Span[..head.BodyStart].CopyTo(slab.Span);
        }
        Fill(ref head, in facts, in plan, r.Loop.UnixMs);
        head.Id = _askId;
        head.Seal(slab.Span);
        Replace(x, old, in head, slab);
    }

    /// <summary>The old head with the fields of the 304, in a slab that takes the body too when it is small.</summary>
    private BufferSlab? Merge(Exchange x, StoredResponse old, ref CacheFileHead head)
    {
        long room = CacheFileHead.HeadBytes + head.TextLength + 2L * x.HeadBytes.Length + SlackBytes + 256
            + (old.HasBody ? head.BodyBytes : 0);
        if (room > 2 * CacheFileHead.BodyStartMax)
        {
            return null;
        }
        BufferSlab slab = x.Request.Loop.Buffers.Rent((int)room);
        slab.Span.Clear();
        var w = new SpanWriter(slab.Span[CacheFileHead.HeadBytes..]);
        w.Write(old.Texts.Key.Span);
        w.Write(old.Texts.Vary.Span);
        int from = w.Written;
        if (!TryParse(old.Texts.Response, out HttpResponse stored))
        {
            slab.Release();
            return null;
        }
        WriteStatus(stored, old.Texts.Response, ref w);
        WriteFields(x, stored, old.Texts.Response, x.Head, ref w);
        WriteFields(x, x.Head, x.HeadBytes, null, ref w, hasBody: false);
        if (!x.Head.Has(KnownResponseHeader.Date))
        {
            WriteDate(x.Request.Loop.UnixMs / 1000, ref w);
        }
        w.Write("\r\n"u8);
        head.ResponseLength = w.Written - from;
        w.Write(old.Texts.Tags.Span);
        int needed = (CacheFileHead.HeadBytes + w.Written + 63) & ~63;
        if (needed > head.BodyStart)
        {
            head.BodyStart = needed + SlackBytes;
        }
        return slab;
    }

    private HttpResponse? _storedHead;

    private bool TryParse(NativeSlice text, out HttpResponse head)
    {
        head = _storedHead ??= new HttpResponse();
        var parser = new ResponseHeadParser();
        parser.Reset(_rules.IsCgi);
        return parser.Parse(text.Span, head, new ParseOptions { MaxHeaders = 1000 }) == ParseStep.Done;
    }

    /// <summary>Serves from the new head at once, and writes it to the disk beside that.</summary>
    private void Replace(Exchange x, StoredResponse old, in CacheFileHead head, BufferSlab slab)
    {
        HttpRequest r = x.Request;
        old.File?.AddReference();
        if (old.HasBody)
        {
            old.Body.Span.CopyTo(slab.Span.Slice(head.BodyStart, (int)head.BodyBytes));
        }
        StoredResponse fresh = StoredResponse.Make(_key, in head, slab, old.HasBody, old.File);
        fresh.BodyAt = old.BodyAt;
        CacheCommit commit = Commit(r, _key, in head);
        commit.BeginWriting();
        string file = _path.FileOf(_key);
        string temp = _path.UsesTempPath ? x.Settings.TempPath.Value : Directory(file);
        CacheWriter writer = CacheWriter.Begin(r, commit, file, temp, head.BodyStart);
        slab.AddReference();
        writer.SetHead(slab, head.BodyStart);
        if (!old.HasBody && old.BodyAt == head.BodyStart)
        {
            writer.InPlace(old.File!);
        }
        else if (old.HasBody)
        {
            BufferChain body = r.Loop.RentChain();
            body.AppendSlice(fresh.Body, slab);
            writer.Append(body);
            r.Loop.Return(body);
        }
        else
        {
            writer.CopyBody(old.File!, old.BodyAt, head.BodyBytes);
        }
        writer.End(whole: true);
        SetStored(fresh);
        fresh.Release();
    }

    /// <summary>A HEAD's answer tells whether what is stored is still the same (RFC 9111 §4.3.5).</summary>
    private void FreshenByHead(Exchange x)
    {
        if (_stored is not { } stored || !_rules.Conforms || x.Head.Status != 200)
        {
            return;
        }
        long length = x.Protocol.BodyLength(x);
        bool same = (length < 0 || length == stored.Head.BodyBytes) && IsSame(x, stored, KnownResponseHeader.ETag)
            && IsSame(x, stored, KnownResponseHeader.LastModified);
        if (same)
        {
            Freshen(x);
        }
        else
        {
            CachePurge.Forget(x.Request.Loop, _path, _index, _memory, _key);
        }
    }

    /// <summary>Whether a validator of the answer, if it has one, is the stored one's, if that has one.</summary>
    private bool IsSame(Exchange x, StoredResponse stored, KnownResponseHeader validator)
    {
        int at = x.Head.Find(validator);
        if (at < 0 || !TryParse(stored.Texts.Response, out HttpResponse known) || !known.Has(validator))
        {
            return true;
        }
        ReadOnlySpan<byte> now = x.Head[at].Value(x.HeadBytes.Span);
        ReadOnlySpan<byte> then = known.Value(validator, stored.Texts.Response.Span);
        return WithoutWeak(now).SequenceEqual(WithoutWeak(then));
    }

    /// <summary>Compared weakly (RFC 9110 §8.8.3.2), as the condition that was sent is.</summary>
    private static ReadOnlySpan<byte> WithoutWeak(ReadOnlySpan<byte> tag) =>
        tag.StartsWith("W/"u8) ? tag[2..] : tag;

    // Invalidating.

    /// <summary>The resource was changed: what is stored of it, and of what the answer points to on the same host, is
    /// gone (RFC 9111 §4.4).</summary>
    private void Invalidate(Exchange x)
    {
        CachePurge.Forget(x.Request.Loop, _path, _index, _memory, _mainKey);
        if (_rules.Key is { } key)
        {
            // What was stored was asked for with GET, and the key may say so.
            HttpRequest main = x.Request.Main;
            NativeSlice method = main.MethodName;
            main.MethodName = NativeSlice.Literal("GET"u8);
            CacheKey stored = CacheKey.Of(key.Evaluate(x.Request).Span);
            main.MethodName = method;
            if (stored != _mainKey)
            {
                CachePurge.Forget(x.Request.Loop, _path, _index, _memory, stored);
            }
            return;
        }
        InvalidateTarget(x, x.Head.Find(KnownResponseHeader.Location));
        InvalidateTarget(x, x.Head.Find(KnownResponseHeader.ContentLocation));
    }

    private void InvalidateTarget(Exchange x, int field)
    {
        if (field < 0)
        {
            return;
        }
        NativeSlice value = AnswerHead.ValueOf(x, in x.Head[field]);
        ReadOnlySpan<byte> text = value.Span;
        ReadOnlySpan<byte> scheme = x.Tls is null ? "http://"u8 : "https://"u8;
        NativeSlice key;
        if (text.StartsWith(scheme) && text[scheme.Length..].StartsWith(x.TargetHost.Span)
            && text.Length > scheme.Length + x.TargetHost.Length && text[scheme.Length + x.TargetHost.Length] == '/')
        {
            key = value;
        }
        else if (text.Length > 0 && text[0] == '/' && !text.StartsWith("//"u8))
        {
            HttpRequest r = x.Request;
            key = r.Arena.Concat(r.Arena.Concat(scheme, x.TargetHost.Span).Span, text);
        }
        else
        {
            return;
        }
        CachePurge.Forget(x.Request.Loop, _path, _index, _memory, CacheKey.Of(key.Span));
    }
}
