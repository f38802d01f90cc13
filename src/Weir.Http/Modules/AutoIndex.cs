// autoindex: listings of directories as HTML, JSON, JSONP or XML, byte for byte as nginx writes them. The directory is
// read on a thread of BlockingWork (DirectoryReader.cs); the text is made on the loop.
using System.Buffers.Text;
using Weir.Conf;
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http.Modules;

internal enum ListingFormat
{
    Html,
    Json,
    Jsonp,
    Xml,
}

internal sealed class AutoIndexSettings
{
    internal Inherited<bool> Enabled;
    internal Inherited<bool> ExactSize;
    internal Inherited<bool> LocalTime;
    internal Inherited<ListingFormat> Format;
}

internal sealed class AutoIndexModule : HttpModule<AutoIndexSettings>
{
    public override string Name => "http_autoindex";

    public override bool InheritsWhole => true;

    public override void Declare(HttpDeclarations d)
    {
        d.Location<AutoIndexSettings>("autoindex", static (u, s) => u.SetFlag(ref s.Enabled));
        d.Location<AutoIndexSettings>("autoindex_exact_size", static (u, s) => u.SetFlag(ref s.ExactSize));
        d.Location<AutoIndexSettings>("autoindex_localtime", static (u, s) => u.SetFlag(ref s.LocalTime));
        d.Location<AutoIndexSettings>("autoindex_format", static (u, s) => u.SetEnum(ref s.Format,
            [new ConfChoice<ListingFormat>("html", ListingFormat.Html), new("json", ListingFormat.Json),
                new("jsonp", ListingFormat.Jsonp), new("xml", ListingFormat.Xml)]));
    }

    protected override void Merge(HttpBuild build, AutoIndexSettings parent, AutoIndexSettings child)
    {
        child.Enabled.Merge(in parent.Enabled, false);
        child.ExactSize.Merge(in parent.ExactSize, true);
        child.LocalTime.Merge(in parent.LocalTime, false);
        child.Format.Merge(in parent.Format, ListingFormat.Html);
    }

    public override void InstallLocation(LocationInstall install)
    {
        if (Settings(install.Location) is { Enabled.Value: true } settings && install.Location.ContentHandler is null)
        {
            install.Add(Phase.Content, install.Shared(settings, static s => new AutoIndexHandler(s)));
        }
    }
}

internal sealed class AutoIndexHandler(AutoIndexSettings settings) : PhaseHandler
{
    private const int NameWidth = 50;
    private static readonly RequestSlot<DirectoryReader> s_reader = new();

    private readonly bool _exactSize = settings.ExactSize.Value;
    private readonly bool _localTime = settings.LocalTime.Value;
    private readonly ListingFormat _format = settings.Format.Value;

    public override LoopTask<PhaseResult> RunAsync(HttpRequest r)
    {
        if (r.Uri.Span[^1] != '/' || r.Method is not (HttpMethod.Get or HttpMethod.Head))
        {
            return PhaseResult.Next;
        }
        ListingFormat format = _format;
        NativeSlice callback = default;
        if (format == ListingFormat.Jsonp)
        {
            if (!TryCallback(r, out callback))
            {
                return PhaseResult.Answer(400);
            }
            format = callback.IsEmpty ? ListingFormat.Json : format;
        }
        if (!FilePaths.TryMap(r, default, out NativeSlice path, out _))
        {
            return PhaseResult.Answer(500);
        }
        if (path.Length > 1)
        {
            path.Span[path.Length - 1] = 0;
            path = path.Slice(0, path.Length - 1);
        }
        return ListAsync(r, path, format, callback);
    }

