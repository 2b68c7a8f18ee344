// npm `pusher`, unmodified: publishes every way it can and asks all it can. The argument is the port.
const assert = require("node:assert");
const Pusher = require("pusher");

async function main() {
  const options = { appId: "7", key: "app-key", secret: "app-secret", host: "127.0.0.1", port: process.argv[2], useTLS: false };
  const pusher = new Pusher(options);
  const get = async (path, params) => {
    const response = await pusher.get({ path, params });
    assert.strictEqual(response.status, 200);
    return response.json();
  };
  const good = async (promise) => assert.strictEqual((await promise).status, 200);
  await good(pusher.trigger("room", "App\\Events\\Sent", { message: "hi \u00e9" }));
  await good(pusher.trigger(["a", "private-b"], "e", "text", { socket_id: "1.2" }));
  await good(pusher.triggerBatch([
    { channel: "a", name: "e", data: { n: 1 } },
    { channel: "cache-b", name: "e", data: "2", socket_id: "1.2" },
  ]));
  const counted = await pusher.trigger(["presence-a", "a"], "e", "", { info: "user_count,subscription_count" });
  assert.deepStrictEqual(await counted.json(), {
    channels: { "presence-a": { user_count: 0, subscription_count: 0 }, a: { subscription_count: 0 } },
  });
  await good(pusher.terminateUserConnections("ann"));
  assert.deepStrictEqual(await get("/channels"), { channels: {} });
  assert.deepStrictEqual(await get("/channels", { filter_by_prefix: "presence-", info: "user_count" }), { channels: {} });
  assert.deepStrictEqual(await get("/channels/presence-a", { info: "user_count,subscription_count" }), {
    occupied: false, user_count: 0, subscription_count: 0,
  });
  assert.deepStrictEqual(await get("/channels/presence-a/users"), { users: [] });
  const refused = async (promise, status) => assert.rejects(promise, (error) => error.status === status);
  await refused(pusher.get({ path: "/channels/room/users" }), 400);
  await refused(pusher.trigger("room", "pusher:e", ""), 400);
  await refused(pusher.trigger("room", "e", "x".repeat(10241)), 413);
  await refused(new Pusher({ ...options, secret: "other" }).trigger("room", "e", ""), 401);
  await refused(new Pusher({ ...options, appId: "8" }).trigger("room", "e", ""), 404);
  console.log("ok");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
