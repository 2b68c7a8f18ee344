"""PyPI websocket-client, as it is, does what the example page of Wazo's documentation does.

Arguments: the URL without a query, the unix feed's path, a token.
"""

import json
import socket
import sys

import websocket

URL, FEED, TOKEN = sys.argv[1:]

# Neither the order of the keys nor the white space is JSON's usual: a client gets the bytes of the bus.
EVENT = r'{ "data":{"id":1,"status":8,"n":"\u00e9 \/"},"required_acl":"events.endpoints" ,"name":"endpoint_status_update"}'
OTHER = '{"name":"endpoint_status_update","required_acl":"secrets"}'


def publish(*events):
    with socket.socket(socket.AF_UNIX) as feed:
        feed.connect(FEED)
        feed.sendall("".join(f"wazo {event}\n" for event in events).encode() + b"\n")
        receipt = json.loads(feed.makefile().readline())
        assert receipt == {"accepted": len(events), "rejected": 0}, receipt


class Page:
    """The page's script, line for line, but that it ends after the second event."""

    def __init__(self):
        self.started = False
        self.events = []

    def on_message(self, app, text):
        if self.started:
            self.events.append(text)
            if len(self.events) == 2:
                app.close()
            return
        message = json.loads(text)
        assert (message["code"], message["msg"]) == (0, ""), message
        if message["op"] == "init":
            app.send(json.dumps({"op": "subscribe", "data": {"event_name": "*"}}))
            app.send(json.dumps({"op": "start"}))
        elif message["op"] == "start":
            self.started = True
            publish(EVENT, OTHER, EVENT)


def close_of(url, **options):
    client = websocket.create_connection(url, timeout=20, **options)
    opcode, data = client.recv_data()
    assert opcode == websocket.ABNF.OPCODE_CLOSE, (opcode, data)
    return int.from_bytes(data[:2], "big"), data[2:].decode()


page = Page()
websocket.WebSocketApp(f"{URL}?token={TOKEN}", on_message=page.on_message).run_forever()
assert page.events == [EVENT, EVENT], page.events

assert close_of(URL) == (4001, "no token")
assert close_of(f"{URL}?token=nonsense") == (4002, "authentication failed")
assert close_of(f"{URL}?token={TOKEN}&version=3") == (4004, "")
assert close_of(URL, header=["X-Auth-Token: nonsense"]) == (4002, "authentication failed")

# As the SDK speaks: version 2, below a proxy's path.
client = websocket.create_connection(f"{URL}api/websocketd/?version=2", timeout=20, header=[f"X-Auth-Token: {TOKEN}"])


def ask(op, **data):
    client.send(json.dumps({"op": op, "data": data}))
    return json.loads(client.recv())


assert json.loads(client.recv()) == {"op": "init", "code": 0, "data": {"version": 2}}
for op in ("start", "subscribe", "token"):
    answer = ask(op, event_name="endpoint_status_update", token=TOKEN)
    assert answer == {"op": op, "code": 0, "data": None}, answer
answer = ask("ping", payload="\u00e9")
assert answer == {"op": "pong", "code": 0, "data": {"payload": "\u00e9"}}, answer
publish(EVENT)
assert client.recv() == f'{{"op": "event", "code": 0, "data": {EVENT}}}'
client.close()
print("websocket-client", websocket.__version__, "ok")
