// The portable engine by name: what it serves, and what it refuses. The whole of this project runs on it with
// WEIR_TEST_ENGINE=portable (the part wire-portable of ./test).
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class PortableTests
{
    [Fact]
    public void It_serves_files_and_an_upstream_over_kept_connections()
    {
        using var files = new TempDir();
        byte[] content = new byte[1_000_000];
        new Random(5).NextBytes(content);
        files.Write("big.bin", content);
        using Upstream upstream = Upstream.Answering(r => Upstream.Ok(r.Body.Length.ToString()));
        using var weir = ServerProcess.Weir(Conf.Http("""
            server { listen 127.0.0.1:%PORT%; root %FILES%; client_max_body_size 10m;
                location /up { proxy_pass http://127.0.0.1:%UPSTREAM%; } }
            """, engine: "portable"), files, upstream.Port);
        using RawClient client = weir.Connect();
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal(content, client.Get("/big.bin").Body);
            client.Send(RawClient.Request("POST", "/up", [], new string('b', 500_000)));
            Assert.Equal("500000", client.ReadResponse().Text);
        }
    }

    [Fact]
    public void It_serves_many_clients_at_once()
    {
        using var weir = ServerProcess.Weir(Conf.Http(
            "server { listen 127.0.0.1:%PORT%; return 200 $uri; }", engine: "portable"));
        RawClient[] clients = Enumerable.Range(0, 100).Select(_ => weir.Connect()).ToArray();
        for (int i = 0; i < clients.Length; i++)
        {
            clients[i].Send(RawClient.Request("GET", $"/{i}", []));
        }

        for (int i = 0; i < clients.Length; i++)
        {
            Assert.Equal($"/{i}", clients[i].ReadResponse().Text);
            clients[i].Dispose();
        }
    }

    [Trait("Needs", "master")]
    [Fact]
    public void With_a_master_it_is_refused_and_told_why()
    {
        using var dir = new TempDir();
        string path = dir.Write("weir.conf", "events { use portable; } http { }");
        using var process = new ChildProcess(ServerProcess.WeirBinary, ["-t", "-p", dir.Path, "-c", path]);
        Assert.True(process.WaitForExit(20_000));
        Assert.Contains("\"use portable\" serves in a single process only", process.Errors);
        Assert.Equal(1, process.ExitCode);
    }
}
