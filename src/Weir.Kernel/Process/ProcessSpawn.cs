// Starting a program: posix_spawn with an explicit descriptor table, signal mask, affinity, argv and environment, and
// exec of the own binary in place. Nothing leaks: the child gets exactly the descriptors listed, everything above is
// closed. Control plane, one thread at a time; the caller owns every descriptor it passes.
using System.Runtime.InteropServices;

namespace Weir.Kernel;

/// <summary>What a child is started with.</summary>
public sealed class SpawnRequest
{
    public required string Path { get; init; }

    public required IReadOnlyList<string> Arguments { get; init; }

    public required IReadOnlyList<string> Environment { get; init; }

    /// <summary>The child's descriptors from 3 on, in order. 0, 1 and 2 are the caller's unless named below.</summary>
    public IReadOnlyList<int> Descriptors { get; init; } = [];

    public int StandardInput { get; init; } = -1;

    public int StandardOutput { get; init; } = -1;

    public int StandardError { get; init; } = -1;

    /// <summary>Start a session of its own (a daemon).</summary>
    public bool NewSession { get; init; }

    /// <summary>Start with the handled signals blocked; else with none blocked.</summary>
    public bool BlockSignals { get; init; } = true;

    /// <summary>CPUs the child may run on, as a bit mask of 64-bit words; empty for the caller's own.</summary>
    public IReadOnlyList<ulong> Affinity { get; init; } = [];
}

/// <summary>posix_spawn and execve.</summary>
public static unsafe class ProcessSpawn
{
    /// <summary>The running binary, whatever has become of its path since.</summary>
    public const string OwnBinary = "/proc/self/exe";

    // Sizes in glibc: posix_spawn_file_actions_t is 80 bytes, posix_spawnattr_t 336, on 64-bit machines.
    private const int OpaqueBytes = 512;

    private const short SetSigDefault = 4, SetSigMask = 8, SetSession = 0x80;

    /// <summary>Starts a child; the value is its process id.</summary>
    public static SysResult Start(SpawnRequest request)
    {
        int firstFree = 3 + request.Descriptors.Count;
        var moved = new List<int>(request.Descriptors.Count + 3);
        byte* actions = stackalloc byte[OpaqueBytes];
        byte* attributes = stackalloc byte[OpaqueBytes];
        SysResult result = LibcProcess.OfErrorNumber(LibcProcess.posix_spawn_file_actions_init(actions));
        if (result.IsError)
        {
            return result;
        }
        LibcProcess.posix_spawnattr_init(attributes);
        try
        {
            // Sources are first copied above every target number, so that no dup2 overwrites a later source.
            result = AddCopy(request.StandardInput, 0);
            result = result.IsOk ? AddCopy(request.StandardOutput, 1) : result;
            result = result.IsOk ? AddCopy(request.StandardError, 2) : result;
            for (int i = 0; i < request.Descriptors.Count && result.IsOk; i++)
            {
                result = AddCopy(request.Descriptors[i], 3 + i);
            }
            if (result.IsOk)
            {
                result = LibcProcess.OfErrorNumber(
                    LibcProcess.posix_spawn_file_actions_addclosefrom_np(actions, firstFree));
            }
            return result.IsOk ? Spawn(request, actions, attributes) : result;
        }
        finally
        {
            foreach (int fd in moved)
            {
                Descriptors.Close(fd);
            }
            LibcProcess.posix_spawn_file_actions_destroy(actions);
            LibcProcess.posix_spawnattr_destroy(attributes);
        }

        SysResult AddCopy(int source, int target)
        {
            if (source < 0)
            {
                return default;
            }
            SysResult copy = Descriptors.Duplicate(source, firstFree);
            if (copy.IsError)
            {
                return copy;
            }
            moved.Add(copy.Int);
            return LibcProcess.OfErrorNumber(
                LibcProcess.posix_spawn_file_actions_adddup2(actions, copy.Int, target));
        }
    }

    /// <summary>Becomes another program (same process id); returns only when that failed.</summary>
    public static SysResult Become(string path, IReadOnlyList<string> arguments, IReadOnlyList<string> environment)
    {
        using var p = new CString(path);
        using var argv = new CStringArray(arguments);
        using var envp = new CStringArray(environment);
        return LibcProcess.Of(LibcProcess.execve(p.Pointer, argv.Pointer, envp.Pointer));
    }

    private static SysResult Spawn(SpawnRequest request, byte* actions, byte* attributes)
    {
        byte* mask = stackalloc byte[Signals.SetBytes];
        byte* defaults = stackalloc byte[Signals.SetBytes];
        Signals.Fill(mask, request.BlockSignals ? Signals.Handled : []);
        Signals.Fill(defaults, [.. Signals.Handled, Signal.Pipe, Signal.Sys]);
        LibcProcess.posix_spawnattr_setsigmask(attributes, mask);
        LibcProcess.posix_spawnattr_setsigdefault(attributes, defaults);
        short flags = (short)(SetSigMask | SetSigDefault | (request.NewSession ? SetSession : 0));
        LibcProcess.posix_spawnattr_setflags(attributes, flags);

        using var path = new CString(request.Path);
        using var argv = new CStringArray(request.Arguments);
        using var envp = new CStringArray(request.Environment);
        ulong[]? own = null;
        if (request.Affinity.Count > 0)
        {
            // A child inherits the CPUs of the thread that spawns it.
            own = ProcessControl.GetAffinity();
            SysResult set = ProcessControl.SetAffinity([.. request.Affinity]);
            if (set.IsError)
            {
                own = null;
            }
        }
        int pid;
        int error = LibcProcess.posix_spawn(&pid, path.Pointer, actions, attributes, argv.Pointer, envp.Pointer);
        if (own is { Length: > 0 })
        {
            ProcessControl.SetAffinity(own);
        }
        return error == 0 ? new SysResult(pid) : SysResult.Error(error);
    }
}
