// glibc's heap as a whole: one arena for all threads, and giving free pages back. Configurations are built on a thread
// of
// their own; with an arena per thread each build would leave its own fragments behind.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>Settings of the native heap.</summary>
public static partial class NativeHeap
{
    private const int M_ARENA_MAX = -8;

    /// <summary>All threads share one arena from now on. To be called before threads allocate.</summary>
    public static void UseOneArena() => mallopt(M_ARENA_MAX, 1);

    /// <summary>Gives free pages back to the system. May take a millisecond.</summary>
    public static void Trim() => malloc_trim(0);

    [LibraryImport("libc")]
    private static partial int mallopt(int parameter, int value);

    [LibraryImport("libc")]
    private static partial int malloc_trim(nuint pad);
}
