// An echo server for WebSocket, by the package ws. It prints its address, and how each connection was closed.
//
// A text that is a command is obeyed: "ping", "close CODE REASON", "terminate", "flood N". Everything
// else is sent back as it came.
// The path /refused is answered 401.
'use strict';
const http = require('http');
const { WebSocketServer } = require('ws');

const sockets = new WebSocketServer({
  noServer: true,
  perMessageDeflate: { threshold: 1024 }, // if the client offers it
  handleProtocols: (offered) => (offered.has('chat.v2') ? 'chat.v2' : false),
});

const server = http.createServer((request, response) => {
  response.setHeader('X-Upgrade', String(request.headers.upgrade));
  response.end('plain HTTP\n');
});

server.on('upgrade', (request, socket, head) => {
  if (request.url === '/refused') {
    const body = '{"error":"who are you?"}\n';
    socket.end('HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nWWW-Authenticate: Bearer\r\n' +
      `Content-Length: ${body.length}\r\nConnection: close\r\n\r\n${body}`);
    return;
  }
  sockets.handleUpgrade(request, socket, head, (ws) => {
    if (request.url === '/greeting') {
      ws.send('hello'); // in one segment with the 101, or right after it
    }
    ws.on('pong', (data) => ws.send('pong ' + data));
    ws.on('close', (code, reason) => console.log(`closed ${request.url} ${code} ${reason}`));
    ws.on('error', () => {}); // the close says it
    ws.on('message', (data, binary) => {
      const [command, ...args] = binary ? [] : data.toString().split(' ');
      switch (command) {
        case 'ping': ws.ping('are you there'); break;
        case 'close': ws.close(Number(args[0]), args.slice(1).join(' ')); break;
        case 'terminate': ws.terminate(); break;
        case 'flood':
          for (let i = 0; i < Number(args[0]); i++) ws.send(String(i));
          break;
        default: ws.send(data, { binary });
      }
    });
  });
});

server.listen(0, '127.0.0.1', () => console.log(`listening 127.0.0.1:${server.address().port}`));
