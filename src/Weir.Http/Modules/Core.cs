// server, location, listen, server_name, root, alias, types, error_page, limits and timeouts: nginx's HTTP core module.
// Its settings live in CoreSettings.cs because the server itself uses them. Directives of the core that belong to a
// feature of their own (open_file_cache, resolver, gzip_*, limit_rate, early_hints) are declared by that feature's
// file.
using Weir.Conf;
using Weir.Kernel;
using Weir.Protocol.Http1;
using Weir.Session;

namespace Weir.Http.Modules;

internal sealed class CoreModule : HttpModule
{
    public override string Name => "http_core";

    public override void Declare(HttpDeclarations d)
    {
        d.Block("server", EnterServer);
        d.Block("location", CoreLocations.Enter);
        d.Block("limit_except", CoreLocations.EnterLimitExcept);
        d.Server<ServerConf>("listen", CoreListen.Apply);
        d.Server<ServerConf>("server_name", ServerNameDirective);
        DeclareServer(d);
        DeclarePaths(d);
        DeclareTransfer(d);
        DeclareAnswers(d);
        DeclareIgnored(d);
    }

    private static void DeclareServer(HttpDeclarations d)
    {
        d.Server<ServerConf>("client_header_timeout", static (u, s) => u.SetMsec(ref s.ClientHeaderTimeoutMs));
        d.Server<ServerConf>("client_header_buffer_size", static (u, s) => u.SetSize(ref s.ClientHeaderBufferSize));
        d.Server<ServerConf>("large_client_header_buffers", static (u, s) => u.SetBufs(ref s.LargeClientHeaderBuffers));
        d.Server<ServerConf>("ignore_invalid_headers", static (u, s) => u.SetFlag(ref s.IgnoreInvalidHeaders));
        d.Server<ServerConf>("underscores_in_headers", static (u, s) => u.SetFlag(ref s.UnderscoresInHeaders));
        d.Server<ServerConf>("merge_slashes", static (u, s) => u.SetFlag(ref s.MergeSlashes));
        d.Server<ServerConf>("max_headers", static (u, s) => u.SetNumber(ref s.MaxHeaders));
    }

    private static void DeclarePaths(HttpDeclarations d)
    {
        d.Location<LocationConf>("root", static (u, l) => CoreLocations.SetRoot(u, l, alias: false));
        d.Location<LocationConf>("alias", static (u, l) => CoreLocations.SetRoot(u, l, alias: true));
        d.Location<LocationConf>("types", CoreLocations.SetTypes);
        d.Location<LocationConf>("default_type", static (u, l) => u.SetTemplate(ref l.DefaultType));
        d.Location<LocationConf>("internal", static (_, l) => l.IsInternal = true);
        d.Location<LocationConf>("client_max_body_size", static (u, l) => u.SetOffset(ref l.MaxBodySize));
        d.Location<LocationConf>("client_body_buffer_size", static (u, l) =>
            u.SetSize(ref l.ClientBodyBufferSizeSetting));
        d.Location<LocationConf>("client_body_timeout", static (u, l) => u.SetMsec(ref l.ClientBodyTimeoutMs));
        d.Location<LocationConf>("client_body_temp_path", static (u, l) =>
            CoreLocations.SetTempPath(u, ref l.ClientBodyTempPath));
        d.Location<LocationConf>("client_body_in_file_only", static (u, l) => u.SetEnum(ref l.ClientBodyInFileOnly,
            [new ConfChoice<int>("off", 0), new("on", 1), new("clean", 2)]));
        d.Location<LocationConf>("client_body_in_single_buffer", static (u, l) =>
            u.SetFlag(ref l.ClientBodyInSingleBuffer));
        d.Location<LocationConf>("post_action", static (u, l) => u.SetText(ref l.PostAction));
        d.Location<LocationConf>("auth_delay", static (u, l) => u.SetMsec(ref l.AuthDelayMs));
        d.Location<LocationConf>("satisfy", static (u, l) => u.SetEnum(ref l.SatisfyMode,
            [new ConfChoice<Satisfy>("all", Satisfy.All), new("any", Satisfy.Any)]));
    }

