// @wazo/sdk of npm, as it is, over wss: protocols 1 and 2, heartbeats, token renewal, a refused token.
// Arguments: host:port, the unix feed's path, a token for events.endpoints.#, a token for events.calls.#.
// The daemon's certificate is trusted by NODE_EXTRA_CA_CERTS.
'use strict';

const assert = require('node:assert');
const net = require('node:net');
const WebSocket = require('ws');
const { WebSocketClient } = require('@wazo/sdk');

const [host, feed, endpoints, calls] = process.argv.slice(2);
const names = ['endpoint_status_update', 'call_created'];
const endpoint = { name: 'endpoint_status_update', required_acl: 'events.endpoints.1', data: { id: 1, endpoint: 'PJSIP/é' } };
const call = { name: 'call_created', required_acl: 'events.calls.7', data: { call_id: '7' } };

function publish(...events) {
  return new Promise((resolve, reject) => {
    const lines = events.map((event) => `wazo ${JSON.stringify(event)}\n`).join('');
    const socket = net.connect({ path: feed }, () => socket.write(`${lines}\n`));
    socket.once('error', reject);
    socket.once('data', (receipt) => {
      assert.deepStrictEqual(JSON.parse(receipt), { accepted: events.length, rejected: 0 });
      socket.end(resolve);
    });
  });
}

const once = (client, name) => new Promise((resolve) => client.once(name, resolve));

function open(token, version) {
  const heartbeat = { delay: 50, timeout: 5000, max: 5 };
  const client = new WebSocketClient({ host, token, version, events: names, heartbeat }, { WebSocket, maxRetries: 0 });
  client.connect();
  return client;
}

async function current() {
  const client = open(endpoints, 2);
  await once(client, 'initialized');
  const got = [];
  names.forEach((name) => client.on(name, (event) => got.push(event)));
  let last = once(client, 'endpoint_status_update');
  // The call is not for this token.
  await publish(call, endpoint);
  await last;
  assert.deepStrictEqual(got.splice(0), [endpoint]);

  let beats = 0;
  client.setOnHeartbeatCallback(() => { beats += 1; });
  client.setOnHeartbeatTimeout(() => assert.fail('no heartbeat came'));
  client.startHeartbeat();
  while (beats < 3) await once(client, 'pong');
  client.stopHeartbeat();

  const renewed = once(client, 'onmessage');
  client.updateToken(calls);
  assert.deepStrictEqual(JSON.parse(await renewed), { op: 'token', code: 0, data: null });
  last = once(client, 'call_created');
  await publish(endpoint, call);
  await last;
  assert.deepStrictEqual(got, [call]);

  const [closed, refused] = [once(client, 'onclose'), once(client, 'on_auth_failed')];
  client.updateToken('nonsense');
  const { code, reason } = await closed;
  await refused;
  assert.deepStrictEqual([code, reason], [4002, 'authentication failed']);
  client.close(true);
}

async function first() {
  const client = open(endpoints, 1);
  await once(client, 'initialized');
  const received = once(client, 'endpoint_status_update');
  await publish(call, endpoint);
  assert.deepStrictEqual(await received, endpoint);
  const closed = once(client, 'onclose');
  client.close(true);
  assert.strictEqual((await closed).code, 1000);
}

current().then(first).then(() => {
  console.log('@wazo/sdk ok');
  process.exit(0);
});
