// Who may, over real sockets: passwords that the system hashes, auth_request that waits for an upstream, a delay for
// those who guess.
using System.Diagnostics;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class AccessTests
{
    [Fact]
    public void An_upstream_decides_about_access_and_its_headers_can_be_kept()
    {
        using Upstream upstream = Upstream.Answering(static r => r.Target == "/in?yes"
            ? "HTTP/1.1 204 No Content\r\nX-User: somebody\r\n\r\n"
            : "HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Test\r\nContent-Length: 0\r\n\r\n");
        using var files = new TempDir();
        files.Write("in", "let in\n");
        using var weir = ServerProcess.Weir(Conf.Server("""
            location / { auth_request /ask; auth_request_set $who $upstream_http_x_user; add_header X-Who $who; }
            location = /ask { internal; proxy_pass http://127.0.0.1:%UPSTREAM%$request_uri; }
            """), files, upstream.Port);
        HttpResponse yes = weir.Get("/in?yes");
        Assert.Equal(200, yes.Status);
        Assert.Equal("let in\n", yes.Text);
        Assert.Equal("somebody", yes["X-Who"]);
        HttpResponse no = weir.Get("/in?no");
        Assert.Equal(401, no.Status);
        Assert.Equal("Test", no["WWW-Authenticate"]);
        Assert.Equal(404, weir.Get("/ask").Status);
    }

    [Fact]
    public void Who_guesses_passwords_waits()
    {
        using var weir = ServerProcess.Weir(Conf.Server("""
            location / { auth_delay 300ms; auth_basic x; auth_basic_user_file %FILES%/users; }
            """));
        var watch = Stopwatch.StartNew();
        Assert.Equal(401, weir.Get("/").Status);
        Assert.True(watch.ElapsedMilliseconds >= 290);
    }

    [Fact]
    public void A_changed_password_file_is_in_force_at_once()
    {
        using var files = new TempDir();
        files.Write("users", "u:{PLAIN}one\n");
        files.Write("in", "in");
        using var weir = ServerProcess.Weir(Conf.Server(
            "location / { auth_basic x; auth_basic_user_file %FILES%/users; }"), files);
        const string one = "Authorization: Basic dTpvbmU=";
        Assert.Equal(200, weir.Get("/in", one).Status);
        files.Write("users", "u:{PLAIN}two\n");
        Assert.Equal(401, weir.Get("/in", one).Status);
    }
}
