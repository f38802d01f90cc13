// Request methods that the server treats by name, and how their bytes become one. Pure, any thread, no memory.
namespace Weir.Protocol.Http1;

/// <summary>A request method. Anything that is not listed is <see cref="Other"/> and keeps its bytes.</summary>
public enum HttpMethod : byte
{
    Other, Get, Head, Post, Put, Delete, Mkcol, Copy, Move, Options, Propfind, Proppatch, Lock, Unlock, Patch, Trace,
    Connect,
}

/// <summary>Names of methods.</summary>
public static class HttpMethods
{
    /// <summary>Which method these bytes name; methods are case-sensitive (RFC 9110 §9.1).</summary>
    public static HttpMethod Parse(ReadOnlySpan<byte> name)
    {
        switch (name.Length)
        {
            case 3:
                return name.SequenceEqual("GET"u8) ? HttpMethod.Get
                    : name.SequenceEqual("PUT"u8) ? HttpMethod.Put
                    : HttpMethod.Other;
            case 4:
                return name.SequenceEqual("POST"u8) ? HttpMethod.Post
                    : name.SequenceEqual("HEAD"u8) ? HttpMethod.Head
                    : name.SequenceEqual("COPY"u8) ? HttpMethod.Copy
                    : name.SequenceEqual("MOVE"u8) ? HttpMethod.Move
                    : name.SequenceEqual("LOCK"u8) ? HttpMethod.Lock
                    : HttpMethod.Other;
            case 5:
                return name.SequenceEqual("PATCH"u8) ? HttpMethod.Patch
                    : name.SequenceEqual("MKCOL"u8) ? HttpMethod.Mkcol
                    : name.SequenceEqual("TRACE"u8) ? HttpMethod.Trace
                    : HttpMethod.Other;
            case 6:
                return name.SequenceEqual("DELETE"u8) ? HttpMethod.Delete
                    : name.SequenceEqual("UNLOCK"u8) ? HttpMethod.Unlock
                    : HttpMethod.Other;
            case 7:
                return name.SequenceEqual("OPTIONS"u8) ? HttpMethod.Options
                    : name.SequenceEqual("CONNECT"u8) ? HttpMethod.Connect
                    : HttpMethod.Other;
            case 8:
                return name.SequenceEqual("PROPFIND"u8) ? HttpMethod.Propfind : HttpMethod.Other;
            case 9:
                return name.SequenceEqual("PROPPATCH"u8) ? HttpMethod.Proppatch : HttpMethod.Other;
            default:
                return HttpMethod.Other;
        }
    }

    /// <summary>The method's bytes; empty for <see cref="HttpMethod.Other"/>.</summary>
    public static ReadOnlySpan<byte> Name(HttpMethod method) => method switch
    {
        HttpMethod.Get => "GET"u8,
        HttpMethod.Head => "HEAD"u8,
        HttpMethod.Post => "POST"u8,
        HttpMethod.Put => "PUT"u8,
        HttpMethod.Delete => "DELETE"u8,
        HttpMethod.Mkcol => "MKCOL"u8,
        HttpMethod.Copy => "COPY"u8,
        HttpMethod.Move => "MOVE"u8,
        HttpMethod.Options => "OPTIONS"u8,
        HttpMethod.Propfind => "PROPFIND"u8,
        HttpMethod.Proppatch => "PROPPATCH"u8,
        HttpMethod.Lock => "LOCK"u8,
        HttpMethod.Unlock => "UNLOCK"u8,
        HttpMethod.Patch => "PATCH"u8,
        HttpMethod.Trace => "TRACE"u8,
        HttpMethod.Connect => "CONNECT"u8,
        _ => default,
    };
}