    private static void DeclareTransfer(HttpDeclarations d)
    {
        d.Location<LocationConf>("sendfile", static (u, l) => u.SetFlag(ref l.SendFile));
        d.Location<LocationConf>("sendfile_max_chunk", static (u, l) => u.SetSize(ref l.SendFileMaxChunk));
        d.Location<LocationConf>("tcp_nopush", static (u, l) => u.SetFlag(ref l.TcpNoPush));
        d.Location<LocationConf>("tcp_nodelay", static (u, l) => u.SetFlag(ref l.TcpNoDelay));
        d.Location<LocationConf>("send_timeout", static (u, l) => u.SetMsec(ref l.SendTimeoutMs));
        d.Location<LocationConf>("send_lowat", static (u, l) => u.SetSize(ref l.SendLowat));
        d.Location<LocationConf>("postpone_output", static (u, l) => u.SetSize(ref l.PostponeOutput));
        d.Location<LocationConf>("read_ahead", static (u, l) => u.SetSize(ref l.ReadAhead));
        d.Location<LocationConf>("keepalive_time", static (u, l) => u.SetMsec(ref l.KeepAliveTime));
        d.Location<LocationConf>("keepalive_timeout", static (u, l) =>
        {
            if (u.Walker.Fresh(u.Directive, in l.KeepAliveTimeout) && u.Walker.TryMsec(u.Directive, out long ms))
            {
                l.KeepAliveTimeout.Set(ms);
                if (u.Count == 2 && u.Walker.TrySec(u.Directive, out long header, 1))
                {
                    l.KeepAliveHeaderSec.Set(header);
                }
            }
        });
        d.Location<LocationConf>("keepalive_min_timeout", static (u, l) => u.SetMsec(ref l.KeepAliveMinTimeout));
        d.Location<LocationConf>("keepalive_requests", static (u, l) => u.SetNumber(ref l.KeepAliveRequestsSetting));
        d.Location<LocationConf>("keepalive_disable", static (u, l) => u.SetBitmask(ref l.KeepAliveDisable,
            [new ConfChoice<int>("none", 1), new("msie6", 2), new("safari", 4)]));
        d.Location<LocationConf>("lingering_close", static (u, l) => u.SetEnum(ref l.LingeringClose,
            [new ConfChoice<LingeringClose>("off", LingeringClose.Off), new("on", LingeringClose.On),
                new("always", LingeringClose.Always)]));
        d.Location<LocationConf>("lingering_time", static (u, l) => u.SetMsec(ref l.LingeringTimeMs));
        d.Location<LocationConf>("lingering_timeout", static (u, l) => u.SetMsec(ref l.LingeringTimeoutMs));
        d.Location<LocationConf>("reset_timedout_connection", static (u, l) =>
            u.SetFlag(ref l.ResetTimedOutConnection));
        d.Location<LocationConf>("subrequest_output_buffer_size", static (u, l) =>
        {
            if (u.Walker.Fresh(u.Directive, in l.SubrequestOutputBufferSize)
                && u.Walker.TrySize(u.Directive, out long n))
            {
                l.SubrequestOutputBufferSize.Set((int)n);
            }
        });
    }

    private static void DeclareAnswers(HttpDeclarations d)
    {
        d.Location<LocationConf>("absolute_redirect", static (u, l) => u.SetFlag(ref l.AbsoluteRedirect));
        d.Location<LocationConf>("server_name_in_redirect", static (u, l) => u.SetFlag(ref l.ServerNameInRedirect));
        d.Location<LocationConf>("port_in_redirect", static (u, l) => u.SetFlag(ref l.PortInRedirect));
        d.Location<LocationConf>("msie_padding", static (u, l) => u.SetFlag(ref l.MsiePadding));
        d.Location<LocationConf>("msie_refresh", static (u, l) => u.SetFlag(ref l.MsieRefresh));
        d.Location<LocationConf>("log_not_found", static (u, l) => u.SetFlag(ref l.LogNotFound));
        d.Location<LocationConf>("log_subrequest", static (u, l) => u.SetFlag(ref l.LogSubrequest));
        d.Location<LocationConf>("recursive_error_pages", static (u, l) => u.SetFlag(ref l.RecursiveErrorPages));
        d.Location<LocationConf>("server_tokens", static (u, l) => u.SetEnum(ref l.ServerTokens,
            [new ConfChoice<ServerTokens>("off", ServerTokens.Off), new("on", ServerTokens.On),
                new("build", ServerTokens.Build)]));
        d.Location<LocationConf>("if_modified_since", static (u, l) => u.SetEnum(ref l.IfModifiedSince,
            [new ConfChoice<IfModifiedSinceMode>("off", IfModifiedSinceMode.Off),
                new("exact", IfModifiedSinceMode.Exact),
                new("before", IfModifiedSinceMode.Before)]));
        d.Location<LocationConf>("max_ranges", static (u, l) => u.SetNumber(ref l.MaxRanges));
        d.Location<LocationConf>("chunked_transfer_encoding", static (u, l) =>
            u.SetFlag(ref l.ChunkedTransferEncoding));
        d.Location<LocationConf>("etag", static (u, l) => u.SetFlag(ref l.ETag));
        d.Location<LocationConf>("error_page", CoreLocations.AddErrorPage);
        d.Location<LocationConf>("error_log", static (u, l) => MainSettings.AddErrorLog(u, t => l.ErrorLogs.Add(t)));
    }

