// SignalR's JSON protocol over a WebSocket, without a library: a record ends with the character 0x1e.
const end = '\x1e';
const list = document.getElementById('messages');

function show(message) {
  const item = document.createElement('li');
  const name = document.createElement('b');
  name.textContent = message.name;
  item.append(name, message.text);
  list.append(item);
}

async function join() {
  for (const message of await (await fetch('/api/messages')).json()) show(message);
  const answer = await fetch('/chat/negotiate?negotiateVersion=1', { method: 'POST' });
  const { connectionToken } = await answer.json();
  const socket = new WebSocket(`${location.origin.replace('http', 'ws')}/chat?id=${connectionToken}`);
  const send = record => socket.send(JSON.stringify(record) + end);
  socket.onopen = () => send({ protocol: 'json', version: 1 });
  socket.onmessage = event => {
    for (const text of event.data.split(end).filter(part => part)) {
      const record = JSON.parse(text);
      if (record.type === undefined) document.body.dataset.state = 'joined';
      if (record.type === undefined && location.hash) say(location.hash.slice(1));
      if (record.type === 6) send({ type: 6 });
      if (record.target === 'said') show(record.arguments[0]);
    }
  };
  const say = text => send({ type: 1, target: 'Say', arguments: [document.getElementById('name').value, text] });
  document.getElementById('say').onsubmit = event => {
    event.preventDefault();
    const text = document.getElementById('text');
    say(text.value);
    text.value = '';
  };
}

join();
