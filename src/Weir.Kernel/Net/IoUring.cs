// One io_uring instance by raw system calls: its two rings in shared memory, entries to fill, completions to take, and
// a ring of buffers that the kernel picks from. It is created disabled and enabled by the thread that will use it:
// from then on only that thread may enter it (SINGLE_ISSUER, DEFER_TASKRUN). Knows nothing of what the entries mean.
// Memory that an entry points to stays untouched until its last completion; a sockaddr only until Submit or Enter.
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace Weir.Kernel.Net;

/// <summary>A submission entry, as the kernel lays it out.</summary>
[StructLayout(LayoutKind.Explicit, Size = 64)]
public struct UringEntry
{
    [FieldOffset(0)] public byte Operation;
    [FieldOffset(1)] public byte Flags;
    [FieldOffset(2)] public ushort Priority;
    [FieldOffset(4)] public int Fd;
    [FieldOffset(8)] public ulong Offset;
    [FieldOffset(16)] public ulong Address;
    [FieldOffset(24)] public uint Length;
    [FieldOffset(28)] public uint OperationFlags;
    [FieldOffset(32)] public ulong Cookie;
    [FieldOffset(40)] public ushort BufferGroup;
}

/// <summary>A completion, as the kernel lays it out.</summary>
[StructLayout(LayoutKind.Explicit, Size = 16)]
public readonly struct UringCompletion
{
    [FieldOffset(0)] public readonly ulong Cookie;

    /// <summary>What the system call would have returned, or -errno.</summary>
    [FieldOffset(8)] public readonly int Result;
    [FieldOffset(12)] public readonly uint Flags;

    /// <summary>The entry will complete again.</summary>
    public bool HasMore => (Flags & 2) != 0;

    /// <summary>A provided buffer was used.</summary>
    public bool HasBuffer => (Flags & 1) != 0;

    public int BufferId => (int)(Flags >> 16);
}

/// <summary>The operation codes in use.</summary>
public static class UringOperation
{
    public const byte Nop = 0, PollAdd = 6, Accept = 13, AsyncCancel = 14, Connect = 16, Close = 19, Read = 22,
        Send = 26, Recv = 27;

    public const byte BufferSelect = 1 << 5, SkipSuccess = 1 << 6;
    public const ushort AcceptMultishot = 1, RecvMultishot = 2;
    public const uint PollMultishot = 1;

    internal static ReadOnlySpan<byte> Needed =>
        [Nop, PollAdd, Accept, AsyncCancel, Connect, Close, Read, Send, Recv];
}

/// <summary>A ring of its own thread.</summary>
public sealed unsafe partial class IoUring : IDisposable
{
    private const nint SetupNumber = 425, EnterNumber = 426, RegisterNumber = 427;
    private const uint SetupCqSize = 1 << 3, SetupDisabled = 1 << 6, SetupSubmitAll = 1 << 7, SetupCoopTaskrun = 1 << 8,
        SetupSingleIssuer = 1 << 12, SetupDeferTaskrun = 1 << 13, SetupNoSqArray = 1 << 16;
    private const uint FeatSingleMmap = 1 << 0, FeatNoDrop = 1 << 1, FeatSubmitStable = 1 << 2, FeatFastPoll = 1 << 5,
        FeatExtArg = 1 << 8, FeatCqeSkip = 1 << 11;
    private const uint EnterGetEvents = 1 << 0, EnterExtArg = 1 << 3;
    private const nint RegisterProbe = 8, RegisterEnable = 12, RegisterBufferRing = 22,
        UnregisterBufferRing = 23;
    private const nint OffsetOfEntries = 0x10000000;

    private readonly int _fd;
    private readonly byte* _rings;
    private readonly nuint _ringsBytes;
    private readonly UringEntry* _entries;
    private readonly nuint _entriesBytes;
    private readonly uint _entryCount;
    private readonly uint _submitMask, _completeMask;
    private readonly uint* _submitHead;
    private readonly uint* _submitTail;
    private readonly uint* _submitFlags;
    private readonly uint* _completeHead;
    private readonly uint* _completeTail;
    private readonly UringCompletion* _completions;
    private uint _tail;
    private uint _submitted;
    private bool _isEnabled;
    private bool _disposed;

    private struct Offsets
    {
        public uint Head, Tail, Mask, Entries, Flags, Dropped, Array, Reserved1;
        public ulong Reserved2;
    }

    private struct Parameters
    {
        public uint SubmitEntries, CompleteEntries, Flags, ThreadCpu, ThreadIdle, Features, WorkFd;
        public uint Reserved0, Reserved1, Reserved2;
        public Offsets Submit;
        public Offsets Complete;
    }

    private struct WaitArgument
    {
        public ulong SignalMask;
        public uint SignalMaskBytes;
        public uint MinWaitUs;
        public ulong Time;
    }

