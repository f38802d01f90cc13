// ssl_stapling and ssl_ocsp: who is asked about certificates and when. Responses for our own certificates are fetched
// when a configuration starts and again before they are too old; clients' certificates are asked about after their
// handshake, with what was answered before in a zone of all workers. One loop's thread.
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Session.Upstream;
using Weir.Tls;

namespace Weir.Http.Modules;

/// <summary>ssl_ocsp.</summary>
internal enum OcspMode
{
    Off,
    On,
    Leaf,
}

/// <summary>What was answered about clients' certificates, shared by all workers.</summary>
internal interface IOcspStore
{
    /// <summary>False when nothing is known, or no more.</summary>
    bool TryFind(ReadOnlySpan<byte> key, out TlsOcspStatus status);

    void Keep(ReadOnlySpan<byte> key, TlsOcspStatus status, long validSec);
}

/// <summary>Keeps the responses of one context's certificates fresh.</summary>
internal sealed class StapleKeeper(TlsContext context, TlsStaple staple, OcspResponder responder,
    ResolverSettings? resolver, bool verifies, HttpConfiguration configuration)
{
    private const int LookMs = 1000;
    private const long AgainAfterErrorSec = 300, FreshSecMax = 3600, MarginSec = 300;
    private bool _isRetired;

    internal void Start(EventLoop loop)
    {
        configuration.AddReference();
        configuration.OnRetire(() => _isRetired = true);
        RunAsync(loop).Forget();
    }

    private async LoopTask<Unit> RunAsync(EventLoop loop)
    {
        long endsMs = 0;
        while (!_isRetired)
        {
            (byte[]? answer, string? error) = await OcspFetch.AskAsync(loop, responder, resolver,
                staple.Question!.Request());
            TlsOcspVerdict verdict = answer is null || _isRetired ? new TlsOcspVerdict(TlsOcspStatus.Failed, 0, error)
                : staple.Question.Judge(answer, context, verifies);
            long nextSec = AgainAfterErrorSec;
            if (verdict.Status == TlsOcspStatus.Good)
            {
                staple.Response = answer;
                endsMs = loop.NowMs + (verdict.ValidSec * 1000);
                nextSec = Math.Max(Math.Min(verdict.ValidSec - MarginSec, FreshSecMax), AgainAfterErrorSec);
            }
            else if (!_isRetired)
            {
                string why = verdict.Error ?? $"certificate status \"{verdict.Status.ToString().ToLowerInvariant()}\" "
                    + "in the OCSP response";
                configuration.DefaultLog.Write(LogLevel.Error,
                    $"{why} while requesting certificate status, responder: {responder.Host}");
            }
            long nextMs = loop.NowMs + (nextSec * 1000);
            while (!_isRetired && loop.NowMs < nextMs)
            {
                await loop.DelayAsync(LookMs);
                if (loop.NowMs >= endsMs)
                {
                    staple.Response = null;
                }
            }
        }
        configuration.Release();
        return default;
    }
}

/// <summary>Asks about the certificates of clients.</summary>
internal sealed class ClientOcsp(bool leafOnly, OcspResponder? responder, IOcspStore? store)
{
    /// <summary>Who looks up responders that certificates name.</summary>
    public ResolverSettings? Resolver { get; init; }

    /// <summary>Asks about a client that has just shaken hands; the session keeps what speaks against it.</summary>
    internal async LoopTask<Unit> CheckAsync(TlsEntrance entrance, TlsSession session)
    {
        if (session.VerifyResult != 0)
        {
            return default;
        }
        List<TlsOcspQuestion> questions = TlsOcspQuestion.AboutPeer(session, leafOnly);
        foreach (TlsOcspQuestion question in questions)
        {
            TlsOcspStatus status = await AskAsync(entrance, session, question);
            if (status != TlsOcspStatus.Good && !entrance.Connection.IsClosed)
            {
                session.StatusFault = status switch
                {
                    TlsOcspStatus.Revoked => "certificate revoked",
                    TlsOcspStatus.Unknown => "certificate status unknown",
                    _ => "certificate status request failed",
                };
                break;
            }
        }
        foreach (TlsOcspQuestion question in questions)
        {
            question.Dispose();
        }
        return default;
    }

