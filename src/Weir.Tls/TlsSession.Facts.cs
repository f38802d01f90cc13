// What a session tells about itself and its peer, for variables, logs and decisions. Texts go into the caller's span;
// a length beyond it says how much room is wanted.
using System.Buffers.Text;
using Weir.Kernel;

namespace Weir.Tls;

/// <summary>What can be asked of a session, as text.</summary>
public enum TlsFact
{
    Protocol,
    Cipher,
    ClientCiphers,
    Curve,
    ClientCurves,
    SignatureAlgorithm,
    ClientSignatureAlgorithms,
    PeerSignatureAlgorithm,
    SessionId,
    ServerName,
    Alpn,
}

public sealed unsafe partial class TlsSession
{
    /// <summary>As a client: where sessions of the server go.</summary>
    internal TlsSavedSession? Saved { get; private set; }

    /// <summary>As a client: goes on with what was saved, and saves what the server gives.</summary>
    public void Resume(TlsSavedSession saved)
    {
        Saved = saved;
        Native.ERR_clear_error();
        saved.Offer(_ssl);
    }

    /// <summary>As a client: names the server that is wanted.</summary>
    public void AskFor(string name)
    {
        Native.ERR_clear_error();
        fixed (byte* p = Native.Z(name))
        {
            Native.SSL_ctrl(_ssl, Native.CTRL_SET_TLSEXT_HOSTNAME, 0, p);
        }
    }

    /// <summary>As a client: offers protocols by ALPN, in order of preference, as on the wire (length, name).</summary>
    public void Offer(ReadOnlySpan<byte> protocols)
    {
        fixed (byte* p = protocols)
        {
            Native.SSL_set_alpn_protos(_ssl, p, (uint)protocols.Length);
        }
    }

    public bool IsResumed => Native.SSL_session_reused(_ssl) == 1;

    /// <summary>OpenSSL's verdict on the peer's certificate; 0 is good (also where there is no certificate).</summary>
    public int VerifyResult => (int)Native.SSL_get_verify_result(_ssl);

    /// <summary>What its authority says against the peer's certificate (OCSP); null for nothing.</summary>
    public string? StatusFault { get; set; }

    /// <summary>The verdict in words.</summary>
    public static ReadOnlySpan<byte> VerifyText(int result) =>
        System.Runtime.InteropServices.MemoryMarshal.CreateReadOnlySpanFromNullTerminated(
            (byte*)Native.X509_verify_cert_error_string(result));

    public bool HasPeerCertificate
    {
        get
        {
            nint certificate = Native.SSL_get1_peer_certificate(_ssl);
            if (certificate == 0)
            {
                return false;
            }
            Native.X509_free(certificate);
            return true;
        }
    }

    /// <summary>Whether the peer's certificate is one for the name or address.</summary>
    public bool IsPeerNamed(string name)
    {
        nint certificate = Native.SSL_get1_peer_certificate(_ssl);
        if (certificate == 0)
        {
            return false;
        }
        Native.ERR_clear_error();
        int match;
        fixed (byte* p = Native.Z(name))
        {
            match = Native.X509_check_host(certificate, p, 0, 0, 0);
            if (match != 1)
            {
                match = Native.X509_check_ip_asc(certificate, p, 0);
            }
        }
        Native.X509_free(certificate);
        return match == 1;
    }

    /// <summary>A fact of the peer's certificate; 0 where there is none.</summary>
    public int Write(TlsCertificateFact fact, Span<byte> into)
    {
        nint certificate = Native.SSL_get1_peer_certificate(_ssl);
        if (certificate == 0)
        {
            return 0;
        }
        Native.ERR_clear_error();
        int length = TlsCertificate.Write(certificate, fact, into);
        Native.X509_free(certificate);
        return length;
    }

    /// <summary>Writes a fact; 0 where there is nothing to say.</summary>
    public int Write(TlsFact fact, Span<byte> into)
    {
        Native.ERR_clear_error();
        switch (fact)
        {
            case TlsFact.Protocol:
                return Copy((byte*)Native.SSL_get_version(_ssl), into);
            case TlsFact.Cipher:
                nint cipher = Native.SSL_get_current_cipher(_ssl);
                return cipher == 0 ? 0 : Copy((byte*)Native.SSL_CIPHER_get_name(cipher), into);
            case TlsFact.ClientCiphers:
                return WriteCiphers(into);
            case TlsFact.Curve:
                return WriteCurve(into);
            case TlsFact.ClientCurves:
                return WriteCurves(into);
            case TlsFact.SignatureAlgorithm:
                return WriteSignature(into, Native.CTRL_GET_SIGNATURE_NID, isPeer: false);
            case TlsFact.PeerSignatureAlgorithm:
                return WriteSignature(into, Native.CTRL_GET_PEER_SIGNATURE_NID, isPeer: true);
            case TlsFact.ClientSignatureAlgorithms:
                return WriteSignatures(into);
            case TlsFact.SessionId:
                return WriteSessionId(into);
            case TlsFact.ServerName:
                return Copy((byte*)Native.SSL_get_servername(_ssl, 0), into);
            default:
                byte* name;
                uint length;
                Native.SSL_get0_alpn_selected(_ssl, &name, &length);
                return Copy(name, (int)length, into);
        }
    }

