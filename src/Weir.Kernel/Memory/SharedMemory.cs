// Memory that several processes map: memfd, seals, mmap. A memfd is anonymous, close-on-exec, and travels by
// SCM_RIGHTS. The caller owns the descriptor and the mapping; a mapping outlives its descriptor.
namespace Weir.Kernel;

/// <summary>memfd_create, its seals, and mappings of descriptors.</summary>
public static unsafe class SharedMemory
{
    private const uint MFD_CLOEXEC = 1, MFD_ALLOW_SEALING = 2;
    private const int F_ADD_SEALS = 1033, F_GET_SEALS = 1034;
    private const int SealSeal = 1, SealShrink = 2, SealGrow = 4, SealWrite = 8;
    private const int PROT_READ = 1, PROT_WRITE = 2, MAP_SHARED = 1;

    /// <summary>
    /// A memfd of a fixed size, zero-filled, that can neither shrink nor grow: a mapping never faults.
    /// </summary>
    public static SysResult Create(string name, long sizeBytes)
    {
        SysResult fd = CreateEmpty(name);
        if (fd.IsError)
        {
            return fd;
        }
        SysResult sized = LibcProcess.Of(LibcProcess.ftruncate(fd.Int, sizeBytes));
        if (sized.IsOk)
        {
            sized = LibcProcess.Of(LibcProcess.fcntl(fd.Int, F_ADD_SEALS, SealShrink | SealGrow | SealSeal));
        }
        if (sized.IsError)
        {
            Descriptors.Close(fd.Int);
            return sized;
        }
        return fd;
    }

    /// <summary>A memfd holding these bytes, sealed against every change.</summary>
    public static SysResult CreateSealed(string name, ReadOnlySpan<byte> content)
    {
        SysResult fd = CreateEmpty(name);
        if (fd.IsError)
        {
            return fd;
        }
        SysResult written = Descriptors.WriteAll(fd.Int, content);
        if (written.IsOk)
        {
            written = LibcProcess.Of(
                LibcProcess.fcntl(fd.Int, F_ADD_SEALS, SealShrink | SealGrow | SealWrite | SealSeal));
        }
        if (written.IsError)
        {
            Descriptors.Close(fd.Int);
            return written;
        }
        return fd;
    }

    /// <summary>Whether nobody can change, shrink or grow the memfd any more.</summary>
    public static bool IsSealed(int fd)
    {
        const int all = SealShrink | SealGrow | SealWrite;
        SysResult seals = LibcProcess.Of(LibcProcess.fcntl(fd, F_GET_SEALS, 0));
        return seals.IsOk && (seals.Int & all) == all;
    }

    /// <summary>The whole content of a sealed memfd.</summary>
    public static SysResult ReadAll(int fd, out byte[] content)
    {
        content = [];
        long size = SizeOf(fd);
        if (size is < 0 or > int.MaxValue)
        {
            return SysResult.Error(Errno.EFBIG);
        }
        byte[] bytes = new byte[size];
        int filled = 0;
        while (filled < bytes.Length)
        {
            SysResult read = Descriptors.ReadAt(fd, bytes.AsSpan(filled), filled);
            if (read.IsError)
            {
                return read;
            }
            if (read.Value == 0)
            {
                return SysResult.Error(Errno.EIO);
            }
            filled += read.Int;
        }
        content = bytes;
        return new SysResult(filled);
    }

    public static long SizeOf(int fd)
    {
        SysResult end = LibcProcess.Of(LibcProcess.lseek(fd, 0, 2));
        return end.Value;
    }

    /// <summary>Maps a descriptor shared and writable.</summary>
    public static SysResult Map(int fd, int sizeBytes, out NativeSlice memory)
    {
        void* address = LibcProcess.mmap(null, (nuint)sizeBytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        if ((nint)address == -1)
        {
            memory = default;
            return LibcProcess.Of(-1);
        }
        memory = new NativeSlice((byte*)address, sizeBytes);
        return default;
    }

    public static SysResult Unmap(NativeSlice memory) =>
        LibcProcess.Of(LibcProcess.munmap(memory.Pointer, (nuint)memory.Length));

    private static SysResult CreateEmpty(string name)
    {
        using var n = new CString(name.Length > 200 ? name[..200] : name);
        return LibcProcess.Of(LibcProcess.memfd_create(n.Pointer, MFD_CLOEXEC | MFD_ALLOW_SEALING));
    }
}
