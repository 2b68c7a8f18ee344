// An Echo whose key no app has.
// Arguments: host, port.
'use strict';

const { Tab, options, run } = require('./echo');

const [host, port] = process.argv.slice(2);

run(async () => {
  const tab = new Tab('nobody', { ...options('reverb', 'plain', host, Number(port)), key: 'no-key' }, 'http://127.0.0.1:1');
  const { connection } = tab.pusher;
  connection.bind('state_change', ({ current }) => tab.saw('state', current));
  tab.echo.channel('news').error(() => tab.saw('no error of the channel'));
  await new Promise((resolve) => connection.bind('disconnected', resolve));
  // Nothing is planned any more that would connect again.
  tab.saw('is', tab.echo.connector.connectionStatus(), connection.retryTimer, connection.runner, connection.connection);
});
