// access_log, log_format, open_log_file_cache: nginx's log module. A format is compiled to parts when the configuration
// is read; a line is written part by part into the buffer of its file (LogFile.cs) and leaves at the end of the loop's
// turn, or when `buffer=` says so. Nothing is allocated per line.
using Weir.Conf;
using Weir.Kernel;
using Weir.Session;

namespace Weir.Http.Modules;

/// <summary>One access_log of one level.</summary>
internal sealed record LogUse(LogFormat Format, LogFile? File, LogPathFiles? Files, SyslogLines? Syslog,
    Template? Condition);

internal sealed class LogMain
{
    public Dictionary<string, LogFormat> Formats { get; } = new(StringComparer.Ordinal);
    public Dictionary<string, LogFile> Files { get; } = new(StringComparer.Ordinal);
    public List<LogPathFiles> PathFiles { get; } = [];
    public bool HasSyslog { get; set; }
}

internal sealed class LogSettings
{
    /// <summary>`access_log off`.</summary>
    public bool IsOff { get; set; }
    public InheritedList<LogUse> Logs;
    public Inherited<LogFileCache> FileCache;
}

/// <summary>open_log_file_cache; nothing is kept open when <see cref="Max"/> is 0.</summary>
internal sealed record LogFileCache(int Max, long InactiveMs, long ValidMs, int MinUses);

internal sealed class LogModule : HttpModule<LogSettings>
{
    private const string Combined = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent "
        + "\"$http_referer\" \"$http_user_agent\"";

    private static readonly LogFileCache s_noCache = new(0, 0, 0, 0);

    public override string Name => "http_log";

    public override bool InheritsWhole => true;

    public override object CreateMain(HttpBuild build)
    {
        var main = new LogMain();
        main.Formats.Add("combined", LogFormat.Compile([Combined], LogEscape.Default, build.Configuration.Variables,
            out string? _)!);
        return main;
    }

    public override void Declare(HttpDeclarations d)
    {
        d.Main<LogMain>("log_format", SetFormat);
        d.Location<LogSettings>("access_log", (use, settings) => AddLog(use, settings,
            (LogMain)use.Block.Main[Index]!));
        d.Location<LogSettings>("open_log_file_cache", SetFileCache);
    }

    private static void SetFormat(DirectiveUse use, LogMain main)
    {
        if (main.Formats.ContainsKey(use[0]))
        {
            use.Error(0, $"duplicate \"log_format\" name \"{use[0]}\"");
            return;
        }
        LogEscape escape = LogEscape.Default;
        int first = 1;
        if (use[1].StartsWith("escape=", StringComparison.Ordinal))
        {
            switch (use[1][7..])
            {
                case "default":
                    break;
                case "json":
                    escape = LogEscape.Json;
                    break;
                case "none":
                    escape = LogEscape.None;
                    break;
                default:
                    use.Error(1, $"unknown log format escaping \"{use[1][7..]}\"");
                    return;
            }
            first = 2;
        }
        string[] texts = new string[use.Count - first];
        for (int i = 0; i < texts.Length; i++)
        {
            texts[i] = use[first + i];
        }
        LogFormat? format = LogFormat.Compile(texts, escape, use.Build.Configuration.Variables, out string? error);
        if (format is null)
        {
            use.Error(error!);
            return;
        }
        main.Formats.Add(use[0], format);
    }

    private static void AddLog(DirectiveUse use, LogSettings settings, LogMain main)
    {
        string path = use[0];
        if (path == "off")
        {
            settings.IsOff = true;
            if (use.Count == 1)
            {
                return;
            }
            use.InvalidParameter(1);
            return;
        }
        string name = use.Count > 1 ? use[1] : "combined";
        if (!main.Formats.TryGetValue(name, out LogFormat? format))
        {
            use.Error(1, $"unknown log format \"{name}\"");
            return;
        }
        var options = new LogFileOptions();
        Template? condition = null;
        for (int i = 2; i < use.Count; i++)
        {
            if (use[i].StartsWith("if=", StringComparison.Ordinal))
            {
                condition = use.TemplateOf(use[i][3..], i);
            }
            else if (!options.TryParse(use[i], out string? error))
            {
                use.Error(i, error!);
                return;
            }
        }
        if (options.FlushMs > 0 && options.BufferBytes == 0)
        {
            use.Error($"no buffer is defined for access_log \"{path}\"");
            return;
        }
        if (path.StartsWith("syslog:", StringComparison.Ordinal))
        {
            if (options.BufferBytes > 0)
            {
                use.Error($"logs to syslog cannot be buffered");
                return;
            }
            if (!SyslogSettings.TryParse(path[7..], use.Build.Resources, out SyslogTarget? target, out int severity,
                out string? error))
            {
                use.Error(0, error!);
                return;
            }
            main.HasSyslog = true;
            settings.Logs.Add(new LogUse(format, null, null, new SyslogLines(target!, severity), condition));
            return;
        }
        string full = path.StartsWith('$') || path == LogSpec.StandardError ? path : use.Build.FullPath(path);
        if (path.Contains('$'))
        {
            if (options.BufferBytes > 0)
            {
                use.Error("buffered logs cannot have variables in name");
                return;
            }
            if (use.TemplateOf(full, 0) is { } template)
            {
                var files = new LogPathFiles(template);
                main.PathFiles.Add(files);
                settings.Logs.Add(new LogUse(format, null, files, null, condition));
            }
            return;
        }
        if (FileOf(use.Build, main, full, options, out string? conflict) is { } file)
        {
            settings.Logs.Add(new LogUse(format, file, null, null, condition));
        }
        else
        {
            use.Error(conflict!);
        }
    }

