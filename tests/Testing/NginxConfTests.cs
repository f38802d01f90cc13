// The package for operators' tests, tested as an operator would use it.
using Weir.Testing;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Testing;

public sealed class NginxConfTests
{
    private static NginxConf Http(string text, NginxConfOptions? options = null) =>
        NginxConf.Parse($"events {{}} http {{ {text} }}", options);

    [Fact]
    public void An_answer_says_which_server_and_location_made_it()
    {
        using NginxConf conf = Http("""
            server { listen 80; server_name a.example www.a.example; location = /x { return 200 exact; }
                     location ~* \.PNG$ { return 200 picture; }
                     location / { return 301 https://a.example$request_uri; } }
            server { listen 80; server_name b.example; location ^~ /b { return 204; } }
            """);
        Answer exact = conf.Get("http://www.a.example/x");
        Assert.Equal((200, "exact", "a.example", "= /x"), (exact.Status, exact.Body, exact.Server, exact.Location));
        Assert.Equal(@"~* \.PNG$", conf.Get("http://a.example/p.png").Location);
        Answer moved = conf.Get("http://a.example/cart?id=1");
        Assert.Equal((301, "/"), (moved.Status, moved.Location));
        Assert.Equal("https://a.example/cart?id=1", moved.Header("Location"));
        Answer other = conf.Get("http://b.example/b/c");
        Assert.Equal((204, "b.example", "^~ /b"), (other.Status, other.Server, other.Location));
        Assert.EndsWith(":4", other.ServerAt);
    }

    [Fact]
    public void An_if_counts_as_its_location()
    {
        using NginxConf conf = Http("server { listen 80; location ~ ^/a { if ($arg_x) { return 403; } return 200; } }");
        Answer answer = conf.Get("/a?x=1");
        Assert.Equal((403, "~ ^/a"), (answer.Status, answer.Location));
    }

    [Fact]
    public void An_upstream_answers_as_scripted_and_tells_what_it_was_sent()
    {
        using NginxConf conf = Http("""
            upstream shop { server 10.0.0.1:8080; }
            server { listen 443; location /api/ { proxy_pass http://shop/; proxy_set_header X-Real-IP $remote_addr; } }
            """);
        conf.Upstream("10.0.0.1:8080").Answers(201, "made", "X-App: 7");
        Answer answer = conf.Send(
            new ConfRequest("POST", "/api/cart?id=1").WithBody("milk").FromAddress("203.0.113.9"));
        Assert.Equal((201, "made", "7"), (answer.Status, answer.Body, answer.Header("x-app")));
        Assert.Equal(("10.0.0.1:8080", "shop", 201),
            (answer.Upstream!.Address, answer.Upstream.Group, answer.Upstream.Status));
        Weir.Testing.UpstreamRequest sent = answer.Upstream.Request!;
        Assert.Equal(("POST", "/cart?id=1", "milk"), (sent.Method, sent.Target, sent.Body));
        Assert.Equal("203.0.113.9", sent.Header("X-Real-IP"));
    }

    [Fact]
    public void A_dead_server_is_passed_over_and_its_attempt_is_seen()
    {
        using NginxConf conf = Http("""
            upstream app { server 10.0.0.1:80; server 10.0.0.2:80; }
            server { listen 80; location / { proxy_pass http://app; } }
            """);
        conf.Upstream("10.0.0.1").Refuses();
        conf.Upstream("10.0.0.2").Answers(200, "second");
        Answer answer = conf.Get("/");
        Assert.Equal("second", answer.Body);
        Assert.Equal([502, 200], answer.Upstreams.Select(static u => u.Status));
        Assert.Null(answer.Upstreams[0].Request);
        Assert.Contains(answer.Log, static l => l.Contains("10.0.0.1:80", StringComparison.Ordinal));
    }

    [Fact]
    public void An_upstream_that_nobody_scripted_refuses()
    {
        using NginxConf conf = Http("server { listen 80; location / { proxy_pass http://10.9.9.9:1234; } }");
        Assert.Equal(502, conf.Get("/").Status);
    }

