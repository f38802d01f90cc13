// The request line's half of the request head parser: method, target in its forms, version (RFC 9112 §3). One pass;
// whatever it has written into the head when bytes run out is written again when the line is read from its start with
// all its bytes.
using System.Buffers;
using System.Buffers.Binary;
using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace Weir.Protocol.Http1;

public partial struct RequestHeadParser
{
    /// <summary>0 plain, 1 refused, 2 space, 3 slash, 4 dot, 5 percent, 6 question mark, 7 hash, 8 plus, 9 CR, 10
    /// LF.</summary>
    private static ReadOnlySpan<byte> TargetClass =>
    [
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 10, 1, 1, 9, 1, 1,
        1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1,
        2, 0, 0, 7, 0, 5, 0, 0, 0, 0, 0, 8, 0, 0, 4, 3,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 6,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    ];

    /// <summary>"GET " as it lies in memory.</summary>
    private const uint GetSpace = 0x20544547;

    private ParseStep ParseRequestLine(ReadOnlySpan<byte> buffer, RequestHead head)
    {
        int start = _lineStart;
        int i = start;
        if (buffer.Length - i > 4 && BinaryPrimitives.ReadUInt32LittleEndian(buffer[i..]) == GetSpace
            && buffer[i + 4] == '/')
        {
            head.MethodRange = new TextRange(start, 3);
            head.Method = HttpMethod.Get;
            i += 4;
            ParseStep path = ParsePath(buffer, head, ref i);
            if (path == ParseStep.Done)
            {
                head.Target = new TextRange(start + 4, i - start - 4);
                ReadOnlySpan<byte> rest = buffer[i..];
                if (rest.Length >= 11 && BinaryPrimitives.ReadUInt64LittleEndian(rest) == SpaceHttp1
                    && BinaryPrimitives.ReadUInt32LittleEndian(rest[7..]) == OneEnd)
                {
                    head.VersionMajor = 1;
                    head.VersionMinor = 1;
                    return EndRequestLine(head, i + 9, i + 11);
                }
                path = ParseVersion(buffer, head, i);
            }
            return path;
        }
        while (true)
        {
            if (i >= buffer.Length)
            {
                return More(buffer.Length);
            }
            byte c = buffer[i];
            if ((uint)(c - 'A') > 'Z' - 'A' && c != '_' && c != '-')
            {
                break;
            }
            i++;
        }
        if (buffer[i] != ' ' || i == start)
        {
            return Reject(head, RejectReason.InvalidMethod);
        }
        head.MethodRange = new TextRange(start, i - start);
        head.Method = HttpMethods.Parse(buffer[start..i]);
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        int target = i;
        if (buffer[i] != '/')
        {
            ParseStep authority = ParseAuthority(buffer, head, ref i);
            if (authority != ParseStep.Done)
            {
                return authority;
            }
        }
        ParseStep step = ParsePath(buffer, head, ref i);
        if (step != ParseStep.Done)
        {
            return step;
        }
        head.Target = new TextRange(target, i - target);
        return ParseVersion(buffer, head, i);
    }

    /// <summary>Reads a target that stands between <paramref name="start"/> and the space at
    /// <paramref name="end"/>: a path, or with CONNECT an authority. False when it is none.</summary>
    internal static bool ReadTarget(ReadOnlySpan<byte> text, RequestHead head, int start, int end)
    {
        RequestHeadParser parser = default;
        int i = start;
        return head.Method == HttpMethod.Connect
            ? parser.ParseAuthority(text, head, ref i) == ParseStep.Done && i == end
            : text[i] == '/' && parser.ParsePath(text, head, ref i) == ParseStep.Done && i == end;
    }

    /// <summary>Path and query from <paramref name="i"/> to the space or line end, where it leaves it.</summary>
    private ParseStep ParsePath(ReadOnlySpan<byte> buffer, RequestHead head, ref int i)
    {
        ReadOnlySpan<byte> classes = TargetClass;
        int start = i;
        UriFlags flags = UriFlags.None;
        bool afterSlash = ScanPath(buffer, ref i, ref flags);
        for (; (uint)i < (uint)buffer.Length; i++)
        {
            byte k = classes[buffer[i]];
            if (k == 0)
            {
                afterSlash = false;
                continue;
            }
            switch (k)
            {
                case 3:
                    flags |= afterSlash ? UriFlags.DoubleSlash : UriFlags.None;
                    afterSlash = true;
                    continue;
                case 4:
                    flags |= afterSlash ? UriFlags.SlashDot : UriFlags.None;
                    break;
                case 5:
                    flags |= UriFlags.Percent;
                    break;
                case 8:
                    flags |= UriFlags.Plus;
                    break;
                case 1:
                    return Reject(head, RejectReason.InvalidTarget);
                default:
                    head.Path = new TextRange(start, i - start);
                    head.Query = default;
                    if (k == 6 || k == 7)
                    {
                        return ParseQuery(buffer, head, flags, ref i);
                    }
                    head.UriFlags = flags;
                    return ParseStep.Done;
            }
            afterSlash = false;
        }
        return More(buffer.Length);
    }

