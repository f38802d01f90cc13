// A server's and a client's session joined in memory: whatever one writes the other reads, in whatever pieces it comes.
using System.Text;
using Weir.Kernel;
using Weir.Loop;
using Weir.Tests.Harness;
using Weir.Tls;
using Xunit;

namespace Weir.Tests.Unit.Tls;

public sealed class TlsSessionTests
{
    private static readonly TestAuthority _authority = new();

    internal static TlsContext Server(TestKey kind = TestKey.Ecdsa, TlsProtocols protocols =
        TlsProtocols.Tls12 | TlsProtocols.Tls13, params string[] names)
    {
        TestCertificate certificate = _authority.Issue(kind, false, names.Length == 0 ? ["localhost"] : names);
        TlsContext context = TlsContext.Create(protocols, out string? error)!;
        Assert.Null(error);
        Assert.Null(context.AddCertificate("cert", Encoding.ASCII.GetBytes(certificate.Pem), "key",
            Encoding.ASCII.GetBytes(certificate.KeyPem), []));
        context.FinishServer("test");
        return context;
    }

    internal static TlsContext Client()
    {
        TlsContext context = TlsContext.Create(TlsProtocols.Tls12 | TlsProtocols.Tls13, out _)!;
        Assert.Null(context.AddAuthorities("ca", Encoding.ASCII.GetBytes(_authority.Pem), told: false));
        context.VerifyServer(1);
        return context;
    }

    /// <summary>Two sessions and the bytes between them, in pieces of a given size.</summary>
    private sealed class Pair(TlsContext server, TlsContext client, int pieceBytes) : IDisposable
    {
        private readonly BufferPool _pool = new();

        public TlsSession Server { get; } = TlsSession.Accept(server)!;

        public TlsSession Client { get; } = TlsSession.Connect(client)!;

        public void Shake()
        {
            bool serverDone = false, clientDone = false;
            for (int i = 0; i < 100_000 && !(serverDone && clientDone); i++)
            {
                clientDone = Step(Client, clientDone);
                Carry(Client, Server, s => serverDone = Step(s, serverDone));
                serverDone = Step(Server, serverDone);
                Carry(Server, Client, s => clientDone = Step(s, clientDone));
            }
            Assert.True(serverDone && clientDone, Server.Error + Client.Error);
        }

        private bool Step(TlsSession session, bool isDone)
        {
            if (isDone)
            {
                // Tickets come after the handshake.
                BufferSlab none = _pool.Rent(1024);
                session.Read(none.Memory, out _);
                none.Release();
                return true;
            }
            TlsStatus status = session.Handshake();
            Assert.True(status is TlsStatus.Done or TlsStatus.NeedsInput, session.Error);
            return status == TlsStatus.Done;
        }

        private void Carry(TlsSession from, TlsSession to, Action<TlsSession> each)
        {
            if (!from.HasRecords)
            {
                return;
            }
            byte[] bytes = from.Records.Span.ToArray();
            from.TakeRecords();
            Feed(to, bytes, each);
        }

        public void Feed(TlsSession to, byte[] bytes, Action<TlsSession> each)
        {
            for (int at = 0; at < bytes.Length; at += pieceBytes)
            {
                BufferSlab slab = _pool.Rent(pieceBytes);
                int count = Math.Min(pieceBytes, bytes.Length - at);
                bytes.AsSpan(at, count).CopyTo(slab.Span);
                to.Feed(slab.Memory.Slice(0, count));
                while (to.InputLeft > 0)
                {
                    each(to);
                }
                slab.Release();
            }
        }

        /// <summary>Encrypts with windows of the given size.</summary>
        public byte[] Encrypt(TlsSession session, byte[] plain, int roomBytes)
        {
            BufferSlab from = _pool.Rent(plain.Length), room = _pool.Rent(roomBytes);
            plain.CopyTo(from.Span);
            var records = new List<byte>();
            TlsStatus status;
            do
            {
                status = session.Write(from.Memory.Slice(0, plain.Length), room.Memory.Slice(0, roomBytes),
                    out int written);
                records.AddRange(room.Span[..written].ToArray());
            }
            while (status == TlsStatus.NeedsRoom);
            Assert.Equal(TlsStatus.Done, status);
            from.Release();
            room.Release();
            return [.. records];
        }

        public byte[] Send(TlsSession from, TlsSession to, byte[] plain, int roomBytes = 64 * 1024)
        {
            var received = new List<byte>();
            BufferSlab into = _pool.Rent(4096);
            Feed(to, Encrypt(from, plain, roomBytes), session =>
            {
                while (session.Read(into.Memory, out int count) == TlsStatus.Done)
                {
                    received.AddRange(into.Span[..count].ToArray());
                }
            });
            into.Release();
            return [.. received];
        }

        public void Dispose()
        {
            Server.Dispose();
            Client.Dispose();
            Assert.Equal(0, _pool.RentedBytes);
        }
    }

