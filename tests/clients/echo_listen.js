// Channels, events and whispers with Laravel Echo, whose broadcaster is the first argument.
// Arguments: broadcaster, host, port.
'use strict';

const { Tab, application, options, publisher, run, subscribed } = require('./echo');

const [broadcaster, host, port] = process.argv.slice(2);

run(async () => {
  const pusher = publisher('plain', host, port);
  const authority = `http://127.0.0.1:${await application(pusher)}`;
  const tab = (name) => new Tab(name, options(broadcaster, 'plain', host, Number(port)), authority);
  const [ann, bob] = [tab('ann'), tab('bob')];
  const both = (event) => Promise.all([ann.sees(event), bob.sees(event)]);

  const news = [ann, bob].map((each) => each.hear(each.echo.channel('news'), '.headline'));
  const chats = [ann, bob].map((each) => each.hear(each.echo.private('Chat.1'), 'ChatMessageSent'));
  const tests = [ann, bob].map((each) => each.hear(each.echo.private('TestChannel.3'), 'MessageSent'));
  await subscribed(...news, ...chats, ...tests);
  await pusher.trigger('news', 'headline', { text: 'é ☎ "/\\' });
  await both('.headline');
  await pusher.trigger('private-Chat.1', 'App\\Events\\ChatMessageSent', { message: 'hi', user: { id: 1, name: 'Ann' } });
  await both('ChatMessageSent');
  await pusher.trigger('private-TestChannel.3', 'App\\Events\\MessageSent', { message: 'm', id: 3 });
  await both('MessageSent');

  // toOthers()
  const others = { socket_id: ann.echo.socketId() };
  await pusher.trigger('private-Chat.1', 'App\\Events\\ChatMessageSent', { message: 'to others' }, others);
  await pusher.trigger('private-Chat.1', 'App\\Events\\ChatMessageSent', { message: 'to all' });
  await ann.sees('ChatMessageSent');
  await bob.sees('ChatMessageSent');
  await bob.sees('ChatMessageSent');

  for (const [each, chat] of [[ann, chats[0]], [bob, chats[1]]]) {
    chat.listenForWhisper('typing', (data) => each.saw('typing', data));
  }
  chats[0].whisper('typing', { name: 'Ann' });
  await bob.sees('typing');
  chats[1].whisper('typing', { name: 'Bob' });
  await ann.sees('typing');

  const mine = ann.echo.private('App.Models.User.1').notification((data) => ann.saw('notification', data));
  await subscribed(mine);
  const notified = 'Illuminate\\Notifications\\Events\\BroadcastNotificationCreated';
  await pusher.triggerBatch([
    { channel: 'private-App.Models.User.1', name: notified, data: { id: 'a-uuid', type: 'InvoicePaid' } },
    { channel: 'news', name: 'headline', data: 'a batch' },
  ]);
  await both('.headline');

  ann.echo.private('refused').error(({ type, status }) => ann.saw('refused by the application', type, status));
  await ann.sees('refused by the application');
  ann.echo.private('forged').error((error) => ann.saw('refused by the daemon', error.type, error.status, typeof error.error));
  await ann.sees('refused by the daemon');

  bob.echo.leave('Chat.1');
  await bob.answered();
  await pusher.trigger(['private-Chat.1', 'news'], 'App\\Events\\ChatMessageSent', { message: 'bob has left' });
  await pusher.trigger('news', 'headline', 'the end');
  await ann.sees('ChatMessageSent');
  await both('.headline');
});
