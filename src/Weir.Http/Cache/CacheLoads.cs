// Reading a cache file for a loop: the work itself on a blocking thread (CacheRead), the result as a stored response in
// the loop's memory. Pooled; one loop's thread.
using Weir.Kernel;
using Weir.Kernel.Net;
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>Loads of one loop.</summary>
internal static class CacheLoads
{
    private static readonly LoopSlot<Pool> s_pool = new();

    private sealed class Pool
    {
        internal readonly Stack<CacheRead> Free = new();
    }

    /// <summary>A response (the caller has a reference), or an error number.</summary>
    internal readonly struct Result(StoredResponse? response, int error)
    {
        internal readonly StoredResponse? Response = response;
        internal readonly int Error = error;
    }

    internal static async LoopTask<Result> ReadAsync(EventLoop loop, string path, CacheKey key)
    {
        Pool pool = loop.Slot(s_pool, static _ => new Pool());
        CacheRead read = pool.Free.TryPop(out CacheRead? free) ? free : new CacheRead();
        BufferSlab scratch = loop.Buffers.Rent(CacheMemory.WholeBytesMax);
        read.Start(path, scratch.Memory);
        await loop.Blocking.RunAsync(read);
        Result result;
        if (read.Error != 0)
        {
            result = new Result(null, read.Error);
        }
        else
        {
            BufferSlab slab = loop.Buffers.Rent(read.Length);
            scratch.Span[..read.Length].CopyTo(slab.Span);
            result = new Result(StoredResponse.Make(key, in read.Head, slab, read.HasBody,
                read.HasBody ? null : FileRef.Own(read.Fd)), 0);
        }
        scratch.Release();
        pool.Free.Push(read);
        return result;
    }
}
