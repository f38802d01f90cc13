// An operator's tests of nginx.conf: what each URL does, without a server, a socket or the machines behind it. The
// configurations are those of samples/; what lies on other machines is replaced or scripted.
using Weir.Testing;
using Xunit;

namespace ConfTests;

public sealed class SampleSitesTests : IDisposable
{
    private readonly string _site = Directory.CreateTempSubdirectory("conf-tests-").FullName;

    public void Dispose() => Directory.Delete(_site, recursive: true);

    private NginxConf Load(string name, string root) => NginxConf.Load(
        Path.Combine(AppContext.BaseDirectory, "conf", name),
        new NginxConfOptions { Replace = { [root] = _site } });

    private void Write(string path, string text)
    {
        string full = Path.Combine(_site, path);
        Directory.CreateDirectory(Path.GetDirectoryName(full)!);
        File.WriteAllText(full, text);
    }

    [Fact]
    public void Every_path_of_the_application_is_its_first_page()
    {
        Write("index.html", "the application");
        using NginxConf conf = Load("spa-api.conf", "/srv/app");
        Answer answer = conf.Get("http://app.example.com/users/42");
        Assert.Equal(200, answer.Status);
        Assert.Equal("the application", answer.Body);
        Assert.Equal("no-cache", answer.Header("Cache-Control"));
        Assert.Equal("= /index.html", answer.Location);
        Assert.Equal(404, conf.Get("http://app.example.com/assets/none.js").Status);
    }

    [Fact]
    public void The_api_is_told_who_asked()
    {
        using NginxConf conf = Load("spa-api.conf", "/srv/app");
        ScriptedUpstream api = conf.Upstream("127.0.0.1:3000").Answers(200, "[]", "Content-Type: application/json");
        Answer answer = conf.Send(new ConfRequest("GET", "http://app.example.com/api/users?page=2")
            .FromAddress("203.0.113.9"));
        Assert.Equal("[]", answer.Body);
        UpstreamRequest asked = Assert.Single(api.Requests);
        Assert.Equal("/api/users?page=2", asked.Target);
        Assert.Equal("app.example.com", asked.Header("Host"));
        Assert.Equal("203.0.113.9", asked.Header("X-Real-IP"));
        Assert.Equal("http", asked.Header("X-Forwarded-Proto"));
    }

    [Fact]
    public void An_upload_of_more_than_ten_megabytes_is_refused()
    {
        using NginxConf conf = Load("spa-api.conf", "/srv/app");
        var upload = new ConfRequest("POST", "http://app.example.com/api/files", "Content-Length: 10485761");
        Assert.Equal(413, conf.Send(upload).Status);
    }

    [Fact]
    public void A_dead_application_server_is_not_asked_again_for_ten_seconds()
    {
        using NginxConf conf = Load("flask-upstreams.conf", "/srv/flask");
        ScriptedUpstream dead = conf.Upstream("127.0.0.1:8001").Closes();
        conf.Upstream("127.0.0.1:8002").Answers(200, "two");
        conf.Upstream("127.0.0.1:8003").Answers(200, "three");
        for (int i = 0; i < 6; i++)
        {
            Assert.Equal(200, conf.Get("http://flask.example.com/").Status);
        }
        Assert.Single(dead.Requests);
        conf.Advance(TimeSpan.FromSeconds(11));
        for (int i = 0; i < 6; i++)
        {
            Assert.Equal(200, conf.Get("http://flask.example.com/").Status);
        }
        Assert.Equal(2, dead.Requests.Count);
    }

    [Fact]
    public void Pages_have_short_names_and_assets_never_grow_old()
    {
        Write("about.html", "about us");
        Write("404.html", "nothing here");
        Write("assets/app.js", "1");
        using NginxConf conf = Load("static-site.conf", "/srv/site");
        Assert.Equal("about us", conf.Get("http://example.com/about").Body);
        Answer asset = conf.Get("http://www.example.com/assets/app.js");
        Assert.Equal("/assets/", asset.Location);
        Assert.Contains("immutable", asset.Header("Cache-Control"));
        Answer none = conf.Get("http://example.com/none");
        Assert.Equal((404, "nothing here"), (none.Status, none.Body));
    }
}
