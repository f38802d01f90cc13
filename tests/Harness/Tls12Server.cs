// A TLS 1.2 server by hand (ECDHE on P-256, ECDSA, AES-128-GCM) over a blocking socket, for what no library lets a test
// do to a client: asking for new handshakes without end, records that are cut or forged. Nothing that the client sends
// is checked. One thread.
using System.Buffers.Binary;
using System.Net.Sockets;
using System.Security.Cryptography;
using System.Text;

namespace Weir.Tests.Harness;

/// <summary>A hand-made connection of a server.</summary>
public sealed class Tls12Server : IDisposable
{
    private readonly NetworkStream _stream;
    private readonly byte[] _random = RandomNumberGenerator.GetBytes(32);
    private readonly List<byte> _transcript = [];
    private Tls12Keys? _sending, _receiving;

    private Tls12Server(Socket socket) => _stream = new NetworkStream(socket);

    /// <summary>Shakes hands; the certificate's key is on P-256.</summary>
    public static Tls12Server Accept(Socket socket, TestCertificate certificate)
    {
        var server = new Tls12Server(socket);
        server.Shake(certificate);
        return server;
    }

    /// <summary>A request for a new handshake, without its record.</summary>
    public static byte[] HelloRequest => [0, 0, 0, 0];

    public byte[] Record(byte type, ReadOnlySpan<byte> content)
    {
        byte[] payload = _sending?.Lock(type, content) ?? content.ToArray();
        return [type, 3, 3, (byte)(payload.Length >> 8), (byte)payload.Length, .. payload];
    }

    public void Send(byte type, ReadOnlySpan<byte> content) => _stream.Write(Record(type, content));

    public void Send(string text) => Send(Tls12Client.ApplicationData, Encoding.Latin1.GetBytes(text));

    public void SendRaw(byte[] bytes) => _stream.Write(bytes);

    /// <summary>The next record in clear; type 0 when the peer has ended.</summary>
    public (byte Type, byte[] Content) Read()
    {
        byte[] head = new byte[5];
        if (_stream.ReadAtLeast(head, head.Length, throwOnEndOfStream: false) < head.Length)
        {
            return (0, []);
        }
        byte[] payload = new byte[head[3] << 8 | head[4]];
        _stream.ReadExactly(payload);
        return (head[0], _receiving?.Unlock(head[0], payload) ?? payload);
    }

    private void Tell(byte type, byte[] body)
    {
        byte[] message = Tls12Client.Message(type, body);
        _transcript.AddRange(message);
        Send(Tls12Client.Handshake, message);
    }

    private byte[] Hear()
    {
        (byte type, byte[] content) = Read();
        if (type != Tls12Client.Handshake)
        {
            throw new IOException($"record {type} {Convert.ToHexString(content)} instead of a handshake");
        }
        _transcript.AddRange(content);
        return content;
    }

    private void Shake(TestCertificate certificate)
    {
        byte[] theirRandom = Hear()[6..38];
        byte[] extensions = [0xff, 1, 0, 1, 0];
        Tell(2, [3, 3, .. _random, 0, 0xc0, 0x2b, 0, 0, (byte)extensions.Length, .. extensions]);
        byte[] der = certificate.Certificate.RawData;
        byte[] entry = [0, (byte)(der.Length >> 8), (byte)der.Length, .. der];
        Tell(11, [0, (byte)(entry.Length >> 8), (byte)entry.Length, .. entry]);
        using var own = ECDiffieHellman.Create(ECCurve.NamedCurves.nistP256);
        ECPoint point = own.PublicKey.ExportParameters().Q;
        byte[] exchange = [3, 0, 23, 65, 4, .. point.X!, .. point.Y!];
        byte[] signature = ((ECDsa)certificate.Key).SignData([.. theirRandom, .. _random, .. exchange],
            HashAlgorithmName.SHA256, DSASignatureFormat.Rfc3279DerSequence);
        Tell(12, [.. exchange, 4, 3, 0, (byte)signature.Length, .. signature]);
        Tell(14, []);
        byte[] theirPoint = Hear()[5..];
        using var theirs = ECDiffieHellman.Create(new ECParameters
        {
            Curve = ECCurve.NamedCurves.nistP256,
            Q = new ECPoint { X = theirPoint[1..33], Y = theirPoint[33..65] },
        });
        byte[] master = Tls12Client.Derive(own.DeriveRawSecretAgreement(theirs.PublicKey), "master secret",
            [.. theirRandom, .. _random], 48);
        byte[] keys = Tls12Client.Derive(master, "key expansion", [.. _random, .. theirRandom], 40);
        Read();     // change_cipher_spec
        _receiving = new Tls12Keys(keys[0..16], keys[32..36]);
        Hear();     // finished
        Send(Tls12Client.ChangeCipher, [1]);
        _sending = new Tls12Keys(keys[16..32], keys[36..40]);
        Tell(20, Tls12Client.Derive(master, "server finished", SHA256.HashData([.. _transcript]), 12));
    }

    public void Dispose()
    {
        _sending?.Dispose();
        _receiving?.Dispose();
        _stream.Dispose();
    }
}

/// <summary>AES-128-GCM of one direction of a TLS 1.2 connection.</summary>
internal sealed class Tls12Keys(byte[] key, byte[] salt) : IDisposable
{
    private const int TagBytes = 16, NumberBytes = 8;
    private readonly AesGcm _cipher = new(key, TagBytes);
    private ulong _number;

    internal byte[] Lock(byte type, ReadOnlySpan<byte> clear)
    {
        byte[] number = new byte[NumberBytes], locked = new byte[clear.Length], tag = new byte[TagBytes];
        BinaryPrimitives.WriteUInt64BigEndian(number, _number);
        _cipher.Encrypt([.. salt, .. number], clear, locked, tag, Additional(type, clear.Length));
        return [.. number, .. locked, .. tag];
    }

    internal byte[] Unlock(byte type, byte[] payload)
    {
        byte[] clear = new byte[payload.Length - NumberBytes - TagBytes];
        _cipher.Decrypt([.. salt, .. payload.AsSpan(0, NumberBytes)], payload.AsSpan(NumberBytes, clear.Length),
            payload.AsSpan(payload.Length - TagBytes), clear, Additional(type, clear.Length));
        return clear;
    }

    private byte[] Additional(byte type, int length)
    {
        byte[] bytes = new byte[13];
        BinaryPrimitives.WriteUInt64BigEndian(bytes, _number++);
        bytes[8] = type;
        bytes[9] = bytes[10] = 3;
        BinaryPrimitives.WriteUInt16BigEndian(bytes.AsSpan(11), (ushort)length);
        return bytes;
    }

    public void Dispose() => _cipher.Dispose();
}
