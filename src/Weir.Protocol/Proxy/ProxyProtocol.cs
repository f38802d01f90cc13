// The PROXY protocol, versions 1 and 2, in both directions: who the client in front of a proxy is. Reads from the
// beginning of what was received so far and says how much belongs to the header. Strict; pure; no memory.
using System.Buffers.Binary;
using System.Buffers.Text;
using Weir.Protocol.Http1;

namespace Weir.Protocol.Proxy;

/// <summary>What a PROXY header says.</summary>
public struct ProxyHeader
{
    /// <summary>1 or 2.</summary>
    public int Version;
    /// <summary>The connection is the proxy's own (a health check): the real addresses count.</summary>
    public bool IsLocal;
    /// <summary>Datagrams, not a stream.</summary>
    public bool IsDatagram;
    /// <summary>None when the header does not say (UNKNOWN, or a family other than IP).</summary>
    public ProxyAddress Source;
    public ProxyAddress Destination;
    /// <summary>The type-length-value fields of version 2, well-formed.</summary>
    public TextRange Tlvs;
    /// <summary>Bytes of the whole header.</summary>
    public int Length;
}

/// <summary>Reads and writes PROXY headers.</summary>
public static class ProxyProtocol
{
    /// <summary>The longest header that is accepted, as in nginx. Version 1 never has more than 107.</summary>
    public const int LengthMax = 4096;
    private const int Version1Max = 107;
    private const int Version2Start = 16;

    private static ReadOnlySpan<byte> Signature =>
        [0x0D, 0x0A, 0x0D, 0x0A, 0x00, 0x0D, 0x0A, 0x51, 0x55, 0x49, 0x54, 0x0A];

    /// <summary>Reads a header from the beginning of what has come so far.</summary>
    public static ParseStep Read(ReadOnlySpan<byte> buffer, out ProxyHeader header)
    {
        header = default;
        if (buffer.IsEmpty)
        {
            return ParseStep.NeedMore;
        }
        if (buffer[0] == Signature[0])
        {
            return Read2(buffer, ref header);
        }
        return Read1(buffer, ref header);
    }

    private static ParseStep Read1(ReadOnlySpan<byte> buffer, ref ProxyHeader header)
    {
        ReadOnlySpan<byte> start = "PROXY "u8;
        int common = buffer.CommonPrefixLength(start);
        if (common < start.Length)
        {
            return common == buffer.Length ? ParseStep.NeedMore : ParseStep.Reject;
        }
        ReadOnlySpan<byte> window = buffer[..Math.Min(buffer.Length, Version1Max)];
        int lf = window.IndexOf((byte)'\n');
        if (lf < 0)
        {
            return window.Length == Version1Max ? ParseStep.Reject : ParseStep.NeedMore;
        }
        if (window[lf - 1] != '\r')
        {
            return ParseStep.Reject;
        }
        header.Version = 1;
        header.Length = lf + 1;
        ReadOnlySpan<byte> line = window[start.Length..(lf - 1)];
        if (line.StartsWith("UNKNOWN"u8) && (line.Length == 7 || line[7] == ' '))
        {
            return line.IndexOf((byte)'\r') < 0 ? ParseStep.Done : ParseStep.Reject;
        }
        bool four = line.StartsWith("TCP4 "u8);
        if (!four && !line.StartsWith("TCP6 "u8))
        {
            return ParseStep.Reject;
        }
        line = line[5..];
        if (!Word(ref line, out ReadOnlySpan<byte> source) || !Word(ref line, out ReadOnlySpan<byte> destination)
            || !Word(ref line, out ReadOnlySpan<byte> sourcePort)
            || !Port(sourcePort, out int fromPort) || !Port(line, out int toPort)
            || !ProxyAddress.TryParse(source, fromPort, out header.Source)
            || !ProxyAddress.TryParse(destination, toPort, out header.Destination)
            || header.Source.IsIPv4 != four || header.Destination.IsIPv4 != four)
        {
            return ParseStep.Reject;
        }
        return ParseStep.Done;
    }

    private static bool Word(ref ReadOnlySpan<byte> line, out ReadOnlySpan<byte> word)
    {
        int space = line.IndexOf((byte)' ');
        word = space < 0 ? default : line[..space];
        line = space < 0 ? default : line[(space + 1)..];
        return space > 0;
    }

    private static bool Port(ReadOnlySpan<byte> text, out int port)
    {
        port = 0;
        if (text.IsEmpty || text.Length > 5 || text[0] == '0' && text.Length > 1)
        {
            return false;
        }
        foreach (byte c in text)
        {
            uint digit = (uint)(c - '0');
            if (digit > 9)
            {
                return false;
            }
            port = port * 10 + (int)digit;
        }
        return port <= 65535;
    }

