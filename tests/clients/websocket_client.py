"""PyPI websocket-client, as it is, follows the event bus in the classic spelling.

Arguments: the URL, the unix feed's path, a token. The daemon pings every second.
"""

import json
import socket
import sys
import time

import websocket

URL, FEED, TOKEN = sys.argv[1:]

# The event of the protocol's own documentation, byte for byte.
EVENT = (
    r'{"Type":"chat","RequestKey":null,"Schema":"","External":true,"Object":"general",'
    r'"Info":"Hello World","cellId":"5ZKpfNSMSwO6GqAgt0O2Jg",'
    r'"Subject":"https:\/\/demo.personium.io\/john.doe\/#me"}'
)


def expect(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def publish(*events):
    with socket.socket(socket.AF_UNIX) as feed:
        feed.connect(FEED)
        feed.sendall("".join(f"event/demo {event}\n" for event in events).encode() + b"\n")
        expect(json.loads(feed.makefile().readline()), {"accepted": len(events), "rejected": 0})


def ask(client, message):
    client.send(json.dumps(message))
    answer = json.loads(client.recv())
    assert abs(answer.pop("timestamp") - time.time()) < 60, answer
    return answer


client = websocket.create_connection(URL, timeout=20, header=["Origin: https://app.example"])
rule = {"Type": "chat", "Object": "*"}
expect(ask(client, {"subscribe": rule}), {"reason": "unauthorized", "response": "error"})
answer = ask(client, {"access_token": TOKEN})
expect(answer["response"], "success")
assert 3000 < answer["expires_in"] <= 3600, answer
expect(ask(client, {"subscribe": rule}), {"response": "success"})

publish(EVENT.replace("chat", "other"), EVENT)
expect(client.recv(), EVENT)

answer = ask(client, {"state": "all"})
assert 3000 < answer.pop("expires_in") <= 3600, answer
wanted = [{"type": "chat", "object": "*"}]
expect(answer, {"subscriptions": wanted, "response": "success", "cell": "demo"})
expect(ask(client, {"state": "subscriptions"}), {"subscriptions": wanted, "response": "success"})
expect(ask(client, {"nonsense": 1}), {"reason": "format error", "response": "error"})

# More pings than may stay unanswered: the library answers them while it receives.
pings = 0
while pings < 4:
    opcode, frame = client.recv_data_frame(control_frame=True)
    expect(opcode, websocket.ABNF.OPCODE_PING)
    expect(frame.data, b"\x01\x02\x03")
    pings += 1

large = EVENT.replace("Hello World", "\u00e9" * 100_000)
publish(large)
expect(client.recv(), large)

expect(ask(client, {"unsubscribe": rule}), {"response": "success"})
expect(ask(client, {"unsubscribe": rule}), {"reason": "subscriptions not found", "response": "error"})
publish(EVENT)
expect(ask(client, {"state": "subscriptions"}), {"subscriptions": [], "response": "success"})

refused = websocket.create_connection(URL, timeout=20)
refused.send(json.dumps({"access_token": "nonsense"}))
opcode, data = refused.recv_data()
expect((opcode, data), (websocket.ABNF.OPCODE_CLOSE, b"\x03\xe8"))

client.close()
print("websocket-client", websocket.__version__, "ok")
