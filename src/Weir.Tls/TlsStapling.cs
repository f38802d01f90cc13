// OCSP stapling: a response in DER that the server sends with its certificate, from a file or fetched.
namespace Weir.Tls;

public sealed unsafe partial class TlsContext
{
    /// <summary>The response that is stapled; replaced as a whole when a fresh one is there.</summary>
    public byte[]? Staple { get; set; }

    /// <summary>Staples what <see cref="Staple"/> holds to handshakes that ask for it.</summary>
    public void StapleResponses(byte[]? response)
    {
        Staple = response;
        Native.SSL_CTX_callback_ctrl(_ctx, Native.CTRL_SET_TLSEXT_STATUS_REQ_CB,
            (nint)(delegate* unmanaged<nint, nint, int>)&TlsCallbacks.Staple);
    }
}
