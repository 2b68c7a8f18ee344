"""What a back end of the Laravel application does, with PyPI websocket-client, websockets and PyJWT as they are.

Arguments: the URL without its query, the unix feed's path, the secret. The daemon pings every second.
"""

import asyncio
import json
import socket
import sys
import time

import jwt
import websocket
import websockets

URL, FEED, SECRET = sys.argv[1:]
SENDED = '{"type":"sended","ok":true}'


def expect(found, wanted):
    assert found == wanted, f"{found!r} instead of {wanted!r}"


def url(**claims):
    return f"{URL}?token={jwt.encode(claims, SECRET, algorithm='HS256')}"


def soon():
    return int(time.time()) + 3600


def publish(payload):
    with socket.socket(socket.AF_UNIX) as feed:
        feed.connect(FEED)
        feed.sendall(f"channel {json.dumps(payload)}\n\n".encode())
        expect(json.loads(feed.makefile().readline()), {"accepted": 1, "rejected": 0})


def message(sender, data):
    return f'{{"type":"message","sender":{sender},"data":{data}}}'


# A back end sends with its own token and blocks until the answer comes.
client = websocket.create_connection(url(id="back-end", name="é", channel="tweet:", exp=soon()), timeout=20)
tweet = {"id": 2**70, "content": "日本", "created_at": "2025-01-01", "user": {"id": 1, "name": "Ann"}}
client.send(json.dumps({"data": {"tweet": tweet, "other": 1}}))
expect(client.recv(), SENDED)
sender = '{"name":"é","id":"back-end"}'
expect(client.recv(), message(sender, '{"tweet":' + json.dumps(tweet) + "}"))
client.send_binary(b'{"data":{"tweet":1}}')
expect([client.recv(), client.recv()], [SENDED, message(sender, '{"tweet":1}')])
client.send("{}")
expect(client.recv(), '{"type":"sended","ok":false}')

# More pings than may stay unanswered: the library answers them while it receives.
pings = 0
while pings < 4:
    opcode, _ = client.recv_data_frame(control_frame=True)
    expect(opcode, websocket.ABNF.OPCODE_PING)
    pings += 1
client.close()

for address, reason in [
    (URL, b"token missing"),
    (f"{URL}?token=x.y.z", b"token invalid"),
    (url(channel="chat:1", exp=int(time.time()) - 1), b"token expired"),
    (url(channel=1, exp=soon()), b"token invalid"),
]:
    refused = websocket.create_connection(address, timeout=20)
    opcode, data = refused.recv_data()
    expect((opcode, data), (websocket.ABNF.OPCODE_CLOSE, b"\x03\xf0" + reason))


async def chat():
    address = url(id=2, name="Bob", channel="chat:1", iat=int(time.time()))
    async with websockets.connect(address) as one, websockets.connect(address) as two:
        await one.send('{"data":{"name":"Bob","message":"hi","target_user_id":2.0}}')
        said = message('{"name":"Bob","id":2}', '{"message":"hi","name":"Bob"}')
        expect([await one.recv(), await one.recv(), await two.recv()], [SENDED, said, said])
        publish({"channel": "chat:1", "data": {"message": "x", "target_user_id": "2"}})
        publish({"channel": "chat:1", "data": {"message": "y"}})
        said = message('{"name":"System","id":0}', '{"message":"y"}')
        expect([await one.recv(), await two.recv()], [said, said])


asyncio.run(chat())
print("websocket-client", websocket.__version__, "websockets", websockets.__version__, "ok")