    /// <summary>The protocol's version as on the wire (0x0304 is TLS 1.3).</summary>
    public int ProtocolVersion => Native.SSL_version(_ssl);

    /// <summary>The number that the cipher suite has with IANA; 0 before there is one.</summary>
    public int CipherSuite
    {
        get
        {
            nint cipher = Native.SSL_get_current_cipher(_ssl);
            return cipher == 0 ? 0 : Native.SSL_CIPHER_get_protocol_id(cipher);
        }
    }

    /// <summary>The peer's certificate in DER; empty without one.</summary>
    public byte[] PeerCertificate
    {
        get
        {
            nint certificate = Native.SSL_get1_peer_certificate(_ssl);
            if (certificate == 0)
            {
                return [];
            }
            byte[] bytes = TlsCertificate.Encode(certificate);
            Native.X509_free(certificate);
            return bytes;
        }
    }

    /// <summary>The protocol that ALPN chose; empty without one.</summary>
    public ReadOnlySpan<byte> Alpn
    {
        get
        {
            byte* name;
            uint length;
            Native.SSL_get0_alpn_selected(_ssl, &name, &length);
            return new ReadOnlySpan<byte>(name, (int)length);
        }
    }

    private static int Copy(byte* text, Span<byte> into)
    {
        if (text == null)
        {
            return 0;
        }
        int length = 0;
        while (text[length] != 0)
        {
            length++;
        }
        return Copy(text, length, into);
    }

    private static int Copy(byte* text, int length, Span<byte> into)
    {
        if (length <= into.Length)
        {
            new ReadOnlySpan<byte>(text, length).CopyTo(into);
        }
        return length;
    }

    private int WriteSessionId(Span<byte> into)
    {
        nint session = Native.SSL_get_session(_ssl);
        if (session == 0)
        {
            return 0;
        }
        uint length;
        byte* id = Native.SSL_SESSION_get_id(session, &length);
        if (2 * length <= into.Length)
        {
            TlsNames.WriteHex(new ReadOnlySpan<byte>(id, (int)length), into);
        }
        return (int)(2 * length);
    }

    private int WriteCiphers(Span<byte> into)
    {
        const int rawCiphers = 110, codeBytes = 2;
        byte* codes = null;
        int length = (int)Native.SSL_ctrl(_ssl, rawCiphers, 0, &codes);
        if (codes == null)
        {
            return 0;
        }
        var list = new ListWriter(into);
        for (int i = 0; i + codeBytes <= length; i += codeBytes)
        {
            nint cipher = Native.SSL_CIPHER_find(_ssl, codes + i);
            if (cipher != 0)
            {
                list.Add((byte*)Native.SSL_CIPHER_get_name(cipher));
            }
            else
            {
                list.AddHex((codes[i] << 8) | codes[i + 1]);
            }
        }
        return list.Length;
    }

    private int WriteCurve(Span<byte> into)
    {
        int nid = (int)Native.SSL_ctrl(_ssl, Native.CTRL_GET_NEGOTIATED_GROUP, 0, null);
        var list = new ListWriter(into);
        if (nid != 0)
        {
            list.AddGroup(nid);
        }
        return list.Length;
    }

    private int WriteCurves(Span<byte> into)
    {
        const int groupsMax = 64;
        int count = (int)Native.SSL_ctrl(_ssl, Native.CTRL_GET_GROUPS, 0, null);
        int* groups = stackalloc int[groupsMax];
        var list = new ListWriter(into);
        if (count is > 0 and <= groupsMax)
        {
            Native.SSL_ctrl(_ssl, Native.CTRL_GET_GROUPS, 0, groups);
            for (int i = 0; i < count; i++)
            {
                list.AddGroup(groups[i]);
            }
        }
        return list.Length;
    }

