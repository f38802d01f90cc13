// OCSP (RFC 6960) without a network: what to ask about a certificate, whom, and what an answer means. Used for stapling
// and for clients' certificates. A question holds references of OpenSSL's to its certificates; one thread at a time.
namespace Weir.Tls;

/// <summary>What is known of a certificate.</summary>
public enum TlsOcspStatus
{
    Good,
    Revoked,
    Unknown,

    /// <summary>Nobody could be asked, or the answer was none.</summary>
    Failed,
}

/// <summary>An answer, judged.</summary>
/// <param name="ValidSec">Seconds for which it may be used; at most a day where it does not say.</param>
/// <param name="Error">Why it failed, in nginx's words.</param>
public readonly record struct TlsOcspVerdict(TlsOcspStatus Status, long ValidSec, string? Error);

/// <summary>A certificate whose state is asked for.</summary>
public sealed unsafe class TlsOcspQuestion : IDisposable
{
    private const long ValidSecMax = 86_400;
    private const int Successful = 0, SkewSec = 300;
    private const nuint NoVerify = 0x10, TrustOther = 0x200;

    private readonly List<nint> _issuers = [];
    private nint _subject;

    private TlsOcspQuestion(nint subject)
    {
        Native.X509_up_ref(subject);
        _subject = subject;
    }

    /// <summary>The certificate that it is about.</summary>
    internal nint Subject => _subject;

    private void AddIssuer(nint certificate)
    {
        Native.X509_up_ref(certificate);
        _issuers.Add(certificate);
    }

    /// <summary>About a client's chain, the client's own first; nothing where no certificate was verified.</summary>
    public static List<TlsOcspQuestion> AboutPeer(TlsSession session, bool leafOnly)
    {
        var questions = new List<TlsOcspQuestion>();
        nint certificate = Native.SSL_get1_peer_certificate(session.Ssl);
        if (certificate == 0)
        {
            return questions;
        }
        Native.ERR_clear_error();
        nint chain = Native.SSL_get0_verified_chain(session.Ssl), verifying = 0;
        if (chain == 0)
        {
            // A session that is resumed brings the certificate without its chain.
            verifying = Native.X509_STORE_CTX_new();
            nint store = Native.SSL_CTX_get_cert_store(session.Chosen.Handle);
            if (Native.X509_STORE_CTX_init(verifying, store, certificate, 0) == 1
                && Native.X509_verify_cert(verifying) == 1)
            {
                chain = Native.X509_STORE_CTX_get0_chain(verifying);
            }
        }
        int count = chain == 0 ? 0 : Native.OPENSSL_sk_num(chain);
        for (int i = 0; i + 1 < count && (i == 0 || !leafOnly); i++)
        {
            var question = new TlsOcspQuestion(Native.OPENSSL_sk_value(chain, i));
            for (int above = i + 1; above < count; above++)
            {
                question.AddIssuer(Native.OPENSSL_sk_value(chain, above));
            }
            questions.Add(question);
        }
        if (verifying != 0)
        {
            Native.X509_STORE_CTX_free(verifying);
        }
        Native.X509_free(certificate);
        Native.ERR_clear_error();
        return questions;
    }

    /// <summary>About a certificate of our own; null where its issuer is neither in the chain nor trusted.</summary>
    internal static TlsOcspQuestion? AboutOwn(nint ctx, nint leaf, IReadOnlyList<nint> chain)
    {
        Native.ERR_clear_error();
        var question = new TlsOcspQuestion(leaf);
        foreach (nint above in chain)
        {
            if (question._issuers.Count > 0 || Native.X509_check_issued(above, leaf) == 0)
            {
                question.AddIssuer(above);
            }
        }
        if (question._issuers.Count > 0)
        {
            return question;
        }
        nint issuer = 0, looking = Native.X509_STORE_CTX_new();
        int found = Native.X509_STORE_CTX_init(looking, Native.SSL_CTX_get_cert_store(ctx), 0, 0) == 1
            ? Native.X509_STORE_CTX_get1_issuer(&issuer, looking, leaf) : 0;
        Native.X509_STORE_CTX_free(looking);
        Native.ERR_clear_error();
        if (found != 1)
        {
            question.Dispose();
            return null;
        }
        question._issuers.Add(issuer);
        return question;
    }

    /// <summary>Whom the certificate says to ask; null where it does not.</summary>
    public string? Responder()
    {
        nint texts = Native.X509_get1_ocsp(_subject);
        if (texts == 0)
        {
            return null;
        }
        string? first = Native.OPENSSL_sk_num(texts) == 0 ? null
            : TlsErrors.Text((byte*)Native.OPENSSL_sk_value(texts, 0));
        Native.X509_email_free(texts);
        return first;
    }

