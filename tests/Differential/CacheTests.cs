// The cache beside nginx's: the same answers and the same requests, and what $upstream_cache_status says of each. Weir
// follows nginx's rules here; what nginx 1.22 does otherwise than today's is left out.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Differential;

public sealed class CacheTests
{
    /// <summary>The answer's status and fields, and what is asked, one after the other: a target, or one with fields
    /// behind a bar.</summary>
    public static TheoryData<int, string, string> Rows => new()
    {
        { 200, "Cache-Control: max-age=60", "/,/,/" },
        { 200, "Cache-Control: max-age=0", "/,/" },
        { 200, "Cache-Control: no-store", "/,/" },
        { 200, "Cache-Control: private", "/,/" },
        { 200, "Cache-Control: s-maxage=60, max-age=0", "/,/" },
        { 200, "Expires: Thu, 01 Jan 2099 00:00:00 GMT", "/,/" },
        { 200, "Expires: 0", "/,/" },
        { 200, "X-Accel-Expires: 60", "/,/" },
        { 200, "X-Accel-Expires: 0", "/,/" },
        { 200, "X-None: 1", "/,/" },
        { 200, "Set-Cookie: a=b|Cache-Control: max-age=60", "/,/" },
        { 200, "Vary: *|Cache-Control: max-age=60", "/,/" },
        { 200, "Vary: X-A|Cache-Control: max-age=60", "/|X-A: 1,/|X-A: 2,/|X-A: 1,/|X-A: 2" },
        { 404, "X-None: 1", "/,/" },
        { 404, "Cache-Control: max-age=60", "/,/" },
        { 302, "Location: /x", "/,/" },
        { 200, "Cache-Control: max-age=60", "/a,/b,/a,/b" },
        { 200, "Cache-Control: max-age=60", "/,/|Cache-Control: no-cache" },
        { 200, "Cache-Control: max-age=60", "/,/|X-Bypass: 1,/" },
        { 200, "Cache-Control: max-age=60", "/|X-No: 1,/,/" },
        { 200, "Cache-Control: max-age=60|ETag: \"a\"", "/,/|If-None-Match: \"a\"" },
        { 200, "Cache-Control: max-age=60|Accept-Ranges: bytes", "/,/|Range: bytes=1-2" },
    };

    [Theory]
    [MemberData(nameof(Rows))]
    public void Every_request_has_the_same_cache_status(int status, string fields, string requests)
    {
        using Upstream upstream = Upstream.Answering($"HTTP/1.1 {status} Status\r\nContent-Length: 4\r\n"
            + string.Concat(fields.Split('|').Select(static f => f + "\r\n")) + "\r\nbody");
        Assert.Equal(Run(ServerProcess.Nginx, upstream, requests, ""),
            Run(ServerProcess.Weir, upstream, requests, "proxy_cache_conformance nginx;"));
    }

    private static string Run(Func<Harness.Conf, TempDir?, int, bool, string[], ServerProcess> start, Upstream upstream,
        string requests, string own)
    {
        using ServerProcess server = start(Harness.Conf.Server($$"""
            location / {
                proxy_pass http://127.0.0.1:%UPSTREAM%;
                proxy_cache one;
                proxy_cache_valid 404 1m;
                proxy_cache_bypass $http_x_bypass;
                proxy_no_cache $http_x_no;
                add_header X-Cache $upstream_cache_status always;
                {{own}}
            }
            """, "proxy_cache_path %DIR%/cache keys_zone=one:1m use_temp_path=off;"), null, upstream.Port, true, []);
        using RawClient client = server.Connect();
        return string.Join(", ", requests.Split(',').Select(request =>
        {
            string[] parts = request.Split('|');
            HttpResponse response = client.Get(parts[0], parts[1..]);
            return $"{response.Status} {response["X-Cache"]} {response.Text}";
        }));
    }
}
