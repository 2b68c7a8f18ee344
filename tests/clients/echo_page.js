// A page of a Laravel application in Chromium, for two users, with a daemon that speaks TLS and one that does not. The
// application's own server is here; the daemon's certificate is the only one that the browser is told to believe.
// Arguments: the port without TLS, the port with it, the certificate.
'use strict';

const { X509Certificate, createHash } = require('node:crypto');
const fs = require('node:fs');
const path = require('node:path');
const { chromium } = require('playwright-core');
const { APPS, Log, application, publisher, run } = require('./echo');

const [plain, secure, certificate] = process.argv.slice(2);
const host = 'localhost';

function serve(request, response) {
  const { pathname } = new URL(request.url, 'http://page');
  const file = pathname.replace('/node_modules', process.env.NODE_PATH);
  const is_script = pathname.startsWith('/node_modules/') && pathname.endsWith('.js');
  if (!is_script && pathname !== '/') return response.writeHead(204).end();
  response.writeHead(200, { 'Content-Type': is_script ? 'text/javascript' : 'text/html' });
  return fs.createReadStream(is_script ? file : path.join(__dirname, 'echo_page.html')).pipe(response);
}

// The page of a user, whom the application knows by a cookie.
async function open(browser, name, origin, scheme, port) {
  const log = new Log(name);
  const context = await browser.newContext();
  await context.addCookies([{ name: 'user', value: name, url: origin }]);
  const page = await context.newPage();
  page.on('console', (message) => log.saw(...(message.text().startsWith('[') ? JSON.parse(message.text()) : ['console', message.text()])));
  page.on('pageerror', (error) => log.saw('thrown', String(error)));
  log.page = page;
  const env = {
    VITE_REVERB_APP_KEY: APPS.plain.key,
    VITE_REVERB_HOST: host,
    VITE_REVERB_PORT: port,
    VITE_REVERB_SCHEME: scheme,
  };
  await page.goto(`${origin}/?${new URLSearchParams(env)}`);
  await log.sees('subscribed');
  return log;
}

async function converse(browser, scheme, port) {
  const pusher = publisher('plain', host, port, scheme === 'https');
  const origin = `http://localhost:${await application(pusher, serve)}`;
  const ann = await open(browser, 'ann', origin, scheme, port);
  const bob = await open(browser, 'bob', origin, scheme, port);
  await ann.sees('joining');
  const both = (event) => Promise.all([ann.sees(event), bob.sees(event)]);
  await pusher.trigger('private-Chat.1', 'App\\Events\\ChatMessageSent', { message: 'hi', user: { id: 1, name: 'Ann' } });
  await both('ChatMessageSent');
  await pusher.trigger('private-encrypted-secrets', 'App\\Events\\Told', { text: 'é, encrypted' });
  await both('Told');
  await bob.page.evaluate(() => window.Echo.private('Chat.1').whisper('typing', { name: 'Bob' }));
  await ann.sees('typing');
  const others = { socket_id: await ann.page.evaluate(() => window.Echo.socketId()) };
  await pusher.trigger('private-Chat.1', 'App\\Events\\ChatMessageSent', { message: 'to others' }, others);
  await bob.sees('ChatMessageSent');
  await bob.page.close();
  await ann.sees('leaving');
  await ann.page.close();
}

run(async () => {
  const { publicKey } = new X509Certificate(fs.readFileSync(certificate));
  const key = createHash('sha256').update(publicKey.export({ type: 'spki', format: 'der' })).digest('base64');
  const browser = await chromium.launch({
    executablePath: '/usr/bin/chromium',
    args: [
      '--no-sandbox', '--disable-gpu', '--disable-quic', '--disable-background-networking', '--disable-sync',
      `--ignore-certificate-errors-spki-list=${key}`,
    ],
  });
  await converse(browser, 'http', plain);
  await converse(browser, 'https', secure);
  await browser.close();
});
