// A third tab of an app that has room for two connections: refused, and let in when one has gone.
// Arguments: host, port.
'use strict';

const { Tab, options, run } = require('./echo');

const [host, port] = process.argv.slice(2);

run(async () => {
  const tab = (name) => new Tab(name, options('reverb', 'small', host, Number(port)), 'http://127.0.0.1:1');
  const [ann, bob] = [tab('ann'), tab('bob')];
  await Promise.all([ann.connected(), bob.connected()]);
  const cid = tab('cid');
  const connected = cid.connected();
  await cid.sees('error');
  bob.echo.disconnect();
  await connected;
  // On a busy machine it may have been refused more than once.
  cid.seen.splice(1);
  [ann, bob, cid].forEach((each) => each.saw('is', each.echo.connector.connectionStatus()));
});
