// A page of the Laravel application in Chromium, and one of a stranger.
// Arguments: the listener's port, the unix feed's path, the secret. The listener takes pages of http://app.example.
'use strict';

const assert = require('node:assert');
const http = require('node:http');
const net = require('node:net');
const jwt = require('jsonwebtoken');
const { chromium } = require('playwright-core');

const [port, feed, secret] = process.argv.slice(2);
const token = (claims) => jwt.sign(claims, secret, { expiresIn: '1h' });

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

// Runs in the page: connects, says something once open, notes everything that happens.
function connect([address, message]) {
  window.events = [];
  const socket = new WebSocket(address);
  socket.onopen = () => { window.events.push('open'); if (message) socket.send(message); };
  socket.onmessage = ({ data }) => window.events.push(data);
  socket.onclose = ({ code, reason }) => window.events.push(`close ${code} ${reason}`);
}

async function main() {
  const pages = http.createServer((_, response) => response.setHeader('Content-Type', 'text/html').end('<title>chat</title>'));
  await new Promise((resolve) => pages.listen(0, '127.0.0.1', resolve));
  const rules = ['app', 'evil'].map((name) => `MAP ${name}.example:80 127.0.0.1:${pages.address().port}`);
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync',
      `--host-resolver-rules=${rules.join(', ')}, MAP ws.example:80 127.0.0.1:${port}`,
    ],
  });
  const heard = async (tab, count) => {
    await tab.waitForFunction((wanted) => window.events.length >= wanted, count, { timeout: 20000 })
      .catch(async () => assert.fail(`${count}: ${await tab.evaluate(() => window.events)}`));
    return tab.evaluate(() => window.events);
  };
  try {
    const tab = await browser.newPage();
    await tab.goto('http://app.example/');
    const address = (claims) => `ws://ws.example/?token=${token(claims)}`;
    await tab.evaluate(connect, [address({ channel: 'chat:1', id: 1, name: 'アン' }), '{"data":{"message":"é","name":"x"}}']);
    await heard(tab, 3);
    await publish({ channel: 'chat:1', data: { message: 'hi' } });
    assert.deepStrictEqual(await heard(tab, 4), [
      'open',
      '{"type":"sended","ok":true}',
      '{"type":"message","sender":{"name":"アン","id":1},"data":{"message":"é","name":"x"}}',
      '{"type":"message","sender":{"name":"System","id":0},"data":{"message":"hi"}}',
    ]);
    await tab.evaluate(connect, ['ws://ws.example/', '']);
    assert.deepStrictEqual(await heard(tab, 2), ['open', 'close 1008 token missing']);
    await tab.goto('http://evil.example/');
    await tab.evaluate(connect, [address({ channel: 'chat:1' }), '']);
    assert.deepStrictEqual(await heard(tab, 1), ['close 1006 ']);
    console.log('chromium', browser.version(), 'ok');
  } finally {
    await browser.close();
    pages.close();
  }
}

main();
