// grpc_pass between Node's gRPC client and server (@grpc/grpc-js, which ./test fetches with npm): calls of all four
// kinds, metadata both ways, errors, deadlines and cancellation, over plain connections and over TLS.
using System.Globalization;
using Weir.Tests.Harness;
using Xunit;

namespace Weir.Tests.Wire;

public sealed class GrpcNodeTests
{
    private static string Library => $"const grpc = require('{Tools.Find("grpc-js")}');\n";

    private const string Service = """
        const raw = b => b;
        const method = (name, q, s) => [name, { path: '/t.T/' + name, requestStream: q, responseStream: s,
            requestSerialize: raw, requestDeserialize: raw, responseSerialize: raw, responseDeserialize: raw }];
        const service = Object.fromEntries([method('Unary', false, false), method('Fail', false, false),
            method('Count', false, true), method('Sum', true, false), method('Echo', true, true),
            method('Hang', false, false)]);
        """;

    private const string Server = Service + """

        const server = new grpc.Server();
        let cancelled = 0;
        server.addService(service, {
            Unary(call, done) {
                const first = new grpc.Metadata();
                first.set('x-initial', 'first');
                call.sendMetadata(first);
                const last = new grpc.Metadata();
                last.set('x-trailer', String(call.metadata.get('x-mine')) + cancelled);
                done(null, Buffer.concat([Buffer.from('echo:'), call.request]), last);
            },
            Fail(call, done) { done({ code: grpc.status.FAILED_PRECONDITION, details: 'not today' }); },
            Count(call) {
                for (let i = 0; i < Number(call.request); i++) call.write(Buffer.from(String(i)));
                call.end();
            },
            Sum(call, done) {
                let sum = 0;
                call.on('data', b => sum += Number(b));
                call.on('end', () => done(null, Buffer.from(String(sum))));
            },
            Echo(call) {
                call.on('data', b => call.write(Buffer.concat([Buffer.from('echo:'), b])));
                call.on('end', () => call.end());
            },
            Hang(call) { call.on('cancelled', () => cancelled++); },
        });
        server.bindAsync('127.0.0.1:' + process.env.PORT, grpc.ServerCredentials.createInsecure(), () => {});
        """;

    private const string Client = Service + """

        const [port, ca] = process.argv.slice(2);
        const credentials = ca ? grpc.credentials.createSsl(require('fs').readFileSync(ca))
            : grpc.credentials.createInsecure();
        const client = new (grpc.makeGenericClientConstructor(service, 't.T'))('localhost:' + port, credentials);
        const soon = () => ({ deadline: Date.now() + 30000 });
        const unary = (name, text, metadata = new grpc.Metadata(), options = soon()) => new Promise(done => {
            let initial, call = client[name](Buffer.from(text), metadata, options, (error, answer) => setImmediate(() =>
                done({ error, answer: String(answer), initial, status, call })));
            let status;
            call.on('metadata', m => initial = m);
            call.on('status', s => status = s);
        });
        (async () => {
            const mine = new grpc.Metadata();
            mine.set('x-mine', 'mine');
            let r = await unary('Unary', 'hi', mine);
            console.log(r.answer, String(r.initial.get('x-initial')), String(r.status.metadata.get('x-trailer')));
            r = await unary('Fail', 'x');
            console.log(r.error.code, r.error.details);
            const counted = [];
            for await (const b of client.Count(Buffer.from('500'), soon())) counted.push(String(b));
            console.log(counted.length, counted.at(-1));
            console.log(await new Promise(done => {
                const call = client.Sum(soon(), (error, answer) => done(String(error || answer)));
                for (let i = 1; i <= 100; i++) call.write(Buffer.from(String(i)));
                call.end();
            }));
            const echo = client.Echo(soon()), said = [];
            echo.write(Buffer.from('one'));
            for await (const b of echo) {
                said.push(String(b));
                if (said.length == 1) echo.write(Buffer.from('two')); else echo.end();
            }
            console.log(said.join());
            const all = await Promise.all([...Array(200).keys()].map(i => unary('Unary', String(i))));
            console.log(all.every((r, i) => r.answer == 'echo:' + i));
            console.log((await unary('Unary', 'z'.repeat(3000000))).answer.length);
            r = await unary('Hang', 'x', new grpc.Metadata(), { deadline: Date.now() + 300 });
            console.log(r.error.code);
            for (;;) {
                // The deadline reaches the server as the end of its call.
                r = await unary('Unary', 'x');
                if (String(r.status.metadata.get('x-trailer')).endsWith('1')) break;
            }
            console.log('cancelled');
            client.close();
        })();
        """;

    [NeedsTheory("node", "grpc-js")]
    [InlineData(false)]
    [InlineData(true)]
    public void Nodes_client_and_server_call_each_other_through_the_gateway(bool tls)
    {
        using var files = new TempDir();
        var authority = new TestAuthority();
        authority.Write(files, "ec");
        string ca = files.Write("ca.crt", authority.Pem);
        files.Write("call.js", Library + Client);
        // Each run has a server of its own that counts cancelled calls from nothing.
        using AppProcess app = AppProcess.Node(Library + Server);
        using var weir = ServerProcess.Weir(Conf.Http($$"""
            upstream up { server 127.0.0.1:{{app.Port.ToString(CultureInfo.InvariantCulture)}}; keepalive 8; }
            server {
                listen 127.0.0.1:%PORT%; listen 127.0.0.1:%PORT2% ssl; http2 on; client_max_body_size 0;
                ssl_certificate %FILES%/ec.crt; ssl_certificate_key %FILES%/ec.key;
                location / { grpc_pass grpc://up; }
            }
            """), files);
        string port = weir.PortOf(tls ? 2 : 1).ToString(CultureInfo.InvariantCulture);
        using var client = new ChildProcess(Tools.Require("node"),
            [files.At("call.js"), port, .. tls ? new[] { ca } : []], files.Path);
        Assert.True(client.WaitForExit(60_000), "the client did not end\n" + client.Output + client.Errors);
        Assert.Equal("""
            echo:hi first mine0
            9 not today
            500 499
            5050
            echo:one,echo:two
            true
            3000005
            4
            cancelled

            """, client.Output + client.Errors);
    }
}
