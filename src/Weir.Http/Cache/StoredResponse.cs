// A cached response as one worker holds it: the head of its file in memory, and the body in memory when it is small,
// else the open file. Kept by CacheMemory for as long as it is used and its number is the one in the index; requests
// that use it hold a reference. One loop's thread.
using Weir.Kernel;
using Weir.Loop;

namespace Weir.Http.Cache;

/// <summary>A response that was read from its file, or just made.</summary>
internal sealed class StoredResponse
{
    private int _references;
    private BufferSlab? _slab;
    private FileRef? _file;

    internal CacheKey Key;
    internal CacheFileHead Head;
    internal CacheFileTexts Texts;

    /// <summary>For the list of CacheMemory, most recently used first.</summary>
    internal StoredResponse? Newer;
    internal StoredResponse? Older;
    internal bool IsKept;
    internal long UsedMs;

    /// <summary>Everything of it in memory: the head, and the body behind it when <see cref="HasBody"/>.</summary>
    internal BufferSlab Slab => _slab!;

    internal bool HasBody { get; private set; }

    internal FileRef? File => _file;

    internal NativeSlice Body => _slab!.Memory.Slice(Head.BodyStart, (int)Head.BodyBytes);

    /// <summary>Where the body begins in <see cref="File"/>: elsewhere than the head says when the head is
    /// newer.</summary>
    internal int BodyAt { get; set; }

    internal int MemoryBytes => _slab!.Capacity;

    /// <summary>Takes over references on slab and file; the caller holds the first reference of this object.</summary>
    internal static StoredResponse Make(CacheKey key, in CacheFileHead head, BufferSlab slab, bool hasBody,
        FileRef? file) => new()
        {
            Key = key,
            Head = head,
            _slab = slab,
            _file = file,
            HasBody = hasBody,
            BodyAt = head.BodyStart,
            Texts = new CacheFileTexts(slab.Memory, in head),
            _references = 1,
        };

    internal void AddReference() => _references++;

    internal void Release()
    {
        if (--_references == 0)
        {
            _slab!.Release();
            _slab = null;
            _file?.Release();
            _file = null;
        }
    }
}
