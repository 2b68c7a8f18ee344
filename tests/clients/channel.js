// What a page of the Laravel application does, with npm ws, jsonwebtoken and reconnecting-websocket as they are.
// Arguments: the URL without its query, or by commas those of several daemons of a cluster, of which each client takes
// the next; the unix feed's path, the secret. The daemon pings every second.
'use strict';

const assert = require('node:assert');
const net = require('node:net');
const jwt = require('jsonwebtoken');
const ReconnectingWebSocket = require('reconnecting-websocket');
const WebSocket = require('ws');

const [bases, feed, secret] = process.argv.slice(2);
const all = bases.split(',');
const [base] = all;
let turn = 0;
const sended = JSON.stringify({ type: 'sended', ok: true });

const sign = (claims, options = { expiresIn: '1h' }) => jwt.sign(claims, secret, options);
const url = (claims, options) => `${all[turn++ % all.length]}?token=${sign(claims, options)}`;

function publish(payload) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: feed }, () => socket.write(`channel ${JSON.stringify(payload)}\n\n`));
    socket.once('error', reject);
    socket.once('data', (receipt) => {
      assert.deepStrictEqual(JSON.parse(receipt), { accepted: 1, rejected: 0 });
      socket.end(resolve);
    });
  });
}

const once = (target, name) => new Promise((resolve) => target.addEventListener(name, resolve, { once: true }));

// Messages in the order they come, each waited for.
function mailbox(client) {
  const received = [];
  const waiting = [];
  client.addEventListener('message', ({ data }) => {
    assert.strictEqual(typeof data, 'string');
    waiting.length > 0 ? waiting.shift()(data) : received.push(data);
  });
  return () => new Promise((resolve) => (received.length > 0 ? resolve(received.shift()) : waiting.push(resolve)));
}

async function refused(address, reason) {
  const client = new WebSocket(address);
  client.on('message', () => assert.fail('a refused client hears nothing'));
  await once(client, 'open');
  const closed = await once(client, 'close');
  assert.deepStrictEqual([closed.code, closed.reason], [1008, reason]);
}

async function main() {
  const ann = new WebSocket(url({ id: 1, name: 'Ann', channel: 'chat:1' }), ['laravel', 'other']);
  let pings = 0;
  ann.on('ping', () => { pings += 1; });
  ann.on('error', (error) => { throw error; });
  const toAnn = mailbox(ann);
  await once(ann, 'open');
  // The library has offered permessage-deflate by itself.
  assert.deepStrictEqual([ann.extensions, ann.protocol], ['', 'laravel']);

  // jsonwebtoken without an end.
  const bob = new ReconnectingWebSocket(url({ id: 2, name: 'Bób', channel: 'chat:1' }, {}), [], { WebSocket, minReconnectionDelay: 10, maxReconnectionDelay: 50 });
  const toBob = mailbox(bob);
  await once(bob, 'open');

  bob.send(JSON.stringify({ data: { name: 'Bób', message: 'hi', extra: 1 } }));
  const hi = '{"type":"message","sender":{"name":"Bób","id":2},"data":{"message":"hi","name":"Bób"}}';
  assert.deepStrictEqual([await toBob(), await toBob(), await toAnn()], [sended, hi, hi]);

  ann.send(Buffer.from(JSON.stringify({ data: { message: 'psst', name: 'Ann', target_user_id: 2 } })));
  assert.strictEqual(await toAnn(), sended);
  assert.strictEqual(await toBob(), '{"type":"message","sender":{"name":"Ann","id":1},"data":{"message":"psst","name":"Ann"}}');

  for (const odd of ['{}', 'null', '[]', 'hello', '{"data":null}', Buffer.from([0xff])]) {
    ann.send(odd);
    assert.strictEqual(await toAnn(), '{"type":"sended","ok":false}');
  }

  await publish({ channel: 'chat:1', data: { message: 'from the back end', name: 'System', id: 1 } });
  const fed = '{"type":"message","sender":{"name":"System","id":0},"data":{"message":"from the back end","name":"System"}}';
  assert.deepStrictEqual([await toAnn(), await toBob()], [fed, fed]);

  const progress = new WebSocket(url({ id: 7, name: 'Grace', channel: 'progress:7' }));
  const toGrace = mailbox(progress);
  await once(progress, 'open');
  const info = { type: 'sample_job_progress', title: 'Job', detail: { cursor: 1, total: 20 } };
  await publish({ channel: 'progress:7', data: { info } });
  assert.strictEqual(await toGrace(), `{"type":"message","sender":{"name":"System","id":0},"data":{"info":${JSON.stringify(info)}}}`);
  progress.close();

  await refused(base, 'token missing');
  await refused(`${base}?token=`, 'token missing');
  await refused(`${base}?token=nonsense`, 'token invalid');
  await refused(`${base}?token=${jwt.sign({ channel: 'chat:1' }, 'another secret')}`, 'token invalid');
  await refused(`${base}?token=${jwt.sign({ channel: 'chat:1' }, '', { algorithm: 'none' })}`, 'token invalid');
  await refused(url({ id: 1, name: 'Ann' }), 'token invalid');
  await refused(url({ channel: 'chat:1' }, { notBefore: '1h' }), 'token invalid');
  await refused(url({ channel: 'chat:1', exp: Math.floor(Date.now() / 1000) }, {}), 'token expired');

  // It comes back by itself, with the same token.
  const reopened = once(bob, 'open');
  bob.reconnect(4000, 'again');
  await reopened;
  ann.send('{"data":{"message":"welcome back"}}');
  assert.strictEqual(await toBob(), '{"type":"message","sender":{"name":"Ann","id":1},"data":{"message":"welcome back"}}');

  const brief = new WebSocket(url({ channel: 'chat:1' }, { expiresIn: 2 }));
  const closed = await once(brief, 'close');
  assert.deepStrictEqual([closed.code, closed.reason], [1008, 'token expired']);

  while (pings < 3) await new Promise((resolve) => ann.once('ping', resolve));
  bob.close();
  ann.close(1000, 'done');
  assert.strictEqual((await once(ann, 'close')).code, 1000);
  console.log('ws', require('ws/package.json').version, 'ok');
}

main();
