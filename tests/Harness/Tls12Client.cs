// A TLS 1.2 client by hand (ECDHE on P-256, an ECDSA certificate, AES-128-GCM) for what no library lets a test do: any
// record at any time, asking for new handshakes without end, records that are cut or forged. Certificates are not
// looked at.
using System.Security.Cryptography;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>A hand-made TLS 1.2 connection.</summary>
public sealed class Tls12Client : IDisposable
{
    public const byte ChangeCipher = 20, Alert = 21, Handshake = 22, ApplicationData = 23;

    private readonly RawClient _client;
    private readonly byte[] _random = RandomNumberGenerator.GetBytes(32);
    private readonly List<byte> _transcript = [];
    private Tls12Keys? _sending, _receiving;
    private bool _unlocks;
    private readonly string? _alpn;

    private Tls12Client(RawClient client, string? alpn) => (_client, _alpn) = (client, alpn);

    public RawClient Raw => _client;

    /// <summary>Connects and shakes hands, offering one protocol by ALPN or none.</summary>
    public static Tls12Client Connect(int port, string? alpn = null)
    {
        var client = new Tls12Client(RawClient.Connect(port), alpn);
        client.Shake();
        return client;
    }

    /// <summary>A ClientHello without its record.</summary>
    public static byte[] Hello(byte[] random, string? alpn = null)
    {
        byte[] protocol = Encoding.ASCII.GetBytes(alpn ?? "");
        byte length = (byte)protocol.Length;
        byte[] extensions =
        [
            0, 10, 0, 4, 0, 2, 0, 23,       // groups: secp256r1
            0, 11, 0, 2, 1, 0,              // points: uncompressed
            0, 13, 0, 4, 0, 2, 4, 3,        // signatures: ECDSA with SHA-256
            0xff, 1, 0, 1, 0,               // renegotiation_info
            .. (byte[])(length == 0 ? [] : [0, 16, 0, (byte)(length + 3), 0, (byte)(length + 1), length, .. protocol]),
        ];
        byte[] body = [3, 3, .. random, 0, 0, 2, 0xc0, 0x2b, 1, 0, 0, (byte)extensions.Length, .. extensions];
        return Message(1, body);
    }

    internal static byte[] Message(byte type, byte[] body) =>
        [type, (byte)(body.Length >> 16), (byte)(body.Length >> 8), (byte)body.Length, .. body];

    /// <summary>The bytes of a record, encrypted when keys are there.</summary>
    public byte[] Record(byte type, ReadOnlySpan<byte> content)
    {
        byte[] payload = _sending?.Lock(type, content) ?? content.ToArray();
        return [type, 3, 3, (byte)(payload.Length >> 8), (byte)payload.Length, .. payload];
    }

    public void Send(byte type, ReadOnlySpan<byte> content) => _client.Send(Record(type, content));

    public void Send(string text) => Send(ApplicationData, Encoding.Latin1.GetBytes(text));

    /// <summary>The next record in clear; type 0 when the peer has ended.</summary>
    public (byte Type, byte[] Content) Read()
    {
        byte[] head = _client.ReadBytes(5);
        if (head.Length < 5)
        {
            return (0, []);
        }
        byte[] payload = _client.ReadBytes(head[3] << 8 | head[4]);
        return (head[0], _unlocks ? _receiving!.Unlock(head[0], payload) : payload);
    }

    private void Shake()
    {
        byte[] hello = Hello(_random, _alpn);
        _transcript.AddRange(hello);
        Send(Handshake, hello);
        byte[] theirRandom = [], theirPoint = [];
        while (theirPoint.Length == 0 || !EndsWithDone())
        {
            foreach (byte[] message in ReadMessages())
            {
                const byte serverHello = 2, keyExchange = 12;
                theirRandom = message[0] == serverHello ? message[6..38] : theirRandom;
                // curve type, curve, length, point
                theirPoint = message[0] == keyExchange ? message[8..(8 + message[7])] : theirPoint;
            }
        }
        using var own = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP256);
        ECPoint point = own.PublicKey.ExportParameters().Q;
        using var theirs = ECDiffieHellman.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = theirPoint[1..33], Y = theirPoint[33..65] },
        });
        byte[] master = Derive(own.DeriveRawSecretAgreement(theirs.PublicKey), "master secret",
            [.. _random, .. theirRandom], 48);
        byte[] keys = Derive(master, "key expansion", [.. theirRandom, .. _random], 40);
        byte[] exchange = Message(16, [65, 4, .. point.X!, .. point.Y!]);
        _transcript.AddRange(exchange);
        Send(Handshake, exchange);
        Send(ChangeCipher, [1]);
        _sending = new Tls12Keys(keys[0..16], keys[32..36]);
        _receiving = new Tls12Keys(keys[16..32], keys[36..40]);
        Send(Handshake, Message(20, Derive(master, "client finished", SHA256.HashData([.. _transcript]), 12)));
        while (true)
        {
            (byte type, byte[] content) = Read();
            if (type == ChangeCipher)
            {
                _unlocks = true;
            }
            else if (type == Handshake && content[0] == 20)
            {
                return;
            }
            else if (type is not Handshake)
            {
                throw new IOException($"record {type} {Convert.ToHexString(content)} in the handshake");
            }
        }
    }

    private bool EndsWithDone() => _transcript[^4] == 14 && _transcript[^1] == 0;

    private List<byte[]> ReadMessages()
    {
        (byte type, byte[] content) = Read();
        if (type != Handshake)
        {
            throw new IOException($"record {type} {Convert.ToHexString(content)} instead of a handshake");
        }
        _transcript.AddRange(content);
        var messages = new List<byte[]>();
        for (int at = 0; at < content.Length;)
        {
            int length = 4 + (content[at + 1] << 16 | content[at + 2] << 8 | content[at + 3]);
            messages.Add(content[at..(at + length)]);
            at += length;
        }
        return messages;
    }

    /// <summary>The PRF of RFC 5246 §5 with SHA-256.</summary>
    internal static byte[] Derive(byte[] secret, string label, byte[] seed, int count)
    {
        byte[] all = [.. Encoding.ASCII.GetBytes(label), .. seed], a = all;
        List<byte> bytes = [];
        while (bytes.Count < count)
        {
            a = HMACSHA256.HashData(secret, a);
            byte[] both = [.. a, .. all];
            bytes.AddRange(HMACSHA256.HashData(secret, both));
        }
        return [.. bytes.GetRange(0, count)];
    }

    public void Dispose()
    {
        _sending?.Dispose();
        _receiving?.Dispose();
        _client.Dispose();
    }
}
