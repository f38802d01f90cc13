// The severities of nginx's error_log, in its order and with its names.
namespace Weir.Kernel;

/// <summary>Severity; a smaller number is more severe.</summary>
public enum LogLevel : byte
{
    None = 0,
    Emerg = 1,
    Alert = 2,
    Crit = 3,
    Error = 4,
    Warn = 5,
    Notice = 6,
    Info = 7,
    Debug = 8,
}

/// <summary>The names of <see cref="LogLevel"/> as nginx.conf and the log lines spell them.</summary>
public static class LogLevels
{
    public static ReadOnlySpan<byte> Utf8Name(LogLevel level) => level switch
    {
        LogLevel.Emerg => "emerg"u8,
        LogLevel.Alert => "alert"u8,
        LogLevel.Crit => "crit"u8,
        LogLevel.Error => "error"u8,
        LogLevel.Warn => "warn"u8,
        LogLevel.Notice => "notice"u8,
        LogLevel.Info => "info"u8,
        LogLevel.Debug => "debug"u8,
        _ => ""u8,
    };

    public static string Name(LogLevel level) => System.Text.Encoding.ASCII.GetString(Utf8Name(level));

    /// <summary>
    /// A level by its name; nginx's debug_core, debug_http and the like are all <see cref="LogLevel.Debug"/>.
    /// </summary>
    public static bool TryParse(string name, out LogLevel level)
    {
        level = name switch
        {
            "emerg" => LogLevel.Emerg,
            "alert" => LogLevel.Alert,
            "crit" => LogLevel.Crit,
            "error" => LogLevel.Error,
            "warn" => LogLevel.Warn,
            "notice" => LogLevel.Notice,
            "info" => LogLevel.Info,
            "debug" or "debug_core" or "debug_alloc" or "debug_mutex" or "debug_event" or "debug_http" or "debug_mail"
                or "debug_stream" => LogLevel.Debug,
            _ => LogLevel.None,
        };
        return level != LogLevel.None;
    }
}
