// What a Node program beside the Laravel application does, with npm ioredis as it is.
// Arguments: the port of Redis, the prefix, then payloads.
'use strict';

const Redis = require('ioredis');

async function main() {
  const [port, prefix, ...payloads] = process.argv.slice(2);
  const redis = new Redis(Number(port), '127.0.0.1');
  for (const payload of payloads) {
    console.log(await redis.publish(`${prefix}broadcast`, payload));
  }
  await redis.quit();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
