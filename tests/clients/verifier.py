"""A verifier of tokens for the tests: RFC 7662 at /introspect, wazo-auth below /0.1/token/, both as told.

    verifier.py PORT [CERTIFICATE KEY]

Prints its port. What it does is a JSON object that anybody may change by POST /tests/setup and read, with what
has been asked, by GET /tests/seen:

    refused   tokens that it calls dead
    delay_s   how long it thinks
    status    what it answers every question with, unless 0

A token that begins with "good" is alive, and so is one that names an oddity: "500", "garbage", "never", "cut",
"drop", "huge", "moved", "dying".
"""

import http.server
import json
import os
import ssl
import sys
import threading
import time
import urllib.parse

LOCK = threading.Lock()
SETUP = {"refused": [], "delay_s": 0, "status": 0}
SEEN = {"requests": 0, "at_once": 0, "most_at_once": 0, "by_token": {}, "last": {}}


class Verifier(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/tests/setup":
            with LOCK:
                SETUP.update(json.loads(body))
            return self.answer(200, {})
        form = urllib.parse.parse_qs(body)
        self.verify(form.get("token", [""])[0], self.introspection, body)

    def do_GET(self):
        if self.path == "/tests/seen":
            with LOCK:
                return self.answer(200, SEEN)
        self.wazo()

    def do_HEAD(self):
        self.wazo()

    def wazo(self):
        token = urllib.parse.unquote(self.path.split("?")[0].rsplit("/", 1)[-1])
        self.verify(token, self.wazo_auth, "")

    def verify(self, token, say, body):
        with LOCK:
            setup = dict(SETUP)
            SEEN["requests"] += 1
            SEEN["at_once"] += 1
            SEEN["most_at_once"] = max(SEEN["most_at_once"], SEEN["at_once"])
            SEEN["by_token"][token] = SEEN["by_token"].get(token, 0) + 1
            headers = {name.lower(): value for name, value in self.headers.items()}
            SEEN["last"] = {"line": self.requestline, "headers": headers, "body": body}
        time.sleep(setup["delay_s"])
        with LOCK:
            SEEN["at_once"] -= 1
        if setup["status"]:
            return self.answer(setup["status"], {})
        oddity = getattr(self, "odd_" + token, None)
        if oddity:
            return oddity()
        say(token.startswith("good") and token not in setup["refused"])

    def introspection(self, alive):
        claims = {"aud": "demo", "scope": "event", "sub": "https://demo.example/#me"}
        self.answer(200, {"active": True, "exp": int(time.time()) + 3600, **claims} if alive else {"active": False})

    def wazo_auth(self, alive, end_s=None):
        end = time.strftime("%Y-%m-%dT%H:%M:%S.123456", time.gmtime(end_s or time.time() + 3600))
        data = {"acl": ["websocketd", "events.#"], "session_uuid": "s", "utc_expires_at": end}
        data["metadata"] = {"uuid": "u", "tenant_uuid": "t", "admin": False, "purpose": "user"}
        self.answer(200 if alive else 404, {"data": data})

    def odd_500(self):
        self.answer(500, {"active": True})

    def odd_dying(self):
        # Its end has passed while the answer was on its way.
        self.wazo_auth(True, time.time() - 0.5)

    def odd_garbage(self):
        self.answer(200, "<html>")

    def odd_never(self):
        threading.Event().wait()

    def odd_cut(self):
        self.send_response(200)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        self.wfile.write(b'{"active":')
        self.close_connection = True

    def odd_drop(self):
        self.close_connection = True

    def odd_huge(self):
        self.answer(200, {"active": True, "exp": int(time.time()) + 3600, "aud": "demo", "x": "x" * 300_000})

    def odd_moved(self):
        self.send_response(307)
        self.send_header("Location", "/introspect/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def answer(self, status, value):
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

    def handle_error(self, *_):
        pass


def end_with_parent():
    sys.stdin.read()
    os._exit(0)


server = Server(("127.0.0.1", int(sys.argv[1])), Verifier)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=end_with_parent, daemon=True).start()
print(server.server_address[1], flush=True)
server.serve_forever()
