// The example page of wazo-websocketd's documentation in Chromium, as a user works with it: past the warning about the
// certificate, host and token filled in, Connect clicked.
// Arguments: the listener's port, the unix feed's path, a token, the page.
'use strict';

const assert = require('node:assert');
const net = require('node:net');
const { chromium } = require('playwright-core');

const [port, feed, token, page] = process.argv.slice(2);
// The page has the port 9502 in it; the browser is told where that is.
const HOST = 'pbx.example';
const event = '{"name": "endpoint_status_update", "required_acl": null,  "data": {"id": 1, "text": "é ☎"}}';

function publish() {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ path: feed }, () => socket.write(`wazo ${event}\n\n`));
    socket.once('error', reject);
    socket.once('data', (receipt) => {
      assert.deepStrictEqual(JSON.parse(receipt), { accepted: 1, rejected: 0 });
      socket.end(resolve);
    });
  });
}

async function main() {
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync',
      '--ignore-certificate-errors', `--host-resolver-rules=MAP ${HOST}:9502 127.0.0.1:${port}`,
    ],
  });
  try {
    const tab = await browser.newPage();
    const visited = await tab.goto(`https://${HOST}:9502/`);
    assert.strictEqual(visited.status(), 200);
    assert((await tab.textContent('body')).trim().length > 0);

    const lines = [];
    tab.on('console', (message) => lines.push(message.text()));
    const said = async (text) => {
      while (!lines.includes(text)) await tab.waitForEvent('console', { timeout: 20000 }).catch(() => assert.fail(`${text}: ${lines}`));
    };
    await tab.goto(`file://${page}`);
    await tab.fill('#host', HOST);
    await tab.fill('#token', 'nonsense');
    await tab.click('button');
    await said("websocketd closed with code 4002 and reason 'authentication failed'");
    await tab.fill('#token', token);
    await tab.click('button');
    await said('waiting for messages');
    await publish();
    await said(`message received: ${event}`);
    console.log('chromium', browser.version(), 'ok');
  } finally {
    await browser.close();
  }
}

main();
