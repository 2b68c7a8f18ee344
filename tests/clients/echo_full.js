// A third tab of an app that has room for two connections: refused for good, while another that is opened later is let
// in when one has gone.
// Arguments: host, port.
'use strict';

const { Tab, options, run } = require('./echo');

const [host, port] = process.argv.slice(2);

run(async () => {
  const tab = (name) => new Tab(name, options('reverb', 'small', host, Number(port)), 'http://127.0.0.1:1');
  const [ann, bob] = [tab('ann'), tab('bob')];
  await Promise.all([ann.connected(), bob.connected()]);
  const cid = tab('cid');
  await new Promise((resolve) => cid.pusher.connection.bind('disconnected', resolve));
  bob.echo.disconnect();
  const dan = tab('dan');
  // Bob's place is free when the daemon has read that he has gone.
  while (dan.pusher.connection.state !== 'connected') {
    await new Promise((resolve) => dan.pusher.connection.bind('state_change', resolve));
    if (dan.pusher.connection.state === 'disconnected') dan.pusher.connect();
  }
  dan.seen.splice(0);
  [ann, bob, cid, dan].forEach((each) => each.saw('is', each.echo.connector.connectionStatus()));
});
