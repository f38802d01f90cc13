// DNS messages: queries for addresses and services, and answers read with every offset checked. Compression pointers
// must lead backwards and names end within 255 bytes, so no message can make a reader turn in circles. Pure, no memory.
using System.Buffers.Binary;
using Weir.Protocol.Http1;

namespace Weir.Protocol.Dns;

/// <summary>Record types.</summary>
public enum DnsType : ushort
{
    None = 0, A = 1, Cname = 5, Aaaa = 28, Srv = 33,
}

/// <summary>How the reading of an answer ended.</summary>
public enum DnsOutcome : byte
{
    /// <summary>Records were found (or the name exists and has none of the type: count 0).</summary>
    Ok,
    /// <summary>The name is an alias that the answer does not resolve: ask for <see cref="DnsAnswer.Alias"/>.</summary>
    Alias,
    /// <summary>The server says no; see <see cref="DnsAnswer.ResponseCode"/>.</summary>
    Refused,
    /// <summary>The answer did not fit; ask by TCP.</summary>
    Truncated,
    /// <summary>Not an answer to this question: another id or another question. To be ignored, it may be
    /// forged.</summary>
    Foreign,
    /// <summary>Broken.</summary>
    Malformed,
}

/// <summary>One record of the type asked for.</summary>
public struct DnsRecord
{
    public DnsType Type;
    public uint Ttl;
    /// <summary>Where the record's data stands in the message: 4 or 16 bytes of an address.</summary>
    public TextRange Data;
    /// <summary>Of a service record; its target's name is read with <see cref="DnsCodec.ReadName"/> at
    /// TargetOffset.</summary>
    public ushort Priority, Weight, Port;
    public int TargetOffset;
}

/// <summary>What an answer says besides its records.</summary>
public struct DnsAnswer
{
    /// <summary>0 no error, 1 format, 2 server failure, 3 no such name, 4 not implemented, 5 refused.</summary>
    public byte ResponseCode;
    /// <summary>Records found, of which as many as had room were stored.</summary>
    public int Count;
    /// <summary>The least time to live, of the records and the aliases that lead to them.</summary>
    public uint TtlMin;
    /// <summary>Offset of the last alias's target name, or 0.</summary>
    public int Alias;
}

/// <summary>Writes queries and reads answers.</summary>
public static class DnsCodec
{
    public const int HeaderLength = 12;
    /// <summary>The longest name in the wire form.</summary>
    public const int NameMax = 255;
    /// <summary>Room for any query.</summary>
    public const int QueryMax = HeaderLength + NameMax + 4;
    private const int AliasesMax = 16;
    private const int RecordsMax = 4096;

    /// <summary>Writes a query with recursion desired. 0 when the name is not one: empty, a label empty or over 63
    /// bytes, over 253 bytes in all. A dot at the end is allowed.</summary>
    public static int WriteQuery(ushort id, ReadOnlySpan<byte> name, DnsType type, Span<byte> destination)
    {
        if (destination.Length < HeaderLength + name.Length + 6)
        {
            return 0;
        }
        destination[..HeaderLength].Clear();
        BinaryPrimitives.WriteUInt16BigEndian(destination, id);
        destination[2] = 1;
        destination[5] = 1;
        int length = EncodeName(name, destination[HeaderLength..]);
        if (length == 0)
        {
            return 0;
        }
        int n = HeaderLength + length;
        BinaryPrimitives.WriteUInt16BigEndian(destination[n..], (ushort)type);
        BinaryPrimitives.WriteUInt16BigEndian(destination[(n + 2)..], 1);
        return n + 4;
    }