    [Theory]
    [InlineData(TlsProtocols.Tls12, 1)]
    [InlineData(TlsProtocols.Tls13, 1)]
    [InlineData(TlsProtocols.Tls13, 7)]
    [InlineData(TlsProtocols.Tls12 | TlsProtocols.Tls13, 16384)]
    public void A_handshake_and_data_may_be_split_at_every_byte(TlsProtocols protocols, int pieceBytes)
    {
        using TlsContext server = Server(protocols: protocols), client = Client();
        using var pair = new Pair(server, client, pieceBytes);
        pair.Shake();
        Assert.Equal(0, pair.Client.VerifyResult);
        Assert.True(pair.Client.IsPeerNamed("localhost"));
        Assert.False(pair.Client.IsPeerNamed("elsewhere"));
        byte[] hello = Encoding.ASCII.GetBytes("hello");
        Assert.Equal(hello, pair.Send(pair.Client, pair.Server, hello));
        Assert.Equal(hello, pair.Send(pair.Server, pair.Client, hello));
    }

    [Theory]
    [InlineData(1)]
    [InlineData(5)]
    [InlineData(4096)]
    [InlineData(70_000)]
    public void Records_need_no_room_of_their_own_size(int roomBytes)
    {
        using TlsContext server = Server(), client = Client();
        using var pair = new Pair(server, client, 16384);
        pair.Shake();
        byte[] bytes = new byte[50_000];
        new Random(1).NextBytes(bytes);
        Assert.Equal(bytes, pair.Send(pair.Server, pair.Client, bytes, roomBytes));
    }

    [Fact]
    public void Goodbye_is_the_end_and_not_an_error()
    {
        using TlsContext server = Server(), client = Client();
        using var pair = new Pair(server, client, 16384);
        pair.Shake();
        pair.Client.Shutdown();
        byte[] alert = pair.Client.Records.Span.ToArray();
        pair.Client.TakeRecords();
        var pool = new BufferPool();
        BufferSlab into = pool.Rent();
        var seen = TlsStatus.Done;
        pair.Feed(pair.Server, alert, s => seen = s.Read(into.Memory, out _));
        Assert.Equal(TlsStatus.Ended, seen);
        into.Release();
    }

    [Fact]
    public void Garbage_breaks_the_handshake_with_an_alert()
    {
        using TlsContext server = Server();
        using var session = TlsSession.Accept(server)!;
        var pool = new BufferPool();
        BufferSlab slab = pool.Rent();
        "\x16\x03\x01\x00\x05nonsense"u8.CopyTo(slab.Span);
        session.Feed(slab.Memory.Slice(0, 12));
        Assert.Equal(TlsStatus.Failed, session.Handshake());
        Assert.StartsWith(" (SSL: error:", session.Error);
        Assert.True(session.HasRecords);
        Assert.Equal(TlsStatus.Failed, session.Handshake());
        slab.Release();
    }

    [Fact]
    public void A_certificate_and_key_that_do_not_belong_together_are_refused()
    {
        TestCertificate one = _authority.Issue(TestKey.Rsa, false, "a");
        TestCertificate two = _authority.Issue(TestKey.Rsa, false, "b");
        using TlsContext context = TlsContext.Create(TlsProtocols.Tls13, out _)!;
        string? error = context.AddCertificate("/a.crt", Encoding.ASCII.GetBytes(one.Pem), "/b.key",
            Encoding.ASCII.GetBytes(two.KeyPem), []);
        Assert.Equal("SSL_CTX_use_PrivateKey(\"/b.key\") failed (SSL: error:05800074:x509 certificate routines::key "
            + "values mismatch)", error);
    }

    [Fact]
    public void A_locked_key_opens_with_one_of_the_passwords_and_is_never_asked_for()
    {
        TestCertificate certificate = _authority.Issue(TestKey.Rsa, false, "a");
        byte[] pem = Encoding.ASCII.GetBytes(certificate.Pem);
        byte[] locked = Encoding.ASCII.GetBytes(((System.Security.Cryptography.RSA)certificate.Key)
            .ExportEncryptedPkcs8PrivateKeyPem("secret", new System.Security.Cryptography.PbeParameters(
                System.Security.Cryptography.PbeEncryptionAlgorithm.Aes256Cbc,
                System.Security.Cryptography.HashAlgorithmName.SHA256, 1000)));
        TlsPassword[] passwords = [new("wrong"u8.ToArray()), new("secret"u8.ToArray())];
        using TlsContext context = TlsContext.Create(TlsProtocols.Tls13, out _)!;
        Assert.Null(context.AddCertificate("c", pem, "k", locked, passwords));
        Assert.StartsWith("cannot load certificate key \"k\": PEM_read_bio_PrivateKey() failed (SSL: error:",
            context.AddCertificate("c", pem, "k", locked, []));
    }
}