    private static ParseStep Read2(ReadOnlySpan<byte> buffer, ref ProxyHeader header)
    {
        int common = buffer.CommonPrefixLength(Signature);
        if (common < Signature.Length)
        {
            return common == buffer.Length ? ParseStep.NeedMore : ParseStep.Reject;
        }
        if (buffer.Length < Version2Start)
        {
            return ParseStep.NeedMore;
        }
        byte command = buffer[12], family = buffer[13];
        int length = BinaryPrimitives.ReadUInt16BigEndian(buffer[14..]);
        if (command is not (0x20 or 0x21) || Version2Start + length > LengthMax)
        {
            return ParseStep.Reject;
        }
        if (buffer.Length < Version2Start + length)
        {
            return ParseStep.NeedMore;
        }
        header.Version = 2;
        header.Length = Version2Start + length;
        header.IsLocal = command == 0x20;
        if (header.IsLocal)
        {
            return ParseStep.Done;
        }
        header.IsDatagram = (family & 15) == 2;
        int addresses = family switch
        {
            0x11 or 0x12 => 12,
            0x21 or 0x22 => 36,
            0x31 or 0x32 => 216,
            0x00 => 0,
            _ => -1,
        };
        if (addresses < 0)
        {
            // A family of the future: the receiver is to treat it as not said, and cannot know where fields begin.
            return ParseStep.Done;
        }
        if (addresses > length)
        {
            return ParseStep.Reject;
        }
        ReadOnlySpan<byte> at = buffer.Slice(Version2Start, addresses);
        if (addresses is 12 or 36)
        {
            int size = addresses == 12 ? 4 : 16;
            header.Source = new ProxyAddress(at[..size], BinaryPrimitives.ReadUInt16BigEndian(at[(size * 2)..]));
            header.Destination = new ProxyAddress(at.Slice(size, size),
                BinaryPrimitives.ReadUInt16BigEndian(at[(size * 2 + 2)..]));
        }
        header.Tlvs = new TextRange(Version2Start + addresses, length - addresses);
        ReadOnlySpan<byte> tlvs = header.Tlvs.Of(buffer);
        while (NextTlv(ref tlvs, out _, out _))
        {
        }
        return tlvs.IsEmpty ? ParseStep.Done : ParseStep.Reject;
    }

    /// <summary>Takes the next field off; false at the end (or, for fields nobody has checked, when one is cut
    /// off).</summary>
    public static bool NextTlv(scoped ref ReadOnlySpan<byte> tlvs, out byte type, out ReadOnlySpan<byte> value)
    {
        type = 0;
        value = default;
        if (tlvs.Length < 3)
        {
            return false;
        }
        int length = BinaryPrimitives.ReadUInt16BigEndian(tlvs[1..]);
        if (tlvs.Length < 3 + length)
        {
            return false;
        }
        type = tlvs[0];
        value = tlvs.Slice(3, length);
        tlvs = tlvs[(3 + length)..];
        return true;
    }

    /// <summary>Writes a header of version 1 and returns its length (at most 107). Addresses of two families, or none,
    /// are UNKNOWN.</summary>
    public static int Write1(in ProxyAddress source, in ProxyAddress destination, Span<byte> buffer)
    {
        if (source.IsNone || source.IsIPv4 != destination.IsIPv4 || destination.IsNone)
        {
            ReadOnlySpan<byte> unknown = "PROXY UNKNOWN\r\n"u8;
            unknown.CopyTo(buffer);
            return unknown.Length;
        }
        (source.IsIPv4 ? "PROXY TCP4 "u8 : "PROXY TCP6 "u8).CopyTo(buffer);
        int n = 11;
        n += source.Format(buffer[n..]);
        buffer[n++] = (byte)' ';
        n += destination.Format(buffer[n..]);
        buffer[n++] = (byte)' ';
        Utf8Formatter.TryFormat(source.Port, buffer[n..], out int written);
        n += written;
        buffer[n++] = (byte)' ';
        Utf8Formatter.TryFormat(destination.Port, buffer[n..], out written);
        n += written;
        buffer[n++] = (byte)'\r';
        buffer[n++] = (byte)'\n';
        return n;
    }

    /// <summary>Writes a header of version 2 and returns its length: 28 or 52 bytes and the fields, or 16 for LOCAL
    /// when there are no two addresses of one family.</summary>
    public static int Write2(
        in ProxyAddress source, in ProxyAddress destination, bool datagram, ReadOnlySpan<byte> tlvs, Span<byte> buffer)
    {
        Signature.CopyTo(buffer);
        if (source.IsNone || source.IsIPv4 != destination.IsIPv4 || destination.IsNone)
        {
            buffer[12] = 0x20;
            buffer[13] = 0;
            BinaryPrimitives.WriteUInt16BigEndian(buffer[14..], 0);
            return Version2Start;
        }
        buffer[12] = 0x21;
        buffer[13] = (byte)((source.IsIPv4 ? 0x10 : 0x20) | (datagram ? 2 : 1));
        int n = Version2Start;
        n += source.CopyTo(buffer[n..]);
        n += destination.CopyTo(buffer[n..]);
        BinaryPrimitives.WriteUInt16BigEndian(buffer[n..], source.Port);
        BinaryPrimitives.WriteUInt16BigEndian(buffer[(n + 2)..], destination.Port);
        n += 4;
        tlvs.CopyTo(buffer[n..]);
        n += tlvs.Length;
        BinaryPrimitives.WriteUInt16BigEndian(buffer[14..], (ushort)(n - Version2Start));
        return n;
    }
}
