// Configuration texts for servers under test. Placeholders: %PORT%, %PORT2% … %PORT9% are free ports of the server's
// own, %DIR% is its own directory (logs, pid, temporary files), %FILES% a directory of files that two servers may
// share, %UPSTREAM% the port of the test's upstream.
namespace Weir.Tests.Harness;

/// <summary>A configuration to start a server with.</summary>
public sealed record Conf(string Text)
{
    /// <summary>The engine that servers under test run on: WEIR_TEST_ENGINE, or the one they choose
    /// themselves.</summary>
    public static string? Engine { get; } =
        Environment.GetEnvironmentVariable("WEIR_TEST_ENGINE") is { Length: > 0 } name ? name : null;

    /// <summary>The whole file as given.</summary>
    public static Conf Full(string text) => new(text);

    /// <summary>The given text inside the http block.</summary>
    public static Conf Http(string http, int workers = 1, bool master = false, string main = "", string events = "",
        string? engine = null) => new($$"""
        daemon off;
        master_process {{(master ? "on" : "off")}};
        worker_processes {{workers}};
        user root;
        pid %DIR%/server.pid;
        error_log %DIR%/error.log info;
        {{main}}
        events {
            {{(engine is null ? "" : $"use {engine};")}}
            worker_connections 1024;
            {{events}}
        }
        http {
            access_log off;
            %TEMP_PATHS%
        {{http}}
        }

        """);

    /// <summary>The given text inside one server block that listens on %PORT%, with %FILES% as its root.</summary>
    public static Conf Server(string server, string http = "", int workers = 1, bool master = false,
        string main = "") => Http($$"""
        {{http}}
            server {
                listen 127.0.0.1:%PORT%;
                server_name localhost;
                root %FILES%;
        {{server}}
            }
        """, workers, master, main);
}