    private async LoopTask<PhaseResult> ListAsync(HttpRequest r, NativeSlice path, ListingFormat format,
        NativeSlice callback)
    {
        DirectoryReader reader = r.Rent(s_reader);
        SysResult opened = await reader.ReadAsync(r.Loop, path);
        if (opened.IsError)
        {
            if (reader.FailedCall == "opendir()")
            {
                return PhaseResult.Answer(FileOpen.Report(r, FoundFile.Failed(opened.Errno, "opendir()"), path));
            }
            r.LogError(LogLevel.Crit, $"{reader.FailedCall} \"{path}\" failed", opened.Errno);
            return PhaseResult.Answer(500);
        }
        ResponseHead head = r.Response;
        head.Status = 200;
        head.ContentType = format switch
        {
            ListingFormat.Json => NativeSlice.Literal("application/json"u8),
            ListingFormat.Jsonp => NativeSlice.Literal("application/javascript"u8),
            ListingFormat.Xml => NativeSlice.Literal("text/xml"u8),
            _ => NativeSlice.Literal("text/html"u8),
        };
        if (format == ListingFormat.Xml)
        {
            head.Charset = NativeSlice.Literal("utf-8"u8);
        }
        r.SendHead();
        if (head.HeaderOnly || r.IsHeadRefused)
        {
            return PhaseResult.Done;
        }
        bool isUtf8 = HeaderName.Same(head.Charset.Span, "utf-8"u8);
        BufferChain chain = r.Loop.RentChain();
        switch (format)
        {
            case ListingFormat.Html:
                WriteHtml(r, reader, chain, isUtf8);
                break;
            case ListingFormat.Xml:
                WriteXml(reader, chain);
                break;
            default:
                WriteJson(reader, chain, callback);
                break;
        }
        r.Push(chain, PushFlags.Last);
        r.Loop.Return(chain);
        return PhaseResult.Done;
    }

    private void WriteHtml(HttpRequest r, DirectoryReader reader, BufferChain chain, bool isUtf8)
    {
        byte[] scratch = reader.Scratch(Math.Max(r.Uri.Length, 256) * 6);
        int uriLength = UriEscaper.EscapeHtml(r.Uri.Span, scratch);
        chain.Append("<html>\r\n<head><title>Index of "u8);
        chain.Append(scratch.AsSpan(0, uriLength));
        chain.Append("</title></head>\r\n<body>\r\n<h1>Index of "u8);
        chain.Append(scratch.AsSpan(0, uriLength));
        chain.Append("</h1><hr><pre><a href=\"../\">../</a>\r\n"u8);
        long offset = _localTime ? LocalOffsetSeconds(r) : 0;
        foreach (ref readonly DirectoryEntry entry in reader.Entries)
        {
            WriteHtmlLine(chain, in entry, scratch, isUtf8, offset);
        }
        chain.Append("</pre><hr></body>\r\n</html>\r\n"u8);
    }

    private void WriteHtmlLine(BufferChain chain, in DirectoryEntry entry, byte[] scratch, bool isUtf8, long offset)
    {
        ReadOnlySpan<byte> name = entry.Name;
        chain.Append("<a href=\""u8);
        int n = UriEscaper.EscapeUriComponent(name, scratch);
        chain.Append(scratch.AsSpan(0, n));
        chain.Append(entry.IsDirectory ? "/\">"u8 : "\">"u8);
        int length = isUtf8 ? ListingText.CharacterCount(name) : name.Length;
        bool isCut = length > NameWidth;
        int shown = isCut ? NameWidth - 3 : length;
        int bytes = isUtf8 ? ListingText.BytesOf(name, shown) : shown;
        n = UriEscaper.EscapeHtml(name[..bytes], scratch);
        chain.Append(scratch.AsSpan(0, n));
        if (isCut)
        {
            chain.Append("..&gt;</a>"u8);
        }
        else
        {
            if (entry.IsDirectory && length < NameWidth)
            {
                chain.Append("/"u8);
                length++;
            }
            chain.Append("</a>"u8);
            chain.Append("                                                  "u8[..(NameWidth - length)]);
        }
        Span<byte> line = stackalloc byte[64];
        var w = new SpanWriter(line);
        w.Write(" "u8);
        w.Skip(ListingText.WriteDate(entry.ModifiedSec + offset, w.Rest));
        w.Write(" "u8);
        if (entry.IsDirectory)
        {
            w.Write(_exactSize ? "                  -"u8 : "      -"u8);
        }
        else if (_exactSize)
        {
            w.Skip(ListingText.WritePadded(entry.Size, 19, w.Rest));
        }
        else
        {
            w.Skip(ListingText.WriteShortSize(entry.Size, w.Rest));
        }
        w.Write("\r\n"u8);
        chain.Append(line[..w.Written]);
    }

