// The place where somebody watches an upstream's answer on its way to the client: a cache, a store. An exchange calls
// it at the head, at every piece of the body and at the end, and knows nothing else of it. One per request, pooled; one
// loop's thread. What it is given it copies or shares by reference; it never changes the chain.
using Weir.Loop;

namespace Weir.Http.Proxy;

/// <summary>Watches one exchange.</summary>
public abstract class AnswerTee : RequestState
{
    /// <summary>The answer is wanted even when the client has gone.</summary>
    public abstract bool GoesOnAlone { get; }

    /// <summary>So much waits to be written that the server should be held back: see <see cref="RoomAsync"/>.</summary>
    public abstract bool IsFull { get; }

    /// <summary>The head is there and nobody else answers. True when the request will be answered in another way: the
    /// exchange ends without having sent anything.</summary>
    public abstract bool TakesOver(Exchange x);

    /// <summary>The head was passed to the response and is about to be sent.</summary>
    public abstract void OnHead(Exchange x);

    /// <summary>Bytes of the body, in order; the chain stays the exchange's.</summary>
    public abstract void OnBody(BufferChain body);

    /// <summary>Waits until more can be taken.</summary>
    public abstract LoopTask<Unit> RoomAsync();

    /// <summary>The body has ended: as it should, or too early.</summary>
    public abstract void OnEnd(bool whole);
}
