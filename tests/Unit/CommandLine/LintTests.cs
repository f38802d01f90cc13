// The linter of `weir -t`: each rule with a text that it speaks of and the text with the fix, of which nothing speaks.
using Weir.Conf;
using Weir.Lint;
using Weir.Tests.Unit.Conf;
using Xunit;

namespace Weir.Tests.Unit.CommandLine;

public sealed class LintTests
{
    private const string Path = "/conf/nginx.conf";

    /// <summary>Rule, the place of the finding, the faulty server (or main level, where it begins with "main:"), the
    /// mended one.</summary>
    private static readonly (string Rule, string Word, string Bad, string Good)[] s_rules =
    [
        ("if-settings", "if", "location / { if ($a) { add_header X 1; } if ($b) { expires 1d; } }",
            "location / { if ($a) { set $c 1; } if ($b) { expires 1d; } }"),
        ("if-try-files", "if", "location / { try_files $uri /i; if ($a) { set $c 1; } }",
            "location / { try_files $uri /i; if ($a) { return 403; } if ($b) { rewrite ^ /x last; } }"),
        ("if-file", "if", "location / { if (!-f $request_filename) { rewrite ^ /i last; } }",
            "location / { try_files $uri /i; }"),
        ("if-equals-regex", "if", "location / { if ($request_method = POST|PUT) { return 405; } }",
            "location / { if ($request_method ~ POST|PUT) { return 405; } }"),
        ("if-equals-regex", "if", "if ($host != ^www) { return 404; }", "if ($host = www.x) { return 404; }"),
        ("return-before-access", "deny", "location /a { deny all; return 200 x; }",
            "location /a { deny all; try_files /none =204; }"),
        ("header-lost", "add_header", "add_header A 1; location / { add_header B 2; }",
            "add_header A 1; location / { add_header B 2; add_header A 1; } location /c { add_header_inherit merge; "
            + "add_header D 3; }"),
        ("header-lost", "proxy_set_header", "proxy_set_header A 1; location / { proxy_set_header B 2; }",
            "proxy_set_header A 1; location / { proxy_set_header a 2; proxy_set_header B 2; }"),
        ("header-always", "add_header", "add_header Strict-Transport-Security max-age=1;",
            "add_header Strict-Transport-Security max-age=1 always;"),
        ("uri-in-header", "return", "location /a { return 301 https://$host$uri; }",
            "location /a { return 301 https://$host$request_uri; } location /b { return 200 $uri; }"),
        ("uri-in-header", "return", "return https://x${document_uri}?a;", "return https://x/$urix;"),
        ("uri-in-header", "add_header", "add_header X-Path $uri;", "add_header X-Path $request_uri;"),
        ("alias-slash", "alias", "location /a { alias /srv/; }", "location /a/ { alias /srv/; }"),
        ("alias-slash", "alias", "location /a/ { alias /srv; }", "location = /a { alias /srv/; } location ~ ^/b(.*)$ { "
            + "alias /srv$1; }"),
        ("regex-shadowed", "location", "location ~ \\.(php|html)$ { } location ~ \\.php$ { }",
            "location ~ \\.php$ { } location ~ \\.(php|html)$ { }"),
        ("regex-shadowed", "location", "location ~ ^/a { } location ~* ^/x { } location ~ ^/ab/.*\\.js$ { }",
            "location ~ ^/ab { } location ~ ^/a { } location ~ /a$ { }"),
        ("regex-dot", "location", "location ~ .php$ { }", "location ~ \\.php$ { } location ~ ^/a.*$ { }"),
        ("php-anchor", "location", "location ~ \\.php { fastcgi_pass 127.0.0.1:9000; }",
            "location ~ \\.php$ { fastcgi_pass 127.0.0.1:9000; }"),
        ("proxy-uri", "proxy_pass", "location /a/ { proxy_pass http://127.0.0.1/b; }",
            "location /a/ { proxy_pass http://127.0.0.1/b/; }"),
        ("proxy-uri", "proxy_pass", "location /a { proxy_pass http://127.0.0.1/; }",
            "location /a { proxy_pass http://127.0.0.1; } location /b { proxy_pass http://127.0.0.1/c; }"),
        ("proxy-uri", "proxy_pass", "location /a/ { rewrite x y break; proxy_pass http://127.0.0.1/b/; }",
            "location /a/ { rewrite x y break; proxy_pass http://127.0.0.1; }"),
        ("proxy-uri-variable", "proxy_pass", "location /a { resolver 127.0.0.1; proxy_pass http://$host/b; }",
            "location ~ ^/a(.*) { resolver 127.0.0.1; proxy_pass http://$host/b$1; }"),
        ("proxy-resolver", "proxy_pass", "location /a { proxy_pass http://$host; }",
            "resolver 127.0.0.1; location /a { proxy_pass http://$host; } location /b { proxy_pass "
            + "http://x$request_uri; }"),
        ("proxy-resolver", "proxy_pass", "location /a { proxy_pass http://app.$host; }",
            "location /a { proxy_pass http://127.0.0.1:8080$request_uri; } location /b { proxy_pass http://ap$x; }"),
        ("proxy-resolver", "proxy_pass", "main:map $x $y { default a; b c; } upstream a { server z; } server { "
            + "location / { "
            + "proxy_pass http://$y; } }", "main:map $x $y { default a; b c; } upstream a { server z; } upstream c { "
            + "server z; } server { location / { proxy_pass http://$y; } }"),
        ("proxy-resolver", "proxy_pass", "main:upstream a { server z; } server { set $y a; location / { proxy_pass "
            + "http://$y; } location /b { set $y b; } }", "main:split_clients $x $z { 5% a; * b; } map $x $y { default "
            + "$z; c b; } upstream a { server z; } upstream b { server z; } server { set $v a; if ($x) { set $v $y; } "
            + "location / { proxy_pass http://$y; } location /b { proxy_pass http://$v; } }"),
        ("proxy-host", "proxy_set_header", "location /a { proxy_set_header Host $http_host; }",
            "location /a { proxy_set_header Host $host; }"),
        ("proxy-keepalive", "proxy_http_version", "location / { proxy_http_version 1.0; proxy_pass http://app; }",
            "location / { proxy_http_version 1.1; proxy_set_header Connection ''; proxy_pass http://app; }"),
        ("proxy-keepalive", "proxy_set_header", "location / { proxy_set_header Connection close; proxy_pass "
            + "http://app; "
            + "}", "location / { proxy_pass http://app; }"),
        ("proxy-cache-buffering", "proxy_cache", "proxy_buffering off; location / { proxy_cache c; }",
            "proxy_buffering off; location / { proxy_buffering on; proxy_cache c; }"),
        ("upstream-unused", "upstream", "main:upstream a { server b; } server { location / { return 200; } }",
            "main:upstream a { server b; } map $x $y { default a; } upstream c_1 { server b; } upstream d { server "
                + "b; } "
            + "server { location / { proxy_pass http://c_$x; resolver 127.0.0.1; } location /d { fastcgi_pass d; } }"),
        ("tls-weak", "TLSv1", "ssl_protocols TLSv1 TLSv1.2;", "ssl_protocols TLSv1.2 TLSv1.3;"),
        ("tls-weak", "HIGH:RC4", "ssl_ciphers HIGH:RC4;", "ssl_ciphers HIGH:!RC4:!aNULL;"),
        ("tls-missing", "listen", "listen 443;", "listen 443 ssl; listen [::]:443 ssl http2; listen 8443;"),
        ("server-name", "a.b:80", "server_name a.b:80;", "server_name a.b ~^x:y$;"),
        ("server-name", "http://a.b", "server_name http://a.b;", "server_name a.b;"),
        ("merge-slashes", "merge_slashes", "merge_slashes off; location /a { deny all; }",
            "merge_slashes off; location /a { root /x; }"),
        ("allow-without-deny", "allow", "location /a { allow 10.0.0.0/8; }",
            "location /a { allow 10.0.0.0/8; deny all; } location /b { satisfy any; allow 10.0.0.1; auth_basic x; "
            + "auth_basic_user_file y; }"),
        ("real-ip-from-all", "set_real_ip_from", "set_real_ip_from 0.0.0.0/0;", "set_real_ip_from 10.0.0.0/8;"),
        ("limit-key", "limit_req_zone", "main:limit_req_zone $http_x_real_ip zone=a:1m rate=1r/s; limit_req zone=a;",
            "main:limit_req_zone $binary_remote_addr zone=a:1m rate=1r/s; limit_req zone=a;"),
        ("if-file", "if", "if (!-e $document_root$uri) { return 404; }", "if (!-f $request_filename) { rewrite "
            + "^/a(.*)$ /b$1 last; rewrite ^/c /d last; } if (-f $request_filename) { break; } if (!-d "
            + "$request_filename) { set $x 1; }"),
        ("header-always", "add_header", "location /api { add_header Access-Control-Allow-Origin *; proxy_pass "
            + "http://app; }", "location ~ \\.woff$ { add_header Access-Control-Allow-Origin *; } location /api { if "
            + "($request_method = OPTIONS) { add_header Access-Control-Allow-Origin *; return 204; } proxy_pass "
            + "http://app; }"),
        ("uri-in-header", "rewrite", "rewrite ^/a https://x$uri permanent;", "rewrite ^/a(.*)$ https://x/$1 permanent; "
            + "rewrite ^ /b$uri last;"),
        ("uri-in-header", "proxy_pass", "location / { proxy_pass http://127.0.0.1:80$uri; }",
            "location / { proxy_pass http://127.0.0.1:80$request_uri; }"),
        ("location-unreachable", "location", "location ^/a { }", "location ~ ^/a { } location = /a { } location @a { "
            + "} location ^~ /c { }"),
        ("location-unreachable", "location", "location = a.html { }", "location /a { location /a/b { } }"),
        ("args-in-pattern", "location", "location /a?b=c { }", "location ~ ^/a\\?$ { }"),
        ("args-in-pattern", "location", "location ~ ^/a\\?b= { }", "location ~ ^/a/?b { }"),
        ("rewrite-loop", "rewrite", "location /a/ { rewrite ^ /a/i.php?x last; }",
            "location /a/ { rewrite ^ /a/i.php?x last; } location ~ \\.php$ { }"),
        ("rewrite-loop", "rewrite", "location ^~ / { rewrite ^/(.*)$ /b/$1 last; }",
            "location / { rewrite ^/(.*)$ /b/$1 last; } location /b/ { rewrite ^/b/(.*)$ /c/$1 break; } location /d { "
            + "rewrite ^/d/x$ /d/y last; } location /e { rewrite ^ /e/$x last; } location /e/f { }"),
        ("try-files-order", "@a", "location / { try_files @a /b; } location @a { }",
            "location / { try_files $uri @a; } location @a { } location /b { try_files $uri =404; }"),
        ("named-missing", "@a", "error_page 404 @a;", "error_page 404 @a; location @a { }"),
        ("named-missing", "@b", "location /a { location /a/c { try_files $uri @b; } }",
            "location /a { location /a/c { try_files $uri @b; } } location @b { } location /d { try_files $uri @$x; }"),
        ("error-page-status", "error_page", "error_page 500 502 =200 /err/50x.html;",
            "error_page 404 = /handler.php; error_page 500 =503 /50x.html; error_page 403 =200 /index.html;"),
        ("root-exposed", "root", "location / { root /; }", "location /doc { root /usr; } location / { root /srv; }"),
        ("root-exposed", "root", "root /etc/;", "root /etc; location / { proxy_pass http://app; }"),
        ("websocket", "proxy_set_header", "location / { proxy_set_header upgrade $http_upgrade; proxy_pass http://app; "
            + "}", "location / { proxy_set_header Upgrade $http_upgrade; proxy_set_header connection $x; proxy_pass "
            + "http://app; } location /b { proxy_set_header Upgrade ''; }"),
        ("cache-cookie", "proxy_ignore_headers", "proxy_ignore_headers Expires set-cookie; location / { proxy_cache "
            + "c; }", "proxy_ignore_headers Set-Cookie; proxy_hide_header set-cookie; location / { proxy_cache c; } "
            + "location /b { proxy_cache off; } location /c { proxy_ignore_headers Expires; proxy_cache c; }"),
        ("zone-unused", "limit_conn_zone", "main:limit_conn_zone $binary_remote_addr zone=a:1m;",
            "main:limit_conn_zone $binary_remote_addr zone=a:1m; limit_conn a 5;"),
        ("zone-unused", "proxy_cache_path", "main:proxy_cache_path /a keys_zone=a:1m; server { proxy_cache b; }",
            "main:proxy_cache_path /a keys_zone=a:1m; server { proxy_cache $x; }"),
        ("zone-unused", "fastcgi_cache_path", "main:fastcgi_cache_path /a keys_zone=a:1m;",
            "main:fastcgi_cache_path /a keys_zone=a:1m; server { fastcgi_cache a; }"),
        ("outcome-unasked", "secure_link", "secure_link $arg_a,$arg_b;",
            "secure_link $arg_a,$arg_b; if ($secure_link = '') { return 403; }"),
        ("outcome-unasked", "valid_referers", "valid_referers none; if ($http_referer) { return 403; }",
            "valid_referers none; set $bad \"${invalid_referer}x\";"),
        ("access-order", "deny", "allow all; deny 10.0.0.1;", "deny 10.0.0.1; allow all; location / { deny all; }"),
        ("auth-basic-open", "auth_basic", "location / { auth_basic x; }",
            "auth_basic x; location / { auth_basic_user_file $x; } location /o { auth_basic off; }"),
        ("error-log-off", "error_log", "error_log off;", "error_log /dev/null; access_log off;"),
        ("gzip-types", "image/PNG", "gzip_types text/css image/PNG;", "gzip_types *; gzip_types font/ttf;"),
        ("types-lost", "types", "main:types { text/css css; } server { types { text/html html; } }",
            "main:types { text/css css; } server { types { } location / { types { text/html html; } } }"),
    ];

