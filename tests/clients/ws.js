// npm ws, as it is, follows the event bus in the current spelling and publishes there.
// Arguments: the URL, the unix feed's path, a token. The daemon pings every second.
'use strict';

const assert = require('node:assert');
const net = require('node:net');
const WebSocket = require('ws');

const [url, feed, token] = process.argv.slice(2);
const seed = String.raw`{"Type":"chat","RequestKey":null,"Schema":"","External":true,"Object":"general","Info":"Hello World","cellId":"5ZKpfNSMSwO6GqAgt0O2Jg","Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}`;

function publish(event) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: feed }, () => socket.write(`event/demo ${event}\n\n`));
    socket.once('error', reject);
    socket.once('data', (receipt) => {
      assert.deepStrictEqual(JSON.parse(receipt), { accepted: 1, rejected: 0 });
      socket.end(resolve);
    });
  });
}

// Messages in the order they come, each waited for.
function mailbox(client) {
  const received = [];
  const waiting = [];
  client.on('message', (data, binary) => {
    assert(!binary);
    const text = data.toString();
    waiting.length > 0 ? waiting.shift()(text) : received.push(text);
  });
  return () => new Promise((resolve) => (received.length > 0 ? resolve(received.shift()) : waiting.push(resolve)));
}

const once = (emitter, name) => new Promise((resolve) => emitter.once(name, (...values) => resolve(values)));

async function main() {
  // The library offers permessage-deflate by itself.
  const client = new WebSocket(url);
  let pings = 0;
  client.on('ping', (payload) => {
    assert.deepStrictEqual([...payload], [1, 2, 3]);
    pings += 1;
  });
  client.on('error', (error) => { throw error; });
  const next = mailbox(client);
  await once(client, 'open');
  assert.strictEqual(client.extensions, '');
  const ask = async (message) => {
    client.send(JSON.stringify(message));
    const answer = JSON.parse(await next());
    assert(Math.abs(answer.Timestamp - Date.now()) < 60000);
    delete answer.Timestamp;
    return answer;
  };
  const rule = { Type: 'ch', Object: 'gen' };

  assert.deepStrictEqual(await ask({ Subscribe: rule }), { Response: 'AccessToken', Reason: 'Unauthorized', Result: 'Error' });
  const session = await ask({ AccessToken: token });
  assert(session.ExpiresIn > 3000 && session.ExpiresIn <= 3600);
  assert.strictEqual(session.Result, 'Success');
  assert.deepStrictEqual(await ask({ Subscribe: rule }), { Response: 'Subscribe', Result: 'Success' });

  await publish(seed);
  const fed = await next();
  const timestamp = JSON.parse(fed).Timestamp;
  assert.strictEqual(fed, String.raw`{"Type":"chat","RequestKey":null,"Schema":null,"External":true,"Object":"general","Info":"Hello World","Timestamp":${timestamp},"Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}`);

  client.send(JSON.stringify({ Type: 'chat', Object: 'general/own', Info: 'a/b \u2028 \u{1f41f}', RequestKey: 'key' }));
  const own = await next();
  assert(own.startsWith(String.raw`{"Type":"chat","RequestKey":"key","Schema":null,"External":true,"Object":"general\/own","Info":"a\/b \u2028 ` + '\u{1f41f}'), own);
  assert.strictEqual(JSON.parse(own).Subject, 'https://demo.example/#me');

  const state = await ask({ State: 'All' });
  assert.deepStrictEqual(state.Subscriptions, [rule]);
  assert.deepStrictEqual([state.Cell, state.Response, state.Result], ['demo', 'State', 'Success']);
  assert.deepStrictEqual(await ask({ State: 'Nothing' }), { Response: 'State', Reason: 'Invalid state type. Allowed status type: [All, Subscriptions]', Result: 'Error' });

  while (pings < 4) await once(client, 'ping');

  assert.deepStrictEqual(await ask({ Unsubscribe: rule }), { Response: 'Unsubscribe', Result: 'Success' });
  await publish(seed);
  assert.deepStrictEqual(await ask({ State: 'Subscriptions' }), { Response: 'State', Subscriptions: [], Result: 'Success' });

  const refused = new WebSocket(url);
  await once(refused, 'open');
  refused.send(JSON.stringify({ AccessToken: 'nonsense' }));
  const [code, reason] = await once(refused, 'close');
  assert.deepStrictEqual([code, reason.toString()], [1000, '']);

  client.close(1000, 'done');
  assert.deepStrictEqual((await once(client, 'close'))[0], 1000);
  console.log('ws', require('ws/package.json').version, 'ok');
}

main();
