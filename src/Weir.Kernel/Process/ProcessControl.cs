// What a process does to itself and to its children: wait through a pidfd, signal, CPUs, limits, priority, session.
// Control plane; errors are values. A pidfd belongs to the caller and names one process for ever.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>How a child ended.</summary>
public readonly record struct ExitInfo(int Pid, bool Signaled, int Code, bool CoreDumped = false)
{
    public bool IsNone => Pid == 0;
}

/// <summary>setrlimit's resources that nginx.conf names.</summary>
public enum ResourceLimit
{
    Core = 4,
    OpenFiles = 7,
}

/// <summary>What a process has used: CPU time, and how often a thread gave its CPU up or lost it.</summary>
public readonly record struct ResourceUsage(long CpuUs, long VoluntarySwitches, long InvoluntarySwitches);

/// <summary>Calls on processes.</summary>
public static unsafe class ProcessControl
{
    private const int P_ALL = 0, P_PIDFD = 3;
    private const int WNOHANG = 1, WEXITED = 4, WNOWAIT = 0x01000000;
    private const int CLD_EXITED = 1, CLD_DUMPED = 3;
    private const int PR_SET_NAME = 15, PR_SET_DUMPABLE = 4;
    private const long SYS_pidfd_send_signal = 424, SYS_pidfd_open = 434;

    public static int OwnPid => LibcProcess.getpid();

    public static int ParentPid => LibcProcess.getppid();

    public static int OwnThreadId => LibcProcess.gettid();

    /// <summary>An address within the calling thread's stack.</summary>
    public static unsafe ulong StackAddress
    {
        get
        {
            byte here = 0;
            return (ulong)&here;
        }
    }

    public static SysResult OpenPidFd(int pid) => LibcProcess.Of(LibcProcess.syscall(SYS_pidfd_open, pid, 0, 0, 0));

    public static SysResult SendSignal(int pidFd, Signal signal) =>
        LibcProcess.Of(LibcProcess.syscall(SYS_pidfd_send_signal, pidFd, (long)signal, 0, 0));

    /// <summary>kill(2) by number, for a process known only from a pid file.</summary>
    public static SysResult Kill(int pid, Signal signal) => LibcProcess.Of(LibcProcess.kill(pid, (int)signal));

    /// <summary>Collects the child behind a pidfd when it has ended; none while it lives.</summary>
    public static SysResult TryWait(int pidFd, out ExitInfo exit) => Wait(P_PIDFD, (uint)pidFd, WNOHANG, out exit);

    /// <summary>Blocks until the child behind a pidfd has ended.</summary>
    public static SysResult WaitFor(int pidFd, out ExitInfo exit) => Wait(P_PIDFD, (uint)pidFd, 0, out exit);

    /// <summary>
    /// Any ended child: looked at (left to be collected) or collected. ECHILD when there are no children.
    /// </summary>
    public static SysResult TryWaitAny(bool collect, out ExitInfo exit) =>
        Wait(P_ALL, 0, WNOHANG | (collect ? 0 : WNOWAIT), out exit);

    /// <summary>The name in ps -L, top and /proc/self/comm: 15 bytes.</summary>
    public static SysResult SetThreadName(string name)
    {
        using var n = new CString(name.Length > 15 ? name[..15] : name);
        return LibcProcess.Of(LibcProcess.prctl(PR_SET_NAME, (nint)n.Pointer, 0, 0, 0));
    }

