// The modules of nginx that make its core: what tables of directives are about.
namespace Weir.Tests.Harness;

public static class CoreModules
{
    /// <summary>As data/nginx-directives.tsv names them.</summary>
    public static readonly string[] Files =
    [
        "core/nginx.c", "core/ngx_conf_file.c", "core/ngx_log.c", "core/ngx_regex.c",
        "core/ngx_thread_pool.c", "event/ngx_event.c", "event/modules/ngx_epoll_module.c", "http/ngx_http.c",
        "http/ngx_http_core_module.c", "http/ngx_http_upstream.c", "http/ngx_http_copy_filter_module.c",
        .. ((string[])
        [
            "access", "addition_filter", "auth_basic", "auth_request", "autoindex", "browser",
            "charset_filter", "empty_gif", "fastcgi", "geo", "gunzip_filter", "gzip_filter",
            "gzip_static", "headers_filter", "index", "limit_conn", "limit_req", "log", "map",
            "memcached", "mirror", "proxy", "random_index", "realip", "referer", "rewrite", "secure_link",
            "slice_filter", "split_clients", "stub_status", "sub_filter", "try_files",
            "upstream_keepalive", "upstream_zone", "userid_filter",
        ]).Select(static name => $"http/modules/ngx_http_{name}_module.c"),
    ];
}