    /// <summary>What names the certificate: the same for everybody who asks.</summary>
    public byte[] Key()
    {
        nint id = Native.OCSP_cert_to_id(0, _subject, _issuers[0]);
        byte[] bytes = new byte[Math.Max(Native.i2d_OCSP_CERTID(id, null), 0)];
        fixed (byte* p = bytes)
        {
            byte* end = p;
            Native.i2d_OCSP_CERTID(id, &end);
        }
        Native.OCSP_CERTID_free(id);
        return bytes;
    }

    /// <summary>The request in DER.</summary>
    public byte[] Request()
    {
        nint request = Native.OCSP_REQUEST_new();
        Native.OCSP_request_add0_id(request, Native.OCSP_cert_to_id(0, _subject, _issuers[0]));
        byte[] bytes = new byte[Math.Max(Native.i2d_OCSP_REQUEST(request, null), 0)];
        fixed (byte* p = bytes)
        {
            byte* end = p;
            Native.i2d_OCSP_REQUEST(request, &end);
        }
        Native.OCSP_REQUEST_free(request);
        return bytes;
    }

    /// <summary>Reads an answer in DER. With <paramref name="verifies"/> it counts only if the certificate's own
    /// authority, or one that the context trusts, has signed it.</summary>
    public TlsOcspVerdict Judge(ReadOnlySpan<byte> answer, TlsContext context, bool verifies)
    {
        Native.ERR_clear_error();
        nint response;
        fixed (byte* p = answer)
        {
            byte* at = p;
            response = Native.d2i_OCSP_RESPONSE(null, &at, answer.Length);
        }
        if (response == 0)
        {
            return Failed("d2i_OCSP_RESPONSE() failed" + TlsErrors.Take());
        }
        int status = Native.OCSP_response_status(response);
        nint basic = status == Successful ? Native.OCSP_response_get1_basic(response) : 0;
        TlsOcspVerdict verdict = status != Successful
            ? Failed($"OCSP response not successful ({status}: "
                + $"{TlsErrors.Text(Native.OCSP_response_status_str(status))})")
            : basic == 0 ? Failed("OCSP_response_get1_basic() failed" + TlsErrors.Take())
            : Judge(basic, context, verifies);
        Native.OCSP_BASICRESP_free(basic);
        Native.OCSP_RESPONSE_free(response);
        Native.ERR_clear_error();
        return verdict;
    }

    private TlsOcspVerdict Judge(nint basic, TlsContext context, bool verifies)
    {
        nint stack = Native.OPENSSL_sk_new_null();
        foreach (nint issuer in _issuers)
        {
            Native.OPENSSL_sk_push(stack, issuer);
        }
        int verified = Native.OCSP_basic_verify(basic, stack, Native.SSL_CTX_get_cert_store(context.Handle),
            verifies ? TrustOther : NoVerify);
        Native.OPENSSL_sk_free(stack);
        if (verified != 1)
        {
            return Failed("OCSP_basic_verify() failed" + TlsErrors.Take());
        }
        nint id = Native.OCSP_cert_to_id(0, _subject, _issuers[0]), thisUpdate, nextUpdate;
        int status;
        int found = Native.OCSP_resp_find_status(basic, id, &status, null, null, &thisUpdate, &nextUpdate);
        Native.OCSP_CERTID_free(id);
        if (found != 1)
        {
            return Failed("certificate status not found in the OCSP response");
        }
        if (Native.OCSP_check_validity(thisUpdate, nextUpdate, SkewSec, -1) != 1)
        {
            return Failed("OCSP_check_validity() failed" + TlsErrors.Take());
        }
        int days = 0, seconds = 0;
        long valid = ValidSecMax;
        if (nextUpdate != 0 && Native.ASN1_TIME_diff(&days, &seconds, 0, nextUpdate) == 1)
        {
            valid = Math.Clamp((days * ValidSecMax) + seconds, 0, 10 * ValidSecMax);
        }
        return new TlsOcspVerdict((TlsOcspStatus)status, valid, null);
    }

    private static TlsOcspVerdict Failed(string error) => new(TlsOcspStatus.Failed, 0, error);

    public void Dispose()
    {
        Native.X509_free(_subject);
        _subject = 0;
        foreach (nint issuer in _issuers)
        {
            Native.X509_free(issuer);
        }
        _issuers.Clear();
    }
}
