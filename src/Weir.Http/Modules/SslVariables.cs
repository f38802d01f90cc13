// $ssl_*: what a client's TLS session and certificate say. Texts are written into the request's arena; a session that
// ends takes nothing with it that a variable still shows.
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;
using Weir.Tls;

namespace Weir.Http.Modules;

internal static class SslVariables
{
    private const int FactBytesUsual = 512;

    /// <summary>What a request that goes on says of early data (RFC 8470 §5.1): the client's word is kept.</summary>
    internal const string ForwardedEarlyData = "proxy_early_data";

    private static bool Forwarded(Session.Session s, Variable _, ref NativeSlice value)
    {
        var r = (HttpRequest)s;
        bool early = r.Tls is { Session.IsEarly: true };
        foreach (ref readonly HeaderField field in r.Head.Fields)
        {
            early |= !field.Dropped && HeaderName.Same("early-data"u8, field.Name(r.HeadBytes.Span));
        }
        value = early ? NativeSlice.Literal("1"u8) : default;
        return early;
    }

    internal static void Declare(HttpDeclarations d)
    {
        Fact(d, "ssl_protocol", TlsFact.Protocol);
        Fact(d, "ssl_cipher", TlsFact.Cipher);
        Fact(d, "ssl_ciphers", TlsFact.ClientCiphers);
        Fact(d, "ssl_curve", TlsFact.Curve);
        Fact(d, "ssl_curves", TlsFact.ClientCurves);
        Fact(d, "ssl_sigalg", TlsFact.SignatureAlgorithm);
        Fact(d, "ssl_sigalgs", TlsFact.ClientSignatureAlgorithms);
        Fact(d, "ssl_client_sigalg", TlsFact.PeerSignatureAlgorithm);
        Fact(d, "ssl_session_id", TlsFact.SessionId);
        Fact(d, "ssl_server_name", TlsFact.ServerName);
        Fact(d, "ssl_alpn_protocol", TlsFact.Alpn);
        Of(d, "ssl_session_reused", static (s, session) =>
            session.IsResumed ? NativeSlice.Literal("r"u8) : NativeSlice.Literal("."u8));
        d.Variable("ssl_early_data", (Session.Session s, Variable _, ref NativeSlice v) =>
        {
            v = ((HttpRequest)s).Tls is { Session.IsEarly: true } ? NativeSlice.Literal("1"u8) : default;
            return !v.IsEmpty;
        }, VariableFlags.NoCache);
        d.Variable(ForwardedEarlyData, Forwarded, VariableFlags.NoCache);
        // Encrypted ClientHello is not in the OpenSSL 3 that this is bound to.
        Of(d, "ssl_ech_status", static (_, _) => default);
        Of(d, "ssl_ech_outer_server_name", static (_, _) => default);
        DeclareClient(d);
    }

    private static void DeclareClient(HttpDeclarations d)
    {
        Fact(d, "ssl_client_s_dn", TlsCertificateFact.SubjectRfc2253);
        Fact(d, "ssl_client_i_dn", TlsCertificateFact.IssuerRfc2253);
        Fact(d, "ssl_client_s_dn_legacy", TlsCertificateFact.SubjectLegacy);
        Fact(d, "ssl_client_i_dn_legacy", TlsCertificateFact.IssuerLegacy);
        Fact(d, "ssl_client_serial", TlsCertificateFact.Serial);
        Fact(d, "ssl_client_fingerprint", TlsCertificateFact.FingerprintSha1);
        Fact(d, "ssl_client_v_start", TlsCertificateFact.NotBefore);
        Fact(d, "ssl_client_v_end", TlsCertificateFact.NotAfter);
        Fact(d, "ssl_client_v_remain", TlsCertificateFact.DaysLeft);
        Of(d, "ssl_client_raw_cert", Pem);
        Of(d, "ssl_client_cert", Indented);
        Of(d, "ssl_client_escaped_cert", static (s, session) => Escape(s, Pem(s, session)));
        Of(d, "ssl_client_verify", Verdict);
    }

