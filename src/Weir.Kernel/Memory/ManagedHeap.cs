// The garbage collector is asked to work when it is cheap: a process that serves allocates nothing, so no collection
// would ever come by itself, and one that comes in the middle of a reload finds two configurations alive. Called by a
// thread that nobody waits for, some time after what left the garbage.
namespace Weir.Kernel;

public static class ManagedHeap
{
    /// <summary>Up to this much alive the world may stand still for a whole collection: that is milliseconds.</summary>
    private const long SmallBytesMax = 12 * 1024 * 1024;

    /// <summary>Collects what start or a reload left behind and gives its memory back to the system, and the pages of
    /// code that only they needed.</summary>
    public static void Settle()
    {
        GCMemoryInfo last = GC.GetGCMemoryInfo(GCKind.Any);
        long alive = last.Index > 0 ? last.HeapSizeBytes : GC.GetTotalMemory(forceFullCollection: false);
        if (alive <= SmallBytesMax)
        {
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Aggressive, blocking: true, compacting: true);
        }
        else
        {
            // Beside the threads that serve; what is free stays the process's own.
            GC.Collect(GC.MaxGeneration, GCCollectionMode.Forced, blocking: false, compacting: false);
        }
        NativeHeap.Trim();
        CodePages.Drop();
    }
}
