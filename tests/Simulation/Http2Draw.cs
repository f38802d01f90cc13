// Frames of an HTTP/2 client, drawn from a seed: requests of every kind, bodies, trailers, settings, windows, resets,
// in an order that a client might choose; then, where the seed wants it, broken. What is not broken keeps all rules,
// so the server must answer it.
using System.Buffers.Binary;
using Weir.Loop;
using Weir.Protocol.Http2;
using Weir.Tests.Harness;

namespace Weir.Tests.Simulation;

/// <summary>A request as it was drawn.</summary>
internal sealed class DrawnRequest
{
    internal required string Path { get; init; }
    internal required string Method { get; init; }
    internal int BodyBytes { get; set; }
    internal int LengthSaid { get; init; } = -1;
    internal bool IsEnded { get; set; }
    internal bool IsReset { get; set; }
}

/// <summary>A client's frames.</summary>
/// <param name="draw">The seed's numbers.</param>
/// <param name="paths">What can be asked for.</param>
internal sealed class Http2Draw(SeededRandom draw, string[] paths)
{
    private const int BodyBytesMax = 12_000, GrantMax = 1 << 20;

    private readonly HpackEncoder _encoder = new();
    private readonly byte[] _block = new byte[16 * 1024];
    private int _nextId = 1;

    internal Dictionary<int, DrawnRequest> Requests { get; } = [];

    /// <summary>DATA that the server may have sent on the connection.</summary>
    internal long AllowedBytes { get; private set; } = Http2Limits.WindowDefault;

    internal int Pings { get; private set; }

    internal byte[] Hello()
    {
        List<byte> bytes = [.. Http2Limits.Preface, .. Settings()];
        if (draw.Chance(700))
        {
            bytes.AddRange(Grant(0, GrantMax));
        }
        return [.. bytes];
    }

    /// <summary>Everything that was begun gets its end, and the server the windows for all of it.</summary>
    internal byte[] Farewell()
    {
        List<byte> bytes = [.. Http2Client.Settings((SettingId.InitialWindowSize, 4 * GrantMax)),
            .. Grant(0, 64 * GrantMax)];
        foreach (int id in Requests.Keys)
        {
            DrawnRequest request = Requests[id];
            if (!request.IsEnded && !request.IsReset)
            {
                int left = request.LengthSaid < 0 ? 0 : request.LengthSaid - request.BodyBytes;
                bytes.AddRange(Data(id, request, left, end: true));
            }
        }
        bytes.AddRange(Ping());
        return [.. bytes];
    }

    /// <summary>One thing that a client does.</summary>
    internal byte[] Next()
    {
        int id = Requests.Count == 0 ? 0 : Requests.Keys.ElementAt(draw.Below(Requests.Count));
        DrawnRequest? request = id == 0 ? null : Requests[id];
        bool open = request is { IsEnded: false, IsReset: false };
        switch (draw.Below(16))
        {
            case < 6:
                return Begin();
            case < 9 when open:
                int room = (request!.LengthSaid < 0 ? BodyBytesMax : request.LengthSaid) - request.BodyBytes;
                int bytes = Math.Min(draw.Size(4000) - 1, room);
                return Data(id, request, bytes, end: request.LengthSaid < 0 ? draw.Chance(400)
                    : bytes == room && draw.Chance(600));
            case 9 when open && request!.LengthSaid < 0:
                request.IsEnded = true;
                return Headers(id, true, ["x-trailer: " + draw.Below(100)]);
            case 10 when request is not null && draw.Chance(400):
                request.IsReset = true;
                return Http2Client.RstStream(id, (Http2Error)draw.Below(14));
            case 11 when request is not null:
                return Http2Client.WindowUpdate(id, (uint)draw.Size(GrantMax));
            case 12:
                return Grant(0, draw.Size(GrantMax));
            case 13:
                return draw.Chance(300) ? Settings() : Ping();
            case 14:
                return Priority(id);
            case 15:
                return Http2Client.Frame((FrameType)(0x20 + draw.Below(200)), (FrameFlags)draw.Below(256), id,
                    new byte[draw.Below(40)]);
            default:
                return Begin();
        }
    }

    private byte[] Priority(int id)
    {
        byte[] word = Http2Client.Word((uint)(id == 0 ? 1 : id));
        return draw.Chance(500)
            ? Http2Client.Frame(FrameType.PriorityUpdate, 0, 0,
                [.. word, .. "u="u8, (byte)('0' + draw.Below(8)), .. ",i"u8])
            : Http2Client.Frame(FrameType.Priority, 0, id == 0 ? 1 : id, 0, 0, 0, 0, (byte)draw.Below(256));
    }

    private byte[] Ping()
    {
        Pings++;
        return Http2Client.Ping(draw.Next());
    }

    private byte[] Grant(int id, int bytes)
    {
        AllowedBytes += id == 0 ? bytes : 0;
        return Http2Client.WindowUpdate(id, (uint)bytes);
    }

    private byte[] Settings()
    {
        var settings = new List<(SettingId, uint)>();
        for (int i = draw.Below(4); i > 0; i--)
        {
            settings.Add(draw.Below(6) switch
            {
                0 => (SettingId.HeaderTableSize, (uint)draw.Below(8192)),
                1 => (SettingId.InitialWindowSize, (uint)draw.Size(GrantMax) - 1),
                2 => (SettingId.MaxFrameSize, 16_384u + (uint)draw.Below(100_000)),
                3 => (SettingId.MaxHeaderListSize, (uint)draw.Below(100_000)),
                4 => (SettingId.NoRfc7540Priorities, 1),
                _ => ((SettingId)(0x100 + draw.Below(100)), (uint)draw.Next()),
            });
        }
        return Http2Client.Settings([.. settings]);
    }

