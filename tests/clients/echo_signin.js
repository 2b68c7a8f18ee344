// Users who sign in with pusher.signin(): events for a user, presence by the sign-in, connections that are terminated.
// Arguments: host, port.
'use strict';

const { Tab, application, options, publisher, run, subscribed } = require('./echo');

const [host, port] = process.argv.slice(2);

run(async () => {
  const pusher = publisher('plain', host, port);
  const authority = `http://127.0.0.1:${await application(pusher)}`;
  const tabs = ['ann1', 'ann2', 'bob'].map((name) => new Tab(name, options('pusher', 'plain', host, Number(port)), authority));
  const [ann1, ann2, bob] = tabs;
  for (const tab of tabs) {
    tab.pusher.user.bind('Greeting', (data) => tab.saw('Greeting', data));
    await tab.connected();
    tab.pusher.signin();
    await tab.pusher.user.signinDonePromise;
    tab.saw('signed in', tab.pusher.user.user_data);
  }

  await pusher.sendToUser('1', 'Greeting', { hello: 'Ann' });
  await pusher.sendToUser('2', 'Greeting', { hello: 'Bob' });
  await Promise.all(tabs.map((tab) => tab.sees('Greeting')));

  for (const tab of [ann1, bob]) {
    const joined = tab.echo.join('signed').here((users) => tab.saw('here', users)).leaving((user) => tab.saw('leaving', user));
    await subscribed(joined);
  }

  const gone = [ann1, ann2].map((tab) => new Promise((resolve) => tab.pusher.connection.bind('disconnected', resolve)));
  await pusher.terminateUserConnections('1');
  await Promise.all(gone);
  await bob.sees('leaving');
  await pusher.sendToUser('2', 'Greeting', { hello: 'Bob, still here' });
  await bob.sees('Greeting');
  for (const tab of tabs) tab.saw('is', tab.pusher.connection.state);
});