    /// <summary>Takes path bytes in whole vectors, up to what ends a path or the last bytes of the buffer. True when
    /// the last byte taken was a slash.</summary>
    private static bool ScanPath(ReadOnlySpan<byte> buffer, ref int i, ref UriFlags flags)
    {
        ref byte first = ref MemoryMarshal.GetReference(buffer);
        uint afterSlash = 0;
        while (i <= buffer.Length - Vector128<byte>.Count)
        {
            Vector128<byte> v = Vector128.LoadUnsafe(ref first, (nuint)i);
            uint ends = (Vector128.Equals(Vector128.Min(v, Vector128.Create((byte)0x20)), v)
                | Vector128.Equals(v, Vector128.Create((byte)0x7f))
                | Vector128.Equals(v, Vector128.Create((byte)'?'))
                | Vector128.Equals(v, Vector128.Create((byte)'#'))).ExtractMostSignificantBits();
            // The bits below the first end; all of them when there is none.
            uint taken = (ends ^ (ends - 1)) >> 1 & 0xFFFF;
            uint slashes = Vector128.Equals(v, Vector128.Create((byte)'/')).ExtractMostSignificantBits() & taken;
            uint dots = Vector128.Equals(v, Vector128.Create((byte)'.')).ExtractMostSignificantBits() & taken;
            uint rare = (Vector128.Equals(v, Vector128.Create((byte)'%'))
                | Vector128.Equals(v, Vector128.Create((byte)'+'))).ExtractMostSignificantBits() & taken;
            uint behind = slashes << 1 | afterSlash;
            flags |= (behind & slashes) != 0 ? UriFlags.DoubleSlash : UriFlags.None;
            flags |= (behind & dots) != 0 ? UriFlags.SlashDot : UriFlags.None;
            if (rare != 0)
            {
                uint percents = Vector128.Equals(v, Vector128.Create((byte)'%')).ExtractMostSignificantBits() & taken;
                flags |= (percents != 0 ? UriFlags.Percent : UriFlags.None)
                    | (percents != rare ? UriFlags.Plus : UriFlags.None);
            }
            if (ends != 0)
            {
                int n = BitOperations.TrailingZeroCount(ends);
                i += n;
                return (behind >> n & 1) != 0;
            }
            i += Vector128<byte>.Count;
            afterSlash = slashes >> 15;
        }
        return afterSlash != 0;
    }

    /// <summary>From the question mark or hash to the space or line end.</summary>
    private ParseStep ParseQuery(ReadOnlySpan<byte> buffer, RequestHead head, UriFlags flags, ref int i)
    {
        ReadOnlySpan<byte> classes = TargetClass;
        bool fragment = buffer[i] == '#';
        flags |= fragment ? UriFlags.Fragment : UriFlags.Query;
        int start = ++i;
        int end = -1;
        for (; (uint)i < (uint)buffer.Length; i++)
        {
            byte k = classes[buffer[i]];
            if (k == 0 || k is >= 3 and <= 8 and not 7)
            {
                continue;
            }
            if (k == 1)
            {
                return Reject(head, RejectReason.InvalidTarget);
            }
            if (k == 7)
            {
                if (!fragment && end < 0)
                {
                    end = i;
                    flags |= UriFlags.Fragment;
                }
                continue;
            }
            if (!fragment)
            {
                head.Query = new TextRange(start, (end < 0 ? i : end) - start);
            }
            head.UriFlags = flags;
            return ParseStep.Done;
        }
        return More(buffer.Length);
    }

    /// <summary>Scheme and host of an absolute target, or the host and port of CONNECT.</summary>
    private ParseStep ParseAuthority(ReadOnlySpan<byte> buffer, RequestHead head, ref int i)
    {
        int start = i;
        int host;
        if (head.Method == HttpMethod.Connect)
        {
            head.Form = TargetForm.Authority;
            host = i;
        }
        else
        {
            head.Form = TargetForm.Absolute;
            while (i < buffer.Length && IsSchemeByte(buffer[i], i == start))
            {
                i++;
            }
            int schemeEnd = i;
            for (int k = 0; k < 3; k++, i++)
            {
                if (i >= buffer.Length)
                {
                    return More(buffer.Length);
                }
                if (schemeEnd == start || buffer[i] != "://"u8[k])
                {
                    return Reject(head, RejectReason.InvalidTarget);
                }
            }
            head.Scheme = new TextRange(start, schemeEnd - start);
            host = i;
        }
        int length = buffer[i..].IndexOfAny(HostEnds);
        if (length < 0)
        {
            return More(buffer.Length);
        }
        i += length;
        ReadOnlySpan<byte> authority = buffer[host..i];
        if (!HostSyntax.TryParse(authority, out HostParts parts)
            || head.Form == TargetForm.Authority && (parts.PortLength == 0 || buffer[i] is not (byte)' '))
        {
            return Reject(head, RejectReason.InvalidTargetHost);
        }
        SetHost(head, host, in parts);
        return ParseStep.Done;
    }

