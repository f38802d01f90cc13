// Private keys that are no PEM files: OpenSSL's stores (`store:`) and engines (`engine:`, ssl_engine). The engine is a
// small one of the test's own, which also brings a store for a scheme of its own, as those of devices do.
using System.Security.Cryptography;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class TlsKeyPlacesTests
{
    private static readonly TestAuthority _authority = new();

    /// <summary>Keys are files beside the engine. It says no when it is asked for one that is locked.</summary>
    private const string Box = """
        typedef struct engine_st ENGINE;
        extern int ENGINE_set_id(ENGINE *, const char *), ENGINE_set_name(ENGINE *, const char *);
        extern int ENGINE_set_load_privkey_function(ENGINE *, void *(*)(ENGINE *, const char *, void *, void *));
        extern void *BIO_new_file(const char *, const char *), *PEM_read_bio_PrivateKey(void *, void *, void *, void *);
        extern int BIO_free(void *), BIO_snprintf(char *, unsigned long, const char *, ...);
        extern void *OSSL_STORE_LOADER_new(ENGINE *, const char *), *OSSL_STORE_INFO_new_PKEY(void *);
        extern int OSSL_STORE_LOADER_set_open(void *, void *), OSSL_STORE_LOADER_set_load(void *, void *);
        extern int OSSL_STORE_LOADER_set_eof(void *, void *), OSSL_STORE_LOADER_set_error(void *, void *);
        extern int OSSL_STORE_LOADER_set_close(void *, void *), OSSL_STORE_register_loader(void *);
        static void *key(const char *name) {
            char path[4096];
            BIO_snprintf(path, sizeof path, "%s/%s.key", FOLDER, name);
            void *file = BIO_new_file(path, "r"), *key = 0;
            if (file) { key = PEM_read_bio_PrivateKey(file, 0, 0, 0); BIO_free(file); }
            return key;
        }
        static void *load_key(ENGINE *e, const char *id, void *ui, void *data) { return key(id); }
        struct shelf { void *key; int at_end; };
        static struct shelf shelf;
        static void *open_shelf(void *loader, const char *uri, void *ui, void *data) {
            shelf.key = key(uri + sizeof "box:" - 1); shelf.at_end = 0;
            return shelf.key ? &shelf : 0;
        }
        static void *next(struct shelf *s, void *ui, void *data) {
            s->at_end = 1;
            return OSSL_STORE_INFO_new_PKEY(s->key);
        }
        static int at_end(struct shelf *s) { return s->at_end; }
        static int never(struct shelf *s) { return 0; }
        static int close_shelf(struct shelf *s) { return 1; }
        unsigned long v_check(unsigned long version) { return version; }
        int bind_engine(ENGINE *e, const char *id, void *functions) {
            void *loader = OSSL_STORE_LOADER_new(e, "box");
            return ENGINE_set_id(e, "box") && ENGINE_set_name(e, "keys in a box")
                && ENGINE_set_load_privkey_function(e, load_key)
                && OSSL_STORE_LOADER_set_open(loader, open_shelf) && OSSL_STORE_LOADER_set_load(loader, next)
                && OSSL_STORE_LOADER_set_eof(loader, at_end) && OSSL_STORE_LOADER_set_error(loader, never)
                && OSSL_STORE_LOADER_set_close(loader, close_shelf) && OSSL_STORE_register_loader(loader);
        }
        """;

    private static TempDir Files()
    {
        var files = new TempDir();
        TestCertificate rsa = _authority.Write(files, "rsa", TestKey.Rsa);
        _authority.Write(files, "ec");
        files.Write("ca.crt", _authority.Pem);
        files.Write("rsa.der", rsa.Key.ExportPkcs8PrivateKey());
        files.Write("locked.key", rsa.Key.ExportEncryptedPkcs8PrivateKeyPem("open sesame",
            new PbeParameters(PbeEncryptionAlgorithm.Aes256Cbc, HashAlgorithmName.SHA256, 2048)));
        files.Write("passwords", "wrong\nopen sesame\n");
        return files;
    }

    private static Conf Server(string settings, string main = "", bool master = false) => Conf.Http($$"""
        server { listen 127.0.0.1:%PORT% ssl; {{settings}} return 200 ok; }
        """, main: main, workers: master ? 2 : 1, master: master);

    private static void Serves(ServerProcess weir, string kind)
    {
        for (int i = 0; i < 4; i++)
        {
            using TlsClient client = TlsClient.Connect(weir.Port);
            Assert.Equal(kind, client.ServerCertificate!.PublicKey.Oid.FriendlyName);
            Assert.Equal("ok", client.Get("/").Text);
        }
    }

    [Theory]
    [InlineData("store:file:%FILES%/rsa.key")]
    [InlineData("store:file:%FILES%/rsa.der")]
    [InlineData("store:file://localhost%FILES%/rsa.key")]
    [InlineData("store:file://%FILES%/locked.key; ssl_password_file %FILES%/passwords")]
    public void A_store_of_files_is_read_as_a_file(string key) => IsRead(key, master: false);

    [Theory]
    [Trait("Needs", "master")]
    [InlineData("store:file:%FILES%/rsa.key")]
    [InlineData("store:file://%FILES%/locked.key; ssl_password_file %FILES%/passwords")]
    public void A_master_reads_a_store_of_files_for_its_workers(string key) => IsRead(key, master: true);

    private static void IsRead(string key, bool master)
    {
        using ServerProcess weir = ServerProcess.Weir(
            Server($"ssl_certificate %FILES%/rsa.crt; ssl_certificate_key {key};", master: master), Files());
        Serves(weir, "RSA");
    }

    [Fact]
    public void A_variable_may_name_a_store()
    {
        using ServerProcess weir = ServerProcess.Weir(Conf.Http("""
            map $ssl_protocol $key { default store:file:%FILES%/rsa.key; }
            server {
                listen 127.0.0.1:%PORT% ssl; ssl_certificate %FILES%/rsa.crt; ssl_certificate_key $key; return 200 ok;
            }
            """), Files());
        Serves(weir, "RSA");
    }

    [Fact]
    [Trait("Needs", "master")]
    public void A_key_in_a_store_of_files_that_changes_is_picked_up()
    {
        using ServerProcess weir = ServerProcess.Weir(
            Server("ssl_certificate %FILES%/ec.crt; ssl_certificate_key store:file:%FILES%/ec.key;", master: true),
            Files());
        TestCertificate next = _authority.Issue(TestKey.Ecdsa, false, "localhost");
        weir.Files.Write("ec.crt", next.Pem);
        Wait.For("the refusal of half a pair", () => weir.ErrorLog.Contains("key values mismatch"));
        weir.Files.Write("ec.key", next.KeyPem);
        Wait.For("the new certificate", () =>
        {
            using TlsClient client = TlsClient.Connect(weir.Port);
            return client.ServerCertificate!.SerialNumber == next.Certificate.SerialNumber;
        });
    }

    /// <summary>In the master and in every worker, at start and after a reload; also as a client.</summary>
    [NeedsTheory("gcc")]
    [Trait("Needs", "master")]
    [InlineData("engine:box:rsa")]
    [InlineData("store:box:rsa")]
    public void Keys_of_an_engine_and_of_its_store_are_used(string key)
    {
        using TempDir files = Files();
        using ServerProcess weir = WithEngine(files, Conf.Http($$"""
            server {
                listen 127.0.0.1:%PORT% ssl; ssl_certificate %FILES%/rsa.crt; ssl_certificate_key {{key}};
                ssl_verify_client optional; ssl_client_certificate %FILES%/ca.crt;
                location / { return 200 ok; }
                location = /who { return 200 $ssl_client_verify; }
            }
            server {
                listen 127.0.0.1:%PORT2%;
                location / {
                    proxy_pass https://127.0.0.1:%PORT%/who;
                    proxy_ssl_certificate %FILES%/rsa.crt; proxy_ssl_certificate_key {{key}};
                }
            }
            """, workers: 2, master: true, main: "ssl_engine box;"));
        Serves(weir, "RSA");
        using (RawClient plain = weir.Connect(2))
        {
            plain.Send("GET / HTTP/1.0\r\n\r\n");
            Assert.Equal("SUCCESS", plain.ReadResponse().Text);
        }
        int[] before = weir.Workers();
        weir.Send(Signal.Hup);
        Wait.For("the reload", () => weir.ErrorLog.Contains("reconfigur", StringComparison.Ordinal));
        Serves(weir, "RSA");
        // A worker that is started later finds the engine as well.
        ChildProcess.Send(before[0], Signal.Kill);
        Wait.For("another worker", () => weir.Workers() is { Length: 2 } now && !now.Contains(before[0]));
        Serves(weir, "RSA");
    }

    private static ServerProcess WithEngine(TempDir files, Conf conf)
    {
        files.Write("box.c", $"#define FOLDER \"{files.Path}\"\n" + Box);
        (int code, _, string errors) = ChildProcess.Run(Tools.Require("gcc"), "-shared", "-fPIC", "-w", "-o",
            files.At("box.so"), files.At("box.c"), "-l:libcrypto.so.3");
        Assert.True(code == 0, errors);
        string script = files.Write("weir", $"""
            #!/bin/sh
            OPENSSL_ENGINES={files.Path} exec {ServerProcess.WeirBinary} "$@"
            """);
        File.SetUnixFileMode(script, (UnixFileMode)0b111_101_101);
        return ServerProcess.Start(script, conf, files);
    }

    [Theory]
    [InlineData("engine:no_such_engine:key", "", "cannot load certificate key \"engine:no_such_engine:key\": "
        + "ENGINE_by_id() failed (SSL: error:")]
    [InlineData("engine:dynamic", "", "cannot load certificate key \"engine:dynamic\": invalid syntax in ")]
    [InlineData("engine:dynamic:key", "", "cannot load certificate key \"engine:dynamic:key\": ENGINE_")]
    [InlineData("store:file:/no/such.key", "",
        "cannot load certificate key \"store:file:/no/such.key\": OSSL_STORE_open() failed (")]
    [InlineData("store:file:%FILES%/rsa.crt", "", "OSSL_STORE_load() failed")]
    [InlineData("store:file:%FILES%/locked.key", "", "OSSL_STORE_load() failed")]
    [InlineData("store:pkcs11:object=key", "", "cannot load certificate key \"store:pkcs11:object=key\": "
        + "OSSL_STORE_open() failed (SSL: error:")]
    [InlineData("store:file:%FILES%/ec.key", "", "key type mismatch")]
    [InlineData("%FILES%/rsa.key", "ssl_engine no_such_engine;",
        "ENGINE_by_id(\"no_such_engine\") failed (SSL: error:")]
    [InlineData("%FILES%/rsa.key", "ssl_engine dynamic; ssl_engine dynamic;", "\"ssl_engine\" directive is duplicate")]
    public void What_cannot_be_opened_is_said_by_the_test(string key, string main, string message)
    {
        using TempDir files = Files();
        using ServerProcess weir = ServerProcess.Weir(
            Server($"ssl_certificate %FILES%/rsa.crt; ssl_certificate_key {key};", main), files, waitReady: false,
            arguments: "-t");
        Assert.True(weir.Process.WaitForExit(30_000));
        Assert.Equal(1, weir.Process.ExitCode);
        Assert.Contains(message, weir.Process.Errors);
    }
}
