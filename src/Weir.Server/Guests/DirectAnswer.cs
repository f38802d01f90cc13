// The head of an answer as the HTTP/1.1 driver writes it, for a guest that sends its small answer itself: the same
// fields in the same order. What needs the driver's judgement is left to the driver. Any thread.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Protocol.Http1;

namespace Weir.Server;

internal static class DirectAnswer
{
    /// <summary>Room for a head before the body in a guest's first slab.</summary>
    internal const int HeadBytesMax = 512;

    private const int OwnFieldsBytesMax = 128;

    /// <summary>Whether answers of this status may be written here: those that always carry a body.</summary>
    internal static bool MayHaveStatus(int status) => status is >= 200 and <= 599 and not (204 or 205 or 304);

    /// <summary>Writes the head of an answer on a connection that lives on. 0: the driver has to write it.</summary>
    internal static int WriteHead(Span<byte> into, int status, GuestFields fields, long contentLength, HeadStart start)
    {
        int length = OwnFieldsBytesMax + StatusLines.LengthMax + start.Both.Length + fields.Text.Length
            + fields.Count * 4;
        if (length > into.Length)
        {
            return 0;
        }
        int type = -1, date = -1, server = -1;
        for (int i = 0; i < fields.Count; i++)
        {
            switch (HeaderName.FindResponse(fields.Name(i)))
            {
                case KnownResponseHeader.ContentType when type < 0:
                    type = i;
                    break;
                case KnownResponseHeader.Date when date < 0:
                    date = i;
                    break;
                case KnownResponseHeader.Server when server < 0:
                    server = i;
                    break;
                case KnownResponseHeader.ContentType or KnownResponseHeader.Date or KnownResponseHeader.Server
                    or KnownResponseHeader.Connection or KnownResponseHeader.ContentLength
                    or KnownResponseHeader.TransferEncoding or KnownResponseHeader.KeepAlive:
                    return 0;
            }
        }
        int at = StatusLines.Write(status, into);
        if (server < 0 && date < 0)
        {
            Put(start.Both, into, ref at);
        }
        else
        {
            if (server < 0)
            {
                Put(start.Server, into, ref at);
            }
            else
            {
                Field("Server"u8, fields.Value(server), into, ref at);
            }
            if (date < 0)
            {
                Put(start.Date, into, ref at);
            }
            else
            {
                Field("Date"u8, fields.Value(date), into, ref at);
            }
        }
        if (type >= 0 && fields.Value(type).Length > 0)
        {
            Field("Content-Type"u8, fields.Value(type), into, ref at);
        }
        Put("Content-Length: "u8, into, ref at);
        System.Buffers.Text.Utf8Formatter.TryFormat(contentLength, into[at..], out int digits);
        at += digits;
        Put("\r\nConnection: keep-alive\r\n"u8, into, ref at);
        for (int i = 0; i < fields.Count; i++)
        {
            if (i != type && i != date && i != server)
            {
                Field(fields.Name(i), fields.Value(i), into, ref at);
            }
        }
        Put("\r\n"u8, into, ref at);
        return at;
    }

    private static void Put(ReadOnlySpan<byte> bytes, Span<byte> into, ref int at)
    {
        bytes.CopyTo(into[at..]);
        at += bytes.Length;
    }

    private static void Field(ReadOnlySpan<byte> name, ReadOnlySpan<byte> value, Span<byte> into, ref int at)
    {
        Put(name, into, ref at);
        Put(": "u8, into, ref at);
        Put(value, into, ref at);
        Put("\r\n"u8, into, ref at);
    }
}

/// <summary>Server and Date as lines: one object per second, made by whoever is first to need it.</summary>
internal sealed class HeadStart
{
    private readonly byte[] _both;
    private readonly int _serverLength;
    private readonly long _second;

    private HeadStart(ReadOnlySpan<byte> serverName, long second)
    {
        ReadOnlySpan<byte> server = "Server: "u8, date = "Date: "u8, end = "\r\n"u8;
        _second = second;
        _serverLength = serverName.IsEmpty ? 0 : server.Length + serverName.Length + end.Length;
        _both = new byte[_serverLength + date.Length + HttpDate.Length + end.Length];
        if (_serverLength > 0)
        {
            server.CopyTo(_both);
            serverName.CopyTo(_both.AsSpan(server.Length));
            end.CopyTo(_both.AsSpan(server.Length + serverName.Length));
        }
        date.CopyTo(_both.AsSpan(_serverLength));
        HttpDate.Format(second, _both.AsSpan(_serverLength + date.Length));
        end.CopyTo(_both.AsSpan(_both.Length - end.Length));
    }

    internal ReadOnlySpan<byte> Both => _both;

    internal ReadOnlySpan<byte> Server => _both.AsSpan(0, _serverLength);

    internal ReadOnlySpan<byte> Date => _both.AsSpan(_serverLength);

    /// <summary>That of this second.</summary>
    internal static HeadStart Now(ref HeadStart? kept, ReadOnlySpan<byte> serverName)
    {
        long second = Sys.UnixMs() / 1000;
        HeadStart? start = Volatile.Read(ref kept);
        if (start is null || start._second != second)
        {
            start = new HeadStart(serverName, second);
            Volatile.Write(ref kept, start);
        }
        return start;
    }
}
