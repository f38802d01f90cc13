// Where somebody stands between a handler of this process and the filters: a cache or a store around an application. It
// sees the answer before anything is done to it, may say what the handler is asked, and may keep an answer from going
// out because another one will. One loop's thread; pooled with its request.
using Weir.Kernel;
using Weir.Loop;
using Weir.Protocol.Http1;

namespace Weir.Http;

/// <summary>Sees what a handler answers before the filters do.</summary>
internal abstract class AnswerCapture : RequestState
{
    /// <summary>The head that the handler is asked with; null for the client's.</summary>
    internal abstract RequestHead? Asked { get; }

    /// <summary>The bytes that <see cref="Asked"/> refers to.</summary>
    internal abstract NativeSlice AskedBytes { get; }

    /// <summary>The head is complete. False: it does not go out, and the response is as it was before.</summary>
    internal abstract bool OnHead(HttpRequest r);

    /// <summary>A piece of the body; the chain stays the handler's. False: it does not go out.</summary>
    internal abstract bool OnBody(BufferChain chain, PushFlags flags);

    /// <summary>More waits to be kept than should: the handler is to wait too.</summary>
    internal abstract bool IsFull { get; }

    internal abstract LoopTask<Unit> RoomAsync();

    /// <summary>The answer goes on, nothing more of it is kept.</summary>
    internal abstract void GiveUp();
}
