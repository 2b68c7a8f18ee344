// A presence channel whose list has no room for a third member, until the application ends the connections of the first,
// who has not signed in and is known from the channel alone. Whoever is refused stays connected.
// Arguments: host, port.
'use strict';

const { Tab, application, options, publisher, run, subscribed } = require('./echo');

const [host, port] = process.argv.slice(2);

function join(tab) {
  return tab.echo.join('room')
    .here((users) => tab.saw('here', users))
    .joining((user) => tab.saw('joining', user))
    .leaving((user) => tab.saw('leaving', user))
    .error(({ type, error, status }) => tab.saw('refused', type, error, status));
}

run(async () => {
  const pusher = publisher('plain', host, port);
  const authority = `http://127.0.0.1:${await application(pusher)}`;
  const open = (name) => new Tab(name, options('reverb', 'plain', host, Number(port)), authority);
  const tabs = ['ann', 'bob', 'cid1'].map(open);
  const [ann, bob, cid] = tabs;
  await subscribed(join(ann));
  await subscribed(join(bob));
  await ann.sees('joining');

  join(cid);
  await cid.sees('refused');
  const news = cid.hear(cid.echo.channel('news'), '.said');
  await subscribed(news);
  await pusher.trigger('news', 'said', 'still here');
  await cid.sees('.said');

  const gone = new Promise((resolve) => ann.pusher.connection.bind('disconnected', resolve));
  await pusher.terminateUserConnections('1');
  await gone;
  await bob.sees('leaving');
  // pusher-js does not ask for a channel again that was refused, so the user opens another tab.
  tabs.push(open('cid2'));
  await subscribed(join(tabs[3]));
  await bob.sees('joining');
  for (const tab of tabs) tab.saw('is', tab.pusher.connection.state);
});