    /// <summary>Core dumps again after the identity changed.</summary>
    public static SysResult SetDumpable() => LibcProcess.Of(LibcProcess.prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));

    /// <summary>CPUs of the calling thread, as a bit mask of 64-bit words.</summary>
    public static SysResult SetAffinity(ReadOnlySpan<ulong> mask)
    {
        fixed (ulong* p = mask)
        {
            return LibcProcess.Of(LibcProcess.sched_setaffinity(0, (nuint)(mask.Length * 8), p));
        }
    }

    /// <summary>The calling thread's CPUs; empty when the kernel would not say.</summary>
    public static ulong[] GetAffinity()
    {
        ulong[] mask = new ulong[128];
        fixed (ulong* p = mask)
        {
            SysResult result = LibcProcess.Of(LibcProcess.sched_getaffinity(0, (nuint)(mask.Length * 8), p));
            return result.IsOk ? mask : [];
        }
    }

    /// <summary>How many CPUs the cpuset allows: what `worker_processes auto` means.</summary>
    public static int AllowedCpuCount()
    {
        int count = 0;
        foreach (ulong word in GetAffinity())
        {
            count += System.Numerics.BitOperations.PopCount(word);
        }
        return Math.Max(count, 1);
    }

    /// <summary>Sets both the soft and the hard limit, as nginx does.</summary>
    public static SysResult SetLimit(ResourceLimit resource, long value)
    {
        long* limit = stackalloc long[2];
        limit[0] = limit[1] = value;
        return LibcProcess.Of(LibcProcess.setrlimit((int)resource, limit));
    }

    /// <summary>The soft limit.</summary>
    public static SysResult GetLimit(ResourceLimit resource)
    {
        long* limit = stackalloc long[2];
        SysResult result = LibcProcess.Of(LibcProcess.getrlimit((int)resource, limit));
        return result.IsOk ? new SysResult(limit[0] < 0 ? long.MaxValue : limit[0]) : result;
    }

    /// <summary>What this process has used so far, threads that have ended included.</summary>
    public static ResourceUsage Usage()
    {
        // struct rusage: user and system time (seconds, microseconds), then fourteen numbers; the switches are last.
        long* usage = stackalloc long[18];
        return LibcProcess.getrusage(0, usage) < 0 ? default
            : new ResourceUsage(((usage[0] + usage[2]) * 1_000_000) + usage[1] + usage[3], usage[16], usage[17]);
    }

    /// <summary>Nice value of this process.</summary>
    public static SysResult SetPriority(int priority) => LibcProcess.Of(LibcProcess.setpriority(0, 0, priority));

    /// <summary>The calling thread gives way to others of its processor: its nice value rises, and its turns are long,
    /// so that whoever wakes with shorter ones goes first (Linux 6.12; an older kernel takes no notice). The value is
    /// the new nice value.</summary>
    public static SysResult GiveWay(int niceIncrement)
    {
        int nice = LibcProcess.nice(niceIncrement);
        // -1 is also a nice value.
        if (nice == -1 && Marshal.GetLastPInvokeError() is var errno and not 0)
        {
            return SysResult.Error(errno);
        }
        // struct sched_attr, its first 48 bytes: size and policy (SCHED_OTHER), flags, nice and priority, runtime (the
        // turn, nanoseconds; the kernel takes at most 100 ms), deadline, period.
        long* attributes = stackalloc long[6];
        new Span<long>(attributes, 6).Clear();
        attributes[0] = 6 * sizeof(long);
        attributes[2] = (uint)nice;
        attributes[3] = 100_000_000;
        // A refusal costs the longer turns only.
        _ = LibcProcess.syscall(SchedSetAttrNumber, 0, (nint)attributes, 0, 0);
        return new SysResult(nice);
    }

    private static long SchedSetAttrNumber =>
        RuntimeInformation.ProcessArchitecture == Architecture.X64 ? 314 : 274;

    public static SysResult StartSession() => LibcProcess.Of(LibcProcess.setsid());

    public static uint SetUmask(uint mask) => LibcProcess.umask(mask);

    public static SysResult ChangeDirectory(string path)
    {
        using var p = new CString(path);
        return LibcProcess.Of(LibcProcess.chdir(p.Pointer));
    }

    private static SysResult Wait(int idType, uint id, int options, out ExitInfo exit)
    {
        // siginfo_t: si_code at 8, si_pid at 16, si_status at 24; 128 bytes.
        byte* info = stackalloc byte[128];
        new Span<byte>(info, 128).Clear();
        exit = default;
        SysResult result;
        do
        {
            result = LibcProcess.Of(LibcProcess.waitid(idType, id, info, options | WEXITED));
        }
        while (result.Errno == Errno.EINTR);
        if (result.IsOk)
        {
            int pid = *(int*)(info + 16);
            int code = *(int*)(info + 8);
            exit = pid == 0 ? default : new ExitInfo(pid, code != CLD_EXITED, *(int*)(info + 24), code == CLD_DUMPED);
        }
        return result;
    }
}
