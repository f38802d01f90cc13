// $proxy_protocol_tlv_NAME: a field of a PROXY protocol header, version 2, by nginx's names or by 0x and its number.
// Pure; keeps nothing.
using Weir.Protocol.Proxy;

namespace Weir.Http.Modules;

internal static class ProxyTlvs
{
    private const byte TypeSsl = 0x20;

    /// <summary>How the TLS field starts: a byte of flags and four of the verification's outcome.</summary>
    private const int SslHeaderBytes = 5;

    internal static bool Find(ReadOnlySpan<byte> tlvs, ReadOnlySpan<byte> name, out ReadOnlySpan<byte> value)
    {
        value = default;
        if (name.StartsWith("ssl_"u8))
        {
            int inner = name[4..] switch
            {
                var n when n.SequenceEqual("version"u8) => 0x21,
                var n when n.SequenceEqual("cn"u8) => 0x22,
                var n when n.SequenceEqual("cipher"u8) => 0x23,
                var n when n.SequenceEqual("sig_alg"u8) => 0x24,
                var n when n.SequenceEqual("key_alg"u8) => 0x25,
                var n => Number(n),
            };
            return inner >= 0 && Find(tlvs, TypeSsl, out ReadOnlySpan<byte> ssl) && ssl.Length >= SslHeaderBytes
                && Find(ssl[SslHeaderBytes..], inner, out value);
        }
        int type = name switch
        {
            var n when n.SequenceEqual("alpn"u8) => 0x01,
            var n when n.SequenceEqual("authority"u8) => 0x02,
            var n when n.SequenceEqual("unique_id"u8) => 0x05,
            var n when n.SequenceEqual("ssl"u8) => TypeSsl,
            var n when n.SequenceEqual("netns"u8) => 0x30,
            var n => Number(n),
        };
        return type >= 0 && Find(tlvs, type, out value);
    }

    private static bool Find(ReadOnlySpan<byte> tlvs, int wanted, out ReadOnlySpan<byte> value)
    {
        while (ProxyProtocol.NextTlv(ref tlvs, out byte type, out value))
        {
            if (type == wanted)
            {
                return true;
            }
        }
        value = default;
        return false;
    }

    private static int Number(ReadOnlySpan<byte> name) => name.StartsWith("0x"u8)
        && System.Buffers.Text.Utf8Parser.TryParse(name[2..], out int number, out int used, 'x')
            && used == name.Length - 2
        && number <= 255 ? number : -1;
}