    private struct BufferRingArgument
    {
        public ulong Address;
        public uint Entries;
        public ushort Group;
        public ushort Flags;
        public ulong Reserved0, Reserved1, Reserved2;
    }

    private IoUring(int fd, byte* rings, nuint ringsBytes, UringEntry* entries, in Parameters p)
    {
        _fd = fd;
        _rings = rings;
        _ringsBytes = ringsBytes;
        _entries = entries;
        _entryCount = p.SubmitEntries;
        _entriesBytes = p.SubmitEntries * (nuint)sizeof(UringEntry);
        _submitHead = (uint*)(rings + p.Submit.Head);
        _submitTail = (uint*)(rings + p.Submit.Tail);
        _submitFlags = (uint*)(rings + p.Submit.Flags);
        _submitMask = *(uint*)(rings + p.Submit.Mask);
        // In the completion ring's offsets the fields behind Entries are: overflow, cqes, flags.
        _completeHead = (uint*)(rings + p.Complete.Head);
        _completeTail = (uint*)(rings + p.Complete.Tail);
        _completeMask = *(uint*)(rings + p.Complete.Mask);
        _completions = (UringCompletion*)(rings + p.Complete.Dropped);
        if ((p.Flags & SetupNoSqArray) == 0)
        {
            uint* array = (uint*)(rings + p.Submit.Array);
            for (uint i = 0; i < p.SubmitEntries; i++)
            {
                array[i] = i;
            }
        }
    }

    /// <summary>Creates a disabled ring, or null and why there is none.</summary>
    public static IoUring? TryCreate(uint entries, uint completions, out string reason)
    {
        Parameters p = default;
        // Kernel 6.6 does without the array between tail and entries; 6.1 has everything else.
        SysResult fd = Setup(entries, completions, SetupNoSqArray, ref p);
        if (fd.Errno == Errno.EINVAL)
        {
            fd = Setup(entries, completions, 0, ref p);
        }
        if (fd.IsError)
        {
            reason = WhyNot(fd.Errno);
            return null;
        }
        const uint Needed = FeatSingleMmap | FeatNoDrop | FeatSubmitStable | FeatFastPoll | FeatExtArg | FeatCqeSkip;
        if ((p.Features & Needed) != Needed || !HasOperations(fd.Int))
        {
            Sys.Close(fd.Int);
            reason = "this kernel's io_uring lacks features that weir needs (6.1 has them)";
            return null;
        }
        nuint ringsBytes = Math.Max(p.Submit.Array + p.SubmitEntries * 4,
            p.Complete.Dropped + p.CompleteEntries * (nuint)sizeof(UringCompletion));
        nint rings = Map(ringsBytes, fd.Int, 0);
        nint mapped = rings == -1 ? -1 : Map(p.SubmitEntries * (nuint)sizeof(UringEntry), fd.Int, OffsetOfEntries);
        if (mapped == -1)
        {
            int errno = Marshal.GetLastSystemError();
            if (rings != -1)
            {
                munmap((void*)rings, ringsBytes);
            }
            Sys.Close(fd.Int);
            reason = $"mapping the rings failed ({errno}: {Errno.Describe(errno)})";
            return null;
        }
        reason = "";
        return new IoUring(fd.Int, (byte*)rings, ringsBytes, (UringEntry*)mapped, in p);
    }

    private static SysResult Setup(uint entries, uint completions, uint extra, ref Parameters p)
    {
        p = new Parameters
        {
            Flags = SetupCqSize | SetupDisabled | SetupSubmitAll | SetupCoopTaskrun | SetupSingleIssuer
                | SetupDeferTaskrun | extra,
            CompleteEntries = completions,
        };
        fixed (Parameters* at = &p)
        {
            return Result(syscall_setup(SetupNumber, (nint)entries, at));
        }
    }

    private static string WhyNot(int errno) => errno switch
    {
        Errno.ENOSYS => "this kernel has no io_uring",
        Errno.EPERM => "io_uring is not permitted here (kernel.io_uring_disabled, or a seccomp filter)",
        Errno.EACCES => "io_uring is not permitted here (a security module)",
        Errno.EINVAL => "this kernel's io_uring is older than 6.1",
        Errno.ENOMEM => "there is not enough memory for the rings (before kernel 5.12 RLIMIT_MEMLOCK bounds them)",
        Errno.EMFILE or Errno.ENFILE => "no descriptor is left for the ring",
        _ => $"io_uring_setup() failed ({errno}: {Errno.Describe(errno)})",
    };

    private static bool HasOperations(int fd)
    {
        const int Operations = 64;
        byte* probe = stackalloc byte[16 + Operations * 8];
        NativeMemory.Clear(probe, 16 + Operations * 8);
        if (syscall_register(RegisterNumber, fd, RegisterProbe, probe, Operations) < 0)
        {
            return false;
        }
        foreach (byte operation in UringOperation.Needed)
        {
            if (operation > probe[0] || (*(ushort*)(probe + 16 + operation * 8 + 2) & 1) == 0)
            {
                return false;
            }
        }
        return true;
    }

