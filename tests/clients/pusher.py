"""PyPI `pusher`, unmodified: publishes every way it can and asks all it can. The argument is the port."""

import os
import sys

# This file has the name of the package.
sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]

import pusher  # noqa: E402
from pusher.errors import PusherBadAuth, PusherBadRequest  # noqa: E402


def client(secret="app-secret"):
    port = int(sys.argv[1])
    return pusher.Pusher(app_id="7", key="app-key", secret=secret, host="127.0.0.1", port=port, ssl=False)


def refused(error, call):
    try:
        call()
    except error:
        return
    raise AssertionError(error)


def main():
    one = client()
    assert one.trigger("room", "App\\Events\\Sent", {"message": "hi \u00e9"}) == {}
    assert one.trigger(["a", "private-b"], "e", "text", "1.2") == {}
    assert one.trigger_batch([
        {"channel": "a", "name": "e", "data": {"n": 1}},
        {"channel": "cache-b", "name": "e", "data": "2"},
    ]) == {}
    assert one.send_to_user("ann", "e", {"n": 1}) == {}
    assert one.terminate_user_connections("ann") == {}
    assert one.channels_info() == {"channels": {}}
    assert one.channels_info("presence-", ["user_count"]) == {"channels": {}}
    counts = {"occupied": False, "user_count": 0, "subscription_count": 0}
    assert one.channel_info("presence-a", ["user_count", "subscription_count"]) == counts
    assert one.users_info("presence-a") == {"users": []}
    refused(PusherBadRequest, lambda: one.trigger("room", "pusher:e", "x"))
    refused(PusherBadAuth, lambda: client("other").trigger("room", "e", "x"))
    print("ok")


main()
