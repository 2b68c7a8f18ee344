// Many tabs of Laravel Echo in presence channels of the daemons of a cluster, each with its own view of its members.
// Arguments: hosts, port, tabs, channels. Tab I is at the I-th host by turns, as user I / 2, in the channel I by turns.
//
// Each line of the input has an answer of one line, in JSON:
//   report     what every tab that is connected sees of its channel, and what it has seen that cannot be
//   leave I    tab I leaves its channel
//   join I     tab I joins it again
'use strict';

const readline = require('node:readline');
const { pathToFileURL } = require('node:url');
const path = require('node:path');
const PusherJs = require('pusher-js');
const { options, publisher } = require('./echo');

const [hosts, port, tabs, channels] = process.argv.slice(2);
const pusher = publisher('plain', '127.0.0.1', port);
const wrong = [];

class Member {
  constructor(Echo, index) {
    this.user = String(Math.floor(index / 2));
    this.channel = `crowd-${index % Number(channels)}`;
    const authorize = ({ socketId, channelName }, callback) => callback(null, pusher.authorizeChannel(socketId, channelName, { user_id: this.user, user_info: { id: this.user } }));
    this.echo = new Echo({
      ...options('reverb', 'plain', hosts, Number(port)),
      Pusher: PusherJs,
      channelAuthorization: { customHandler: authorize },
    });
    this.connection = this.echo.connector.pusher.connection;
    this.join();
  }

  join() {
    const name = `presence-${this.channel}`;
    this.is_in = true;
    const { subscription } = this.echo.join(this.channel);
    let seen = new Set();
    subscription.bind('pusher:subscription_succeeded', ({ members }) => { seen = new Set(Object.keys(members)); });
    subscription.bind('pusher:member_added', ({ id }) => {
      if (seen.has(id)) wrong.push(`${this.user} sees ${id} come twice to ${name}`);
      seen.add(id);
    });
    subscription.bind('pusher:member_removed', ({ id }) => {
      if (!seen.has(id)) wrong.push(`${this.user} sees ${id} go twice from ${name}`);
      seen.delete(id);
    });
    this.subscription = subscription;
  }

  leave() {
    this.is_in = false;
    this.echo.leave(this.channel);
  }

  // What it sees; null of the members until it is let in.
  report() {
    const { members, subscribed } = this.subscription;
    const seen = subscribed ? Object.keys(members.members).sort() : null;
    return { user: this.user, channel: `presence-${this.channel}`, seen };
  }
}

import(pathToFileURL(path.join(path.dirname(require.resolve('laravel-echo')), 'echo.js'))).then(({ default: Echo }) => {
  const members = Array.from({ length: Number(tabs) }, (_, index) => new Member(Echo, index));
  readline.createInterface({ input: process.stdin }).on('line', (line) => {
    const [command, index] = line.split(' ');
    if (command === 'leave') members[index].leave();
    if (command === 'join') members[index].join();
    const there = members.filter(({ is_in: isIn, connection }) => isIn && connection.state === 'connected');
    console.log(JSON.stringify({ there: there.map((member) => member.report()), wrong }));
  }).on('close', () => process.exit(0));
});
