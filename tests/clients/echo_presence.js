// A presence channel of Laravel Echo with three users, one of them in two tabs.
// Arguments: host, port.
'use strict';

const { Tab, application, options, publisher, run, subscribed } = require('./echo');

const [host, port] = process.argv.slice(2);

function join(tab) {
  return tab.echo.join('room')
    .here((users) => tab.saw('here', users))
    .joining((user) => tab.saw('joining', user))
    .leaving((user) => tab.saw('leaving', user))
    .listen('Said', (data) => tab.saw('Said', data))
    .listenForWhisper('typing', (data, { user_id }) => tab.saw('typing', data, user_id));
}

run(async () => {
  const pusher = publisher('plain', host, port);
  const authority = `http://127.0.0.1:${await application(pusher)}`;
  const tabs = ['ann1', 'ann2', 'bob', 'cid'].map((name) => new Tab(name, options('reverb', 'plain', host, Number(port)), authority));
  const [ann1, ann2, bob, cid] = tabs;
  const ask = async (path, params) => (await pusher.get({ path, params })).json();
  const all = (name, ...some) => Promise.all(some.map((tab) => tab.sees(name)));

  for (const tab of [ann1, ann2]) await subscribed(join(tab));
  await subscribed(join(bob));
  await all('joining', ann1, ann2);
  await subscribed(join(cid));
  await all('joining', ann1, ann2, bob);

  bob.echo.join('room').whisper('typing', { name: 'Bob' });
  await all('typing', ann1, ann2, cid);
  await pusher.trigger('presence-room', 'App\\Events\\Said', { text: 'four tabs' });
  await all('Said', ...tabs);

  ann2.echo.disconnect();
  let counts;
  do counts = await ask('/channels/presence-room', { info: 'subscription_count' }); while (counts.subscription_count !== 3);
  await pusher.trigger('presence-room', 'App\\Events\\Said', { text: 'three tabs' });
  await all('Said', ann1, bob, cid);

  ann1.echo.leave('room');
  await all('leaving', bob, cid);
  cid.echo.disconnect();
  await all('leaving', bob);
  bob.saw('users', await ask('/channels/presence-room/users'));
  await subscribed(join(ann1));
  await all('joining', bob);
});
