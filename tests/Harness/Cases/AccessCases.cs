// Who may: addresses, passwords, subrequests, referrers, and the address that a trusted proxy gives.
using static Weir.Tests.Harness.Cases.Say;

namespace Weir.Tests.Harness.Cases;

public static class AccessCases
{
    private const string Area = "access";

    // "pw" in every form that nginx reads.
    private const string Users = """
        # who may
        six:$6$abcdefgh$KQeXafAQAaOoKTevphVU215RvJdgzyfASRasIOuh12hO8u0r1bGW92ZnTmC9IjsiQ8VPiTXBiZF49dFL1U4wX/
        apr:$apr1$12345678$A8zrX.CLhuutTWymwJp2a.
        sha:{SHA}GpHWL3ymc5liWkNopqtdSjuqYHM=
        ssha:{SSHA}K/qCHdTzr1rftXNEV4Ob7XsySBlzYWx0
        plain:{PLAIN}pw

        """;

    public static readonly Case[] All =
    [
        With("rules by address", """
            location /deny { deny 127.0.0.1; } location /allow { allow 127.0.0.0/8; deny all; }
            location /six { allow ::1; deny 127.0.0.0/24; } location /none { deny 10.0.0.0/8; }
            location /return { deny all; return 200 "rewrite comes first"; }
            """, Get("/deny"), Get("/allow"), Get("/six"), Get("/none"), Get("/return")),
        With("passwords", """
            location / { auth_basic "the realm"; auth_basic_user_file %FILES%/users; }
            location /off { auth_basic off; } location /missing { auth_basic x; auth_basic_user_file %FILES%/nothing; }
            """, Get("/plain"), User("/plain", "plain:pw"), User("/plain", "plain:no"), User("/plain", "sha:pw"),
            User("/plain", "six:pw"), User("/plain", "six:no"),
            User("/plain", "apr:pw"), User("/plain", "apr:no"),
            User("/plain", "sha:no"), User("/plain", "ssha:pw"), User("/plain", "nobody:pw"),
                User("/missing", "plain:pw"),
            Get("/missing"), Get("/plain", "Authorization: Bearer x"), Get("/plain", "Authorization: Basic x")),
        With("any of two ways in", """
            location / { satisfy any; deny all; auth_basic r; auth_basic_user_file %FILES%/users; }
            location /plain2 { satisfy any; allow 127.0.0.1; deny all; auth_basic r; auth_basic_user_file %FILES%/users;
                alias %FILES%/plain; }
            """, Get("/plain"), User("/plain", "plain:pw"), User("/plain", "plain:no"), Get("/plain2")),
        With("a subrequest decides", """
            location /ok { auth_request /check; auth_request_set $av "v=$request_uri"; alias %FILES%/plain;
                add_header X-Auth $av; }
            location /401 { auth_request /check401; alias %FILES%/plain; }
            location /403 { auth_request /check403; alias %FILES%/plain; }
            location /503 { auth_request /check503; alias %FILES%/plain; }
            location /set { set $vv parent; auth_request /checkset; alias %FILES%/plain; add_header X-Vv $vv; }
            location = /check { return 204; } location = /check401 { return 401; } location = /check403 { return 403; }
            location = /check503 { return 503; }
            location = /checkset { set $vv "sub-$vv-$request_uri-$uri"; return 204; }
            """, Get("/ok"), Get("/401"), Get("/403"), Get("/503"), Get("/set"), Post("/ok", "body")),
        With("referrers", """
            location / { valid_referers none blocked server_names *.ok.com ok2.com/path ~\.re\.;
                if ($invalid_referer) { return 403 bad; } return 200 good; }
            location /strict { valid_referers ok.com; if ($invalid_referer) { return 403 bad; } return 200 good; }
            """, Get("/"), Ref("http://x/"), Ref("http://a.ok.com/"), Ref("http://ok2.com/path/x"),
            Ref("http://ok2.com/other"), Ref("https://q.re.z/"), Ref("http://evil/"), Ref("junk"),
            Ref("http://localhost:80/"), Get("/strict"), Get("/strict", "Referer: xxxxxxxxxxxxxxxxxx")),
        RealIp("the last address of a list", "real_ip_header X-Forwarded-For;"),
        RealIp("the last address that is not trusted", "real_ip_header X-Forwarded-For; real_ip_recursive on;"),
        RealIp("another header", ""),
    ];

    private static Talk User(string target, string user) => Get(target,
        "Authorization: Basic " + Convert.ToBase64String(Bytes(user)));

    private static Talk Ref(string referrer) => Get("/", "Referer: " + referrer);

    private static Case RealIp(string name, string settings) => With("a real address: " + name,
        "set_real_ip_from 127.0.0.1; set_real_ip_from 10.0.0.0/8; " + settings
            + "location / { return 200 \"$remote_addr $realip_remote_addr\"; }"
            + "location /deny { deny 9.9.9.9; }",
        Get("/"), Get("/", "X-Forwarded-For: 1.2.3.4"), Get("/", "X-Forwarded-For: 1.2.3.4, 10.0.0.5"),
        Get("/", "X-Forwarded-For: 1.1.1.1 2.2.2.2"), Get("/", "X-Forwarded-For: bad"),
        Get("/", "X-Forwarded-For: 8.8.8.8:99"), Get("/", "X-Forwarded-For: ::1"),
        Get("/", "X-Forwarded-For: 10.1.1.1, 10.2.2.2"), Get("/", "X-Real-IP: 9.9.9.9"),
        Get("/deny", "X-Real-IP: 9.9.9.9"), Get("/deny", "X-Forwarded-For: 9.9.9.9"));

    private static Case With(string name, string server, params Talk[] talks) => new(Area, name)
    {
        Server = server,
        Files = [("users", Users), ("plain", "let in\n"), ("allow", "x"), ("six", "x"), ("none", "x"), ("deny", "x")],
        Talks = talks,
    };
}
