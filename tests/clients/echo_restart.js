// Tabs of Laravel Echo over a restart of the daemon, which happens when this has printed `restart`.
// Arguments: host, port.
'use strict';

const { Tab, application, options, publisher, run, subscribed } = require('./echo');

const [host, port] = process.argv.slice(2);

run(async () => {
  const pusher = publisher('plain', host, port);
  const authority = `http://127.0.0.1:${await application(pusher)}`;
  const tabs = ['ann', 'bob'].map((name) => new Tab(name, options('reverb', 'plain', host, Number(port)), authority));
  const all = (name) => Promise.all(tabs.map((tab) => tab.sees(name)));
  const [ann, bob] = tabs;
  // Waits until each has been told of both.
  const everybody = async () => {
    while (tabs.some((tab) => Object.keys(tab.members()).length < 2)) await new Promise((resolve) => setTimeout(resolve, 10));
    tabs.forEach((tab) => tab.saw('members', tab.members()));
  };

  const join = async (tab) => {
    const chat = tab.hear(tab.echo.private('Chat.1'), 'ChatMessageSent');
    const room = tab.echo.join('room');
    tab.members = () => room.subscription.members.members;
    tab.pusher.user.bind('Greeting', (data) => tab.saw('Greeting', data));
    await subscribed(chat, room);
    tab.pusher.signin();
    await tab.pusher.user.signinDonePromise;
  };
  await join(ann);
  await join(bob);
  await everybody();
  const before = tabs.map((tab) => tab.echo.socketId());

  const back = tabs.map((tab) => Promise.all([
    subscribed(tab.echo.private('Chat.1'), tab.echo.join('room')),
    new Promise((resolve) => tab.pusher.connection.bind('connected', resolve)),
  ]));
  console.log('restart');
  await Promise.all(back);
  await Promise.all(tabs.map((tab) => tab.pusher.user.signinDonePromise));
  await everybody();
  tabs.forEach((tab, index) => tab.saw('is', tab.echo.connector.connectionStatus(), before[index] !== tab.echo.socketId()));
  await pusher.trigger('private-Chat.1', 'App\\Events\\ChatMessageSent', { message: 'after the restart' });
  await all('ChatMessageSent');
  await pusher.sendToUser('1', 'Greeting', 'again');
  await ann.sees('Greeting');
  bob.saw('users', await (await pusher.get({ path: '/channels/presence-room/users' })).json());
});