    private static int EncodeName(ReadOnlySpan<byte> name, Span<byte> destination)
    {
        if (name.Length > 0 && name[^1] == '.')
        {
            name = name[..^1];
        }
        if (name.IsEmpty || name.Length > 253)
        {
            return 0;
        }
        int n = 0;
        while (true)
        {
            int dot = name.IndexOf((byte)'.');
            ReadOnlySpan<byte> label = dot < 0 ? name : name[..dot];
            if (label.IsEmpty || label.Length > 63)
            {
                return 0;
            }
            destination[n++] = (byte)label.Length;
            label.CopyTo(destination[n..]);
            n += label.Length;
            if (dot < 0)
            {
                destination[n++] = 0;
                return n;
            }
            name = name[(dot + 1)..];
        }
    }

    /// <summary>Reads a name as text in lower case ("www.example.com", "" for the root). <paramref name="next"/> is
    /// where the message goes on after it.</summary>
    public static bool ReadName(
        ReadOnlySpan<byte> message, int offset, Span<byte> destination, out int length, out int next)
    {
        length = 0;
        next = 0;
        int at = offset, limit = offset;
        bool jumped = false;
        while (true)
        {
            if ((uint)at >= (uint)message.Length)
            {
                return false;
            }
            int label = message[at];
            if (label == 0)
            {
                next = jumped ? next : at + 1;
                return true;
            }
            if (label >= 0xC0)
            {
                if (at + 1 >= message.Length)
                {
                    return false;
                }
                int target = (label & 0x3F) << 8 | message[at + 1];
                next = jumped ? next : at + 2;
                jumped = true;
                // Strictly before every place this name has been read from: it must end.
                if (target >= limit || target < HeaderLength)
                {
                    return false;
                }
                at = limit = target;
                continue;
            }
            if (label > 63 || at + 1 + label > message.Length)
            {
                return false;
            }
            int dot = length > 0 ? 1 : 0;
            if (length + dot + label > Math.Min(destination.Length, NameMax - 2))
            {
                return false;
            }
            if (dot == 1)
            {
                destination[length++] = (byte)'.';
            }
            foreach (byte c in message.Slice(at + 1, label))
            {
                // A dot or control character inside a label would read as another name.
                if (c <= 0x20 || c == '.' || c == 0x7f)
                {
                    return false;
                }
                destination[length++] = HeaderName.Lower(c);
            }
            at += 1 + label;
        }
    }

    /// <summary>Reads the answer to a query: checks id and question, follows the aliases within the answer, and stores
    /// the records of the type asked for.</summary>
    public static DnsOutcome ReadAnswer(ReadOnlySpan<byte> message, ushort id, ReadOnlySpan<byte> name, DnsType type,
        Span<DnsRecord> records, out DnsAnswer answer)
    {
        answer = new DnsAnswer { TtlMin = uint.MaxValue };
        if (message.Length < HeaderLength)
        {
            return DnsOutcome.Malformed;
        }
        if (BinaryPrimitives.ReadUInt16BigEndian(message) != id || (message[2] & 0xF8) != 0x80)
        {
            return DnsOutcome.Foreign;
        }
        answer.ResponseCode = (byte)(message[3] & 15);
        int questions = BinaryPrimitives.ReadUInt16BigEndian(message[4..]);
        int count = BinaryPrimitives.ReadUInt16BigEndian(message[6..]);
        Span<byte> current = stackalloc byte[NameMax];
        int at = HeaderLength;
        if (questions != 1)
        {
            return questions == 0 && answer.ResponseCode != 0 ? DnsOutcome.Refused : DnsOutcome.Foreign;
        }
        if (!ReadName(message, at, current, out int currentLength, out at) || at + 4 > message.Length)
        {
            return DnsOutcome.Malformed;
        }
        ReadOnlySpan<byte> asked = name.Length > 0 && name[^1] == '.' ? name[..^1] : name;
        if (!HeaderName.Same(current[..currentLength], asked)
            || BinaryPrimitives.ReadUInt16BigEndian(message[at..]) != (ushort)type
            || BinaryPrimitives.ReadUInt16BigEndian(message[(at + 2)..]) != 1)
        {
            return DnsOutcome.Foreign;
        }
        at += 4;
        if ((message[2] & 2) != 0)
        {
            return DnsOutcome.Truncated;
        }
        if (answer.ResponseCode != 0)
        {
            return DnsOutcome.Refused;
        }
        if (count > RecordsMax)
        {
            return DnsOutcome.Malformed;
        }
        return Follow(message, at, count, type, current, currentLength, records, ref answer);
    }

