// Laravel Echo follows what PHP broadcasts as Laravel does, both under a path: the page's has no slash at its end, and
// the application's has one.
// Arguments: host, port, path.
'use strict';

const assert = require('node:assert');
const { spawn } = require('node:child_process');
const path = require('node:path');
const { APPS, Tab, application, options, publisher, run, subscribed } = require('./echo');

const [host, port, wsPath] = process.argv.slice(2);

function broadcast(...events) {
  const { appId, key, secret } = APPS.plain;
  const script = path.join(__dirname, 'laravel_broadcast.php');
  const php = spawn('php', [script, appId, key, secret, `http://${host}:${port}`, `${wsPath}/`], { stdio: ['pipe', 'pipe', 'inherit'] });
  let printed = '';
  php.stdout.on('data', (data) => { printed += data; });
  php.stdin.end(events.map((event) => `${JSON.stringify(event)}\n`).join(''));
  return new Promise((resolve) => php.on('close', (status) => {
    assert.strictEqual(printed, '[200,"{}"]\n'.repeat(events.length));
    assert.strictEqual(status, 0);
    resolve();
  }));
}

run(async () => {
  const authority = `http://127.0.0.1:${await application(publisher('plain', host, port))}`;
  const tabs = ['ann', 'bob'].map((name) => new Tab(name, options('reverb', 'plain', host, Number(port), { wsPath }), authority));
  const [ann, bob] = tabs;
  const chats = tabs.map((tab) => tab.hear(tab.echo.private('Chat.1'), 'ChatMessageSent'));
  const news = tabs.map((tab) => tab.hear(tab.echo.channel('news'), '.said'));
  await subscribed(...chats, ...news);
  const said = { channels: ['private-Chat.1'], event: 'App\\Events\\ChatMessageSent' };
  await broadcast(
    { ...said, payload: { message: 'hi', user: { id: 1, name: 'Ann' } } },
    { ...said, payload: { message: 'to others', socket: ann.echo.socketId() } },
    { channels: ['news', 'other'], event: 'said', payload: { text: 'é ☎ /', nothing: null, list: [1, 2.5], socket: null } },
  );
  await Promise.all([ann.sees('.said'), bob.sees('.said')]);
});
