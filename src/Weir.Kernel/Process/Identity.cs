// Users and groups: looking them up and becoming one. libc's setgid, initgroups and setuid change every thread of the
// process; the raw system calls would change one. Start-up of a worker, once, as root.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>A user as /etc/passwd or the name service knows it.</summary>
public readonly record struct UserEntry(string Name, uint UserId, uint GroupId);

/// <summary>User and group look-ups and the drop of privileges.</summary>
public static unsafe class Identity
{
    public static bool IsRoot => LibcProcess.geteuid() == 0;

    public static SysResult FindUser(string name, out UserEntry user)
    {
        // struct passwd: char *pw_name, *pw_passwd; uid_t pw_uid; gid_t pw_gid; then three more pointers.
        byte* entry = stackalloc byte[64];
        byte* buffer = stackalloc byte[4096];
        user = default;
        using var n = new CString(name);
        void* found = null;
        int error = LibcProcess.getpwnam_r(n.Pointer, entry, buffer, 4096, &found);
        if (error != 0 || found == null)
        {
            return error == 0 ? SysResult.Error(Errno.ENOENT) : SysResult.Error(error);
        }
        user = new UserEntry(name, *(uint*)(entry + 16), *(uint*)(entry + 20));
        return default;
    }

    public static SysResult FindGroup(string name, out uint groupId)
    {
        // struct group: char *gr_name, *gr_passwd; gid_t gr_gid; char **gr_mem.
        const int bufferBytes = 64 * 1024;
        byte* entry = stackalloc byte[32];
        byte* buffer = (byte*)NativeMemory.Alloc(bufferBytes);
        using var n = new CString(name);
        void* found = null;
        int error = LibcProcess.getgrnam_r(n.Pointer, entry, buffer, bufferBytes, &found);
        groupId = error == 0 && found != null ? *(uint*)(entry + 16) : 0;
        NativeMemory.Free(buffer);
        return error != 0 ? SysResult.Error(error) : found == null ? SysResult.Error(Errno.ENOENT) : default;
    }

    public static SysResult SetGroup(uint groupId) => LibcProcess.Of(LibcProcess.setgid(groupId));

    public static SysResult SetSupplementaryGroups(string user, uint groupId)
    {
        using var n = new CString(user);
        return LibcProcess.Of(LibcProcess.initgroups(n.Pointer, groupId));
    }

    /// <summary>The calling thread keeps what it may do as root when it becomes somebody else; what it can do at
    /// once it has to ask for again.</summary>
    public static SysResult KeepCapabilities() =>
        LibcProcess.Of(LibcProcess.prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0));

    /// <summary>CAP_NET_RAW and nothing else, for the calling thread: the loop's, which alone opens
    /// connections.</summary>
    public static SysResult TakeNetRaw()
    {
        // The header (version, this thread), then effective, permitted and inheritable in two words each.
        uint* header = stackalloc uint[2] { LINUX_CAPABILITY_VERSION_3, 0 };
        uint* sets = stackalloc uint[6] { 1u << CAP_NET_RAW, 1u << CAP_NET_RAW, 0, 0, 0, 0 };
        return LibcProcess.Of(LibcProcess.capset(header, sets));
    }

    private const int PR_SET_KEEPCAPS = 8, CAP_NET_RAW = 13;
    private const uint LINUX_CAPABILITY_VERSION_3 = 0x20080522;

    public static SysResult SetUser(uint userId) => LibcProcess.Of(LibcProcess.setuid(userId));
}
