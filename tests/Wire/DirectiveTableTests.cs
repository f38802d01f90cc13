// The table of directives (Harness/Rows) against the binary: each row's two values differ as the row says. Every
// directive of the core's modules has a row, or a test that is named here, or has nothing to set (docs/differences.md)
// and a check of its value, which is made here too.
using System.Text.RegularExpressions;
using Weir.Tests.Harness;
using Weir.Tests.Harness.Rows;
using Xunit;

namespace Weir.Tests.Wire;

[Trait("Needs", "master")]
public sealed class DirectiveTableTests
{
    /// <summary>Directives that other tests see: a file below tests/ and a test in it.</summary>
    private static readonly (string File, string Test, string Directives)[] _seen =
    [
        ("Wire/ProcessSettingsTests.cs", "Workers_run_where_and_as_the_configuration_says",
            "worker_cpu_affinity worker_priority worker_rlimit_nofile working_directory env load_module"),
        ("Wire/ProcessSettingsTests.cs", "The_main_context_is_seen_in_the_processes",
            "user worker_processes pid worker_rlimit_core master_process"),
        ("Wire/ProcessSettingsTests.cs", "A_worker_that_shuts_down_leaves_when_its_time_is_over",
            "worker_shutdown_timeout"),
        ("Wire/CommandLineTests.cs", "", "daemon"),
        ("Unit/Conf/ConfFilesTests.cs", "", "include events http"),
        ("Wire/AcceptingTests.cs", "", "worker_connections multi_accept accept_mutex accept_mutex_delay"),
        ("Wire/PortableTests.cs", "", "use"),
        ("Testing/DebugConnectionTests.cs", "", "debug_connection"),
        ("Wire/LimitTests.cs", "", "limit_conn_zone limit_conn limit_conn_log_level limit_conn_status "
            + "limit_conn_dry_run"),
        ("Wire/RewriteTests.cs", "", "open_log_file_cache"),
        ("Wire/MirrorTests.cs", "", "mirror_request_body"),
        ("Wire/UpstreamChoiceTests.cs", "", "proxy_ignore_client_abort proxy_next_upstream_timeout"),
        ("Wire/CacheRuleTests.cs", "A_stored_file_is_the_answer_with_its_time_and_rights",
            "proxy_store proxy_store_access"),
        ("Chaos/UpstreamFaultTests.cs", "", "proxy_connect_timeout"),
        ("Wire/Http2Tests.cs", "", "proxy_pass_trailers"),
        ("Wire/ProxyTlsTests.cs", "Sessions_are_not_used_again_when_that_is_off", "proxy_ssl_session_reuse"),
        ("Wire/TlsCertificatesTests.cs", "", "proxy_ssl_certificate_cache"),
        ("Wire/CacheTests.cs", "", "proxy_cache proxy_cache_path proxy_cache_bypass proxy_cache_use_stale"),
        ("Wire/CacheRuleTests.cs", "", "proxy_cache_key proxy_no_cache proxy_cache_valid proxy_cache_min_uses"),
        ("Wire/CacheProcessTests.cs", "", "proxy_cache_lock proxy_cache_lock_timeout proxy_cache_lock_age"),
        ("Wire/CacheDirectiveTests.cs", "", "proxy_cache_convert_head %F%_cache_max_range_offset %F%_cache_methods "
            + "%F%_cache_revalidate %F%_cache_background_update"),
        ("Wire/ZoneTests.cs", "", "zone"),
        ("Wire/SmallModuleTests.cs", "", "client_body_early_read"),
        ("Wire/FilesTests.cs", "", "sendfile"),
        ("Wire/TimedOutTests.cs", "", "send_timeout reset_timedout_connection"),
        ("Wire/ProcessTests.cs", "", "keepalive_min_timeout"),
        ("Wire/ProxyAnswersTests.cs", "", "early_hints"),
        ("Wire/ResolveTests.cs", "", "resolver resolver_timeout"),
    ];

    /// <summary>Directives whose value is checked and sets nothing, or is seen in what is refused: context, a good text
    /// and a bad one.</summary>
    private static readonly (string Context, string Good, string Bad)[] _checked =
    [
        .. ((string[])
        [
            "variables_hash_max_size", "variables_hash_bucket_size", "server_names_hash_max_size",
            "server_names_hash_bucket_size", "types_hash_max_size", "types_hash_bucket_size", "map_hash_max_size",
            "map_hash_bucket_size", "proxy_headers_hash_max_size", "proxy_headers_hash_bucket_size",
            "connection_pool_size", "request_pool_size", "directio_alignment", "directio", "send_lowat", "read_ahead",
            "postpone_output", "sendfile_max_chunk", "subrequest_output_buffer_size", "proxy_send_lowat",
            "fastcgi_send_lowat", "postpone_gzipping",
        ]).Select(static n => ("http", n + " 1024", n + " x")),
        .. ((string[])["referer_hash_max_size", "referer_hash_bucket_size"]).Select(static n =>
            ("server", n + " 1024", n + " x")),
        .. ((string[])
        [
            "aio_write", "gzip_no_buffer", "open_file_cache_events", "tcp_nopush", "tcp_nodelay",
            "client_body_in_single_buffer", "autoindex_localtime",
        ]).Select(static n => ("http", n + " on", n + " x")),
        .. ((string[])["output_buffers", "gzip_buffers", "gunzip_buffers"]).Select(static n =>
            ("http", n + " 4 8k", n + " 4 x")),
        ("http", "aio threads", "aio x"),
        ("main", "timer_resolution 1s", "timer_resolution x"), ("main", "lock_file a", "lock_file"),
        ("main", "debug_points stop", "debug_points x"), ("main", "pcre_jit on", "pcre_jit x"),
        ("main", "thread_pool p threads=2", "thread_pool p x"),
        ("events", "epoll_events 9", "epoll_events x"), ("events", "worker_aio_requests 9", "worker_aio_requests x"),
        .. ((string[])["proxy", "fastcgi"]).SelectMany(static f => ((string, string, string)[])
        [
            (f, f + "_buffers 8 4k", f + "_buffers 1 4k"),
            (f, f + "_busy_buffers_size 8k", f + "_busy_buffers_size 1m"),
            (f, f + "_temp_file_write_size 8k", f + "_temp_file_write_size 1k"),
        ]),
    ];

