// Node as a peer of the benches: node.js PORT FILES
const http = require('http'), fs = require('fs');
const [port, files] = process.argv.slice(2);
const hello = Buffer.from('hello, world\n');
http.createServer({ keepAliveTimeout: 65000 }, (request, response) => {
    if (request.url.startsWith('/r/') || request.url === '/') {
        response.writeHead(200, { 'Content-Type': 'text/plain', 'Content-Length': hello.length });
        response.end(hello);
        return;
    }
    const path = files + request.url;
    fs.stat(path, (error, status) => {
        if (error) {
            response.writeHead(404);
            response.end();
            return;
        }
        response.writeHead(200, { 'Content-Length': status.size });
        fs.createReadStream(path).pipe(response);
    });
}).listen(Number(port), '127.0.0.1', 4096);