    /// <summary>One object per path, whose options have to agree wherever it is named.</summary>
    private static LogFile? FileOf(HttpBuild build, LogMain main, string path, LogFileOptions options,
        out string? error)
    {
        error = null;
        if (main.Files.TryGetValue(path, out LogFile? known))
        {
            if (options.BufferBytes > 0 && known.Options.BufferBytes > 0
                && (options.BufferBytes != known.Options.BufferBytes || options.FlushMs != known.Options.FlushMs
                    || options.GzipLevel != known.Options.GzipLevel))
            {
                error = $"access_log \"{path}\" already defined with conflicting parameters";
                return null;
            }
            if (options.BufferBytes > 0)
            {
                known.Options = options;
            }
            return known;
        }
        var file = new LogFile(path, build.Resources.LogDescriptor(new LogSpec(path)), options);
        main.Files.Add(path, file);
        build.Configuration.Own(file);
        return file;
    }

    private static void SetFileCache(DirectiveUse use, LogSettings settings)
    {
        if (!use.Walker.Fresh(use.Directive, in settings.FileCache))
        {
            return;
        }
        int max = 0;
        long inactive = 10_000;
        long valid = 60_000;
        int minUses = 1;
        for (int i = 0; i < use.Count; i++)
        {
            string text = use[i];
            if (text == "off")
            {
                settings.FileCache.Set(s_noCache);
                continue;
            }
            int equals = text.IndexOf('=');
            string value = text[(equals + 1)..];
            long number = 0;
            bool fine = (equals < 0 ? "" : text[..equals]) switch
            {
                "max" => ConfValues.TryNumber(value, out number) && Assign(out max, (int)number),
                "inactive" => ConfValues.TryMsec(value, out inactive),
                "valid" => ConfValues.TryMsec(value, out valid),
                "min_uses" => ConfValues.TryNumber(value, out number) && number > 0 && Assign(out minUses, (int)number),
                _ => false,
            };
            if (!fine)
            {
                use.Error(i, $"invalid \"open_log_file_cache\" parameter \"{text}\"");
                return;
            }
        }
        if (settings.FileCache.IsSet)
        {
            return;
        }
        if (max == 0)
        {
            use.Error("\"open_log_file_cache\" must have \"max\" parameter");
            return;
        }
        settings.FileCache.Set(new LogFileCache(max, inactive, valid, minUses));
    }

    private static bool Assign(out int target, int value)
    {
        target = value;
        return true;
    }

    protected override void Merge(HttpBuild build, LogSettings parent, LogSettings child)
    {
        child.FileCache.Merge(parent.FileCache, s_noCache);
        child.IsOff |= !child.Logs.IsSet && parent.IsOff;
        if (child.IsOff)
        {
            // `off` counts for its level whatever stands beside it.
            child.Logs.MergeNone();
        }
        else if (child.Logs.IsSet)
        {
            child.Logs.Merge();
        }
        else
        {
            child.Logs.Merge(parent.Logs);
        }
        foreach (LogUse use in child.Logs.Items)
        {
            use.Files?.SetCache(child.FileCache.Value);
        }
    }

    public override void Finish(HttpBuild build)
    {
        var main = (LogMain)build.Http!.Main[Index]!;
        foreach (LogFile file in main.Files.Values)
        {
            file.Bind(build.Configuration.DefaultLog);
        }
        if (main.Files.Count == 0 && main.PathFiles.Count == 0 && !main.HasSyslog)
        {
            return;
        }
        build.Configuration.LogHandlers.Add(new AccessLogHandler(this, [.. main.Files.Values], [.. main.PathFiles]));
    }
}

/// <summary>Writes a request's lines.</summary>
internal sealed class AccessLogHandler(LogModule module, LogFile[] files, LogPathFiles[] pathFiles) : LogHandler
{
    public override void OnLog(HttpRequest r)
    {
        foreach (LogUse use in module.Settings(r.Location).Logs.Items)
        {
            if (use.Condition is not null && !Holds(use.Condition.Evaluate(r).Span))
            {
                continue;
            }
            if (use.File is { } file)
            {
                file.Begin(r.Loop);
                use.Format.Write(r, file.Lines);
                file.End();
            }
            else if (use.Files is { } byPath)
            {
                byPath.Write(r, use.Format);
            }
            else
            {
                use.Syslog!.Write(r, use.Format);
            }
        }
    }

    private static bool Holds(ReadOnlySpan<byte> value) => value.Length > 1 || value.Length == 1 && value[0] != '0';

    public override void Flush()
    {
        foreach (LogFile file in files)
        {
            file.Flush();
        }
        foreach (LogPathFiles byPath in pathFiles)
        {
            byPath.Close();
        }
    }
}