    [Fact]
    public void Names_need_no_name_server()
    {
        using NginxConf conf = Http("""
            resolver 10.0.0.53; upstream app { server backend.internal:8080; }
            server { listen 80; location / { proxy_pass http://app; }
                     location /late { set $host_name late.internal; proxy_pass http://$host_name:81; } }
            """, new NginxConfOptions { Hosts = { ["late.internal"] = "192.0.2.7" } });
        conf.Upstream("backend.internal:8080").Answers(200, "early");
        conf.Upstream("late.internal:81").Answers(200, "late");
        Assert.Equal("early", conf.Get("/").Body);
        Answer late = conf.Get("/late");
        Assert.Equal(("late", "192.0.2.7:81"), (late.Body, late.Upstream!.Address));
    }

    [Fact]
    public void Time_is_virtual()
    {
        using NginxConf conf = Http("""
            server { listen 80; location / { proxy_read_timeout 10m; proxy_pass http://10.0.0.1:80; } }
            """);
        ScriptedUpstream slow = conf.Upstream("10.0.0.1:80").Answers(200, "slow").After(TimeSpan.FromMinutes(9));
        Answer answer = conf.Get("/");
        Assert.Equal("slow", answer.Body);
        Assert.Equal(TimeSpan.FromMinutes(9), answer.Time);
        Assert.Equal("540.000", answer.Variables["request_time"]);
        slow.After(TimeSpan.FromMinutes(11));
        Answer late = conf.Get("/");
        Assert.Equal((504, TimeSpan.FromMinutes(10)), (late.Status, late.Time));
        DateTimeOffset before = conf.Now;
        conf.Advance(TimeSpan.FromHours(1));
        Assert.Equal(before.AddHours(1), conf.Now);
    }

    [Fact]
    public void Requests_can_be_under_way_together()
    {
        using NginxConf conf = Http("""
            upstream one { server 10.0.0.1:80 max_conns=1; }
            server { listen 80; location / { proxy_pass http://one; } }
            """);
        conf.Upstream("10.0.0.1:80").After(TimeSpan.FromSeconds(5));
        using PendingAnswer first = conf.Begin(new ConfRequest("GET", "/"));
        Assert.False(first.HasEnded);
        Assert.Equal(502, conf.Get("/").Status);
        Assert.Equal(200, first.Wait().Status);
        Assert.Equal(200, conf.Get("/").Status);
    }

    [Fact]
    public void A_limit_on_rates_counts_by_the_virtual_clock()
    {
        using NginxConf conf = Http("""
            limit_req_zone $binary_remote_addr zone=each:64k rate=1r/m;
            server { listen 80; location / { limit_req zone=each burst=1 nodelay; proxy_pass http://10.0.0.1:80; } }
            """);
        conf.Upstream("10.0.0.1:80").Answers(200, "through");
        Assert.Equal(200, conf.Get("/").Status);
        Assert.Equal(200, conf.Get("/").Status);
        Answer beyond = conf.Get("/");
        Assert.Equal((503, "REJECTED"), (beyond.Status, beyond.Variables["limit_req_status"]));
        Assert.Equal(2, conf.Upstream("10.0.0.1:80").Requests.Count);
        Assert.Equal(200, conf.Send(new ConfRequest("GET", "/").FromAddress("198.51.100.7")).Status);
        // As nginx: a rate is kept in thousandths a second, so that a minute is not quite enough for one a minute.
        conf.Advance(TimeSpan.FromMinutes(2));
        Assert.Equal("through", conf.Get("/").Body);
    }

    [Fact]
    public void Limits_on_bodies_and_methods_are_seen()
    {
        using NginxConf conf = Http("""
            server { listen 80; client_max_body_size 10; location / { proxy_pass http://10.0.0.1:80; }
                     location /closed { return 444; } location /read { limit_except GET { deny all; } return 200; } }
            """);
        conf.Upstream("10.0.0.1:80");
        Assert.Equal(413, conf.Post("/", "more than ten bytes").Status);
        Assert.Equal(200, conf.Post("/", "ten bytes!").Status);
        Answer closed = conf.Get("/closed");
        Assert.Equal((444, false, true), (closed.Status, closed.IsAnswered, closed.IsClosed));
        Assert.False(conf.Get("/").IsClosed);
    }

