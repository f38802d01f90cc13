// The imports of OpenSSL 3 (libssl.so.3, libcrypto.so.3): one line a function, in OpenSSL's own names. Nothing here is
// called before Load has said that the libraries are there. Whoever calls into SSL_* clears the error queue first:
// the queue belongs to the thread and all connections of a loop share it. Any thread; owns nothing.
using System.Runtime.InteropServices;

namespace Weir.Tls;

/// <summary>Loading, and the version.</summary>
public static class OpenSsl
{
    private static readonly Lock s_lock = new();
    private static bool s_loaded;
    private static string? s_loadError;

    /// <summary>Loads the libraries once; null, or why TLS cannot be used.</summary>
    public static string? Load()
    {
        lock (s_lock)
        {
            if (s_loaded || s_loadError is not null)
            {
                return s_loadError;
            }
            foreach (string name in (ReadOnlySpan<string>)[Native.Crypto, Native.Ssl])
            {
                if (!NativeLibrary.TryLoad(name, out _))
                {
                    return s_loadError = $"TLS requires OpenSSL 3: {name} is missing (Debian: apt-get install libssl3)";
                }
            }
            Native.OPENSSL_init_ssl(0, 0);
            TlsBio.Register();
            s_loaded = true;
            return null;
        }
    }

    /// <summary>"OpenSSL 3.0.19 27 Jan 2026", or null where the library is missing.</summary>
    public static string? Version => Load() is null ? Marshal.PtrToStringUTF8(Native.OpenSSL_version(0)) : null;

    internal static uint VersionNumber => Native.OpenSSL_version_num();
}

internal static unsafe partial class Native
{
    internal const string Ssl = "libssl.so.3";
    internal const string Crypto = "libcrypto.so.3";

    // Options, modes, controls.
    internal const ulong OP_IGNORE_UNEXPECTED_EOF = 1UL << 7, OP_NO_TICKET = 1UL << 14, OP_NO_COMPRESSION = 1UL << 17,
        OP_CIPHER_SERVER_PREFERENCE = 1UL << 22, OP_NO_ANTI_REPLAY = 1UL << 24, OP_NO_SSLv3 = 1UL << 25,
        OP_NO_TLSv1 = 1UL << 26, OP_NO_TLSv1_2 = 1UL << 27, OP_NO_TLSv1_1 = 1UL << 28, OP_NO_TLSv1_3 = 1UL << 29,
        OP_NO_RENEGOTIATION = 1UL << 30;

    internal const int CTRL_MODE = 33, CTRL_SET_SESS_CACHE_SIZE = 42, CTRL_SET_SESS_CACHE_MODE = 44,
        CTRL_SET_TLSEXT_SERVERNAME_CB = 53, CTRL_SET_TLSEXT_HOSTNAME = 55, CTRL_SET_TLSEXT_STATUS_REQ_CB = 63,
        CTRL_SET_TLSEXT_STATUS_REQ_OCSP_RESP = 71, CTRL_CHAIN_CERT = 89, CTRL_GET_GROUPS = 90,
        CTRL_SET_GROUPS_LIST = 92, CTRL_SET_MIN_PROTO_VERSION = 123, CTRL_SET_MAX_PROTO_VERSION = 124,
        CTRL_GET_PEER_SIGNATURE_NID = 108, CTRL_GET_MIN_PROTO_VERSION = 130, CTRL_GET_MAX_PROTO_VERSION = 131,
        CTRL_GET_SIGNATURE_NID = 132, CTRL_GET_NEGOTIATED_GROUP = 134;

    internal const long MODE_MOVING_WRITE_BUFFER = 2, MODE_NO_AUTO_CHAIN = 8, MODE_RELEASE_BUFFERS = 16;

    internal const int ERROR_SSL = 1, ERROR_WANT_READ = 2, ERROR_WANT_WRITE = 3,
        ERROR_WANT_CERTIFICATE = 4, ERROR_SYSCALL = 5, ERROR_ZERO_RETURN = 6;

