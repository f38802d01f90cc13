// The API of samples/spa-api.conf: a list in memory, and a clock as server-sent events. `PORT=3000 node api.js`
'use strict';
const http = require('http');

const items = [{ id: 1, text: 'read the sample' }];

function answer(response, status, value) {
  response.writeHead(status, { 'Content-Type': 'application/json' });
  response.end(JSON.stringify(value));
}

http.createServer((request, response) => {
  const url = new URL(request.url, 'http://localhost');
  if (url.pathname === '/api/items' && request.method === 'GET') {
    return answer(response, 200, items);
  }
  if (url.pathname === '/api/items' && request.method === 'POST') {
    let body = '';
    return request.on('data', part => { body += part; }).on('end', () => {
      const item = { id: items.length + 1, text: String(JSON.parse(body).text) };
      items.push(item);
      answer(response, 201, item);
    });
  }
  if (url.pathname === '/api/whoami') {
    return answer(response, 200, {
      client: request.headers['x-real-ip'], host: request.headers.host, path: request.url,
    });
  }
  if (url.pathname === '/api/events') {
    response.writeHead(200, { 'Content-Type': 'text/event-stream', 'Cache-Control': 'no-cache' });
    let count = 0;
    const tell = () => response.write(`data: ${++count}\n\n`);
    tell();
    const timer = setInterval(tell, Number(url.searchParams.get('every') || 1000));
    return response.on('close', () => clearInterval(timer));
  }
  return answer(response, 404, { error: 'no such thing' });
}).listen(Number(process.env.PORT || 3000), '127.0.0.1');
