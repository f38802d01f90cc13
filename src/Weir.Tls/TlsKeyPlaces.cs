// Private keys that lie elsewhere than in PEM texts: `store:URI` (OpenSSL's stores, whose schemes providers bring) and
// `engine:NAME:ID` (engines, which OpenSSL 3 still has). The key may be nothing but a handle to a device, so each
// process opens it for itself; only a store's `file:` is bytes that somebody else may have read. Any thread; the keys
// belong to OpenSSL and to whoever asked. Never asks at a terminal.
using System.Runtime.InteropServices;

namespace Weir.Tls;

/// <summary>Keys behind a name.</summary>
public static unsafe class TlsKeyPlaces
{
    private const string Store = "store:", Engine = "engine:", File = "file:";
    private const int InfoPkey = 4;

    /// <summary>Variables that OpenSSL reads when it is loaded: a worker's has to be configured as the master's, which
    /// has found the keys.</summary>
    public static IReadOnlyList<string> Environment { get; } =
        ["OPENSSL_CONF", "OPENSSL_CONF_INCLUDE", "OPENSSL_ENGINES", "OPENSSL_MODULES"];

    /// <summary>A key that is opened by its place and not read from a file.</summary>
    public static bool Is(string place) =>
        place.StartsWith(Store, StringComparison.Ordinal) || place.StartsWith(Engine, StringComparison.Ordinal);

    /// <summary>The file of a `store:file:` place, whose bytes <see cref="TlsPair.Read"/> takes; null for all
    /// others.</summary>
    public static string? FileOf(string place)
    {
        if (!place.StartsWith(Store + File, StringComparison.Ordinal))
        {
            return null;
        }
        string path = place[(Store.Length + File.Length)..];
        return path.StartsWith("///", StringComparison.Ordinal) ? path[2..]
            : path.StartsWith("//localhost/", StringComparison.Ordinal) ? path["//localhost".Length..] : path;
    }

    /// <summary>Makes an engine the default of all its methods (ssl_engine); null, or nginx's words.</summary>
    public static string? UseEngine(string name)
    {
        const uint everyMethod = 0xFFFF;
        if ((OpenSsl.Load() ?? MissingEngines()) is { } missing)
        {
            return missing;
        }
        Native.ERR_clear_error();
        nint engine = EngineOf(name);
        if (engine == 0)
        {
            return $"ENGINE_by_id(\"{name}\") failed" + TlsErrors.Take();
        }
        string? error = Native.ENGINE_set_default(engine, everyMethod) != 0 ? null
            : $"ENGINE_set_default(\"{name}\", ENGINE_METHOD_ALL) failed" + TlsErrors.Take();
        Native.ENGINE_free(engine);
        return error;
    }

    /// <summary>The key of a place; 0 with the call that failed, whose reasons are in OpenSSL's queue.</summary>
    internal static nint Open(string place, ReadOnlySpan<byte> file, ReadOnlySpan<byte> password, out string error) =>
        place.StartsWith(Engine, StringComparison.Ordinal) ? OpenEngine(place[Engine.Length..], out error)
            : OpenStore(place[Store.Length..], FileOf(place) is null ? default : file, password, out error);

    private static string? MissingEngines() =>
        NativeLibrary.TryGetExport(NativeLibrary.Load(Native.Crypto), "ENGINE_by_id", out _) ? null
            : $"{OpenSsl.Version} has no engines";

    private static nint EngineOf(string name)
    {
        fixed (byte* id = Native.Z(name))
        {
            return Native.ENGINE_by_id(id);
        }
    }

    private static nint OpenEngine(string rest, out string error)
    {
        int colon = rest.IndexOf(':');
        error = colon < 0 ? "invalid syntax" : MissingEngines() ?? "";
        if (error.Length > 0)
        {
            return 0;
        }
        nint engine = EngineOf(rest[..colon]);
        if (engine == 0)
        {
            error = "ENGINE_by_id() failed";
            return 0;
        }
        // An engine that nobody has initialised yet, as `ssl_engine` does, has no functional reference for its keys.
        int ready = Native.ENGINE_init(engine);
        nint key;
        fixed (byte* id = Native.Z(rest[(colon + 1)..]))
        {
            key = ready == 1 ? Native.ENGINE_load_private_key(engine, id, 0, 0) : 0;
        }
        error = ready != 1 ? "ENGINE_init() failed" : "ENGINE_load_private_key() failed";
        if (ready == 1)
        {
            Native.ENGINE_finish(engine);
        }
        Native.ENGINE_free(engine);
        return key;
    }

    private static nint OpenStore(string uri, ReadOnlySpan<byte> file, ReadOnlySpan<byte> password, out string error)
    {
        nint method = Native.UI_UTIL_wrap_read_pem_callback(
            (nint)(delegate* unmanaged<byte*, int, int, void*, int>)&TlsPem.Password, 0);
        nint key = 0;
        fixed (byte* secret = password)
        fixed (byte* bytes = file)
        {
            var offered = new TlsPem.Offered { Bytes = secret, Length = password.Length };
            nint bio = bytes == null ? 0 : Native.BIO_new_mem_buf(bytes, file.Length);
            nint store = bio == 0 ? OpenUri(uri, method, &offered) : Attach(bio, method, &offered);
            error = store == 0 ? bio == 0 ? "OSSL_STORE_open() failed" : "OSSL_STORE_attach() failed"
                : "OSSL_STORE_load() failed";
            while (store != 0 && key == 0 && Native.OSSL_STORE_eof(store) == 0)
            {
                nint info = Native.OSSL_STORE_load(store);
                if (info != 0 && Native.OSSL_STORE_INFO_get_type(info) == InfoPkey)
                {
                    key = Native.OSSL_STORE_INFO_get1_PKEY(info);
                }
                Native.OSSL_STORE_INFO_free(info);
            }
            if (store != 0)
            {
                Native.OSSL_STORE_close(store);
            }
            if (bio != 0)
            {
                Native.BIO_free(bio);
            }
        }
        Native.UI_destroy_method(method);
        return key;
    }

    private static nint OpenUri(string uri, nint method, void* offered)
    {
        fixed (byte* p = Native.Z(uri))
        {
            return Native.OSSL_STORE_open(p, method, offered, 0, 0);
        }
    }

    private static nint Attach(nint bio, nint method, void* offered)
    {
        fixed (byte* scheme = "file\0"u8)
        {
            return Native.OSSL_STORE_attach(bio, scheme, 0, null, method, offered, null, 0, 0);
        }
    }
}
