// Tries a WebSocket echo server (websocket_server.js) at the address of the first argument, by the package ws.
// It prints a line for each trial, "ok NAME" or "failed NAME: why".
'use strict';
const assert = require('assert');
const crypto = require('crypto');
const { once } = require('events');
const http = require('http');
const WebSocket = require('ws');

const address = process.argv[2];

async function open(path = '/', protocols = [], options = { perMessageDeflate: false }) {
  const ws = new WebSocket(`ws://${address}${path}`, protocols, options);
  await once(ws, 'open');
  return ws;
}

async function message(ws) {
  const [data, binary] = await once(ws, 'message');
  return binary ? data : data.toString();
}

async function closed(ws) {
  const [code, reason] = await once(ws, 'close');
  return `${code} ${reason}`;
}

async function echo(ws, data) {
  const answer = message(ws);
  ws.send(data);
  const got = await answer;
  assert.ok(Buffer.from(got).equals(Buffer.from(data)), `${got.length} bytes are not the ${data.length} that were sent`);
  assert.strictEqual(typeof got, typeof data === 'string' ? 'string' : 'object');
}

const trials = {
  async text() {
    const ws = await open();
    assert.strictEqual(ws.protocol, '');
    assert.strictEqual(ws.extensions, '');
    for (const text of ['', 'a', 'žluť 漢字 🌊']) await echo(ws, text);
    for (const size of [125, 126, 65535, 65536]) await echo(ws, 'x'.repeat(size));
    ws.close();
    await closed(ws);
  },

  async binary() {
    const ws = await open();
    for (const size of [0, 1, 1000, 1 << 20, 3 << 20]) await echo(ws, crypto.randomBytes(size));
    ws.close();
    await closed(ws);
  },

  async fragments() {
    const ws = await open();
    const parts = Array.from({ length: 20 }, (_, i) => crypto.randomBytes(1 + i * 700));
    const answer = message(ws);
    parts.forEach((part, i) => ws.send(part, { binary: true, fin: i === parts.length - 1 }));
    assert.ok((await answer).equals(Buffer.concat(parts)));
    ws.close();
    await closed(ws);
  },

  async compression() {
    const ws = await open('/', [], { perMessageDeflate: true });
    assert.match(ws.extensions, /permessage-deflate/);
    await echo(ws, 'compressible '.repeat(50000));
    ws.close();
    await closed(ws);
  },

  async 'ping and pong'() {
    const ws = await open();
    const pong = once(ws, 'pong');
    ws.ping('anybody');
    assert.strictEqual(String(await pong), 'anybody');
    const ping = once(ws, 'ping');
    const answer = message(ws);
    ws.send('ping');
    assert.strictEqual(String(await ping), 'are you there');
    assert.strictEqual(await answer, 'pong are you there');
    ws.close();
    await closed(ws);
  },

  async 'close by the client'() {
    const ws = await open('/closing');
    ws.close(4002, 'I have what I want');
    assert.strictEqual(await closed(ws), '4002 I have what I want');
  },

  async 'close by the server'() {
    const ws = await open('/closed');
    ws.send('close 4001 that is all');
    assert.strictEqual(await closed(ws), '4001 that is all');
  },

  async 'end without a close'() {
    const ws = await open();
    ws.send('terminate');
    assert.strictEqual(await closed(ws), '1006 ');
  },

  // The server has to learn it too: it prints it.
  async 'client that vanishes'() {
    const ws = await open('/vanishing');
    ws.terminate();
    await closed(ws);
  },

  async subprotocol() {
    const ws = await open('/', ['chat.v1', 'chat.v2']);
    assert.strictEqual(ws.protocol, 'chat.v2');
    await echo(ws, 'in it');
    ws.close();
    await closed(ws);
  },

  async greeting() {
    const ws = new WebSocket(`ws://${address}/greeting`);
    assert.strictEqual(await message(ws), 'hello');
    ws.close();
    await closed(ws);
  },

  async refusal() {
    const ws = new WebSocket(`ws://${address}/refused`);
    const [, response] = await once(ws, 'unexpected-response');
    let body = '';
    for await (const data of response) body += data;
    assert.strictEqual(response.statusCode, 401);
    assert.strictEqual(response.headers['www-authenticate'], 'Bearer');
    assert.strictEqual(body, '{"error":"who are you?"}\n');
  },

  async 'plain HTTP beside it'() {
    const [response] = await once(http.get(`http://${address}/`), 'response');
    let body = '';
    for await (const data of response) body += data;
    assert.strictEqual(`${response.statusCode} ${response.headers['x-upgrade']} ${body}`, '200 undefined plain HTTP\n');
  },

  async 'many messages without an answer between'() {
    const ws = await open();
    let n = 0;
    const all = new Promise((resolve, reject) => ws.on('message', (data) => {
      if (data.toString() !== String(n++)) reject(new Error(`message ${n - 1} is ${data}`));
      if (n === 20000) resolve();
    }));
    ws.send('flood 20000');
    await all;
    ws.close();
    await closed(ws);
  },

  async 'fifty at once'() {
    await Promise.all(Array.from({ length: 50 }, async (_, i) => {
      const ws = await open(`/many/${i}`);
      for (let n = 0; n < 20; n++) await echo(ws, `client ${i}, message ${n}, ${'.'.repeat(n * i)}`);
      await echo(ws, crypto.randomBytes(100 << 10));
      ws.close(1000, 'done');
      assert.strictEqual(await closed(ws), '1000 done');
    }));
  },
};

// Without a bound a trial whose message is lost would be waited for as long as the connection lives.
function bounded(promise) {
  let timer;
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('nothing came in 5 s')), 5000); });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

(async () => {
  let status = 0;
  await Promise.all(Object.entries(trials).map(async ([name, trial]) => {
    try {
      await bounded(trial());
      console.log(`ok ${name}`);
    } catch (error) {
      status = 1;
      console.log(`failed ${name}: ${error.message.replace(/\n/g, ' ')}`);
    }
  }));
  process.exit(status);
})();