    private static nint Map(nuint bytes, int fd, nint offset) => mmap(null, bytes, 3, 1 | 0x8000, fd, offset);

    /// <summary>Makes the calling thread the ring's only user.</summary>
    public SysResult Enable()
    {
        _isEnabled = true;
        return Result(syscall_register(RegisterNumber, _fd, RegisterEnable, null, 0));
    }

    public bool IsEnabled => _isEnabled;

    /// <summary>Registers page-aligned memory for <paramref name="entries"/> 16-byte descriptions of buffers as the
    /// ring of a group.</summary>
    public SysResult RegisterBuffers(void* memory, uint entries, ushort group)
    {
        var argument = new BufferRingArgument { Address = (ulong)memory, Entries = entries, Group = group };
        return Result(syscall_register(RegisterNumber, _fd, RegisterBufferRing, &argument, 1));
    }

    /// <summary>The memory of a group's ring, and the buffers described in it, are the caller's again.</summary>
    public SysResult UnregisterBuffers(ushort group)
    {
        var argument = new BufferRingArgument { Group = group };
        return Result(syscall_register(RegisterNumber, _fd, UnregisterBufferRing, &argument, 1));
    }

    /// <summary>Entries that were filled and not yet taken by the kernel.</summary>
    public uint Pending => _tail - Volatile.Read(ref *_submitHead);

    public bool IsFull => Pending == _entryCount;

    /// <summary>The next entry, cleared. The ring must not be full.</summary>
    public UringEntry* Next()
    {
        UringEntry* entry = _entries + (_tail++ & _submitMask);
        *entry = default;
        return entry;
    }

    /// <summary>The number of the entry that <see cref="Next"/> gives next.</summary>
    public uint NextNumber => _tail;

    /// <summary>An entry that the kernel has not taken yet, by its number; null when it has.</summary>
    public UringEntry* Unsubmitted(uint number) =>
        _tail - number <= Pending && number != _tail ? _entries + (number & _submitMask) : null;

    /// <summary>Hands the entries over without waiting or running completions.</summary>
    public SysResult Submit() => Enter(0, 0, null);

    /// <summary>Hands the entries over, runs what completed and waits until at least <paramref name="completions"/> are
    /// there, at most <paramref name="timeoutMs"/> (-1: for ever).</summary>
    public SysResult SubmitAndWait(uint completions, int timeoutMs)
    {
        var time = stackalloc long[2];
        var argument = new WaitArgument();
        if (timeoutMs >= 0)
        {
            time[0] = timeoutMs / 1000;
            time[1] = timeoutMs % 1000 * 1_000_000L;
            argument.Time = (ulong)time;
        }
        return Enter(completions, EnterGetEvents | EnterExtArg, &argument);
    }

    private SysResult Enter(uint completions, uint flags, WaitArgument* argument)
    {
        Volatile.Write(ref *_submitTail, _tail);
        nint bytes = argument == null ? 0 : sizeof(WaitArgument);
        SysResult result = Result(
            syscall_enter(EnterNumber, _fd, (nint)Pending, (nint)completions, (nint)flags, argument, bytes));
        _submitted += result.IsOk ? (uint)result.Value : 0;
        return result;
    }

    /// <summary>Entries taken by the kernel in all.</summary>
    public uint Submitted => _submitted;

    /// <summary>Completions that wait to be taken.</summary>
    public uint Ready => Volatile.Read(ref *_completeTail) - *_completeHead;

    /// <summary>Completions did not fit in the ring: the kernel keeps them until the next wait.</summary>
    public bool HasOverflow => (Volatile.Read(ref *_submitFlags) & 2) != 0;

    /// <summary>Takes the next completion; <see cref="Ready"/> said there is one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public UringCompletion Take()
    {
        uint head = *_completeHead;
        UringCompletion completion = _completions[head & _completeMask];
        Volatile.Write(ref *_completeHead, head + 1);
        return completion;
    }

    public void Dispose()
    {
        if (!_disposed)
        {
            _disposed = true;
            Sys.Close(_fd);
            munmap(_entries, _entriesBytes);
            munmap(_rings, _ringsBytes);
        }
    }

    private static SysResult Result(nint value) =>
        value < 0 ? new SysResult(-Marshal.GetLastSystemError()) : new SysResult(value);

    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint syscall_setup(nint number, nint entries, Parameters* parameters);
    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint syscall_register(nint number, nint fd, nint operation, void* argument, nint count);
    [LibraryImport("libc", EntryPoint = "syscall")]
    private static partial nint syscall_enter(nint number, nint fd, nint submit, nint complete, nint flags,
        void* argument, nint argumentBytes);
    [LibraryImport("libc")]
    private static partial nint mmap(void* address, nuint length, int protection, int flags, int fd, nint offset);
    [LibraryImport("libc")]
    private static partial int munmap(void* address, nuint length);
}