    private int WriteSignature(Span<byte> into, int hashControl, bool isPeer)
    {
        int type, hash = 0;
        int found = isPeer ? Native.SSL_get_peer_signature_type_nid(_ssl, &type)
            : Native.SSL_get_signature_type_nid(_ssl, &type);
        var list = new ListWriter(into);
        if (found == 1)
        {
            Native.SSL_ctrl(_ssl, hashControl, 0, &hash);
            list.AddSignature(TlsNames.SignatureCode(type, hash));
        }
        return list.Length;
    }

    private int WriteSignatures(Span<byte> into)
    {
        int count = Native.SSL_get_sigalgs(_ssl, -1, null, null, null, null, null);
        var list = new ListWriter(into);
        for (int i = 0; i < count; i++)
        {
            byte sign, hash;
            Native.SSL_get_sigalgs(_ssl, i, null, null, null, &sign, &hash);
            list.AddSignature((hash << 8) | sign);
        }
        return list.Length;
    }

    /// <summary>Writes names with colons between them.</summary>
    private ref struct ListWriter(Span<byte> into)
    {
        private readonly Span<byte> _into = into;

        public int Length { get; private set; }

        public void Add(byte* name) =>
            Add(System.Runtime.InteropServices.MemoryMarshal.CreateReadOnlySpanFromNullTerminated(name));

        public void Add(ReadOnlySpan<byte> name)
        {
            int start = Length == 0 ? 0 : Length + 1;
            if (start + name.Length <= _into.Length)
            {
                if (start > 0)
                {
                    _into[start - 1] = (byte)':';
                }
                name.CopyTo(_into[start..]);
            }
            Length = start + name.Length;
        }

        public void AddHex(int code)
        {
            Add("0x0000"u8);
            if (Length <= _into.Length)
            {
                Utf8Formatter.TryFormat(code, _into[(Length - 4)..Length], out _,
                    new System.Buffers.StandardFormat('x', 4));
            }
        }

        public void AddGroup(int nid)
        {
            const int unknownGroup = 0x1000000;
            if ((nid & unknownGroup) != 0)
            {
                AddHex(nid & 0xFFFF);
            }
            else
            {
                Add((byte*)Native.OBJ_nid2sn(nid));
            }
        }

        public void AddSignature(int code)
        {
            ReadOnlySpan<byte> name = TlsNames.Signature(code);
            if (name.IsEmpty)
            {
                AddHex(code);
            }
            else
            {
                Add(name);
            }
        }
    }
}

/// <summary>Names of RFC 8446 §4.2.3.</summary>
internal static class TlsNames
{
    internal static void WriteHex(ReadOnlySpan<byte> bytes, Span<byte> into)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            into[2 * i] = "0123456789abcdef"u8[bytes[i] >> 4];
            into[2 * i + 1] = "0123456789abcdef"u8[bytes[i] & 15];
        }
    }

    internal static ReadOnlySpan<byte> Signature(int code) => code switch
    {
        0x0201 => "rsa_pkcs1_sha1"u8,
        0x0203 => "ecdsa_sha1"u8,
        0x0301 => "rsa_pkcs1_sha224"u8,
        0x0303 => "ecdsa_sha224"u8,
        0x0401 => "rsa_pkcs1_sha256"u8,
        0x0403 => "ecdsa_secp256r1_sha256"u8,
        0x0501 => "rsa_pkcs1_sha384"u8,
        0x0503 => "ecdsa_secp384r1_sha384"u8,
        0x0601 => "rsa_pkcs1_sha512"u8,
        0x0603 => "ecdsa_secp521r1_sha512"u8,
        0x0804 => "rsa_pss_rsae_sha256"u8,
        0x0805 => "rsa_pss_rsae_sha384"u8,
        0x0806 => "rsa_pss_rsae_sha512"u8,
        0x0807 => "ed25519"u8,
        0x0808 => "ed448"u8,
        0x0809 => "rsa_pss_pss_sha256"u8,
        0x080A => "rsa_pss_pss_sha384"u8,
        0x080B => "rsa_pss_pss_sha512"u8,
        _ => default,
    };

    /// <summary>The code of a signature's type and hash, as OpenSSL numbers them.</summary>
    internal static int SignatureCode(int type, int hash)
    {
        const int sha1 = 64, sha256 = 672, sha384 = 673, sha512 = 674, rsa = 6, rsaPss = 912, ecdsa = 408,
            ed25519 = 1087, ed448 = 1088;
        int size = hash switch { sha1 => 2, sha256 => 4, sha384 => 5, sha512 => 6, _ => 0 };
        return type switch
        {
            ed25519 => 0x0807,
            ed448 => 0x0808,
            rsa => (size << 8) | 1,
            ecdsa => (size << 8) | 3,
            rsaPss => 0x0800 | size,
            _ => 0,
        };
    }
}
