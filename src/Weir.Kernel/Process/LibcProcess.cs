// The imports behind processes, signals, shared memory, descriptors and identity. One wrapper shape: the call, then
// Of(): the value, or the error number that was read at once. Internal to Kernel; nothing here allocates or retries.
// Never call these from outside their wrapper classes.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

internal static unsafe partial class LibcProcess
{
    internal static SysResult Of(long returned) =>
        returned < 0 ? SysResult.Error(Marshal.GetLastPInvokeError()) : new SysResult(returned);

    /// <summary>For the pthread_* and posix_* families, which return the error number.</summary>
    internal static SysResult OfErrorNumber(int returned) => returned == 0 ? default : SysResult.Error(returned);

    // Descriptors.
    [LibraryImport("libc", SetLastError = true)]
    internal static partial int close(int fd);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint read(int fd, void* buffer, nint count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint write(int fd, void* buffer, nint count);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint pread(int fd, void* buffer, nint count, long offset);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int open(byte* path, int flags, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int fcntl(int fd, int command, nint argument);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int dup3(int oldFd, int newFd, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int pipe2(int* fds, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int poll(void* fds, nuint count, int timeoutMs);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int unlink(byte* path);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int rename(byte* from, byte* to);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int chmod(byte* path, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int chown(byte* path, uint uid, uint gid);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int mkdir(byte* path, uint mode);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int futimens(int fd, long* times);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int statvfs(byte* path, ulong* status);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int fstat(int fd, void* stat);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int fdatasync(int fd);

    // Memory.
    [LibraryImport("libc", SetLastError = true)]
    internal static partial int memfd_create(byte* name, uint flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int ftruncate(int fd, long length);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial long lseek(int fd, long offset, int whence);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial void* mmap(void* address, nuint length, int protection, int flags, int fd, long offset);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int munmap(void* address, nuint length);

    [LibraryImport("libc")]
    internal static partial int pthread_mutexattr_init(void* attributes);

    [LibraryImport("libc")]
    internal static partial int pthread_mutexattr_setpshared(void* attributes, int shared);

    [LibraryImport("libc")]
    internal static partial int pthread_mutexattr_setrobust(void* attributes, int robust);

    [LibraryImport("libc")]
    internal static partial int pthread_mutexattr_destroy(void* attributes);

    [LibraryImport("libc")]
    internal static partial int pthread_mutex_init(void* mutex, void* attributes);

    [LibraryImport("libc")]
    internal static partial int pthread_mutex_lock(void* mutex);

    [LibraryImport("libc")]
    internal static partial int pthread_mutex_trylock(void* mutex);

    [LibraryImport("libc")]
    internal static partial int pthread_mutex_consistent(void* mutex);

    [LibraryImport("libc")]
    internal static partial int pthread_mutex_unlock(void* mutex);

    // Processes.
    [LibraryImport("libc")]
    internal static partial int posix_spawn(
        int* pid, byte* path, void* actions, void* attributes, byte** argv, byte** envp);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_init(void* actions);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_destroy(void* actions);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_adddup2(void* actions, int fd, int newFd);

    [LibraryImport("libc")]
    internal static partial int posix_spawn_file_actions_addclosefrom_np(void* actions, int from);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_init(void* attributes);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_destroy(void* attributes);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setflags(void* attributes, short flags);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setsigmask(void* attributes, void* mask);

    [LibraryImport("libc")]
    internal static partial int posix_spawnattr_setsigdefault(void* attributes, void* set);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int execve(byte* path, byte** argv, byte** envp);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial long syscall(long number, long a, long b, long c, long d);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int waitid(int idType, uint id, void* info, int options);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int kill(int pid, int signal);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_setaffinity(int pid, nuint bytes, void* mask);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int sched_getaffinity(int pid, nuint bytes, void* mask);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int prctl(int option, nint a, nint b, nint c, nint d);

    [LibraryImport("libc")]
    internal static partial int getpid();

    [LibraryImport("libc")]
    internal static partial int gettid();

    [LibraryImport("libc")]
    internal static partial int getppid();

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setsid();

    [LibraryImport("libc")]
    internal static partial uint umask(uint mask);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int chdir(byte* path);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setrlimit(int resource, void* limit);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getrlimit(int resource, void* limit);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getrusage(int who, void* usage);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int nice(int increment);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setpriority(int which, uint who, int priority);

    // Identity.
    [LibraryImport("libc")]
    internal static partial uint geteuid();

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setgid(uint gid);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int capset(void* header, void* sets);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setuid(uint uid);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int initgroups(byte* user, uint gid);

    [LibraryImport("libc")]
    internal static partial int getpwnam_r(byte* name, void* entry, byte* buffer, nuint bytes, void** result);

    [LibraryImport("libc")]
    internal static partial int getgrnam_r(byte* name, void* entry, byte* buffer, nuint bytes, void** result);

    // Signals.
    [LibraryImport("libc")]
    internal static partial int pthread_sigmask(int how, void* set, void* old);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int signalfd(int fd, void* mask, int flags);

    // Sockets between processes, and listening ones.
    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socketpair(int domain, int type, int protocol, int* fds);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint sendmsg(int fd, void* message, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint recvmsg(int fd, void* message, int flags);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int socket(int domain, int type, int protocol);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int bind(int fd, byte* address, uint bytes);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int connect(int fd, byte* address, uint bytes);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int listen(int fd, int backlog);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockname(int fd, byte* address, uint* bytes);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int setsockopt(int fd, int level, int option, void* value, uint bytes);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial int getsockopt(int fd, int level, int option, void* value, uint* bytes);

    [LibraryImport("libc", SetLastError = true)]
    internal static partial nint send(int fd, void* buffer, nint count, int flags);
}
