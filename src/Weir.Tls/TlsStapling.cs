// OCSP stapling: a response in DER for each certificate of a context, which the server sends to clients that ask for
// it. Where it comes from (a file, a responder) is its owner's affair.
namespace Weir.Tls;

/// <summary>What is stapled to one certificate.</summary>
public sealed class TlsStaple(TlsOcspQuestion? question, nint certificate)
{
    /// <summary>About the certificate; null where the response was given.</summary>
    public TlsOcspQuestion? Question { get; } = question;

    internal nint Certificate { get; } = certificate;

    /// <summary>The response; null while there is none that may be sent.</summary>
    public byte[]? Response { get; set; }
}

public sealed unsafe partial class TlsContext
{
    private readonly List<TlsStaple> _staples = [];

    /// <summary>Staples the same response to whatever certificate is sent.</summary>
    public void StapleResponse(byte[] response)
    {
        _staples.Add(new TlsStaple(null, 0) { Response = response });
        AnswerStatusRequests();
    }

    /// <summary>A place for the response of each certificate whose issuer is known; the names of the others go to
    /// <paramref name="unknown"/>.</summary>
    public IReadOnlyList<TlsStaple> StapleEach(List<string> unknown)
    {
        foreach (TlsPair pair in _pairs)
        {
            if (TlsOcspQuestion.AboutOwn(_ctx, pair.Leaf, pair.Chain) is { } question)
            {
                _staples.Add(new TlsStaple(question, pair.Leaf));
            }
            else
            {
                unknown.Add(pair.Name);
            }
        }
        AnswerStatusRequests();
        return _staples;
    }

    /// <summary>The name of the certificate that a response belongs to.</summary>
    public string NameOf(TlsStaple staple) => _pairs.Find(p => p.Leaf == staple.Certificate)?.Name ?? "";

    private void AnswerStatusRequests() => Native.SSL_CTX_callback_ctrl(_ctx, Native.CTRL_SET_TLSEXT_STATUS_REQ_CB,
        (nint)(delegate* unmanaged<nint, nint, int>)&TlsCallbacks.Staple);

    internal byte[]? StapleOf(nint certificate)
    {
        foreach (TlsStaple staple in _staples)
        {
            if (staple.Certificate == 0 || staple.Certificate == certificate)
            {
                return staple.Response;
            }
        }
        return null;
    }

    private void ForgetStaples()
    {
        foreach (TlsStaple staple in _staples)
        {
            staple.Question?.Dispose();
        }
        _staples.Clear();
        foreach (TlsPair pair in _pairs)
        {
            pair.Dispose();
        }
        _pairs.Clear();
    }
}