    [Fact]
    public void Https_is_spoken_with_a_certificate_that_is_made_where_the_file_is_missing()
    {
        using NginxConf conf = Http("""
            ssl_certificate /etc/letsencrypt/live/none/fullchain.pem;
            ssl_certificate_key /etc/letsencrypt/live/none/privkey.pem;
            ssl_dhparam /etc/nginx/none/dhparam.pem;
            server { listen 443 ssl; server_name a.example; return 200 a:$scheme:$ssl_server_name; }
            server { listen 443 ssl; server_name b.example; return 200 b:$scheme:$ssl_server_name; }
            """);
        Assert.Equal("a:https:a.example", conf.Get("https://a.example/").Body);
        Answer b = conf.Get("https://b.example/");
        Assert.Equal(("b:https:b.example", "b.example"), (b.Body, b.Server));
    }

    [Fact]
    public void The_machine_of_the_file_need_not_be_this_one()
    {
        using NginxConf conf = NginxConf.Parse("""
            user nobody-here; pid /proc/none/weir.pid; worker_processes 64; error_log /proc/none/error.log info;
            events { worker_connections 100000; }
            http {
                access_log /proc/none/access.log; client_body_temp_path /proc/none/body;
                server { listen 203.0.113.77:80; listen unix:/proc/none/x.sock; return 200 $server_addr; }
            }
            """);
        Assert.Equal(["203.0.113.77:80", "unix:/proc/none/x.sock"], conf.Addresses);
        Assert.Equal("203.0.113.77", conf.Get("http://any.example/a").Body);
        Assert.Contains("\"GET /a HTTP/1.1\" 200", conf.AccessLog("/proc/none/access.log"));
        Assert.Equal(200, conf.Send(new ConfRequest("GET", "/") { To = "unix:/proc/none/x.sock" }).Status);
    }

    [Fact]
    public void A_file_is_loaded_with_its_includes_and_paths_are_replaced()
    {
        using var dir = new TempDir();
        dir.Write("site/index.html", "<h1>here</h1>");
        dir.Write("conf/sites/one.conf", "server { listen 80; root /srv/www; }");
        dir.Write("conf/nginx.conf", "events {} http { include sites/*.conf; include /etc/nginx/absent.conf; }");
        using NginxConf conf = NginxConf.Load(Path.Combine(dir.Path, "conf/nginx.conf"), new NginxConfOptions
        {
            Replace = { ["/srv/www"] = Path.Combine(dir.Path, "site") },
            Files = { ["/etc/nginx/absent.conf"] = "add_header X-Site one;" },
        });
        Answer answer = conf.Get("/");
        Assert.Equal(("<h1>here</h1>", "one"), (answer.Body, answer.Header("X-Site")));
        Assert.Equal(404, conf.Get("/none").Status);
    }

    [Fact]
    public void A_refused_configuration_says_all_that_is_wrong()
    {
        NginxConfException e = Assert.Throws<NginxConfException>(
            () => Http("sever { } server { listen 80; lokation / { } }"));
        Assert.Equal(2, e.Errors.Count);
        Assert.Contains("\"sever\"", e.Message);
    }

    [Fact]
    public void Variables_of_families_can_be_watched()
    {
        using NginxConf conf = Http(
            "map $arg_a $kind { 1 one; default other; } server { listen 80; return 200 $kind; }");
        conf.Watch("arg_b", "http_x_seen", "sent_http_content_type");
        Answer answer = conf.Get("/?a=1&b=2", "X-Seen: yes");
        Assert.Equal(("one", "2", "yes"),
            (answer.Variables["kind"], answer.Variables["arg_b"], answer.Variables["http_x_seen"]));
        Assert.Equal("text/plain", answer.Variables["sent_http_content_type"]);
        Assert.Throws<ArgumentException>(() => conf.Watch("no_such_thing"));
    }

    [Fact]
    public void A_url_that_nobody_listens_for_names_the_addresses()
    {
        using NginxConf conf = Http("server { listen 8080; return 200; }");
        ArgumentException e = Assert.Throws<ArgumentException>(() => conf.Get("http://a.example/"));
        Assert.Contains("8080", e.Message);
    }
}
