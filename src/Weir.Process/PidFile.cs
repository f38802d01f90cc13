// The pid file: written at start, renamed while a new binary runs, removed at the end, read by `-s`.
// Master only. nginx's texts.
using System.Globalization;
using System.Text;
using Weir.Kernel;

namespace Weir.Process;

/// <summary>nginx's `pid` file.</summary>
public static class PidFile
{
    /// <summary>What a master's pid file is called while its successor runs.</summary>
    public const string OldSuffix = ".oldbin";

    public static bool Write(string path, Log log)
    {
        SysResult fd = Descriptors.OpenTruncate(path);
        if (fd.IsError)
        {
            log.Write(LogLevel.Emerg, $"open() \"{path}\" failed", fd.Errno);
            return false;
        }
        string text = ProcessControl.OwnPid.ToString(CultureInfo.InvariantCulture) + "\n";
        SysResult written = Descriptors.WriteAll(fd.Int, Encoding.ASCII.GetBytes(text));
        Descriptors.Close(fd.Int);
        if (written.IsError)
        {
            log.Write(LogLevel.Emerg, $"write() \"{path}\" failed", written.Errno);
        }
        return written.IsOk;
    }

    public static void Remove(string path, Log log)
    {
        SysResult removed = Descriptors.Unlink(path);
        if (removed.IsError)
        {
            log.Write(LogLevel.Alert, $"unlink() \"{path}\" failed", removed.Errno);
        }
    }

    /// <summary>The process id in the file, or null after nginx's words were logged.</summary>
    public static int? Read(string path, Log log)
    {
        SysResult fd = Descriptors.OpenRead(path);
        if (fd.IsError)
        {
            log.Write(LogLevel.Error, $"open() \"{path}\" failed", fd.Errno);
            return null;
        }
        Span<byte> buffer = stackalloc byte[32];
        SysResult read = Descriptors.Read(fd.Int, buffer);
        Descriptors.Close(fd.Int);
        string text = read.IsOk ? Encoding.ASCII.GetString(buffer[..read.Int]).TrimEnd('\r', '\n') : "";
        if (int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int pid) && pid > 0)
        {
            return pid;
        }
        log.Write(LogLevel.Error, $"invalid PID number \"{text}\" in \"{path}\"");
        return null;
    }
}

/// <summary>`weir -s stop|quit|reopen|reload`.</summary>
public static class SignalCommand
{
    /// <summary>The signal of a `-s` word, or <see cref="Signal.None"/>.</summary>
    public static Signal SignalOf(string word) => word switch
    {
        "stop" => Signal.Term,
        "quit" => Signal.Quit,
        "reopen" => Signal.Usr1,
        "reload" => Signal.Hup,
        _ => Signal.None,
    };

    /// <summary>Signals the master whose id is in the pid file; the exit code is nginx's.</summary>
    public static int Send(string word, string pidPath, Log log)
    {
        Signal signal = SignalOf(word);
        if (signal == Signal.None)
        {
            log.Write(LogLevel.Emerg, $"invalid option: \"-s {word}\"");
            return 1;
        }
        if (PidFile.Read(pidPath, log) is not { } pid)
        {
            return 1;
        }
        SysResult sent = ProcessControl.Kill(pid, signal);
        if (sent.IsError)
        {
            log.Write(LogLevel.Alert, $"kill({pid}, {(int)signal}) failed", sent.Errno);
        }
        return sent.IsOk ? 0 : 1;
    }
}