    private byte[] Begin()
    {
        int id = _nextId;
        _nextId += 2 * (draw.Chance(50) ? 1 + draw.Below(5) : 1);
        string path = paths[draw.Below(paths.Length)];
        string method = draw.Below(10) switch { < 6 => "GET", < 9 => "POST", _ => "HEAD" };
        bool hasBody = method == "POST" && draw.Chance(800);
        int length = hasBody && draw.Chance(500) ? draw.Size(BodyBytesMax) : -1;
        var request = new DrawnRequest { Path = path, Method = method, LengthSaid = length, IsEnded = !hasBody };
        Requests.Add(id, request);
        List<string> fields = [":method: " + method, ":scheme: http", ":path: " + path, ":authority: localhost"];
        if (length >= 0)
        {
            fields.Add("content-length: " + length);
        }
        for (int i = draw.Below(4); i > 0; i--)
        {
            fields.Add(draw.Below(6) switch
            {
                0 => "accept-encoding: gzip",
                1 => "cookie: a=" + new string('c', draw.Below(40)),
                2 => $"x-some-{draw.Below(5)}: " + new string('v', draw.Size(300)),
                3 => "priority: u=" + draw.Below(8) + (draw.Chance(500) ? ", i" : ""),
                4 => "range: bytes=1-",
                _ => "te: trailers",
            });
        }
        return Headers(id, !hasBody, fields.Distinct());
    }

    private byte[] Headers(int id, bool end, IEnumerable<string> fields)
    {
        int n = _encoder.Begin(_block);
        foreach (string field in fields)
        {
            int colon = field.IndexOf(": ", 1, StringComparison.Ordinal);
            n += _encoder.Field(_block.AsSpan(n), System.Text.Encoding.ASCII.GetBytes(field[..colon]),
                System.Text.Encoding.ASCII.GetBytes(field[(colon + 2)..]), (HpackIndexing)draw.Below(2));
        }
        ReadOnlySpan<byte> block = _block.AsSpan(0, n);
        FrameFlags flags = end ? FrameFlags.EndStream : FrameFlags.None;
        int padding = draw.Chance(150) ? draw.Below(30) : -1;
        List<byte> first = padding < 0 ? [] : [(byte)padding];
        if (draw.Chance(150))
        {
            flags |= FrameFlags.Priority;
            first.AddRange([0, 0, 0, 0, (byte)draw.Below(256)]);
        }
        flags |= padding < 0 ? FrameFlags.None : FrameFlags.Padded;
        int cut = draw.Chance(200) ? draw.Below(block.Length + 1) : block.Length;
        first.AddRange(block[..cut]);
        first.AddRange(new byte[Math.Max(padding, 0)]);
        if (cut == block.Length)
        {
            return Http2Client.Frame(FrameType.Headers, flags | FrameFlags.EndHeaders, id, [.. first]);
        }
        List<byte> all = [.. Http2Client.Frame(FrameType.Headers, flags, id, [.. first])];
        while (cut < block.Length)
        {
            int part = Math.Min(draw.Size(block.Length), block.Length - cut);
            all.AddRange(Http2Client.Frame(FrameType.Continuation,
                cut + part == block.Length ? FrameFlags.EndHeaders : FrameFlags.None, id, block.Slice(cut, part)));
            cut += part;
        }
        return [.. all];
    }

    private byte[] Data(int id, DrawnRequest request, int bytes, bool end)
    {
        request.BodyBytes += bytes;
        request.IsEnded |= end;
        FrameFlags flags = end ? FrameFlags.EndStream : FrameFlags.None;
        int padding = draw.Chance(150) ? draw.Below(200) : -1;
        byte[] payload = new byte[bytes];
        Array.Fill(payload, (byte)'b');
        return padding < 0 ? Http2Client.Frame(FrameType.Data, flags, id, payload)
            : Http2Client.Frame(FrameType.Data, flags | FrameFlags.Padded, id,
                [(byte)padding, .. payload, .. new byte[padding]]);
    }

    /// <summary>Breaks bytes of a frame, or of several.</summary>
    internal byte[] Broken(byte[] bytes)
    {
        var broken = new List<byte>(bytes);
        for (int i = 1 + draw.Below(2); i > 0 && broken.Count > 0; i--)
        {
            int at = draw.Chance(500) ? draw.Below(Math.Min(broken.Count, 10)) : draw.Below(broken.Count);
            switch (draw.Below(7))
            {
                case 0:
                    broken[at] = (byte)draw.Next();
                    break;
                case 1:
                    broken[at] ^= (byte)(1 << draw.Below(8));
                    break;
                case 2:
                    broken.RemoveRange(at, Math.Min(draw.Size(20), broken.Count - at));
                    break;
                case 3:
                    broken.Insert(at, (byte)draw.Next());
                    break;
                case 4:
                    broken.AddRange(bytes);
                    break;
                case 5:
                    return [];
                default:
                    // The length says otherwise than what follows.
                    if (broken.Count > 3)
                    {
                        BinaryPrimitives.WriteUInt16BigEndian(
                            System.Runtime.InteropServices.CollectionsMarshal.AsSpan(broken)[1..],
                            (ushort)draw.Size(65_535));
                    }
                    break;
            }
        }
        return [.. broken];
    }
}
