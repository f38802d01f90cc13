// glibc's robust, process-shared mutex inside memory that several processes map. A holder killed at any instruction
// leaves it as "owner died" to the next one, who must repair what it guards and say so before unlocking.
// The memory belongs to the caller; the mutex must never move and is initialised once, before anybody else maps it.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>What taking a <see cref="RobustMutex"/> came to.</summary>
public enum LockOutcome : byte
{
    Taken,

    /// <summary>Taken, but the last holder died inside: repair, then <see cref="RobustMutex.MarkRepaired"/>.</summary>
    TakenFromDead,

    /// <summary>Not taken: somebody else holds it (only from TryLock).</summary>
    Busy,

    /// <summary>Never again: a repair was not finished, or the memory is not a mutex.</summary>
    Broken,
}

/// <summary>Operations on a pthread mutex that lives in shared memory.</summary>
public static unsafe class RobustMutex
{
    /// <summary>Room to keep for a pthread_mutex_t: 40 bytes on x86-64, 48 on arm64.</summary>
    public const int SizeBytes = 64;

    public static SysResult Initialize(NativeSlice at)
    {
        Check(at);
        at.Span[..SizeBytes].Clear();
        byte* attributes = stackalloc byte[64];
        SysResult result = LibcProcess.OfErrorNumber(LibcProcess.pthread_mutexattr_init(attributes));
        if (result.IsError)
        {
            return result;
        }
        const int processShared = 1, robust = 1;
        result = LibcProcess.OfErrorNumber(LibcProcess.pthread_mutexattr_setpshared(attributes, processShared));
        if (result.IsOk)
        {
            result = LibcProcess.OfErrorNumber(LibcProcess.pthread_mutexattr_setrobust(attributes, robust));
        }
        if (result.IsOk)
        {
            result = LibcProcess.OfErrorNumber(LibcProcess.pthread_mutex_init(at.Pointer, attributes));
        }
        LibcProcess.pthread_mutexattr_destroy(attributes);
        return result;
    }

    public static LockOutcome Lock(NativeSlice at) => Outcome(LibcProcess.pthread_mutex_lock(at.Pointer));

    public static LockOutcome TryLock(NativeSlice at) => Outcome(LibcProcess.pthread_mutex_trylock(at.Pointer));

    /// <summary>The holder says that what the mutex guards is whole again.</summary>
    public static SysResult MarkRepaired(NativeSlice at) =>
        LibcProcess.OfErrorNumber(LibcProcess.pthread_mutex_consistent(at.Pointer));

    public static SysResult Unlock(NativeSlice at) =>
        LibcProcess.OfErrorNumber(LibcProcess.pthread_mutex_unlock(at.Pointer));

    private static LockOutcome Outcome(int errorNumber) => errorNumber switch
    {
        0 => LockOutcome.Taken,
        Errno.EOWNERDEAD => LockOutcome.TakenFromDead,
        Errno.EBUSY => LockOutcome.Busy,
        _ => LockOutcome.Broken,
    };

    private static void Check(NativeSlice at)
    {
        if (at.Length < SizeBytes || (nuint)at.Pointer % 8 != 0)
        {
            throw new ArgumentException("a mutex needs 64 bytes, aligned to 8", nameof(at));
        }
    }
}