    private static readonly SearchValues<byte> HostEnds = SearchValues.Create(
    [
        0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29,
        30, 31, 0x7f, (byte)' ', (byte)'/', (byte)'?', (byte)'#',
    ]);

    private static bool IsSchemeByte(byte c, bool first)
    {
        if ((uint)((c | 0x20) - 'a') <= 'z' - 'a')
        {
            return true;
        }
        return !first && ((uint)(c - '0') <= 9 || c is (byte)'+' or (byte)'-' or (byte)'.');
    }

    /// <summary>"HTTP/1.1" as it lies in memory.</summary>
    private const ulong Http11 = 0x312E312F50545448;

    /// <summary>" HTTP/1." and ".1\r\n" as they lie in memory.</summary>
    private const ulong SpaceHttp1 = 0x2E312F5054544820;
    private const uint OneEnd = 0x0A0D312E;

    private ParseStep ParseVersion(ReadOnlySpan<byte> buffer, RequestHead head, int i)
    {
        int lineEnd = i;
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        ReadOnlySpan<byte> rest = buffer[i..];
        if (rest.Length >= 10 && BinaryPrimitives.ReadUInt64LittleEndian(rest) == Http11
            && rest[8] == '\r' && rest[9] == '\n')
        {
            head.VersionMajor = 1;
            head.VersionMinor = 1;
            return EndRequestLine(head, i + 8, i + 10);
        }
        if (rest[0] is (byte)'\r' or (byte)'\n')
        {
            return ParseSimpleRequest(buffer, head, i, lineEnd);
        }
        ReadOnlySpan<byte> http = "HTTP/"u8;
        for (int k = 0; k < http.Length; k++)
        {
            if (k >= rest.Length)
            {
                return More(buffer.Length);
            }
            if (rest[k] != http[k])
            {
                return Reject(head, RejectReason.InvalidRequestLine);
            }
        }
        if (rest.Length < 6)
        {
            return More(buffer.Length);
        }
        if (rest[5] is < (byte)'1' or > (byte)'9')
        {
            return Reject(head, RejectReason.InvalidVersion);
        }
        if (rest[5] != '1')
        {
            return Reject(head, RejectReason.UnsupportedVersion);
        }
        if (rest.Length < 7)
        {
            return More(buffer.Length);
        }
        if (rest[6] != '.')
        {
            return Reject(head,
                (uint)(rest[6] - '0') <= 9 ? RejectReason.UnsupportedVersion : RejectReason.InvalidVersion);
        }
        if (rest.Length < 8)
        {
            return More(buffer.Length);
        }
        if ((uint)(rest[7] - '0') > 9)
        {
            return Reject(head, RejectReason.InvalidVersion);
        }
        head.VersionMajor = 1;
        head.VersionMinor = (byte)(rest[7] - '0');
        i += 8;
        lineEnd = i;
        while (i < buffer.Length && buffer[i] == ' ')
        {
            i++;
        }
        if (i >= buffer.Length)
        {
            return More(buffer.Length);
        }
        if (buffer[i] == '\n')
        {
            return EndRequestLine(head, lineEnd, i + 1);
        }
        if (buffer[i] != '\r')
        {
            return Reject(head, i == lineEnd ? RejectReason.InvalidVersion : RejectReason.InvalidRequestLine);
        }
        if (i + 1 >= buffer.Length)
        {
            return More(i);
        }
        return buffer[i + 1] == '\n'
            ? EndRequestLine(head, lineEnd, i + 2)
            : Reject(head, RejectReason.BareCrInRequestLine);
    }

    private ParseStep ParseSimpleRequest(ReadOnlySpan<byte> buffer, RequestHead head, int i, int lineEnd)
    {
        if (buffer[i] == '\r')
        {
            if (i + 1 >= buffer.Length)
            {
                return More(i);
            }
            if (buffer[i + 1] != '\n')
            {
                return Reject(head, RejectReason.BareCrInRequestLine);
            }
            i++;
        }
        if (head.Method != HttpMethod.Get)
        {
            return Reject(head, RejectReason.InvalidMethodIn09);
        }
        head.VersionMajor = 0;
        head.VersionMinor = 9;
        return EndRequestLine(head, lineEnd, i + 1);
    }

    private ParseStep EndRequestLine(RequestHead head, int lineEnd, int next)
    {
        head.RequestLine = new TextRange(_lineStart, lineEnd - _lineStart);
        head.HeadersStart = next;
        _lineStart = next;
        _scan = next;
        return ParseStep.Done;
    }
}