    private static DnsOutcome Follow(ReadOnlySpan<byte> message, int start, int count, DnsType type,
        Span<byte> current, int currentLength, Span<DnsRecord> records, ref DnsAnswer answer)
    {
        Span<byte> owner = stackalloc byte[NameMax];
        for (int aliases = 0; aliases <= AliasesMax; aliases++)
        {
            int at = start, alias = 0;
            uint aliasTtl = 0;
            for (int i = 0; i < count; i++)
            {
                if (!ReadName(message, at, owner, out int ownerLength, out at) || at + 10 > message.Length)
                {
                    return DnsOutcome.Malformed;
                }
                var kind = (DnsType)BinaryPrimitives.ReadUInt16BigEndian(message[at..]);
                int recordClass = BinaryPrimitives.ReadUInt16BigEndian(message[(at + 2)..]);
                uint ttl = BinaryPrimitives.ReadUInt32BigEndian(message[(at + 4)..]);
                int length = BinaryPrimitives.ReadUInt16BigEndian(message[(at + 8)..]);
                int data = at + 10;
                at = data + length;
                if (at > message.Length)
                {
                    return DnsOutcome.Malformed;
                }
                if (recordClass != 1 || !owner[..ownerLength].SequenceEqual(current[..currentLength]))
                {
                    continue;
                }
                // RFC 2181 §8: a time to live with the highest bit set counts as zero.
                ttl = ttl > int.MaxValue ? 0 : ttl;
                if (kind == DnsType.Cname)
                {
                    alias = data;
                    aliasTtl = ttl;
                }
                else if (kind == type && !Take(message, data, length, kind, ttl, records, ref answer))
                {
                    return DnsOutcome.Malformed;
                }
            }
            if (answer.Count > 0 || alias == 0)
            {
                bool open = answer.Count == 0 && answer.Alias != 0;
                return open ? DnsOutcome.Alias : DnsOutcome.Ok;
            }
            if (!ReadName(message, alias, current, out currentLength, out _) || currentLength == 0)
            {
                return DnsOutcome.Malformed;
            }
            answer.Alias = alias;
            answer.TtlMin = Math.Min(answer.TtlMin, aliasTtl);
        }
        return DnsOutcome.Malformed;
    }

    private static bool Take(ReadOnlySpan<byte> message, int data, int length, DnsType type, uint ttl,
        Span<DnsRecord> records, ref DnsAnswer answer)
    {
        var record = new DnsRecord { Type = type, Ttl = ttl, Data = new TextRange(data, length) };
        switch (type)
        {
            case DnsType.A when length == 4:
            case DnsType.Aaaa when length == 16:
                break;
            case DnsType.Srv when length >= 7:
                record.Priority = BinaryPrimitives.ReadUInt16BigEndian(message[data..]);
                record.Weight = BinaryPrimitives.ReadUInt16BigEndian(message[(data + 2)..]);
                record.Port = BinaryPrimitives.ReadUInt16BigEndian(message[(data + 4)..]);
                record.TargetOffset = data + 6;
                Span<byte> target = stackalloc byte[NameMax];
                if (!ReadName(message, record.TargetOffset, target, out _, out int end) || end != data + length)
                {
                    return false;
                }
                break;
            default:
                return false;
        }
        if (answer.Count < records.Length)
        {
            records[answer.Count] = record;
        }
        answer.Count++;
        answer.TtlMin = Math.Min(answer.TtlMin, ttl);
        return true;
    }
}