    private async LoopTask<TlsOcspStatus> AskAsync(TlsEntrance entrance, TlsSession session, TlsOcspQuestion question)
    {
        byte[] key = question.Key();
        if (store is not null && store.TryFind(key, out TlsOcspStatus known))
        {
            return known;
        }
        OcspResponder? asked = responder;
        string? error = null;
        if (asked is null)
        {
            string? url = question.Responder();
            asked = url is null ? null : OcspResponder.Parse(url, null, out error);
            error = url is null ? "no OCSP responder URL in certificate" : $"{error} in OCSP responder \"{url}\"";
        }
        if (asked is null)
        {
            entrance.LogError(error!);
            return TlsOcspStatus.Failed;
        }
        TlsContext context = session.Chosen;
        (byte[]? answer, error) = await OcspFetch.AskAsync(entrance.Connection.Loop, asked, Resolver,
            question.Request());
        if (answer is null)
        {
            entrance.LogError($"OCSP responder {error} while requesting certificate status, responder: {asked.Host},");
            return TlsOcspStatus.Failed;
        }
        TlsOcspVerdict verdict = question.Judge(answer, context, verifies: true);
        if (verdict.Error is not null)
        {
            entrance.LogError($"{verdict.Error} while requesting certificate status, responder: {asked.Host},");
        }
        else
        {
            store?.Keep(key, verdict.Status, verdict.ValidSec);
        }
        return verdict.Status;
    }
}

/// <summary>Makes them of settings.</summary>
internal static class SslOcsp
{
    internal static void SetMode(DirectiveUse use, ref Inherited<OcspMode> setting) => use.SetEnum(ref setting,
        [new ConfChoice<OcspMode>("off", OcspMode.Off), new("on", OcspMode.On), new("leaf", OcspMode.Leaf)]);

    internal static void SetCache(DirectiveUse use, ref Inherited<(string Name, long Bytes)?> setting)
    {
        if (!use.Walker.Fresh(use.Directive, in setting))
        {
            return;
        }
        string[] parts = use[0].Split(':');
        if (parts is ["off"])
        {
            setting.Set(null);
        }
        else if (parts.Length == 3 && parts[0] == "shared" && parts[1].Length > 0
            && ConfValues.TrySize(parts[2], out long bytes) && bytes >= 8 * 4096)
        {
            setting.Set((parts[1], bytes));
        }
        else
        {
            use.Error(0, $"invalid OCSP cache \"{use[0]}\"");
        }
    }

    /// <summary>What ssl_ocsp says for a server; null for nothing.</summary>
    internal static ClientOcsp? Client(HttpBuild build, SslSettings s, ResolverSettings? resolver)
    {
        if (s.Ocsp.Value == OcspMode.Off)
        {
            return null;
        }
        if (s.VerifyClient.Value == TlsVerify.OptionalNoCa)
        {
            build.Errors.Emerg("\"ssl_ocsp\" is incompatible with \"ssl_verify_client optional_no_ca\"", null);
            return null;
        }
        OcspResponder? responder = null;
        if (s.OcspResponder.Value.Text is { Length: > 0 } url)
        {
            responder = OcspResponder.Parse(url, build, out string? error);
            if (responder is null)
            {
                build.Errors.Emerg($"{error} in OCSP responder \"{url}\" in \"ssl_ocsp_responder\"",
                    s.OcspResponder.Value.Span);
            }
        }
        return new ClientOcsp(s.Ocsp.Value == OcspMode.Leaf, responder, SslZones.Ocsp(build, s.OcspCache.Value))
        {
            Resolver = resolver,
        };
    }

    /// <summary>ssl_stapling without a file: responses are fetched from now on.</summary>
    internal static void Staple(HttpBuild build, TlsContext context, SslSettings s, ResolverSettings? resolver)
    {
        var unknown = new List<string>();
        IReadOnlyList<TlsStaple> staples = context.StapleEach(unknown);
        foreach (string name in unknown)
        {
            build.Errors.Warn($"\"ssl_stapling\" ignored, issuer certificate not found for certificate \"{name}\"",
                null);
        }
        foreach (TlsStaple staple in staples)
        {
            string name = context.NameOf(staple);
            string? url = s.StaplingResponder.Value.Text is { Length: > 0 } given ? given
                : staple.Question!.Responder();
            string? error = null;
            OcspResponder? responder = url is null ? null : OcspResponder.Parse(url, build, out error);
            if (responder is null)
            {
                build.Errors.Warn(url is null
                    ? $"\"ssl_stapling\" ignored, no OCSP responder URL in the certificate \"{name}\""
                    : $"\"ssl_stapling\" ignored, {error} in OCSP responder \"{url}\" in the certificate \"{name}\"",
                    null);
                continue;
            }
            var keeper = new StapleKeeper(context, staple, responder, resolver, s.StaplingVerify.Value,
                build.Configuration);
            build.Configuration.OnStart(keeper.Start);
        }
    }
}
