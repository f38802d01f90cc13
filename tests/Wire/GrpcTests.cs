// grpc_pass between a gRPC client and a gRPC server of another's making: calls of every kind, trailers, errors of both
// sides, TLS, and what the server is sent.
using System.Globalization;
using System.Text;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class GrpcTests(GrpcTests.GrpcServer server) : IClassFixture<GrpcTests.GrpcServer>
{
    private const string Server = """
        import grpc, os
        from concurrent import futures
        class Calls(grpc.GenericRpcHandler):
            def service(self, call):
                if call.method == '/t.T/Unary':
                    def unary(message, context):
                        context.send_initial_metadata((('x-initial', 'first'),))
                        context.set_trailing_metadata((('x-trailer', 'last'),))
                        return b'echo:' + message
                    return grpc.unary_unary_rpc_method_handler(unary)
                if call.method == '/t.T/Fail':
                    def fail(message, context):
                        context.abort(grpc.StatusCode.FAILED_PRECONDITION, 'not today')
                    return grpc.unary_unary_rpc_method_handler(fail)
                if call.method == '/t.T/Meta':
                    def meta(message, context):
                        return repr(sorted(context.invocation_metadata())).encode()
                    return grpc.unary_unary_rpc_method_handler(meta)
                if call.method == '/grpc.health.v1.Health/Check':
                    def check(message, context):
                        return b'\x08\x02' if message == b'\n\x04sick' else b'\x08\x01'
                    return grpc.unary_unary_rpc_method_handler(check)
                if call.method == '/t.T/Count':
                    def count(message, context):
                        for i in range(int(message)):
                            yield b'%d' % i
                    return grpc.unary_stream_rpc_method_handler(count)
                if call.method == '/t.T/Echo':
                    def echo(messages, context):
                        for message in messages:
                            yield b'echo:' + message
                    return grpc.stream_stream_rpc_method_handler(echo)
        server = grpc.server(futures.ThreadPoolExecutor(16))
        server.add_generic_rpc_handlers((Calls(),))
        server.add_insecure_port('127.0.0.1:' + os.environ['PORT'])
        server.start()
        server.wait_for_termination()
        """;

    private const string Client = """
        import grpc, queue, sys
        channel = grpc.insecure_channel('127.0.0.1:' + sys.argv[1])
        def code(method, message=b'x', timeout=30):
            try:
                channel.unary_unary(method)(message, timeout=timeout)
            except grpc.RpcError as e:
                return '%s: %s' % (e.code().name, e.details())
        """;

    private const string Passing = """
        client_max_body_size 0;
        location / { grpc_pass grpc://up; grpc_set_header X-Set set; }
        location /dead/ { grpc_pass 127.0.0.1:1; }
        location /page/ { grpc_pass 127.0.0.1:1; error_page 502 = @page; }
        location @page { return 418; }
        """;

    /// <summary>One server for all tests of the class, started by the first that needs it.</summary>
    public sealed class GrpcServer : IDisposable
    {
        private AppProcess? _app;

        public int Port => (_app ??= AppProcess.Python(Server)).Port;

        public void Dispose() => _app?.Dispose();
    }

    private static ServerProcess Start(int port, string locations = Passing) =>
        ServerProcess.Weir(Conf.Http($$"""
            upstream up { server 127.0.0.1:{{port.ToString(CultureInfo.InvariantCulture)}}; keepalive 8; }
            server { listen 127.0.0.1:%PORT%; http2 on; {{locations}} }
            """));

    /// <summary>What a client says that calls through the server.</summary>
    private string Call(string script)
    {
        using ServerProcess weir = Start(server.Port);
        using var dir = new TempDir();
        dir.Write("call.py", Client + "\n" + script);
        using var client = new ChildProcess(
            "/usr/bin/python3", [dir.At("call.py"), weir.Port.ToString(CultureInfo.InvariantCulture)], dir.Path);
        Assert.True(client.WaitForExit(60_000), "the client did not end");
        return client.Output + client.Errors;
    }

    [NeedsFact("grpc")]
    public void A_unary_call_has_its_metadata_at_both_ends() => Assert.Equal("b'echo:hi' first last OK\n", Call("""
        answer, call = channel.unary_unary('/t.T/Unary').with_call(b'hi', timeout=30)
        initial, trailing = dict(call.initial_metadata()), dict(call.trailing_metadata())
        print(answer, initial['x-initial'], trailing['x-trailer'], call.code().name)
        """));

    [NeedsFact("grpc")]
    public void A_failed_call_keeps_its_status() =>
        Assert.Equal("FAILED_PRECONDITION: not today\n", Call("print(code('/t.T/Fail'))"));

    [NeedsFact("grpc")]
    public void Messages_stream_from_the_server() => Assert.Equal("1000 b'999'\n", Call("""
        answers = list(channel.unary_stream('/t.T/Count')(b'1000', timeout=30))
        print(len(answers), answers[-1])
        """));

    [NeedsFact("grpc")]
    public void Messages_stream_both_ways_at_once() =>
        Assert.Equal("b'echo:one'\nb'echo:two'\n[] OK\n", Call("""
            sent = queue.Queue()
            call = channel.stream_stream('/t.T/Echo')(iter(sent.get, None), timeout=30)
            for message in (b'one', b'two'):
                sent.put(message)
                print(next(call))
            sent.put(None)
            print(list(call), call.code().name)
            """));

    [NeedsFact("grpc")]
    public void A_large_message_passes_both_ways() => Assert.Equal("3000005\n", Call("""
        print(len(channel.unary_unary('/t.T/Unary')(b'z' * 3000000, timeout=120)))
        """));

    [NeedsFact("grpc")]
    public void Many_calls_at_once_are_told_apart() => Assert.Equal("True\n", Call("""
        unary = channel.unary_unary('/t.T/Unary')
        calls = [unary.future(b'%d' % i, timeout=30) for i in range(300)]
        print(all(c.result() == b'echo:%d' % i for i, c in enumerate(calls)))
        """));

    [NeedsFact("grpc")]
    public void Headers_are_set_and_passed() => Assert.Equal("True True\n", Call("""
        text = channel.unary_unary('/t.T/Meta')(b'x', timeout=30, metadata=(('x-mine', 'mine'),)).decode()
        print("key='x-set', value='set'" in text, "key='x-mine', value='mine'" in text)
        """));

    [NeedsFact("grpc")]
    public void A_dead_server_is_a_status_of_gRPC() =>
        Assert.Equal("UNAVAILABLE: upstream is unavailable\n", Call("print(code('/dead/x'))"));

    [NeedsFact("grpc")]
    public void An_error_page_goes_first() =>
        Assert.DoesNotContain("upstream is unavailable", Call("print(code('/page/x'))"), StringComparison.Ordinal);

    // Without a client of gRPC.

    private static HttpResponse Post(ServerProcess weir, string path, string type)
    {
        using RawClient client = weir.Connect();
        client.Send(RawClient.Request("POST", path, ["Content-Type: " + type], "x"));
        return client.ReadResponse();
    }

    [Fact]
    public void Only_requests_of_gRPC_get_its_statuses()
    {
        using ServerProcess weir = Start(1);
        HttpResponse answer = Post(weir, "/dead/", "application/grpc+proto");
        Assert.Equal(200, answer.Status);
        Assert.Equal("14", answer["grpc-status"]);
        Assert.Equal("application/grpc", answer["Content-Type"]);
        Assert.Empty(answer.Body);
        answer = Post(weir, "/dead/", "text/plain");
        Assert.Equal(502, answer.Status);
        Assert.Null(answer["grpc-status"]);
        Assert.Equal(502, Post(weir, "/dead/", "application/grpcx").Status);
        Assert.Equal(418, Post(weir, "/page/", "application/grpc").Status);
    }

    [Fact]
    public void A_server_that_does_not_answer_in_time_is_a_deadline()
    {
        using var upstream = new Upstream(static c => c.Hold());
        using ServerProcess weir = Start(upstream.Port, "location / { grpc_pass up; grpc_read_timeout 100ms; }");
        Assert.Equal("4", Post(weir, "/", "application/grpc")["grpc-status"]);
    }

    [Fact]
    public void A_streamed_body_reaches_the_server_before_it_is_complete()
    {
        using var more = new ManualResetEventSlim();
        using var upstream = new Upstream(c =>
        {
            var http = new Http2Script(c);
            int stream = http.Read().Stream;
            string first = Encoding.Latin1.GetString(http.Read().Payload);
            http.Head(stream, false, ":status: 200", "x-first: " + first);
            more.Set();
            http.ReadRequest(out byte[] rest);
            http.Data(stream, false, Encoding.Latin1.GetString(rest));
            http.Head(stream, true, "grpc-status: 0", "x-after: body");
            c.Hold();
        });
        using ServerProcess weir = Start(upstream.Port, "location / { grpc_pass grpc://up; }");
        using RawClient client = weir.Connect();
        client.Send("POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n");
        Assert.True(more.Wait(30_000));
        client.Send("3\r\ntwo\r\n0\r\n\r\n");
        string answer = Encoding.Latin1.GetString(client.ReadBytes(1));
        Wait.For("the trailers", () =>
        {
            answer += Encoding.Latin1.GetString(client.ReadUntilQuiet(20));
            return answer.Contains("x-after: body", StringComparison.Ordinal);
        });
        Assert.Contains("x-first: one\r\n", answer, StringComparison.Ordinal);
        Assert.Contains("3\r\ntwo\r\n0\r\ngrpc-status: 0\r\n", answer, StringComparison.Ordinal);
    }

    [Fact]
    public void An_address_may_come_of_variables_and_name_a_group()
    {
        using var upstream = new Upstream(static c =>
        {
            var http = new Http2Script(c);
            http.Answer(http.ReadRequest(out _), "here");
            c.Hold();
        });
        using ServerProcess weir = Start(upstream.Port, "location / { set $to grpc://up; grpc_pass $to; }");
        Assert.Equal("here", weir.Get("/").Text);
    }

    [NeedsTheory("grpc")]
    [InlineData("", "up")]
    [InlineData("grpc_service=well", "up")]
    [InlineData("grpc_service=sick", "unhealthy")]
    [InlineData("grpc_status=12", "unhealthy")]
    public void A_health_check_asks_by_grpcs_own_protocol(string parameters, string state)
    {
        using var weir = ServerProcess.Weir(Conf.Http($$"""
            upstream g { zone z 64k; server 127.0.0.1:{{server.Port.ToString(CultureInfo.InvariantCulture)}}; }
            server { listen 127.0.0.1:%PORT%; location /api/ { api; }
                location / { grpc_pass g; health_check interval=50ms mandatory type=grpc {{parameters}}; } }
            """));
        string Shown() => weir.Get("/api/9/http/upstreams/g").Text;
        Wait.For(state, () => Shown().Contains($"\"state\":\"{state}\"", StringComparison.Ordinal), 30_000);
        Assert.Contains($"\"last_passed\":{(state == "up" ? "true" : "false")}", Shown(), StringComparison.Ordinal);
    }
}