    /// <summary>Sizes of tables and pools that Weir grows by itself: accepted, checked, without effect
    /// (docs/differences.md).</summary>
    private static void DeclareIgnored(HttpDeclarations d)
    {
        foreach (string name in (string[])
            ["variables_hash_max_size", "variables_hash_bucket_size", "server_names_hash_max_size",
                "server_names_hash_bucket_size", "types_hash_max_size", "types_hash_bucket_size"])
        {
            d.Block(name, static u => CheckHash(u));
        }
        d.Block("connection_pool_size", static u => CheckPool(u));
        d.Block("request_pool_size", static u => CheckPool(u));
        d.Block("output_buffers", static u => u.Walker.TryBufs(u.Directive, out ConfBufs _));
    }

    /// <summary>A table of nothing cannot be built, as nginx says it: without a line.</summary>
    internal static void CheckHash(DirectiveUse use)
    {
        if (use.Walker.TryNumber(use.Directive, out long number) && number == 0
            && !use.Directive.Name.StartsWith("server_names_", StringComparison.Ordinal))
        {
            string table = use.Directive.Name[..(use.Directive.Name.IndexOf("_hash", StringComparison.Ordinal) + 5)];
            use.Build.Errors.Emerg(
                $"could not build {table}, you should increase {use.Directive.Name}: 0", null);
        }
    }

    private static void CheckPool(DirectiveUse use)
    {
        const int least = 112, step = 16;
        if (!use.Walker.TrySize(use.Directive, out long bytes))
        {
            return;
        }
        if (bytes < least)
        {
            use.Error($"the pool size must be no less than {least}");
        }
        else if (bytes % step != 0)
        {
            use.Error($"the pool size must be a multiple of {step}");
        }
    }

    private static void EnterServer(DirectiveUse use)
    {
        HttpBlock block = use.Build.NewBlock(HttpBlockKind.Server, use.Block, use.Directive);
        ServerConf server = block.CoreServer;
        server.Span = use.Directive.Span;
        use.Build.Configuration.Servers.Add(server);
        use.Walker.WalkBlock(use.Directive, ConfContext.Server, block);
        if (!server.HasListen)
        {
            // As nginx: port 80 as root, else 8000.
            CoreListen.AddDefault(use, server);
        }
        if (server.ServerNames.Count == 0)
        {
            server.ServerNames.Add(new ServerName("", null));
        }
        string name = server.ServerNames[0].Text;
        server.PrimaryName = name.StartsWith('.') ? name[1..] : name;
        server.PrimaryNameBytes = use.Build.Memory.Store(server.PrimaryName);
    }

    private static void ServerNameDirective(DirectiveUse use, ServerConf server)
    {
        for (int i = 0; i < use.Count; i++)
        {
            string name = use[i];
            if (name.Length > 0 && name.Contains('/'))
            {
                use.Walker.Warn(use.Directive.Args[i].Span, $"server name \"{name}\" has suspicious symbols");
            }
            if (name.StartsWith('~'))
            {
                string? error = $"empty regex in server name \"{name}\"";
                Regex? regex = name.Length == 1 ? null
                    : Regex.Compile(name[1..], caseless: true, use.Build.Configuration.Variables, out error);
                if (regex is null)
                {
                    use.Error(i, error!);
                    continue;
                }
                use.Build.Configuration.Own(regex.Pattern);
                server.ServerNames.Add(new ServerName(name, regex));
                continue;
            }
            if (name == "$hostname")
            {
                name = Environment.MachineName;
            }
            if (!IsValidName(name))
            {
                use.Error(i, $"invalid server name or wildcard \"{name}\"");
                continue;
            }
            server.ServerNames.Add(new ServerName(name.ToLowerInvariant(), null));
        }
    }

    private static bool IsValidName(string name)
    {
        int star = name.IndexOf('*');
        if (star < 0)
        {
            return name != ".";
        }
        if (star != name.LastIndexOf('*') || name.Length < 3)
        {
            return false;
        }
        return name.StartsWith("*.", StringComparison.Ordinal) || name.EndsWith(".*", StringComparison.Ordinal);
    }

    internal static void Merge(ServerConf p, ServerConf s)
    {
        s.ClientHeaderTimeoutMs.Merge(p.ClientHeaderTimeoutMs, 60_000);
        s.ClientHeaderBufferSize.Merge(p.ClientHeaderBufferSize, 1024);
        s.LargeClientHeaderBuffers.Merge(p.LargeClientHeaderBuffers, new ConfBufs(4, 8192));
        s.IgnoreInvalidHeaders.Merge(p.IgnoreInvalidHeaders, true);
        s.UnderscoresInHeaders.Merge(p.UnderscoresInHeaders, false);
        s.MergeSlashes.Merge(p.MergeSlashes, true);
        s.MaxHeaders.Merge(p.MaxHeaders, 1000);
        s.ParseOptions = new ParseOptions
        {
            IgnoreInvalidHeaders = s.IgnoreInvalidHeaders.Value,
            UnderscoresInHeaders = s.UnderscoresInHeaders.Value,
            MaxHeaders = s.MaxHeaders.Value,
        };
    }
}
