// The texts of -h and `weir help TOPIC`. At most 80 columns, examples first where they say more than words; options of
// verbs are written from the verbs' own tables.
using System.Text;
using Weir.Lint;

namespace Weir;

internal static class HelpText
{
    public static IReadOnlyList<string> Topics { get; } =
        ["serve", "proxy", "app", "lab", "explain", "lint", "https", "conf", "flags", "signals"];

    /// <summary>The text on a topic, "" for the overview; null when there is none.</summary>
    public static string? Of(string topic) => topic switch
    {
        "" => Overview,
        "serve" => OfVerb(Verbs.Serve, ServeExamples),
        "proxy" => OfVerb(Verbs.Proxy, ProxyExamples),
        "app" => OfVerb(Verbs.App, AppExamples),
        "lab" => OfVerb(Verbs.Lab, LabExamples),
        "explain" => OfVerb(Verbs.Explain, ExplainExamples),
        "lint" => Lint + string.Concat(Linter.Rules.Select(static r =>
            $"  {r.Key}\n{Wrapped(r.Value.Replace("`", "", StringComparison.Ordinal))}")),
        "https" or "certificate" => Https,
        "conf" or "configuration" => Conf,
        "flags" => Flags,
        "signals" => Signals,
        "help" => Overview,
        _ => null,
    };

    private const string Overview = """
        Weir is a web server, reverse proxy and load balancer. It runs nginx.conf
        files as they are.

        Without a configuration:
          weir                          a welcome page on http://localhost:8080
          weir serve [DIR]              a folder over HTTP
          weir proxy URL…               a reverse proxy in front of an application
          weir app                      an application server, for experiments
          weir lab                      the concurrency models side by side, measured

        With a configuration:
          weir -c nginx.conf            run it
          weir -t -c nginx.conf         test it: every error at once, with its place
          weir explain GET /path        which server, location and upstream, and why
          weir -s reload                tell the running server: stop, quit, reopen,
                                        reload

        More:
          weir help serve               options and examples
          weir help proxy
          weir help app
          weir help lab
          weir help explain
          weir help https               --https, and how clients trust its certificate
          weir help conf                a first nginx.conf, and where files are found
          weir help flags               nginx's flags, one by one
          weir help signals             reload, upgrade, rotate logs, stop
          weir -V                       the version, and what is built in

        """;

    private const string Https = """
        weir serve --https, weir proxy --https URL, weir app --https

        The server speaks HTTPS, with HTTP/1.1 and HTTP/2, on https://localhost:8443
        (--port and --listen name other addresses). It shows a certificate that signs
        itself, for localhost, 127.0.0.1 and ::1. It is made when there is none, and
        anew in the month before it expires, and kept for you alone in

          ~/.local/share/weir/localhost.crt and localhost.key

        ($XDG_DATA_HOME/weir, where that is set). Clients refuse it until they are told
        to trust it. With C standing for its path:

          curl          curl --cacert C https://localhost:8443/
          Debian        sudo cp C /usr/local/share/ca-certificates/weir-localhost.crt
                        sudo update-ca-certificates
                        (curl, wget and .NET programs trust it then)
          .NET alone    SSL_CERT_FILE=C dotnet run
          Chromium      certutil -d sql:$HOME/.pki/nssdb -A -t P,, \
                          -n weir-localhost -i C     (package libnss3-tools)
          Firefox       open the page, Advanced, Accept the Risk
          Node          NODE_EXTRA_CA_CERTS=C node app.js

        For a site that others visit, take a certificate that an authority has signed
        and write an nginx.conf: weir serve --https --print-conf is a start.

        """;

    private const string ServeExamples = """
        Examples:
          weir serve                            this folder on http://localhost:8080
          weir serve dist --spa                 a single-page application
          weir serve ~/public --port 9000
          weir serve --https                    https://localhost:8443, HTTP/2 too
          weir serve . --listen 80 --no-list    for everybody, without listings

        A path that is a folder gets its index.html, else a listing. Listening is on
        localhost unless --listen says otherwise.

        """;

    private const string ProxyExamples = """
        Examples:
          weir proxy http://localhost:3000      http://localhost:8080 shows it
          weir proxy 3000                       the same
          weir proxy 3001 3002 3003             requests are balanced
          weir proxy unix:/run/app.sock --listen 80
          weir proxy http://10.0.0.5:8000/api   with a path in front of the client's

        The application sees the client in X-Forwarded-For, X-Forwarded-Proto and
        X-Real-IP, and the client's Host. WebSockets and streams pass through. A server
        that fails is left alone for ten seconds while the others answer.

        """;

    private const string AppExamples = """
        Examples:
          weir app --model sequential --delay 10s       three requests take 30 s
          weir app --model thread-per-connection --delay 10s
          weir app --model thread-pool --threads 10 --queue 100 --delay 10s
          weir app --model event-driven --delay 10s     one that blocks stalls all
          weir app --model event-driven --delay 10s --await
          weir app --model thread-pool --threads 2 --timeout 5s --delay 1h
          weir app --port 3000   and, on another terminal:   weir proxy 3000

        Each request is answered with "Hello World" after waiting and computing. A time
        is 500ms, 10s or 2m.

        """;

    private const string LabExamples = """
        Examples:
          weir lab                              thirty requests of 1 s under each model
          weir lab --web                        the same in the browser, with controls
          weir lab pool --threads 5 --delay 200ms
          weir lab --models thread-pool,event-driven --cpu 20ms --delay 0
          weir lab all --json lab.json --svg lab.svg

        Experiments:
          compare      the same requests under each model (the default)
          sequential   three requests of ten seconds, one thread
          threads      a thread per connection, and 5,000 connections that stay
          pool         ten threads, thirty requests: three waves
          slow         ten clients that send a byte a second starve the pool
          backlog      a full backlog: the SYN is dropped, the client comes back
          idle         10,000 idle connections on one event loop
          blocked      one handler blocks the loop, and what cures it
          all          one after the other

        Each server is a process of its own; what is drawn and said is what it
        recorded. Options take the place of the experiment's own numbers.

        """;

    private const string ExplainExamples = """
        Examples:
          weir explain -c nginx.conf GET http://example.org/shop?id=7
          weir explain /index.php -H "Cookie: a=b" -V fastcgi_script_name
          weir explain POST https://example.org/login --from 203.0.113.9
          weir explain /api/users --upstream-status 502      error pages of a proxy
          weir explain /old --json

        The request walks through the phases of the server itself, on an engine that
        touches no network; files are looked at, nothing is written. Upstream servers
        are not asked: each is taken to answer with --upstream-status.

        """;

    /// <summary>Words in lines of at most 80 columns.</summary>
    private static string Wrapped(string text)
    {
        const string margin = "      ";
        var lines = new StringBuilder(margin);
        int column = margin.Length;
        foreach (string word in text.Split(' '))
        {
            if (column + word.Length > 79)
            {
                lines.Append('\n').Append(margin);
                column = margin.Length;
            }
            lines.Append(word).Append(' ');
            column += word.Length + 1;
        }
        return lines.ToString().TrimEnd() is var trimmed ? trimmed + "\n" : "";
    }

    private const string Lint = """
        "weir -t" also names known traps of a configuration that it accepts, each with
        its place and the way out:

          weir: [lint] "/f../" leads above "/srv/": … [alias-slash] in nginx.conf:7

        They refuse nothing, and the exit code is nginx's. "-q" keeps them quiet,
        "--no-lint" switches them off, "--no-lint=RULE,RULE" some of them. The rules:


        """;

    private const string Conf = """
        A first nginx.conf: a site with an API behind it.

          events { }

          http {
              include /etc/nginx/mime.types;

              server {
                  listen 8080;
                  root /srv/site;

                  location / {
                      try_files $uri $uri/ /index.html;
                  }

                  location /api/ {
                      proxy_pass http://127.0.0.1:3000;
                      proxy_set_header Host $host;
                  }
              }
          }

          weir -t -c nginx.conf         reads it and says what is wrong with it
          weir -c nginx.conf            runs it in the background
          weir -c nginx.conf -g "daemon off;"
                                        in the foreground

        Directives, contexts, defaults and messages are those of nginx 1.31.5; what is
        written about nginx applies. A directive that is not here yet is refused by
        name. "weir serve … --print-conf" and "weir proxy … --print-conf" show the
        configurations that the verbs stand for, as a start for your own.

        Without -c, a start with any flag reads /etc/nginx/nginx.conf. Relative paths
        inside a configuration belong to the prefix (-p, /usr/share/nginx), those of
        "include" to the folder of the configuration.

        """;

    private const string Flags = """
        Usage: weir [-?hvVtTq] [-s SIGNAL] [-p PREFIX] [-e FILE] [-c FILE] [-g TEXT]

          -?, -h       this text
          -v           the version
          -V           the version, the runtime, and the modules in nginx's terms
          -t           test the configuration and stop
          -T           test it, print all its files, and stop
          -q           with -t: say nothing but errors
          -s SIGNAL    to the running master: stop, quit, reopen, reload
          -p PREFIX    relative paths belong here          (/usr/share/nginx/)
          -e FILE      the error log until the configuration names one; or "stderr"
          -c FILE      the configuration                   (/etc/nginx/nginx.conf)
          -g TEXT      directives of the main level, such as "daemon off;"

        Flags without a value may stand together (-tq); a value may follow in the same
        word (-cFILE, -sreload).

        """;

    private const string Signals = """
        Signals to the master (its pid is in the file that "pid" names):

          HUP          reload: connections stay, the next request sees the new
                       configuration                       (weir -s reload)
          QUIT         stop, after the requests under way  (weir -s quit)
          TERM, INT    stop at once                        (weir -s stop)
          USR1         open the log files again            (weir -s reopen)
          USR2         start the new binary beside the old one; then QUIT the old one,
                       or WINCH it first and go back with HUP
          WINCH        stop the workers, keep the master

        A configuration that cannot be built is refused as a whole: the running one
        stays, and the error log says why.

        """;

    private static string OfVerb(Verb verb, string examples)
    {
        var text = new StringBuilder();
        text.Append("weir ").Append(verb.Name);
        text.Append(verb.Operands.Length > 0 ? " " : "").Append(verb.Operands);
        text.Append(verb.Options.Length > 0 ? " [OPTION…]" : "").Append(": ").Append(verb.Summary).Append("\n\n");
        text.Append(examples);
        text.Append("\nOptions:\n");
        foreach (VerbOption option in verb.Options)
        {
            string name = (option.Letter is { } letter ? $"-{letter}, " : "    ") + option.Name
                + (option.Value is null ? "" : " " + option.Value);
            text.Append("  ").Append(name.PadRight(20)).Append("  ");
            if (name.Length > 20)
            {
                text.Length -= 2;
                text.Append('\n').Append(' ', 24);
            }
            AppendWrapped(text, option.Summary, 24, 80);
        }
        return text.ToString();
    }

    private static void AppendWrapped(StringBuilder text, string words, int indent, int columns)
    {
        int column = indent;
        foreach (string word in words.Split(' '))
        {
            if (column > indent && column + 1 + word.Length > columns)
            {
                text.Append('\n').Append(' ', indent);
                column = indent;
            }
            else if (column > indent)
            {
                text.Append(' ');
                column++;
            }
            text.Append(word);
            column += word.Length;
        }
        text.Append('\n');
    }
}