    /// <summary>FastCGI's and memcached's own that are declared and obeyed by the same lines as the proxy's.</summary>
    private static readonly string[] _asTheProxy =
    [
        "store", "store_access", "ignore_client_abort", "connect_timeout", "send_timeout", "next_upstream_timeout",
        "cache", "cache_key", "cache_path", "cache_bypass", "no_cache", "cache_valid", "cache_min_uses",
        "cache_use_stale", "cache_lock", "cache_lock_timeout", "cache_lock_age",
    ];

    private static string Name(string text) => text.Split(' ')[0];

    private static string In(string context, string text) => context switch
    {
        "main" => text + "; events { } http { server { listen 127.0.0.1:%PORT%; } }",
        "events" => $"events {{ {text}; }} http {{ server {{ listen 127.0.0.1:%PORT%; }} }}",
        "http" => $"events {{ }} http {{ {text}; server {{ listen 127.0.0.1:%PORT%; }} }}",
        "server" => $"events {{ }} http {{ server {{ listen 127.0.0.1:%PORT%; {text}; }} }}",
        _ => $"events {{ }} http {{ server {{ listen 127.0.0.1:%PORT%; location / {{ {context}_pass "
            + $"{(context == "proxy" ? "http://" : "")}127.0.0.1:1; {text}; }} }} }}",
    };

    [Fact]
    public void A_directive_s_value_is_seen_on_the_wire()
    {
        string[] wrong = RowTable.Run(ServerProcess.WeirBinary, RowTable.All);
        Assert.True(wrong.Length == 0, $"{wrong.Length} of {RowTable.All.Length}\n{string.Join('\n', wrong)}");
    }

    [Fact]
    public void A_value_that_sets_nothing_is_checked_all_the_same()
    {
        using var place = new TempDir();
        using Port port = Port.Lease();
        (int Exit, string Errors) Test(string text)
        {
            string file = place.Write("n.conf", text.Replace("%PORT%", $"{port.Number}"));
            (int exit, _, string errors) = ChildProcess.Run(ServerProcess.WeirBinary, "-t", "-p", place.Path + "/",
                "-c", file);
            return (exit, errors);
        }

        // All good ones stand in one file for each context; the wrong ones too, since all errors are told.
        foreach (var of in _checked.GroupBy(static c => c.Context))
        {
            (int exit, string errors) = Test(In(of.Key, string.Join("; ", of.Select(static c => c.Good))));
            Assert.True(exit == 0, errors);
        }
        foreach (var of in _checked.Where(static c => c.Context is not ("proxy" or "fastcgi"))
            .GroupBy(static c => c.Context))
        {
            (int exit, string errors) = Test(In(of.Key, string.Join(";\n", of.Select(static c => c.Bad))));
            Assert.Equal(1, exit);
            Assert.All(of, c => Assert.True(errors.Contains($"\n  {c.Bad}") || errors.Contains(c.Bad), c.Bad + errors));
            Assert.Equal(of.Count(), Regex.Count(errors, @"\[emerg\]"));
        }
        foreach ((string context, _, string bad) in _checked.Where(static c => c.Context is "proxy" or "fastcgi"))
        {
            (int exit, string errors) = Test(In(context, bad));
            Assert.Equal(1, exit);
            Assert.Contains(Name(bad), errors);
        }
    }

    [Fact]
    public void Every_directive_has_a_row_or_a_test()
    {
        string tests = Path.GetDirectoryName(Path.GetDirectoryName(Here()))!;
        var known = RowTable.All.Select(static r => r.Directive).Concat(_checked.Select(static c => Name(c.Good)))
            .ToHashSet();
        foreach ((string file, string test, string directives) in _seen)
        {
            string text = File.ReadAllText(Path.Combine(tests, file));
            Assert.True(test == "" || text.Contains($" {test}("), $"{test} is not in {file}");
            foreach (string name in directives.Split(' '))
            {
                Assert.True(Regex.IsMatch(text, $@"{Regex.Escape(name)}\b"), $"{name} is not in {file}");
                known.Add(name.Replace("%F%", "proxy"));
                known.Add(name.Replace("%F%", "fastcgi"));
            }
        }
        foreach (string name in _asTheProxy)
        {
            Assert.Contains("proxy_" + name, known);
            known.Add("fastcgi_" + name);
            known.Add("memcached_" + name);
        }
        string[] unseen =
        [
            .. DirectiveRow.All.Where(static r => CoreModules.Files.Contains(r.Module)).Select(static r => r.Name)
                .Where(n => !known.Contains(n)).Distinct(),
        ];
        Assert.Equal("", string.Join(' ', unseen));
    }

    private static string Here([System.Runtime.CompilerServices.CallerFilePath] string path = "") => path;
}
