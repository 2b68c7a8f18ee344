"""PyPI's pusher publishes, its pysher follows: a public, a private and a presence channel, a client event.

Arguments: host, port.
"""

import json
import os
import queue
import sys
import threading

# The script beside this one that is called like the package is not meant.
sys.path.pop(0)

import pusher
import pysher

HOST, PORT = sys.argv[1], int(sys.argv[2])
KEY, SECRET = "278d425bdf160c739803", "7ad3773142a6692b25b8"
# Far longer than anything here takes.
PATIENCE_S = 50


class Client:
    """A pysher client that keeps what it sees."""

    def __init__(self, name, user, follows):
        self.name = name
        self.seen = queue.Queue()
        self.answered = queue.Queue()
        self.follows = follows
        self.pusher = pysher.Pusher(KEY, secret=SECRET, user_data=user, secure=False, custom_host=HOST, port=PORT)
        self.pusher.connection.bind("pusher:connection_established", self.subscribe)
        self.pusher.connect()
        for _ in follows:
            self.answered.get()

    def subscribe(self, _):
        for channel, events in self.follows.items():
            followed = self.pusher.subscribe(channel)
            followed.bind("pusher_internal:subscription_succeeded", self.answered.put)
            for event in events:
                followed.bind(event, self.see, channel, event)

    def see(self, data, channel, event):
        self.seen.put([self.name, channel, event, data])

    def show(self):
        show(*self.seen.get())


def show(*what):
    print(json.dumps(what, ensure_ascii=False, separators=(",", ":")), flush=True)


def main():
    server = pusher.Pusher(app_id="3", key=KEY, secret=SECRET, ssl=False, host=HOST, port=PORT)
    events = {
        "news": ["headline"],
        "private-chat": ["said", "client-typing"],
        "presence-room": ["pusher_internal:subscription_succeeded", "pusher_internal:member_added", "said"],
    }
    ann = Client("ann", {"user_id": "7", "user_info": {"name": "Ann"}}, events)
    ann.show()
    bob = Client("bob", {"user_id": 8}, {"private-chat": ["said"], "presence-room": []})
    ann.show()

    server.trigger("news", "headline", {"text": "é ☎"})
    ann.show()
    server.trigger_batch([
        {"channel": "private-chat", "name": "said", "data": {"text": "in a batch"}},
        {"channel": "presence-room", "name": "said", "data": "also"},
    ])
    ann.show()
    ann.show()
    bob.show()
    server.trigger(["private-chat", "news"], "said", "not to Bob", bob.pusher.connection.socket_id)
    ann.show()
    bob.pusher.channel("private-chat").trigger("client-typing", {"name": "Bob"})
    ann.show()
    server.trigger("private-chat", "said", "to both")
    ann.show()
    bob.show()
    show("channels", server.channels_info("presence-", ["user_count"]))
    show("channel", server.channel_info("private-chat", ["subscription_count"]))
    show("users", sorted(user["id"] for user in server.users_info("presence-room")["users"]))
    show("terminated", server.terminate_user_connections("7"))
    # Its thread may wait for a socket that is closed, for long: it is not waited for.
    ann.pusher.disconnect(timeout=0)
    bob.pusher.disconnect(timeout=0)


deadline = threading.Timer(PATIENCE_S, os._exit, [1])
deadline.daemon = True
deadline.start()
main()
