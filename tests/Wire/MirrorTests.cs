// mirror: copies of requests, with their bodies, that nobody waits for.
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class MirrorTests
{
    private const string Copies = """
        location /with { mirror /copy; proxy_pass http://127.0.0.1:%UPSTREAM%; }
        location /without { mirror /copy; mirror_request_body off; proxy_pass http://127.0.0.1:%UPSTREAM%; }
        location = /copy { internal; proxy_pass http://127.0.0.1:%UPSTREAM%/copied$request_uri; }
        """;

    [Fact]
    public void A_copy_carries_the_request_and_its_body()
    {
        using Upstream upstream = Upstream.Answering(static _ => Upstream.Ok("fine"));
        using var weir = ServerProcess.Weir(Conf.Server(Copies), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/with?a=b", [], "the body"));
        Assert.Equal("fine", client.ReadResponse().Text);
        Wait.For("both requests", () => upstream.Requests.Count == 2);
        string copy = upstream.Requests.Select(Encoding.Latin1.GetString).Single(static r =>
            r.Contains("/copied/with?a=b"));
        Assert.StartsWith("POST ", copy);
        Assert.EndsWith("\r\n\r\nthe body", copy);
    }

    [Theory]
    [InlineData("on", "the body")]
    [InlineData("off", "")]
    public void A_copy_has_the_body_where_that_is_asked_for(string withBody, string body)
    {
        using Upstream upstream = Upstream.Answering(static _ => Upstream.Ok("fine"));
        using var weir = ServerProcess.Weir(Conf.Server($$"""
            location / { mirror /copy; mirror_request_body {{withBody}}; proxy_pass http://127.0.0.1:%UPSTREAM%; }
            location = /copy { internal; proxy_pass http://127.0.0.1:%UPSTREAM%/copied; }
            """), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", "/", [], "the body"));
        Assert.Equal("fine", client.ReadResponse().Text);
        Wait.For("both requests", () => upstream.Requests.Count == 2);
        Assert.EndsWith("\r\n\r\n" + body, upstream.Requests.Select(Encoding.Latin1.GetString)
            .Single(static r => r.Contains(" /copied ")));
    }

    [Fact]
    public void The_client_does_not_wait_for_a_copy_and_the_next_request_is_served_after_it()
    {
        using var release = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            while (c.ReadRequest() is { } request)
            {
                if (request.Target.StartsWith("/copied", StringComparison.Ordinal))
                {
                    release.Wait(10_000);
                }
                c.Send(Upstream.Ok(request.Target));
            }
        });
        using var weir = ServerProcess.Weir(Conf.Server(Copies), upstreamPort: upstream.Port);
        using RawClient client = weir.Connect();
        Assert.Equal("/with/1", client.Get("/with/1").Text);
        release.Set();
        Assert.Equal("/without/2", client.Get("/without/2").Text);
    }
}