    private static void Of(HttpDeclarations d, string name, Func<Session.Session, TlsSession, NativeSlice> get) =>
        d.Variable(name, (Session.Session s, Variable _, ref NativeSlice v) =>
        {
            if (((HttpRequest)s).Tls is not { } connection)
            {
                return false;
            }
            v = get(s, connection.Session);
            return !v.IsEmpty;
        });

    private static void Fact(HttpDeclarations d, string name, TlsFact fact) => Of(d, name, (s, session) =>
    {
        NativeSlice room = s.Arena.Allocate(FactBytesUsual);
        int length = session.Write(fact, room.Span);
        if (length > room.Length)
        {
            room = s.Arena.Allocate(length);
            length = session.Write(fact, room.Span);
        }
        return room.Slice(0, length);
    });

    private static void Fact(HttpDeclarations d, string name, TlsCertificateFact fact) =>
        Of(d, name, (s, session) => Write(s, session, fact));

    private static NativeSlice Write(Session.Session s, TlsSession session, TlsCertificateFact fact)
    {
        NativeSlice room = s.Arena.Allocate(FactBytesUsual);
        int length = session.Write(fact, room.Span);
        if (length > room.Length)
        {
            room = s.Arena.Allocate(length);
            length = session.Write(fact, room.Span);
        }
        return room.Slice(0, length);
    }

    /// <summary>The certificate in PEM.</summary>
    private static NativeSlice Pem(Session.Session s, TlsSession session) =>
        Write(s, session, TlsCertificateFact.Pem);

    /// <summary>The same as a folded header: each line but the first begins with a tab, the last has no
    /// end.</summary>
    private static NativeSlice Indented(Session.Session s, TlsSession session)
    {
        NativeSlice pem = Pem(s, session);
        pem = pem.Length > 0 && pem.Span[^1] == '\n' ? pem.Slice(0, pem.Length - 1) : pem;
        int lines = pem.Span.Count((byte)'\n');
        NativeSlice folded = s.Arena.Allocate(pem.Length + lines);
        int to = 0;
        foreach (byte b in pem.Span)
        {
            folded.Span[to++] = b;
            if (b == '\n')
            {
                folded.Span[to++] = (byte)'\t';
            }
        }
        return folded;
    }

    /// <summary>Everything but letters, digits and `-._~` percent-encoded.</summary>
    private static NativeSlice Escape(Session.Session s, NativeSlice text)
    {
        NativeSlice escaped = s.Arena.Allocate(3 * text.Length);
        int to = 0;
        foreach (byte b in text.Span)
        {
            if (char.IsAsciiLetterOrDigit((char)b) || b is (byte)'-' or (byte)'.' or (byte)'_' or (byte)'~')
            {
                escaped.Span[to++] = b;
            }
            else
            {
                escaped.Span[to++] = (byte)'%';
                escaped.Span[to++] = "0123456789ABCDEF"u8[b >> 4];
                escaped.Span[to++] = "0123456789ABCDEF"u8[b & 15];
            }
        }
        return escaped.Slice(0, to);
    }

    private static NativeSlice Verdict(Session.Session s, TlsSession session)
    {
        if (!session.HasPeerCertificate)
        {
            return NativeSlice.Literal("NONE"u8);
        }
        int result = session.VerifyResult;
        if (result == 0 && session.StatusFault is null)
        {
            return NativeSlice.Literal("SUCCESS"u8);
        }
        ReadOnlySpan<byte> why = result != 0 ? TlsSession.VerifyText(result)
            : System.Text.Encoding.ASCII.GetBytes(session.StatusFault!);
        NativeSlice text = s.Arena.Allocate("FAILED:"u8.Length + why.Length);
        "FAILED:"u8.CopyTo(text.Span);
        why.CopyTo(text.Span["FAILED:"u8.Length..]);
        return text;
    }
}
