// Signals as a set, a mask and a descriptor. A Weir process is started with the signals it cares for blocked in every
// thread (the mask survives exec) and reads them from a signalfd, so no handler ever runs and no thread is added.
// Never block signal 34 or the synchronous ones: they are the runtime's.
namespace Weir.Kernel;

/// <summary>The signals that mean something to a Weir process.</summary>
public enum Signal
{
    None = 0,
    Hup = 1,
    Int = 2,
    Quit = 3,
    Kill = 9,
    Usr1 = 10,
    Usr2 = 12,
    Pipe = 13,
    Alrm = 14,
    Term = 15,
    Chld = 17,
    Io = 29,
    Winch = 28,
    Sys = 31,
}

/// <summary>One signal read from a signalfd.</summary>
public readonly record struct SignalInfo(Signal Signal, int SenderPid, int Status)
{
    /// <summary>nginx's name of it: "SIGHUP".</summary>
    public string Name => Signals.NameOf((int)Signal);
}

/// <summary>Masks and signalfd.</summary>
public static unsafe class Signals
{
    /// <summary>sizeof(sigset_t) in glibc.</summary>
    internal const int SetBytes = 128;

    private const int SIG_BLOCK = 0, SIG_SETMASK = 2;
    private const int SFD_CLOEXEC = 0x80000, SFD_NONBLOCK = 0x800;

    /// <summary>What masters and workers keep blocked and read from their signalfd.</summary>
    public static ReadOnlySpan<Signal> Handled =>
    [
        Signal.Hup, Signal.Int, Signal.Quit, Signal.Usr1, Signal.Usr2, Signal.Term, Signal.Winch, Signal.Chld,
        Signal.Alrm, Signal.Io,
    ];

    /// <summary>
    /// Whether the calling thread has all of <see cref="Handled"/> blocked (main: so has every thread).
    /// </summary>
    public static bool HandledAreBlocked()
    {
        byte* current = stackalloc byte[SetBytes];
        new Span<byte>(current, SetBytes).Clear();
        if (LibcProcess.pthread_sigmask(SIG_BLOCK, null, current) != 0)
        {
            return false;
        }
        foreach (Signal signal in Handled)
        {
            if (!Contains(current, signal))
            {
                return false;
            }
        }
        return true;
    }

    /// <summary>
    /// Blocks <see cref="Handled"/> in the calling thread and in what it spawns or executes from now on.
    /// </summary>
    public static SysResult BlockHandled()
    {
        byte* set = stackalloc byte[SetBytes];
        Fill(set, Handled);
        return LibcProcess.OfErrorNumber(LibcProcess.pthread_sigmask(SIG_BLOCK, set, null));
    }

    /// <summary>A non-blocking, close-on-exec descriptor that reads the <see cref="Handled"/> signals.</summary>
    public static SysResult OpenDescriptor()
    {
        byte* set = stackalloc byte[SetBytes];
        Fill(set, Handled);
        return LibcProcess.Of(LibcProcess.signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK));
    }

    /// <summary>The next signal, or false when there is none.</summary>
    public static bool TryRead(int signalFd, out SignalInfo info)
    {
        // struct signalfd_siginfo: ssi_signo at 0, ssi_pid at 12, ssi_status at 40; 128 bytes.
        Span<byte> raw = stackalloc byte[128];
        SysResult read = Descriptors.Read(signalFd, raw);
        if (read.Value != raw.Length)
        {
            info = default;
            return false;
        }
        info = new SignalInfo(
            (Signal)BitConverter.ToInt32(raw), BitConverter.ToInt32(raw[12..]), BitConverter.ToInt32(raw[40..]));
        return true;
    }

    public static string NameOf(int signal) => signal switch
    {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        9 => "SIGKILL",
        10 => "SIGUSR1",
        12 => "SIGUSR2",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        17 => "SIGCHLD",
        28 => "SIGWINCH",
        29 => "SIGIO",
        31 => "SIGSYS",
        _ => "SIG" + signal,
    };

    internal static void Fill(byte* set, ReadOnlySpan<Signal> signals)
    {
        new Span<byte>(set, SetBytes).Clear();
        foreach (Signal signal in signals)
        {
            int bit = (int)signal - 1;
            set[bit / 8] |= (byte)(1 << (bit % 8));
        }
    }

    private static bool Contains(byte* set, Signal signal)
    {
        int bit = (int)signal - 1;
        return (set[bit / 8] & (1 << (bit % 8))) != 0;
    }
}