    [LibraryImport(Ssl)] internal static partial int OPENSSL_init_ssl(ulong options, nint settings);
    [LibraryImport(Crypto)] internal static partial nint OpenSSL_version(int what);
    [LibraryImport(Crypto)] internal static partial uint OpenSSL_version_num();
    [LibraryImport(Crypto)] internal static partial void CRYPTO_free(void* p, nint file, int line);

    // Errors.
    [LibraryImport(Crypto)] internal static partial void ERR_clear_error();
    [LibraryImport(Crypto)] internal static partial nuint ERR_peek_error();
    [LibraryImport(Crypto)] internal static partial nuint ERR_peek_last_error();
    [LibraryImport(Crypto)]
    internal static partial nuint ERR_get_error_all(nint* file, int* line, nint* function, byte** data, int* flags);
    [LibraryImport(Crypto)] internal static partial void ERR_error_string_n(nuint code, byte* into, nuint length);

    // Contexts.
    [LibraryImport(Ssl)] internal static partial nint TLS_method();
    [LibraryImport(Ssl)] internal static partial nint SSL_CTX_new(nint method);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_free(nint ctx);
    [LibraryImport(Ssl)] internal static partial ulong SSL_CTX_set_options(nint ctx, ulong options);
    [LibraryImport(Ssl)] internal static partial ulong SSL_CTX_clear_options(nint ctx, ulong options);
    [LibraryImport(Ssl)] internal static partial ulong SSL_CTX_get_options(nint ctx);
    [LibraryImport(Ssl)] internal static partial nint SSL_CTX_ctrl(nint ctx, int command, nint number, void* pointer);
    [LibraryImport(Ssl)] internal static partial nint SSL_CTX_callback_ctrl(nint ctx, int command, nint callback);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_use_certificate(nint ctx, nint certificate);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_use_PrivateKey(nint ctx, nint key);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_set_cipher_list(nint ctx, byte* list);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_set0_tmp_dh_pkey(nint ctx, nint key);
    [LibraryImport(Ssl)] internal static partial nint SSL_CTX_set_timeout(nint ctx, nint seconds);
    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_set_session_id_context(nint ctx, byte* context, uint length);
    [LibraryImport(Ssl)]
    internal static partial int SSL_set_session_id_context(nint ssl, byte* context, uint length);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_set_verify(nint ctx, int mode, nint callback);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_get_verify_mode(nint ctx);
    [LibraryImport(Ssl)] internal static partial nint SSL_CTX_get_verify_callback(nint ctx);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_set_verify_depth(nint ctx, int depth);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_get_verify_depth(nint ctx);
    [LibraryImport(Ssl)] internal static partial nint SSL_CTX_get_cert_store(nint ctx);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_add_client_CA(nint ctx, nint certificate);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_set_default_verify_paths(nint ctx);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_sess_set_new_cb(nint ctx, nint callback);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_sess_set_get_cb(nint ctx, nint callback);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_sess_set_remove_cb(nint ctx, nint callback);
    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_set_client_hello_cb(nint ctx, nint callback, nint argument);
    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_set_alpn_select_cb(nint ctx, nint callback, nint argument);
    [LibraryImport(Ssl)]
    internal static partial int SSL_CTX_set_tlsext_ticket_key_evp_cb(nint ctx, nint callback);
    [LibraryImport(Ssl)] internal static partial nint SSL_CONF_CTX_new();
    [LibraryImport(Ssl)] internal static partial void SSL_CONF_CTX_free(nint conf);
    [LibraryImport(Ssl)] internal static partial uint SSL_CONF_CTX_set_flags(nint conf, uint flags);
    [LibraryImport(Ssl)] internal static partial void SSL_CONF_CTX_set_ssl_ctx(nint conf, nint ctx);
    [LibraryImport(Ssl)] internal static partial int SSL_CONF_cmd(nint conf, byte* name, byte* value);
    [LibraryImport(Ssl)] internal static partial int SSL_CONF_cmd_value_type(nint conf, byte* name);
    [LibraryImport(Ssl)] internal static partial int SSL_CONF_CTX_finish(nint conf);

