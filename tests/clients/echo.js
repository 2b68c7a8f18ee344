// What the scripts of Laravel Echo share: the Laravel application that authorises, tabs that use Echo, a publisher.
// All are others' own: laravel-echo and pusher-js in the tabs, pusher in the application.
'use strict';

const http = require('node:http');
const path = require('node:path');
const { pathToFileURL } = require('node:url');
const PusherJs = require('pusher-js');
const Pusher = require('pusher');

// What `import Echo from 'laravel-echo'` gives; the build that it has for require() does not load in Node.
const imported = import(pathToFileURL(path.join(path.dirname(require.resolve('laravel-echo')), 'echo.js')));
let Echo;

// Far longer than anything here takes: what is waited for on a loaded machine.
const PATIENCE_MS = 50000;

const APPS = {
  plain: { appId: 'app-id', key: 'app-key', secret: 'app-secret' },
  digits: { appId: '3', key: '278d425bdf160c739803', secret: '7ad3773142a6692b25b8' },
  counted: { appId: 'counted', key: 'counted-key', secret: 'counted-secret' },
  small: { appId: 'small', key: 'small-key', secret: 'small-secret' },
};
const USERS = { ann: { id: 1, name: 'Ann' }, bob: { id: 2, name: 'Bob' }, cid: { id: 3, name: 'Cid ☎' } };
const MASTER = Buffer.from('only the tests know this secret!').toString('base64');

// The daemons of a cluster, by commas: each tab and each publisher takes the next.
let turn = 0;
function next(hosts) {
  const all = hosts.split(',');
  return all[turn++ % all.length];
}

function publisher(app, hosts, port, useTLS = false) {
  const host = next(hosts);
  return new Pusher({ ...APPS[app], host, port, useTLS, encryptionMasterKeyBase64: MASTER });
}

// Answers as Laravel's PusherBroadcaster does. Nobody may enter the channel `refused`, what it signs for `forged` is
// good nowhere, and for `signed` it leaves it to the sign-in who somebody is.
function authorize(pusher, user, path, form) {
  const [socket, channel] = [form.get('socket_id'), form.get('channel_name')];
  if (!user || channel === 'private-refused') return [403, { message: 'This action is unauthorized.' }];
  if (path === '/broadcasting/user-auth') {
    return [200, pusher.authenticateUser(socket, { id: String(user.id), user_info: user })];
  }
  if (channel.startsWith('presence-') && channel !== 'presence-signed') {
    return [200, pusher.authorizeChannel(socket, channel, { user_id: String(user.id), user_info: user })];
  }
  return [200, pusher.authorizeChannel(socket, channel === 'private-forged' ? 'private-other' : channel)];
}

// The HTTP server of such an application; `others` answers what is not its broadcasting.
function application(pusher, others) {
  const server = http.createServer((request, response) => {
    const who = request.headers.authorization?.replace('Bearer ', '') ?? request.headers.cookie?.replace('user=', '');
    let body = '';
    request.on('data', (data) => { body += data; });
    request.on('end', () => {
      if (!request.url.startsWith('/broadcasting/')) return others(request, response);
      const [status, answer] = authorize(pusher, USERS[who], request.url, new URLSearchParams(body));
      response.writeHead(status, { 'Content-Type': 'application/json' }).end(JSON.stringify(answer));
    });
  });
  return new Promise((resolve) => server.listen(0, '127.0.0.1', () => resolve(server.address().port)));
}

// Keeps what one tab sees, in its order.
class Log {
  static all = [];

  constructor(name) {
    this.name = name;
    this.seen = [];
    this.awaited = 0;
    this.wake = () => {};
    Log.all.push(this);
  }

  // A copy, because what pusher-js shows of a channel's members changes with them.
  saw(...what) {
    this.seen.push(JSON.parse(JSON.stringify(what)));
    this.wake();
  }

  // Waits until something of this name is seen, after what was waited for before.
  async sees(name) {
    for (;;) {
      const at = this.seen.findIndex(([seen], index) => index >= this.awaited && seen === name);
      if (at >= 0) {
        this.awaited = at + 1;
        return this.seen[at];
      }
      this.waiting = name;
      await new Promise((resolve) => { this.wake = resolve; });
    }
  }

  static print() {
    for (const { name, seen } of Log.all) seen.forEach((what) => console.log(JSON.stringify([name, ...what])));
  }
}

// A tab of a user's browser: a page with an Echo of its own. `name` may end in a digit, for the tabs of one user.
class Tab extends Log {
  constructor(name, options, authority) {
    super(name);
    const headers = { Authorization: `Bearer ${name.replace(/\d/, '')}` };
    this.echo = new Echo({
      ...options,
      Pusher: PusherJs,
      authEndpoint: `${authority}/broadcasting/auth`,
      auth: { headers },
      userAuthentication: { endpoint: `${authority}/broadcasting/user-auth`, headers },
    });
    this.pusher = this.echo.connector.pusher;
    this.pusher.connection.bind('error', (error) => this.saw('error', (error.error ?? error).data));
  }

  connected() {
    const { connection } = this.pusher;
    return new Promise((resolve) => {
      if (connection.state === 'connected') resolve(); else connection.bind('connected', resolve);
    });
  }

  // Hears an event of a channel, by the name that Echo's users give it.
  hear(channel, event) {
    return channel.listen(event, (data) => this.saw(event, data));
  }

  // Waits until the daemon has answered to everything that this tab has said before.
  async answered() {
    const name = `barrier-${Tab.barriers += 1}`;
    await new Promise((resolve) => this.echo.channel(name).subscribed(resolve));
    this.echo.leave(name);
  }
}
Tab.barriers = 0;

// The options that Laravel's own documentation gives, for either broadcaster, and more.
function options(broadcaster, app, hosts, port, more = {}) {
  const common = { key: APPS[app].key, wsHost: next(hosts), wsPort: port, wssPort: port, forceTLS: false, enabledTransports: ['ws', 'wss'], ...more };
  return broadcaster === 'reverb' ? { broadcaster, ...common } : { broadcaster, cluster: 'mt1', ...common };
}

const subscribed = (...channels) => Promise.all(channels.map((channel) => new Promise((resolve) => channel.subscribed(resolve))));

// Runs a script, then prints what every tab has seen.
function run(main) {
  setTimeout(() => {
    Log.print();
    Log.all.forEach(({ name, waiting }) => console.error(`${name} waits for ${waiting}`));
    process.exit(1);
  }, PATIENCE_MS);
  imported.then((module) => {
    Echo = module.default;
    return main();
  }).then(() => {
    Log.print();
    process.exit(0);
  });
}

module.exports = { APPS, Log, Tab, application, options, publisher, run, subscribed };
