// Request bodies that go to a file whatever their size: whether the file stays, and what $request_body_file says.
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class BodyFileTests
{
    private static (ServerProcess Weir, HttpResponse Answer) Post(string setting, Upstream upstream)
    {
        var weir = ServerProcess.Weir(Conf.Server($$"""
            location / {
                client_body_in_file_only {{setting}};
                proxy_pass http://127.0.0.1:%UPSTREAM%;
                add_header X-File $request_body_file;
            }
            """), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/", ["Connection: close"], "a small body"));
        HttpResponse answer = client.ReadResponse();
        client.ReadToEnd();
        return (weir, answer);
    }

    [Theory]
    [InlineData("on", true)]
    [InlineData("clean", false)]
    public void A_body_goes_to_a_file_that_stays_or_goes(string setting, bool stays)
    {
        using Upstream upstream = Upstream.Answering(static _ => Upstream.Ok("got it"));
        (ServerProcess weir, HttpResponse answer) = Post(setting, upstream);
        using ServerProcess _ = weir;
        Assert.Equal("got it", answer.Text);
        string file = answer["X-File"] ?? "";
        Assert.StartsWith("/", file);
        if (stays)
        {
            Assert.Equal("a small body", File.ReadAllText(file));
            File.Delete(file);
        }
        else
        {
            Wait.For("the file is gone", () => !File.Exists(file));
        }
        Assert.EndsWith("a small body", System.Text.Encoding.Latin1.GetString(upstream.Requests[0]));
    }

    [Fact]
    public void A_small_body_has_no_file_otherwise()
    {
        using Upstream upstream = Upstream.Answering(static _ => Upstream.Ok("got it"));
        (ServerProcess weir, HttpResponse answer) = Post("off", upstream);
        using ServerProcess _ = weir;
        Assert.Equal(200, answer.Status);
        Assert.Null(answer["X-File"]);
    }
}
