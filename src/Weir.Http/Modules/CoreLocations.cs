// location, limit_except, root, alias, types, error_page, and the merging of location settings, with nginx's defaults.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal static class CoreLocations
{
    internal static void Enter(DirectiveUse use)
    {
        HttpBlock block = use.Build.NewBlock(HttpBlockKind.Location, use.Block, use.Directive);
        LocationConf location = block.Core;
        if (!TryName(use, location))
        {
            return;
        }
        LocationConf parent = use.Block.Core;
        CheckNesting(use, parent, location);
        if (parent.Children?.Exists(c => Same(c, location)) == true)
        {
            use.Error(use.Count - 1, $"duplicate location \"{location.Name}\"");
        }
        (parent.Children ??= []).Add(location);
        use.Walker.WalkBlock(use.Directive, ConfContext.Location, block);
    }

    private static bool Same(LocationConf a, LocationConf b) => !a.IsNoName && a.Regex is null && b.Regex is null
        && a.IsExact == b.IsExact && a.IsNamed == b.IsNamed && a.Name == b.Name;

    private static bool TryName(DirectiveUse use, LocationConf location)
    {
        string name = use[use.Count - 1];
        string modifier = use.Count == 2 ? use[0] : "";
        if (use.Count == 1)
        {
            // nginx accepts the modifier written together with the name.
            foreach (string prefix in (string[])["^~", "~*", "=", "~"])
            {
                if (name.StartsWith(prefix, StringComparison.Ordinal))
                {
                    modifier = prefix;
                    name = name[prefix.Length..];
                    break;
                }
            }
        }
        location.Name = name;
        location.Modifier = modifier;
        location.NameBytes = use.Build.Memory.Store(name);
        switch (modifier)
        {
            case "":
                location.IsNamed = name.StartsWith('@');
                return true;
            case "=":
                location.IsExact = true;
                return true;
            case "^~":
                location.StopsRegex = true;
                return true;
            case "~" or "~*":
                location.Regex = Regex.Compile(name, modifier == "~*", use.Build.Configuration.Variables,
                    out string? error);
                if (location.Regex is null)
                {
                    use.Error(use.Count - 1, error!);
                    return false;
                }
                use.Build.Configuration.Own(location.Regex.Pattern);
                return true;
            default:
                use.Error(0, $"invalid location modifier \"{modifier}\"", "=, ~, ~* or ^~");
                return false;
        }
    }

    private static void CheckNesting(DirectiveUse use, LocationConf parent, LocationConf location)
    {
        if (use.Block.Kind != HttpBlockKind.Location)
        {
            return;
        }
        if (parent.IsExact)
        {
            use.Error($"location \"{location.Name}\" cannot be inside the exact location \"{parent.Name}\"");
        }
        else if (parent.IsNamed)
        {
            use.Error($"location \"{location.Name}\" cannot be inside the named location \"{parent.Name}\"");
        }
        else if (location.IsNamed)
        {
            use.Error($"named location \"{location.Name}\" can be on the server level only");
        }
        else if (location.Regex is null && parent.Regex is null
            && !location.Name.StartsWith(parent.Name, StringComparison.Ordinal))
        {
            use.Error($"location \"{location.Name}\" is outside location \"{parent.Name}\"");
        }
    }

    internal static void EnterLimitExcept(DirectiveUse use)
    {
        int allowed = 0;
        for (int i = 0; i < use.Count; i++)
        {
            int bit = LimitExceptHandler.Bit(use[i]);
            if (bit == 0)
            {
                use.Error(i, $"invalid method \"{use[i]}\"");
                return;
            }
            allowed |= bit;
        }
        HttpBlock block = use.Build.NewBlock(HttpBlockKind.LimitExcept, use.Block, use.Directive);
        LocationConf location = block.Core;
        location.IsNoName = true;
        location.Name = use.Block.Core.Name;
        location.Modifier = use.Block.Core.Modifier;
        location.NameBytes = use.Block.Core.NameBytes;
        (use.Block.Core.Children ??= []).Add(location);
        use.Block.Core.LimitExcept = new LimitExceptHandler(allowed, location);
        use.Walker.WalkBlock(use.Directive, ConfContext.LimitExcept, block);
    }

    internal static void SetRoot(DirectiveUse use, LocationConf location, bool alias)
    {
        if (location.Root.IsSet)
        {
            if (location.IsAlias == alias)
            {
                use.Complain("is duplicate");
            }
            else
            {
                use.Error(
                    $"\"{use.Name}\" directive is duplicate, "
                    + $"\"{(alias ? "root" : "alias")}\" directive was specified earlier");
            }
            return;
        }
        if (alias && location.IsNamed)
        {
            use.Error("the \"alias\" directive cannot be used inside the named location");
            return;
        }
        string path = use[0];
        if (path.Contains("$document_root", StringComparison.Ordinal)
            || path.Contains("${document_root}", StringComparison.Ordinal))
        {
            use.Error(0, $"the $document_root variable cannot be used in the \"{use.Name}\" directive");
            return;
        }
        if (!alias && path.EndsWith('/'))
        {
            path = path[..^1];
        }
        if (!path.StartsWith('/') && !path.StartsWith('$'))
        {
            path = use.Build.FullPath(path);
        }
        if (use.TemplateOf(path, 0) is { } template)
        {
            location.Root.Set(template);
            location.Settings.IsAlias = alias;
            // Of a regular expression's location nothing is cut off: the alias is the whole path.
            location.Settings.AliasLength = !alias ? 0 : location.Regex is not null ? int.MaxValue
                : location.Name.Length;
        }
    }

    internal static void SetTypes(DirectiveUse use, LocationConf location)
    {
        location.Settings.OwnTypes ??= [];
        foreach (ConfDirective line in use.Directive.Block!)
        {
            NativeSlice type = use.Build.Memory.Store(line.Name);
            foreach (ConfArg extension in line.Args)
            {
                string key = extension.Text.ToLowerInvariant();
                if (location.Settings.OwnTypes.ContainsKey(key))
                {
                    use.Walker.Warn(extension.Span,
                        $"duplicate extension \"{extension.Text}\", content type: \"{line.Name}\", "
                        + $"previous content type: \"{location.Settings.OwnTypes[key]}\"");
                }
                location.Settings.OwnTypes[key] = type;
            }
        }
    }

    /// <summary>A temporary path; the levels of subdirectories that nginx allows are accepted, one directory
    /// serves.</summary>
    internal static void SetTempPath(DirectiveUse use, ref Inherited<string> setting)
    {
        if (!use.Walker.Fresh(use.Directive, in setting))
        {
            return;
        }
        // As nginx counts: the digits of all levels together are ten at most.
        long digits = 0;
        for (int i = 1; i < use.Count; i++)
        {
            if (!ConfValues.TryNumber(use[i], out long level) || level is < 1 or > 10 || (digits += level) > 10)
            {
                use.Complain("invalid value");
                return;
            }
        }
        string path = use.Build.Resources.TempPath(use.Build.FullPath(use[0]));
        use.Build.Resources.NeedDirectory(path);
        setting.Set(path);
    }

    internal static void AddErrorPage(DirectiveUse use, LocationConf location)
    {
        int last = use.Count - 1;
        string uri = use[last];
        int codes = last;
        int overwrite = -1;
        if (codes > 0 && use[codes - 1].StartsWith('='))
        {
            codes--;
            string code = use[codes][1..];
            if (code.Length == 0)
            {
                overwrite = 0;
            }
            else if (ConfValues.TryNumber(code, out long n))
            {
                overwrite = (int)n;
            }
            else
            {
                use.Error(codes, $"invalid value \"{use[codes]}\"");
                return;
            }
            if (codes == 0)
            {
                use.Error("invalid number of arguments in \"error_page\" directive");
                return;
            }
        }
        string? args = null;
        if (uri.StartsWith('/') && uri.Contains('$') && uri.IndexOf('?') is var question and >= 0)
        {
            args = uri[(question + 1)..];
            uri = uri[..question];
        }
        Template? target = use.TemplateOf(uri, last);
        Template? argsTemplate = args is null ? null : use.TemplateOf(args, last);
        if (target is null)
        {
            return;
        }
        for (int i = 0; i < codes; i++)
        {
            if (!ConfValues.TryNumber(use[i], out long status))
            {
                use.Error(i, $"invalid value \"{use[i]}\"");
                return;
            }
            if (status == 499)
            {
                use.Error(i, $"value \"{use[i]}\" must be between 300 and 599 and not 499".Replace(" and not 499", ""));
                return;
            }
            if (status is < 300 or > 599)
            {
                use.Error(i, $"value \"{use[i]}\" must be between 300 and 599");
                return;
            }
            int answer = overwrite;
            if (overwrite == -1 && status is 494 or 495 or 496 or 497)
            {
                answer = 400;
            }
            location.ErrorPages.Add(new ErrorPage((int)status, answer, target, argsTemplate));
        }
    }

    /// <summary>What holds where nothing is set; for the outermost level.</summary>
    private static void SetDefaults(HttpBuild build, LocationSettings http)
    {
        if (!http.Root.IsSet)
        {
            http.Root.Set(DefaultTemplate(build, Path.Join(build.Resources.Prefix, "html")));
        }
        if (!http.DefaultType.IsSet)
        {
            http.DefaultType.Set(DefaultTemplate(build, "text/plain"));
        }
        http.OwnTypes ??= DefaultTypes(build);
        if (!http.ErrorLogs.IsSet)
        {
            foreach (LogTarget target in build.Main.ErrorLogsOr(build.DefaultErrorLog))
            {
                http.ErrorLogs.Add(target);
            }
        }
    }

    /// <summary>Merges a level that has settings of its own; <paramref name="p"/> is null for http itself.</summary>
    internal static void Merge(HttpBuild build, LocationSettings? p, LocationSettings c)
    {
        if (p is null)
        {
            SetDefaults(build, c);
            p = new LocationSettings();
        }
        if (!c.Root.IsSet)
        {
            c.IsAlias = p.IsAlias;
            c.AliasLength = p.AliasLength;
        }
        c.Root.Merge(p.Root, null!);
        c.MaxBodySize.Merge(p.MaxBodySize, 1024 * 1024);
        c.ClientBodyBufferSizeSetting.Merge(p.ClientBodyBufferSizeSetting, 16 * 1024);
        c.ClientBodyTimeoutMs.Merge(p.ClientBodyTimeoutMs, 60_000);
        c.ClientBodyTempPath.Merge(p.ClientBodyTempPath, build.Resources.TempPrefix);
        c.ClientBodyInFileOnly.Merge(p.ClientBodyInFileOnly, 0);
        c.ClientBodyInSingleBuffer.Merge(p.ClientBodyInSingleBuffer, false);
        c.SendTimeoutMs.Merge(p.SendTimeoutMs, 60_000);
        c.KeepAliveTimeout.Merge(p.KeepAliveTimeout, 75_000);
        c.KeepAliveHeaderSec.Merge(p.KeepAliveHeaderSec, 0);
        c.KeepAliveMinTimeout.Merge(p.KeepAliveMinTimeout, 0);
        c.KeepAliveTime.Merge(p.KeepAliveTime, 3_600_000);
        c.KeepAliveRequestsSetting.Merge(p.KeepAliveRequestsSetting, 1000);
        c.KeepAliveDisable.Merge(p.KeepAliveDisable, 2);
        c.LingeringClose.Merge(p.LingeringClose, Http.LingeringClose.On);
        c.LingeringTimeMs.Merge(p.LingeringTimeMs, 30_000);
        c.LingeringTimeoutMs.Merge(p.LingeringTimeoutMs, 5_000);
        c.ResetTimedOutConnection.Merge(p.ResetTimedOutConnection, false);
        c.TcpNoDelay.Merge(p.TcpNoDelay, true);
        c.TcpNoPush.Merge(p.TcpNoPush, false);
        c.SendLowat.Merge(p.SendLowat, 0);
        c.PostponeOutput.Merge(p.PostponeOutput, 1460);
        c.SendFile.Merge(p.SendFile, true);
        c.SendFileMaxChunk.Merge(p.SendFileMaxChunk, 2 * 1024 * 1024);
        c.ReadAhead.Merge(p.ReadAhead, 0);
        c.DefaultType.Merge(p.DefaultType, null!);
        c.LogNotFound.Merge(p.LogNotFound, true);
        c.LogSubrequest.Merge(p.LogSubrequest, false);
        c.RecursiveErrorPages.Merge(p.RecursiveErrorPages, false);
        c.ServerTokens.Merge(p.ServerTokens, Http.ServerTokens.On);
        c.ChunkedTransferEncoding.Merge(p.ChunkedTransferEncoding, true);
        c.ETag.Merge(p.ETag, true);
        c.IfModifiedSince.Merge(p.IfModifiedSince, IfModifiedSinceMode.Exact);
        c.MaxRanges.Merge(p.MaxRanges, int.MaxValue);
        c.AbsoluteRedirect.Merge(p.AbsoluteRedirect, true);
        c.ServerNameInRedirect.Merge(p.ServerNameInRedirect, false);
        c.PortInRedirect.Merge(p.PortInRedirect, true);
        c.MsiePadding.Merge(p.MsiePadding, true);
        c.MsieRefresh.Merge(p.MsieRefresh, false);
        c.AuthDelayMs.Merge(p.AuthDelayMs, 0);
        c.PostAction.Merge(p.PostAction, "off");
        c.PostActionBytes = c.PostAction.Value == "off" ? default : build.Memory.Store(c.PostAction.Value);
        c.SatisfyMode.Merge(p.SatisfyMode, Satisfy.All);
        c.LimitRate.Merge(p.LimitRate, null!);
        c.LimitRateAfter.Merge(p.LimitRateAfter, null!);
        c.DisableSymlinks.Merge(p.DisableSymlinks, SymlinkPolicy.Off);
        c.DisableSymlinksFrom.Merge(p.DisableSymlinksFrom, null!);
        c.SubrequestOutputBufferSize.Merge(p.SubrequestOutputBufferSize, 4096);
        c.EarlyHints.Merge(p.EarlyHints, null);
        c.ErrorPages.Merge(p.ErrorPages);
        c.ErrorLogs.Merge(p.ErrorLogs);
        c.OwnTypes ??= p.OwnTypes!;
        c.Types = p.OwnTypes == c.OwnTypes ? p.Types : new MimeTypes(c.OwnTypes, build.Memory);
        c.ErrorLog = build.LogOf(c.ErrorLogs.Array);
        c.MaxBodyBytes = c.MaxBodySize.Value;
        c.ClientBodyBufferSize = (int)Math.Clamp(c.ClientBodyBufferSizeSetting.Value, 1, int.MaxValue);
        c.KeepAliveTimeoutMs = (int)Math.Min(c.KeepAliveTimeout.Value, int.MaxValue);
        c.KeepAliveRequests = c.KeepAliveRequestsSetting.Value;
        c.KeepAliveTimeMs = c.KeepAliveTime.Value;
        c.ServerHeader = c.ServerTokens.Value == Http.ServerTokens.Off
            ? NativeSlice.Literal("Server: weir\r\n"u8) : NativeSlice.Literal("Server: weir/0.1.0\r\n"u8);
    }

    private static Template DefaultTemplate(HttpBuild build, string text) =>
        Template.Compile(text, build.Configuration.Variables, out string? _)!;

    private static Dictionary<string, NativeSlice> DefaultTypes(HttpBuild build) => new()
    {
        ["html"] = build.Memory.Store("text/html"),
        ["gif"] = build.Memory.Store("image/gif"),
        ["jpg"] = build.Memory.Store("image/jpeg"),
    };
}

/// <summary>Switches the location's settings to those of limit_except for the methods that are not listed.</summary>
public sealed class LimitExceptHandler(int allowed, LocationConf location)
{
    private static readonly string[] s_methods =
        ["GET", "HEAD", "POST", "PUT", "DELETE", "MKCOL", "COPY", "MOVE", "OPTIONS", "PROPFIND", "PROPPATCH", "LOCK",
            "UNLOCK", "PATCH"];

    internal static int Bit(string method)
    {
        int i = Array.FindIndex(s_methods, m => m.Equals(method, StringComparison.OrdinalIgnoreCase));
        // GET allows HEAD too.
        return i < 0 ? 0 : i == 0 ? 3 : 1 << i;
    }

    /// <summary>The settings in force for the method: null when it is one of the listed.</summary>
    public LocationConf? For(HttpRequest r)
    {
        int bit = r.Method is HttpMethod.Other || (int)r.Method > s_methods.Length ? 0 : 1 << ((int)r.Method - 1);
        return (allowed & bit) != 0 ? null : location;
    }
}
