// From a request's URI to a path in the file system: root, alias, and the variables that show the result. The URI was
// normalised before (no "..", no encoded NUL), so that appending it never leaves the root. Paths live in the request's
// arena with a NUL and one spare byte behind them.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>Maps URIs to paths.</summary>
internal static class FilePaths
{
    /// <summary>The path of the request's URI with <paramref name="tail"/> behind it.</summary>
    /// <param name="rootLength">Bytes of the path that are the root's.</param>
    /// <returns>False when an alias does not fit a URI that was rewritten: 500.</returns>
    internal static bool TryMap(HttpRequest r, ReadOnlySpan<byte> tail, out NativeSlice path, out int rootLength) =>
        TryMap(r, r.Uri.Span, tail, out path, out rootLength);

    internal static bool TryMap(HttpRequest r, ReadOnlySpan<byte> uri, ReadOnlySpan<byte> tail, out NativeSlice path,
        out int rootLength)
    {
        LocationConf location = r.Location;
        Template root = location.Root.Value;
        NativeSlice value = root.Evaluate(r);
        ReadOnlySpan<byte> prefix = default;
        if (value.Length == 0 || value.Span[0] != '/')
        {
            prefix = r.Configuration.Prefix.Span;
        }
        if (location.IsAlias)
        {
            if (location.AliasLength == int.MaxValue)
            {
                uri = r.Find(AliasTail.Slot) is { AddsUri: true } ? uri : default;
            }
            else if (location.AliasLength > uri.Length || !FitsAlias(location, uri))
            {
                if (r.Logs(LogLevel.Error))
                {
                    r.LogError(LogLevel.Error,
                        $"\"alias\" cannot be used in location \"{location.Name}\" where URI was rewritten");
                }
                path = default;
                rootLength = 0;
                return false;
            }
            else
            {
                uri = uri[location.AliasLength..];
                if (Escapes(value.Span, uri))
                {
                    r.LogError(LogLevel.Error, $"\"{r.Uri}\" would leave the alias of location \"{location.Name}\"");
                    path = default;
                    rootLength = 0;
                    return false;
                }
            }
        }
        bool joins = prefix.Length > 0 && prefix[^1] != '/';
        rootLength = prefix.Length + (joins ? 1 : 0) + value.Length;
        int length = rootLength + uri.Length + tail.Length;
        NativeSlice memory = r.Arena.Allocate(length + 2);
        Span<byte> target = memory.Span;
        prefix.CopyTo(target);
        if (joins)
        {
            target[prefix.Length] = (byte)'/';
        }
        value.Span.CopyTo(target[(rootLength - value.Length)..]);
        uri.CopyTo(target[rootLength..]);
        tail.CopyTo(target[(rootLength + uri.Length)..]);
        target[length] = 0;
        path = memory.Slice(0, length);
        return true;
    }

    /// <summary>A location without a slash and an alias with one: what follows the name may begin with "..", the one
    /// way
    /// in which a normalised URI can climb. nginx lets it.</summary>
    private static bool Escapes(ReadOnlySpan<byte> alias, ReadOnlySpan<byte> rest) =>
        rest.StartsWith(".."u8) && (rest.Length == 2 || rest[2] == '/') && alias.Length > 0 && alias[^1] == '/';

    /// <summary>The part that alias cuts off is the location's name; after a rewrite it may be something
    /// else.</summary>
    private static bool FitsAlias(LocationConf location, ReadOnlySpan<byte> uri)
    {
        ReadOnlySpan<byte> name = location.NameBytes.Span;
        return location.Regex is not null || name.Length < location.AliasLength
            || uri[..location.AliasLength].SequenceEqual(name[..location.AliasLength]);
    }

    /// <summary>The root or alias with its variables, absolute, NUL behind it.</summary>
    internal static NativeSlice Root(HttpRequest r)
    {
        NativeSlice value = r.Location.Root.Value.EvaluatePath(r);
        if (value.Length > 0 && value.Span[0] == '/')
        {
            return value;
        }
        ReadOnlySpan<byte> prefix = r.Configuration.Prefix.Span;
        bool joins = prefix.Length > 0 && prefix[^1] != '/';
        NativeSlice full = r.Arena.Allocate(prefix.Length + value.Length + 2);
        prefix.CopyTo(full.Span);
        int at = prefix.Length;
        if (joins)
        {
            full.Span[at++] = (byte)'/';
        }
        value.Span.CopyTo(full.Span[at..]);
        full.Span[at + value.Length] = 0;
        return full.Slice(0, at + value.Length);
    }

    internal static bool GetRequestFilename(Session.Session session, Variable variable, ref NativeSlice value)
    {
        return TryMap((HttpRequest)session, default, out value, out _);
    }

    internal static bool GetDocumentRoot(Session.Session session, Variable variable, ref NativeSlice value)
    {
        value = Root((HttpRequest)session);
        return true;
    }

    internal static bool GetRealpathRoot(Session.Session session, Variable variable, ref NativeSlice value)
    {
        var r = (HttpRequest)session;
        NativeSlice root = Root(r);
        NativeSlice real = r.Arena.Allocate(Sys.PathBytesMax);
        SysResult length = Sys.RealPath(root, real);
        if (length.IsError)
        {
            if (r.Logs(LogLevel.Crit))
            {
                r.LogError(LogLevel.Crit, $"realpath() \"{root}\" failed", length.Errno);
            }
            return false;
        }
        value = real.Slice(0, length.Int);
        return true;
    }
}