    // Sessions of one connection.
    [LibraryImport(Ssl)] internal static partial nint SSL_new(nint ctx);
    [LibraryImport(Ssl)] internal static partial void SSL_free(nint ssl);
    [LibraryImport(Ssl)] internal static partial void SSL_set_bio(nint ssl, nint read, nint write);
    [LibraryImport(Ssl)] internal static partial void SSL_set_accept_state(nint ssl);
    [LibraryImport(Ssl)] internal static partial void SSL_set_connect_state(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_do_handshake(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_read(nint ssl, void* into, int length);
    [LibraryImport(Ssl)] internal static partial int SSL_write(nint ssl, void* from, int length);
    [LibraryImport(Ssl)] internal static partial int SSL_shutdown(nint ssl);
    [LibraryImport(Ssl)]
    internal static partial int SSL_read_early_data(nint ssl, void* into, nuint length, nuint* read);
    [LibraryImport(Ssl)]
    internal static partial int SSL_write_early_data(nint ssl, void* from, nuint length, nuint* written);
    [LibraryImport(Ssl)] internal static partial int SSL_CTX_set_max_early_data(nint ctx, uint bytes);
    [LibraryImport(Ssl)] internal static partial int SSL_set_max_early_data(nint ssl, uint bytes);
    [LibraryImport(Ssl)] internal static partial uint SSL_CTX_get_max_early_data(nint ctx);
    [LibraryImport(Ssl)]
    internal static partial void SSL_CTX_set_allow_early_data_cb(nint ctx, nint callback, nint argument);
    [LibraryImport(Ssl)]
    internal static partial void SSL_set_allow_early_data_cb(nint ssl, nint callback, nint argument);
    [LibraryImport(Ssl)] internal static partial nuint SSL_get_client_random(nint ssl, byte* into, nuint length);
    [LibraryImport(Ssl)] internal static partial int SSL_use_certificate(nint ssl, nint certificate);
    [LibraryImport(Ssl)] internal static partial int SSL_use_PrivateKey(nint ssl, nint key);
    [LibraryImport(Ssl)] internal static partial void SSL_CTX_set_cert_cb(nint ctx, nint callback, nint argument);
    [LibraryImport(Ssl)] internal static partial void SSL_set_quiet_shutdown(nint ssl, int mode);
    [LibraryImport(Ssl)] internal static partial int SSL_get_error(nint ssl, int result);
    [LibraryImport(Ssl)] internal static partial int SSL_pending(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_has_pending(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_is_init_finished(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_ctrl(nint ssl, int command, nint number, void* pointer);
    [LibraryImport(Ssl)] internal static partial ulong SSL_set_options(nint ssl, ulong options);
    [LibraryImport(Ssl)] internal static partial ulong SSL_clear_options(nint ssl, ulong options);
    [LibraryImport(Ssl)] internal static partial ulong SSL_get_options(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_set_SSL_CTX(nint ssl, nint ctx);
    [LibraryImport(Ssl)] internal static partial void SSL_set_verify(nint ssl, int mode, nint callback);
    [LibraryImport(Ssl)] internal static partial void SSL_set_verify_depth(nint ssl, int depth);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_verify_result(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_get0_param(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_get1_peer_certificate(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_peer_cert_chain(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_session_reused(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_session(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_get1_session(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_set_session(nint ssl, nint session);
    [LibraryImport(Ssl)] internal static partial void SSL_SESSION_free(nint session);
    [LibraryImport(Ssl)] internal static partial int SSL_SESSION_up_ref(nint session);
    [LibraryImport(Ssl)] internal static partial int SSL_SESSION_is_resumable(nint session);
    [LibraryImport(Ssl)] internal static partial byte* SSL_SESSION_get_id(nint session, uint* length);
    [LibraryImport(Ssl)] internal static partial int i2d_SSL_SESSION(nint session, byte** into);
    [LibraryImport(Ssl)] internal static partial nint d2i_SSL_SESSION(nint* into, byte** from, nint length);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_version(nint ssl);
    [LibraryImport(Ssl)] internal static partial int SSL_version(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_current_cipher(nint ssl);
    [LibraryImport(Ssl)] internal static partial nint SSL_CIPHER_get_name(nint cipher);
    [LibraryImport(Ssl)] internal static partial ushort SSL_CIPHER_get_protocol_id(nint cipher);
    [LibraryImport(Ssl)] internal static partial nint SSL_CIPHER_find(nint ssl, byte* code);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_servername(nint ssl, int type);
    [LibraryImport(Ssl)] internal static partial void SSL_get0_alpn_selected(nint ssl, byte** name, uint* length);
    [LibraryImport(Ssl)] internal static partial int SSL_set_alpn_protos(nint ssl, byte* list, uint length);
    [LibraryImport(Ssl)]
    internal static partial int SSL_select_next_proto(byte** chosen, byte* chosenLength, byte* server,
        uint serverLength, byte* client, uint clientLength);
    [LibraryImport(Ssl)]
    internal static partial int SSL_client_hello_get0_ext(nint ssl, uint type, byte** data, nuint* length);
    [LibraryImport(Ssl)]
    internal static partial int SSL_get_sigalgs(nint ssl, int index, int* sign, int* hash, int* both, byte* rawSign,
        byte* rawHash);
    [LibraryImport(Ssl)] internal static partial int SSL_get_signature_type_nid(nint ssl, int* nid);
    [LibraryImport(Ssl)] internal static partial int SSL_get_peer_signature_type_nid(nint ssl, int* nid);
    [LibraryImport(Ssl)] internal static partial int SSL_set1_host(nint ssl, byte* name);
    [LibraryImport(Ssl)] internal static partial nint SSL_get_certificate(nint ssl);

    // BIOs.
    [LibraryImport(Crypto)] internal static partial int BIO_get_new_index();
    [LibraryImport(Crypto)] internal static partial nint BIO_meth_new(int type, byte* name);
    [LibraryImport(Crypto)] internal static partial int BIO_meth_set_write_ex(nint method, nint callback);
    [LibraryImport(Crypto)] internal static partial int BIO_meth_set_read_ex(nint method, nint callback);
    [LibraryImport(Crypto)] internal static partial int BIO_meth_set_ctrl(nint method, nint callback);
    [LibraryImport(Crypto)] internal static partial nint BIO_new(nint method);
    [LibraryImport(Crypto)] internal static partial int BIO_free(nint bio);
    [LibraryImport(Crypto)] internal static partial void BIO_set_data(nint bio, void* data);
    [LibraryImport(Crypto)] internal static partial void BIO_set_init(nint bio, int init);
    [LibraryImport(Crypto), SuppressGCTransition] internal static partial void* BIO_get_data(nint bio);
    [LibraryImport(Crypto), SuppressGCTransition] internal static partial void BIO_set_flags(nint bio, int flags);
    [LibraryImport(Crypto), SuppressGCTransition] internal static partial void BIO_clear_flags(nint bio, int flags);
    [LibraryImport(Crypto)] internal static partial nint BIO_new_mem_buf(void* bytes, int length);
    [LibraryImport(Crypto)] internal static partial nint BIO_s_mem();
    [LibraryImport(Crypto)] internal static partial nint BIO_ctrl(nint bio, int command, nint number, void* pointer);

    // Keys, certificates, names.
    [LibraryImport(Crypto)]
    internal static partial nint PEM_read_bio_X509(nint bio, nint* into, nint password, void* argument);
    [LibraryImport(Crypto)]
    internal static partial nint PEM_read_bio_X509_AUX(nint bio, nint* into, nint password, void* argument);
    [LibraryImport(Crypto)]
    internal static partial nint PEM_read_bio_X509_CRL(nint bio, nint* into, nint password, void* argument);
    [LibraryImport(Crypto)]
    internal static partial nint PEM_read_bio_PrivateKey(nint bio, nint* into, nint password, void* argument);
    [LibraryImport(Crypto)] internal static partial nint PEM_read_bio_Parameters(nint bio, nint* into);
    [LibraryImport(Crypto)] internal static partial int PEM_write_bio_X509(nint bio, nint certificate);
    [LibraryImport(Crypto)] internal static partial void EVP_PKEY_free(nint key);
    [LibraryImport(Crypto)] internal static partial void X509_free(nint certificate);
    [LibraryImport(Crypto)] internal static partial int X509_up_ref(nint certificate);
    [LibraryImport(Crypto)] internal static partial void X509_CRL_free(nint crl);
    [LibraryImport(Crypto)] internal static partial int i2d_X509(nint certificate, byte** into);
    [LibraryImport(Crypto)] internal static partial int X509_check_private_key(nint certificate, nint key);
    [LibraryImport(Crypto)] internal static partial nint X509_get_subject_name(nint certificate);
    [LibraryImport(Crypto)] internal static partial nint X509_get_issuer_name(nint certificate);
    [LibraryImport(Crypto)] internal static partial nint X509_get_serialNumber(nint certificate);
    [LibraryImport(Crypto)] internal static partial nint X509_get0_notBefore(nint certificate);
    [LibraryImport(Crypto)] internal static partial nint X509_get0_notAfter(nint certificate);
    [LibraryImport(Crypto)]
    internal static partial int X509_NAME_print_ex(nint bio, nint name, int indent, nuint flags);
    [LibraryImport(Crypto)] internal static partial byte* X509_NAME_oneline(nint name, byte* into, int length);
    [LibraryImport(Crypto)] internal static partial int i2a_ASN1_INTEGER(nint bio, nint number);
    [LibraryImport(Crypto)] internal static partial int ASN1_TIME_print(nint bio, nint time);
    [LibraryImport(Crypto)] internal static partial int ASN1_TIME_diff(int* days, int* seconds, nint from, nint to);
    [LibraryImport(Crypto)] internal static partial nint X509_verify_cert_error_string(nint code);
    [LibraryImport(Crypto)] internal static partial int X509_STORE_add_cert(nint store, nint certificate);
    [LibraryImport(Crypto)] internal static partial int X509_STORE_add_crl(nint store, nint crl);
    [LibraryImport(Crypto)] internal static partial int X509_STORE_set_flags(nint store, nuint flags);
    [LibraryImport(Crypto)]
    internal static partial int X509_VERIFY_PARAM_set1_ip_asc(nint param, byte* address);
    [LibraryImport(Crypto)]
    internal static partial int X509_check_host(nint certificate, byte* name, nuint length, uint flags, nint peer);
    [LibraryImport(Crypto)] internal static partial int X509_check_ip_asc(nint certificate, byte* name, uint flags);
    // Making a certificate.
    [LibraryImport(Crypto)] internal static partial nint EVP_PKEY_CTX_new_id(int id, nint engine);
    [LibraryImport(Crypto)] internal static partial void EVP_PKEY_CTX_free(nint context);
    [LibraryImport(Crypto)] internal static partial int EVP_PKEY_keygen_init(nint context);
    [LibraryImport(Crypto)]
    internal static partial int EVP_PKEY_CTX_set_ec_paramgen_curve_nid(nint context, int nid);
    [LibraryImport(Crypto)] internal static partial int EVP_PKEY_keygen(nint context, nint* key);
    [LibraryImport(Crypto)] internal static partial nint X509_new();
    [LibraryImport(Crypto)] internal static partial int X509_set_version(nint certificate, nint version);
    [LibraryImport(Crypto)] internal static partial int ASN1_INTEGER_set_uint64(nint number, ulong value);
    [LibraryImport(Crypto)] internal static partial nint X509_getm_notBefore(nint certificate);
    [LibraryImport(Crypto)] internal static partial nint X509_getm_notAfter(nint certificate);
    [LibraryImport(Crypto)] internal static partial nint X509_gmtime_adj(nint time, nint seconds);
    [LibraryImport(Crypto)] internal static partial int X509_set_pubkey(nint certificate, nint key);
    [LibraryImport(Crypto)] internal static partial int X509_set_issuer_name(nint certificate, nint name);
    [LibraryImport(Crypto)]
    internal static partial int X509_NAME_add_entry_by_txt(nint name, byte* field, int type, byte* bytes, int length,
        int location, int set);
    [LibraryImport(Crypto)]
    internal static partial void X509V3_set_ctx(void* context, nint issuer, nint subject, nint request, nint crl,
        int flags);
    [LibraryImport(Crypto)]
    internal static partial nint X509V3_EXT_nconf_nid(nint conf, void* context, int nid, byte* value);
    [LibraryImport(Crypto)] internal static partial int X509_add_ext(nint certificate, nint extension, int location);
    [LibraryImport(Crypto)] internal static partial void X509_EXTENSION_free(nint extension);
    [LibraryImport(Crypto)] internal static partial int X509_sign(nint certificate, nint key, nint digest);
    [LibraryImport(Crypto)]
    internal static partial int PEM_write_bio_PKCS8PrivateKey(nint bio, nint key, nint cipher, byte* password,
        int length, nint callback, void* argument);

    [LibraryImport(Crypto)] internal static partial int OPENSSL_sk_num(nint stack);
    [LibraryImport(Crypto)] internal static partial nint OPENSSL_sk_value(nint stack, int index);
    [LibraryImport(Crypto)] internal static partial nint OBJ_nid2sn(int nid);

    [LibraryImport(Crypto)] internal static partial nint EVP_sha1();
    [LibraryImport(Crypto)] internal static partial nint EVP_sha256();
    [LibraryImport(Crypto)]
    internal static partial int EVP_Digest(void* bytes, nuint length, byte* into, uint* written, nint digest,
        nint engine);
    [LibraryImport(Crypto)]
    internal static partial int X509_digest(nint certificate, nint digest, byte* into, uint* written);
    [LibraryImport(Crypto)] internal static partial byte* CRYPTO_malloc(nuint bytes, nint file, int line);

    // OCSP.
    [LibraryImport(Crypto)] internal static partial nint X509_get1_ocsp(nint certificate);
    [LibraryImport(Crypto)] internal static partial void X509_email_free(nint texts);
    [LibraryImport(Crypto)] internal static partial int X509_check_issued(nint issuer, nint subject);
    [LibraryImport(Crypto)] internal static partial nint OPENSSL_sk_new_null();
    [LibraryImport(Crypto)] internal static partial int OPENSSL_sk_push(nint stack, nint item);
    [LibraryImport(Crypto)] internal static partial void OPENSSL_sk_free(nint stack);
    [LibraryImport(Crypto)] internal static partial nint X509_STORE_CTX_new();
    [LibraryImport(Crypto)] internal static partial void X509_STORE_CTX_free(nint context);
    [LibraryImport(Crypto)]
    internal static partial int X509_STORE_CTX_init(nint context, nint store, nint certificate, nint untrusted);
    [LibraryImport(Crypto)]
    internal static partial int X509_STORE_CTX_get1_issuer(nint* issuer, nint context, nint certificate);
    [LibraryImport(Crypto)] internal static partial int X509_verify_cert(nint context);
    [LibraryImport(Crypto)] internal static partial nint X509_STORE_CTX_get0_chain(nint context);
    [LibraryImport(Ssl)] internal static partial nint SSL_get0_verified_chain(nint ssl);
    [LibraryImport(Crypto)] internal static partial nint OCSP_cert_to_id(nint digest, nint subject, nint issuer);
    [LibraryImport(Crypto)] internal static partial void OCSP_CERTID_free(nint id);
    [LibraryImport(Crypto)] internal static partial int i2d_OCSP_CERTID(nint id, byte** into);
    [LibraryImport(Crypto)] internal static partial nint OCSP_REQUEST_new();
    [LibraryImport(Crypto)] internal static partial void OCSP_REQUEST_free(nint request);
    [LibraryImport(Crypto)] internal static partial nint OCSP_request_add0_id(nint request, nint id);
    [LibraryImport(Crypto)] internal static partial int i2d_OCSP_REQUEST(nint request, byte** into);
    [LibraryImport(Crypto)] internal static partial nint d2i_OCSP_RESPONSE(nint* into, byte** from, nint length);
    [LibraryImport(Crypto)] internal static partial void OCSP_RESPONSE_free(nint response);
    [LibraryImport(Crypto)] internal static partial int OCSP_response_status(nint response);
    [LibraryImport(Crypto)] internal static partial byte* OCSP_response_status_str(nint status);
    [LibraryImport(Crypto)] internal static partial nint OCSP_response_get1_basic(nint response);
    [LibraryImport(Crypto)] internal static partial void OCSP_BASICRESP_free(nint basic);
    [LibraryImport(Crypto)]
    internal static partial int OCSP_basic_verify(nint basic, nint certificates, nint store, nuint flags);
    [LibraryImport(Crypto)]
    internal static partial int OCSP_resp_find_status(nint basic, nint id, int* status, int* reason, nint* revoked,
        nint* thisUpdate, nint* nextUpdate);
    [LibraryImport(Crypto)]
    internal static partial int OCSP_check_validity(nint thisUpdate, nint nextUpdate, nint seconds, nint ageMax);

    // Tickets.
    [LibraryImport(Crypto)] internal static partial nint EVP_aes_128_cbc();
    [LibraryImport(Crypto)] internal static partial nint EVP_aes_256_cbc();
    [LibraryImport(Crypto)]
    internal static partial int EVP_EncryptInit_ex(nint context, nint cipher, nint engine, byte* key, byte* iv);
    [LibraryImport(Crypto)]
    internal static partial int EVP_DecryptInit_ex(nint context, nint cipher, nint engine, byte* key, byte* iv);
    [LibraryImport(Crypto)]
    internal static partial int EVP_MAC_init(nint context, byte* key, nuint length, OsslParam* parameters);
    [LibraryImport(Crypto)] internal static partial int RAND_bytes(byte* into, int length);

    // Keys in stores and engines.
    [LibraryImport(Crypto)]
    internal static partial nint OSSL_STORE_open(byte* uri, nint method, void* argument, nint after,
        nint afterArgument);
    [LibraryImport(Crypto)]
    internal static partial nint OSSL_STORE_attach(nint bio, byte* scheme, nint library, byte* properties, nint method,
        void* argument, OsslParam* parameters, nint after, nint afterArgument);
    [LibraryImport(Crypto)] internal static partial nint OSSL_STORE_load(nint store);
    [LibraryImport(Crypto)] internal static partial int OSSL_STORE_eof(nint store);
    [LibraryImport(Crypto)] internal static partial int OSSL_STORE_close(nint store);
    [LibraryImport(Crypto)] internal static partial int OSSL_STORE_INFO_get_type(nint info);
    [LibraryImport(Crypto)] internal static partial nint OSSL_STORE_INFO_get1_PKEY(nint info);
    [LibraryImport(Crypto)] internal static partial void OSSL_STORE_INFO_free(nint info);
    [LibraryImport(Crypto)] internal static partial nint UI_UTIL_wrap_read_pem_callback(nint callback, int writing);
    [LibraryImport(Crypto)] internal static partial void UI_destroy_method(nint method);
    [LibraryImport(Crypto)] internal static partial nint ENGINE_by_id(byte* id);
    [LibraryImport(Crypto)] internal static partial int ENGINE_init(nint engine);
    [LibraryImport(Crypto)] internal static partial int ENGINE_finish(nint engine);
    [LibraryImport(Crypto)] internal static partial int ENGINE_free(nint engine);
    [LibraryImport(Crypto)] internal static partial int ENGINE_set_default(nint engine, uint methods);
    [LibraryImport(Crypto)]
    internal static partial nint ENGINE_load_private_key(nint engine, byte* id, nint method, nint argument);

    [StructLayout(LayoutKind.Sequential)]
    internal struct OsslParam
    {
        public byte* Key;
        public uint Type;
        public void* Data;
        public nuint Size;
        public nuint ReturnSize;
    }

    /// <summary>A NUL-terminated copy for the length of a call.</summary>
    internal static byte[] Z(string text)
    {
        byte[] bytes = new byte[System.Text.Encoding.UTF8.GetByteCount(text) + 1];
        System.Text.Encoding.UTF8.GetBytes(text, bytes);
        return bytes;
    }
}
