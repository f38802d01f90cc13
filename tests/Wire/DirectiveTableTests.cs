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
    private const string Cached = "Wire/CacheDirectiveTests.cs";
    private const string Settings = "Wire/ProcessSettingsTests.cs";

    /// <summary>Directives that other tests see: a file below tests/, a test in it that compares two values, and if one
    /// of the two is that the directive is left out, the test that sees that (%F% is proxy and fastcgi).</summary>
    private static readonly (string File, string Test, string Directives, string Without)[] _seen =
    [
        (Settings, "Workers_run_where_and_as_the_configuration_says",
            "worker_cpu_affinity worker_priority worker_rlimit_nofile working_directory env", ""),
        (Settings, "The_main_context_is_seen_in_the_processes", "user worker_processes pid worker_rlimit_core", ""),
        (Settings, "A_worker_that_shuts_down_leaves_when_its_time_is_over", "worker_shutdown_timeout",
            "Wire/ProcessTests.cs QUIT_lets_a_request_end"),
        (Settings, "The_main_context_is_seen_in_the_processes", "master_process", ""),
        (Settings, "What_may_block_has_as_many_threads_as_its_pool", "thread_pool", ""),
        (Settings, "The_engine_is_the_one_that_is_used", "use", ""),
        ("Wire/CommandLineTests.cs", "A_port_that_is_taken_is_named", "daemon",
            "Wire/CommandLineTests.cs A_daemon_leaves_the_terminal_and_its_pid_file_behind"),
        ("Unit/Conf/ConfFilesTests.cs", "A_pattern_matches_a_name_as_the_shell_does", "include", ""),
        ("Wire/AcceptingTests.cs", "Without_a_connection_slot_a_client_waits_in_the_queue", "worker_connections", ""),
        ("Wire/AcceptingTests.cs", "With_multi_accept_one_turn_takes_all_that_wait", "multi_accept", ""),
        ("Wire/AcceptingTests.cs",
            "With_accept_mutex_one_worker_at_a_time_listens_and_a_killed_one_leaves_it_to_the_others",
            "accept_mutex", "Wire/AcceptingTests.cs A_shared_socket_wakes_one_worker_only"),
        ("Wire/AcceptingTests.cs", "A_worker_tries_for_the_accept_mutex_again_after_the_delay", "accept_mutex_delay",
            ""),
        ("Testing/DebugConnectionTests.cs", "The_requests_of_the_clients_named_are_told", "debug_connection", ""),
        ("Unit/Server/WebServerTests.cs", "An_answer_in_several_writes_does_not_wait_for_acknowledgements",
            "tcp_nodelay", ""),
        ("Wire/FilesTests.cs", "Sendfile_sends_the_pages_of_the_file_themselves", "sendfile", ""),
        ("Unit/Http/DriverTests.cs", "A_client_that_takes_a_file_at_once_gets_a_chunk_a_turn", "sendfile_max_chunk",
            ""),
        ("Wire/FilesTests.cs", "A_short_file_leaves_with_its_head_where_nothing_is_pushed", "tcp_nopush", ""),
        ("Wire/TimedOutTests.cs", "A_client_that_does_not_read_is_reset_where_that_is_asked_for",
            "reset_timedout_connection",
            "Wire/TimedOutTests.cs A_client_that_does_not_read_finds_the_end_behind_what_was_sent"),
        ("Wire/ProcessTests.cs", "Within_keepalive_min_timeout_a_connection_is_answered_once_more_after_QUIT",
            "keepalive_min_timeout",
            "Wire/ProcessTests.cs Without_keepalive_min_timeout_QUIT_closes_idle_connections_by_itself"),
        ("Wire/LocalTimeTests.cs", "A_listing_shows_the_time_of_the_zone_where_that_is_asked_for",
            "autoindex_localtime",
            "Wire/LocalTimeTests.cs A_listing_shows_the_time_of_the_zone_where_that_is_asked_for"),
        ("Wire/RewriteTests.cs", "A_log_named_by_the_request_stays_open_as_long_as_the_cache_says",
            "open_log_file_cache", ""),
        ("Wire/MirrorTests.cs", "A_copy_has_the_body_where_that_is_asked_for", "mirror_request_body", ""),
        ("Wire/ProxyTlsTests.cs", "Sessions_are_not_used_again_when_that_is_off", "proxy_ssl_session_reuse",
            "Wire/ProxyTlsTests.cs The_next_connection_goes_on_with_the_session"),
        ("Wire/TlsCertificatesTests.cs",
            "What_is_shown_to_upstream_servers_is_kept_as_long_as_the_cache_says", "proxy_ssl_certificate_cache", ""),
        (Cached, "What_is_stored_is_served_again_and_cache_off_stores_nothing", "proxy_cache fastcgi_cache", ""),
        (Cached, "The_key_says_what_is_the_same", "%F%_cache_key", Cached + " The_key_says_what_is_the_same"),
        (Cached, "Times_uses_and_predicates_decide_what_is_stored",
            "%F%_cache_valid %F%_cache_min_uses %F%_cache_bypass %F%_no_cache",
            Cached + " Times_uses_and_predicates_decide_what_is_stored"),
        (Cached, "Methods_that_are_named_are_stored", "%F%_cache_methods",
            Cached + " Methods_that_are_named_are_stored"),
        (Cached, "A_head_is_asked_for_as_it_is_where_it_is_not_converted", "proxy_cache_convert_head",
            Cached + " A_head_is_asked_for_as_it_is_where_it_is_not_converted"),
        (Cached, "With_a_lock_one_asks_for_all", "%F%_cache_lock",
            Cached + " Without_a_lock_each_asks"),
        (Cached, "A_lock_is_waited_for_so_long_and_taken_away_at_such_an_age",
            "%F%_cache_lock_timeout %F%_cache_lock_age", ""),
        (Cached, "What_is_stale_is_validated_where_that_is_on", "%F%_cache_revalidate", ""),
        (Cached, "A_stale_response_is_updated_before_or_behind", "%F%_cache_background_update",
            Cached + " A_stale_response_is_updated_before_or_behind"),
        (Cached, "An_error_is_answered_with_what_is_stale_where_that_is_allowed", "%F%_cache_use_stale",
            Cached + " An_error_is_answered_with_what_is_stale_where_that_is_allowed"),
        (Cached, "A_range_that_begins_far_is_asked_for_as_it_is", "%F%_cache_max_range_offset",
            Cached + " A_range_that_begins_far_is_asked_for_as_it_is"),
    ];

    /// <summary>Blocks that hold all the rest.</summary>
    private static readonly string[] _blocks = ["http", "events"];

    /// <summary>Directives that set nothing, which docs/differences.md says of each with the reason, and whose value is
    /// checked: context, a good text and a bad one.</summary>
    private static readonly (string Context, string Good, string Bad)[] _checked =
    [
        .. ((string[])
        [
            "variables_hash_max_size", "variables_hash_bucket_size", "server_names_hash_max_size",
            "server_names_hash_bucket_size", "types_hash_max_size", "types_hash_bucket_size", "map_hash_max_size",
            "map_hash_bucket_size", "proxy_headers_hash_max_size", "proxy_headers_hash_bucket_size",
            "connection_pool_size", "request_pool_size", "directio_alignment", "directio", "send_lowat", "read_ahead",
            "postpone_output", "subrequest_output_buffer_size", "proxy_send_lowat",
            "fastcgi_send_lowat",
        ]).Select(static n => ("http", n + " 1024", n + " x")),
        .. ((string[])["referer_hash_max_size", "referer_hash_bucket_size"]).Select(static n =>
            ("server", n + " 1024", n + " x")),
        .. ((string[])
        [
            "aio_write", "gzip_no_buffer", "open_file_cache_events", "client_body_in_single_buffer",
        ]).Select(static n => ("http", n + " on", n + " x")),
        .. ((string[])["output_buffers", "gzip_buffers", "gunzip_buffers"]).Select(static n =>
            ("http", n + " 4 8k", n + " 4 x")),
        ("http", "aio threads", "aio x"),
        ("main", "timer_resolution 1s", "timer_resolution x"), ("main", "lock_file a", "lock_file"),
        ("main", "debug_points stop", "debug_points x"), ("main", "pcre_jit on", "pcre_jit x"),
        ("main", "load_module modules/ngx_http_geoip_module.so", "load_module modules/other.so"),
        ("events", "epoll_events 9", "epoll_events x"), ("events", "worker_aio_requests 9", "worker_aio_requests x"),
        .. ((string[])["proxy", "fastcgi"]).Select(static f =>
            (f, f + "_busy_buffers_size 8k", f + "_busy_buffers_size 1m")),
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
    public void What_sets_nothing_is_told_in_the_list_of_differences_with_the_reason()
    {
        string all = File.ReadAllText(Path.Combine(Tests, "../docs/differences.md"));
        string list = all[all.IndexOf("\n## Accepted, checked, and without effect", StringComparison.Ordinal)..];
        string[] told = [.. list.Split('\n').Where(static l => l.StartsWith("| `")).SelectMany(static l =>
            Regex.Matches(l.Split('|')[1], "`([^`]+)`").Select(static m => m.Groups[1].Value))];
        bool IsTold(string name) => told.Any(t => t == name || t.EndsWith('*') && name.StartsWith(t[..^1])
            || t.StartsWith("*_") && name.EndsWith(t[1..]));
        Assert.Equal("", string.Join(' ', _checked.Select(static c => Name(c.Good)).Where(n => !IsTold(n))));
        // And what is told so has no row that says otherwise.
        var rows = RowTable.All.Select(static r => r.Directive).ToHashSet();
        Assert.Equal("", string.Join(' ', told.Where(rows.Contains)));
    }

    [Fact]
    public void Every_directive_has_two_values_that_are_told_apart()
    {
        var known = RowTable.All.Select(static r => r.Directive).Concat(_checked.Select(static c => Name(c.Good)))
            .Concat(_blocks).ToHashSet();
        foreach ((string file, string test, string directives, string without) in _seen)
        {
            string text = Tested(file, test);
            foreach (string name in directives.Split(' '))
            {
                string[] values = [.. Regex.Matches(text, $@"(?<![\w%]){Regex.Escape(name)} ([^;""\n]+)(;|\n|"")")
                    .Select(static m => m.Groups[1].Value).Distinct()];
                Assert.True(values.Length > 0 || name == "include" || text.Contains("(\"" + name), $"{name}: {file}");
                if (values.Length < 2 && !values.Any(static v => v.Contains('{')) && without.Length > 0)
                {
                    Tested(without.Split(' ')[0], without.Split(' ')[1]);
                }
                else
                {
                    Assert.True(values.Length > 1 || values.Any(static v => v.Contains('{'))
                        || text.Contains("[InlineData("), $"{name} has one value in {file}");
                }
                known.Add(name.Replace("%F%", "proxy"));
                known.Add(name.Replace("%F%", "fastcgi"));
            }
        }
        string[] unseen =
        [
            .. DirectiveRow.All.Where(static r => CoreModules.Files.Contains(r.Module)).Select(static r => r.Name)
                .Where(n => !known.Contains(n)).Distinct(),
        ];
        Assert.Equal("", string.Join(' ', unseen));
        Assert.All(RowTable.All, static r => Assert.True(r.A != r.B, r.Directive));
    }

    /// <summary>A file below tests/ that has the test.</summary>
    private static string Tested(string file, string test)
    {
        string text = File.ReadAllText(Path.Combine(Tests, file));
        Assert.True(text.Contains($" {test}("), $"{test} is not in {file}");
        return text;
    }

    private static string Tests => Path.GetDirectoryName(Path.GetDirectoryName(Here()))!;

    private static string Here([System.Runtime.CompilerServices.CallerFilePath] string path = "") => path;
}
