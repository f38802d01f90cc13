// What an exchange needs from a protocol: how a request is written and how an answer's head and body are read. HTTP/1,
// HTTP/2 and FastCGI derive from it. One object per location, without state: what one exchange needs is in its
// Exchange.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Proxy;

/// <summary>How reading went on.</summary>
public enum ReadStep : byte
{
    NeedMore,
    Done,

    /// <summary>The bytes are not the protocol's; it was logged.</summary>
    Reject,
}

/// <summary>A protocol towards upstream servers, with one location's settings.</summary>
public abstract class UpstreamProtocol
{
    /// <summary>What the log puts before a server's address.</summary>
    public abstract string Scheme { get; }

    /// <summary>The same for a server that is spoken to by TLS.</summary>
    public virtual string SecureScheme => "https://";

    /// <summary>An exchange takes one stream of a connection that others use as well.</summary>
    public virtual bool IsMultiplexed => false;

    /// <summary>The answers are this process's own: nothing in them is meant for a proxy.</summary>
    public virtual bool IsOfThisProcess => false;

    /// <summary>Writes the head, and the collected body with its end unless the body is streamed. 0, or a
    /// status.</summary>
    public abstract int WriteRequest(Exchange x, BufferChain output);

    /// <summary>Frames a piece of a streamed request body.</summary>
    public abstract void WritePiece(Exchange x, NativeSlice piece, BufferSlab owner, BufferChain output);

    /// <summary>Ends a streamed request body.</summary>
    public abstract void WriteEnd(Exchange x, BufferChain output);

    /// <summary>Prepares for an answer.</summary>
    public abstract void StartAnswer(Exchange x);

    /// <summary>Reads on in <see cref="Exchange.Input"/> until the head is complete and its bytes are in
    /// <see cref="Exchange.HeadBytes"/>.</summary>
    public abstract ReadStep ReadHead(Exchange x);

    /// <summary>Moves body bytes from the input to the chain, without framing.</summary>
    public abstract ReadStep ReadBody(Exchange x, BufferChain output);

    /// <summary>The server closed: whether the body was meant to end so.</summary>
    public abstract bool EndsWithClose(Exchange x);

    /// <summary>Whether the connection may serve again after a complete answer.</summary>
    public abstract bool CanKeep(Exchange x);

    /// <summary>Bytes of the body if the head says so, else -1.</summary>
    public abstract long BodyLength(Exchange x);

    /// <summary>Whether the answer has no body by its nature.</summary>
    public abstract bool IsBodyless(Exchange x);

    /// <summary>Whether the status is answered with a page of this server's.</summary>
    public virtual bool IsOwnAnswer(Exchange x) => false;

    /// <summary>A Location or Content-Location as the client shall see it.</summary>
    public virtual NativeSlice RewriteLocation(Exchange x, NativeSlice value) => value;

    /// <summary>The URL inside a Refresh header as the client shall see it.</summary>
    public virtual NativeSlice RewriteRefresh(Exchange x, NativeSlice value) => value;

    public virtual NativeSlice RewriteCookie(Exchange x, NativeSlice value) => value;
}
