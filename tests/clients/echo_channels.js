// Encrypted channels, cache channels and subscription counts with Laravel Echo.
// Arguments: host, port.
'use strict';

const { Tab, application, options, publisher, run, subscribed } = require('./echo');

const [host, port] = process.argv.slice(2);
const tab = (name, app, authority) => new Tab(name, options('pusher', app, host, Number(port)), authority);

async function encrypted(pusher, ann) {
  const secrets = ann.hear(ann.echo.encryptedPrivate('secrets'), 'Told');
  await subscribed(secrets);
  await pusher.trigger('private-encrypted-secrets', 'App\\Events\\Told', { text: 'é, encrypted' });
  await ann.sees('Told');
}

async function cached(pusher, ann) {
  const channels = {
    'cache-prices': () => ann.echo.channel('cache-prices'),
    'private-cache-prices': () => ann.echo.private('cache-prices'),
    'private-encrypted-cache-prices': () => ann.echo.encryptedPrivate('cache-prices'),
    'presence-cache-prices': () => ann.echo.join('cache-prices'),
  };
  for (const [name, join] of Object.entries(channels)) {
    const follow = () => join()
      .subscribed(() => ann.saw('subscribed', name))
      .on('pusher:cache_miss', () => ann.saw('nothing yet', name))
      .listen('Price', (data) => ann.saw('Price', data));
    follow();
    await ann.sees('nothing yet');
    ann.echo.leave('cache-prices');
    await ann.answered();
    // While nobody is there.
    await pusher.trigger(name, 'App\\Events\\Price', 'old');
    await pusher.trigger(name, 'App\\Events\\Price', { of: name });
    follow();
    await ann.sees('Price');
    ann.echo.leave('cache-prices');
  }
}

async function counted(ann, bob) {
  const follow = (each) => {
    const room = each.echo.channel('room');
    return room.on('pusher:subscription_count', ({ subscription_count: count }) => each.saw('count', count, room.subscription.subscriptionCount));
  };
  follow(ann);
  await ann.sees('count');
  follow(bob);
  await ann.sees('count');
  await bob.sees('count');
  bob.echo.leave('room');
  await ann.sees('count');
}

run(async () => {
  const pusher = publisher('plain', host, port);
  const authority = `http://127.0.0.1:${await application(pusher)}`;
  const ann = tab('ann', 'plain', authority);
  await encrypted(pusher, ann);
  await cached(pusher, ann);
  await counted(tab('ann1', 'counted', authority), tab('bob', 'counted', authority));
});