    public static TheoryData<int> Rules => [.. Enumerable.Range(0, s_rules.Length)];

    private static string Whole(string text) => text.StartsWith("main:", StringComparison.Ordinal)
        ? $"events {{ }} http {{ {text[5..]} }}"
        : $"events {{ }} http {{ upstream app {{ server 127.0.0.1; keepalive 8; }} server {{ {text} location /app {{ "
            + "proxy_pass http://app; } } }";

    private static IReadOnlyList<ConfError> Check(string text, long descriptors = 0, string prefix = "/conf",
        params string[] off)
    {
        ConfTree tree = ConfParser.Parse(new MemoryConfFiles().Add(Path, text), Path, null);
        Assert.False(tree.Errors.Failed, string.Join('\n', tree.Errors.All.Select(static e => e.Format())));
        return Linter.Check(tree, new LintSettings(prefix, descriptors, new HashSet<string>(off)));
    }

    [Theory]
    [MemberData(nameof(Rules))]
    public void A_trap_is_named_at_its_place_with_the_way_out_and_what_is_mended_is_left_alone(int row)
    {
        (string rule, string word, string bad, string good) = s_rules[row];
        ConfError finding = Assert.Single(Check(Whole(bad)));
        Assert.Equal(ConfLevel.Lint, finding.Level);
        Assert.EndsWith($"[{rule}]", finding.Message);
        Assert.NotNull(finding.Hint);
        string line = finding.Span!.Value.File.Line(finding.Span.Value.Line);
        Assert.StartsWith(word, line[(finding.Span.Value.Column - 1)..]);
        Assert.Empty(Check(Whole(good)));
        Assert.Empty(Check(Whole(bad), off: rule));
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void A_trap_is_named_in_a_block_of_many_lines(bool around)
    {
        string many = string.Concat(Enumerable.Range(0, 100).Select(static i => $" location /many{i} {{ }}"));
        foreach ((string rule, string _, string bad, string _) in s_rules.Where(static r => !r.Bad.Contains("main:")))
        {
            string text = around ? bad + many : bad.Replace("location / {", $"location / {{ {many}");
            Assert.Contains(Check(Whole(text)), f => f.Message.EndsWith($"[{rule}]"));
        }
    }

    [Fact]
    public void Every_rule_has_a_test()
    {
        string[] elsewhere = ["secret-readable", "worker-connections", "include-backup"];
        Assert.Equal(Linter.Rules.Keys.Order(),
            s_rules.Select(static r => r.Rule).Concat(elsewhere).Distinct().Order());
    }

    [Fact]
    public void Every_rule_is_in_the_manual()
    {
        string manual = File.ReadAllText(System.IO.Path.Join(GoldenConfTests.RepositoryRoot(), "docs/cli.md"));
        foreach ((string rule, string about) in Linter.Rules)
        {
            Assert.Contains($"| `{rule}` | {about} |\n", manual);
        }
    }

    [Fact]
    public void Secrets_that_everybody_may_read_are_named()
    {
        string folder = Directory.CreateTempSubdirectory("weir-lint-").FullName;
        try
        {
            string conf = Whole("ssl_certificate_key k.pem; auth_basic_user_file users; auth_basic_user_file $x;");
            foreach (string name in (string[])["k.pem", "users"])
            {
                string file = System.IO.Path.Join(folder, name);
                File.WriteAllText(file, "");
                File.SetUnixFileMode(file, UnixFileMode.UserRead | UnixFileMode.OtherRead);
            }
            Assert.Equal(2, Check(conf, prefix: folder).Count(static f => f.Message.EndsWith("[secret-readable]")));
            File.SetUnixFileMode(System.IO.Path.Join(folder, "k.pem"), UnixFileMode.UserRead);
            Assert.Contains("users", Assert.Single(Check(conf, prefix: folder)).Message);
            File.Delete(System.IO.Path.Join(folder, "users"));
            Assert.Empty(Check(conf, prefix: folder));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    [Theory]
    [InlineData("worker_connections 1024;", "", 1023, 1)]
    [InlineData("worker_connections 1024;", "", 1024, 0)]
    [InlineData("worker_connections 1024;", "worker_rlimit_nofile 4096;", 512, 0)]
    [InlineData("worker_connections 1024;", "worker_rlimit_nofile 512;", 4096, 1)]
    [InlineData("", "", 16, 0)]
    public void More_connections_than_descriptors_are_named(string connections, string main, long descriptors,
        int count) => Assert.Equal(count, Check($"{main} events {{ {connections} }}", descriptors).Count);

    [Fact]
    public void An_include_that_reads_a_backup_is_named()
    {
        MemoryConfFiles files = new MemoryConfFiles().Add(Path, "events { } include /conf/d/*;")
            .Add("/conf/d/a.conf", "").Add("/conf/d/a.conf~", "");
        ConfError finding = Assert.Single(Linter.Check(ConfParser.Parse(files, Path, null),
            new LintSettings("/conf", 0, new HashSet<string>())));
        Assert.Equal("/conf/d/a.conf~", finding.Span!.Value.File.Path);
    }

    [Fact]
    public void A_finding_stands_with_its_line_a_caret_and_the_fix()
    {
        string text = Assert.Single(Check("events { }\nhttp { server {\n  location /a { alias /srv/; }\n} "
            + "}\n")).Render();
        Assert.Equal("[lint] \"/a../\" leads above \"/srv/\": what stands behind the location's name is put behind the "
            + "alias as it is [alias-slash] in /conf/nginx.conf:3\n"
            + "  3 |   location /a { alias /srv/; }\n"
            + "    |                 ^^^^^\n"
            + "  hint: location /a/ { alias /srv/; }\n", text);
    }

    [Theory]
    [InlineData("-t", true, 0)]
    [InlineData("-t --no-lint", false, 0)]
    [InlineData("-t --no-lint=alias-slash,tls-weak", true, 2)]
    public void The_rules_can_be_switched_off(string line, bool on, int off)
    {
        IReadOnlyList<string>? rules = Weir.CommandLine.Parse(line.Split(' ')).LintOff;
        Assert.Equal(on, rules is not null);
        Assert.Equal(off, rules?.Count ?? 0);
    }

    [Fact]
    public void A_rule_that_is_not_there_cannot_be_switched_off()
    {
        Invocation invocation = Weir.CommandLine.Parse(["-t", "--no-lint=alias-slush"]);
        Assert.Contains("did you mean \"alias-slash\"?", invocation.Message);
    }
}
