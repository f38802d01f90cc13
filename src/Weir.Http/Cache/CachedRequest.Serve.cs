// Answers from what is stored: the head as if the server had just sent it, with its age, and the body from memory or by
// sendfile. Conditions and ranges are the filters' work.
using Weir.Http.Modules;
using Weir.Http.Proxy;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Cache;

internal sealed partial class CachedRequest
{
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
