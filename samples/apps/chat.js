// The chat of samples/websocket-chat.conf, without any package: what one says, all hear. `PORT=3000 node chat.js`
'use strict';
const http = require('http');
const crypto = require('crypto');

const page = `<!doctype html><meta charset="utf-8"><title>Chat</title>
<form><input autofocus aria-label="Say"><button>Say</button></form><ul></ul>
<script>
const socket = new WebSocket(location.href.replace('http', 'ws') + 'chat');
socket.onmessage = m => {
  const line = document.createElement('li');
  line.textContent = m.data;
  document.querySelector('ul').append(line);
};
document.querySelector('form').onsubmit = e => {
  e.preventDefault();
  const input = document.querySelector('input');
  socket.send(input.value);
  input.value = '';
};
</script>`;

const everybody = new Set();

// One text frame, unmasked, as a server sends it.
function frame(text) {
  const bytes = Buffer.from(text);
  const head = bytes.length < 126 ? Buffer.from([0x81, bytes.length])
    : Buffer.from([0x81, 126, bytes.length >> 8, bytes.length & 255]);
  return Buffer.concat([head, bytes]);
}

// Takes whole frames from the front of what has arrived; short and medium ones are enough for a chat.
function read(socket, said) {
  for (;;) {
    const b = socket.kept;
    if (b.length < 2) return;
    let length = b[1] & 127, at = 2;
    if (length === 127) return socket.destroy();
    if (length === 126) {
      if (b.length < 4) return;
      length = b.readUInt16BE(2);
      at = 4;
    }
    const mask = b[1] & 128 ? b.subarray(at, at + 4) : Buffer.alloc(4);
    at += b[1] & 128 ? 4 : 0;
    if (b.length < at + length) return;
    const text = Buffer.alloc(length);
    for (let i = 0; i < length; i++) text[i] = b[at + i] ^ mask[i % 4];
    socket.kept = b.subarray(at + length);
    const kind = b[0] & 15;
    if (kind === 8) return socket.end(Buffer.from([0x88, 0]));
    if (kind === 9) socket.write(Buffer.concat([Buffer.from([0x8a, text.length]), text]));
    if (kind === 1) said(text.toString());
  }
}

http.createServer((request, response) => {
  response.setHeader('Content-Type', 'text/html');
  response.end(page);
}).on('upgrade', (request, socket) => {
  const accept = crypto.createHash('sha1')
    .update(request.headers['sec-websocket-key'] + '258EAFA5-E914-47DA-95CA-C5AB0DC85B11').digest('base64');
  socket.write('HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n'
    + `Sec-WebSocket-Accept: ${accept}\r\n\r\n`);
  socket.kept = Buffer.alloc(0);
  everybody.add(socket);
  socket.on('data', bytes => {
    socket.kept = Buffer.concat([socket.kept, bytes]);
    read(socket, text => everybody.forEach(other => other.write(frame(text))));
  });
  socket.on('close', () => everybody.delete(socket));
  socket.on('error', () => everybody.delete(socket));
}).listen(Number(process.env.PORT || 3000), '127.0.0.1');