    private static long LocalOffsetSeconds(HttpRequest r) =>
        WallClock.OffsetMinutes(r.Loop.UnixMs / 1000) * 60L;

    private static void WriteJson(DirectoryReader reader, BufferChain chain, NativeSlice callback)
    {
        byte[] scratch = reader.Scratch(256 * 6);
        if (!callback.IsEmpty)
        {
            chain.Append("/* callback */\r\n"u8);
            chain.Append(callback.Span);
            chain.Append("("u8);
        }
        chain.Append("["u8);
        bool first = true;
        Span<byte> text = stackalloc byte[40];
        foreach (ref readonly DirectoryEntry entry in reader.Entries)
        {
            chain.Append(first ? "\r\n{ \"name\":\""u8 : ",\r\n{ \"name\":\""u8);
            first = false;
            chain.Append(scratch.AsSpan(0, ListingText.EscapeJson(entry.Name, scratch)));
            chain.Append("\", \"type\":\""u8);
            chain.Append(Kind(in entry));
            chain.Append("\", \"mtime\":\""u8);
            chain.Append(text[..HttpDate.Format(entry.ModifiedSec, text)]);
            if (entry.IsFile)
            {
                chain.Append("\", \"size\":"u8);
                Utf8Formatter.TryFormat(entry.Size, text, out int n);
                chain.Append(text[..n]);
                chain.Append(" }"u8);
            }
            else
            {
                chain.Append("\" }"u8);
            }
        }
        chain.Append(callback.IsEmpty ? "\r\n]"u8 : "\r\n]);"u8);
    }

    private static void WriteXml(DirectoryReader reader, BufferChain chain)
    {
        byte[] scratch = reader.Scratch(256 * 6);
        chain.Append("<?xml version=\"1.0\"?>\r\n<list>\r\n"u8);
        Span<byte> text = stackalloc byte[40];
        foreach (ref readonly DirectoryEntry entry in reader.Entries)
        {
            ReadOnlySpan<byte> kind = Kind(in entry);
            chain.Append("<"u8);
            chain.Append(kind);
            chain.Append(" mtime=\""u8);
            TimeFormats.WriteIso8601(entry.ModifiedSec, 0, text);
            chain.Append(text[..19]);
            chain.Append("Z\""u8);
            if (entry.IsFile)
            {
                chain.Append(" size=\""u8);
                Utf8Formatter.TryFormat(entry.Size, text, out int n);
                chain.Append(text[..n]);
                chain.Append("\""u8);
            }
            chain.Append(">"u8);
            chain.Append(scratch.AsSpan(0, UriEscaper.EscapeHtml(entry.Name, scratch)));
            chain.Append("</"u8);
            chain.Append(kind);
            chain.Append(">\r\n"u8);
        }
        chain.Append("</list>\r\n"u8);
    }

    private static ReadOnlySpan<byte> Kind(in DirectoryEntry entry) =>
        entry.IsDirectory ? "directory"u8 : entry.IsFile ? "file"u8 : "other"u8;

    /// <summary>The callback argument; empty when there is none. False for one that is no function's name.</summary>
    private static bool TryCallback(HttpRequest r, out NativeSlice callback)
    {
        callback = default;
        NativeSlice rest = r.Args;
        while (!rest.IsEmpty)
        {
            int end = rest.Span.IndexOf((byte)'&');
            NativeSlice one = end < 0 ? rest : rest.Slice(0, end);
            if (one.Length > 9 && HeaderName.Same(one.Span[..9], "callback="u8))
            {
                callback = r.Arena.Store(one.Span[9..]);
                callback = callback.Slice(0, UriEscaper.Unescape(callback.Span, callback.Span));
                if (ListingText.IsCallback(callback.Span))
                {
                    return true;
                }
                r.LogError(LogLevel.Info, $"client sent invalid callback name: \"{callback}\"");
                return false;
            }
            rest = end < 0 ? default : rest.Slice(end + 1);
        }
        return true;
    }
}
