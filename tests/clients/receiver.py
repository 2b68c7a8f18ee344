"""A service that is told things over HTTP, for the tests: it writes down whatever it is told.

    receiver.py [ADDRESS:]PORT [CERTIFICATE KEY]

Prints its port. What it does is a JSON object that anybody may change by POST /tests/setup:

    answers   how it answers the requests to come, one for each: a status, "hang" for never, or "drop" for the end of
              the connection without an answer
    paths     how it answers requests for these paths instead, an object of statuses
    released  true makes "drop" of every "hang", those under way too
    status    how it answers those after them
    delay_s   how long it thinks before

GET /tests/seen has the requests in the order in which they came, each with method, path, headers (names in lower
case) and body, and how many were under way at the same time at most.
"""

import http.server
import json
import os
import ssl
import sys
import threading
import time

LOCK = threading.Condition()
SETUP = {"answers": [], "paths": {}, "status": 200, "delay_s": 0, "released": False}
SEEN = {"requests": [], "at_once": 0, "most_at_once": 0}


class Receiver(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
        if self.path == "/tests/setup":
            with LOCK:
                SETUP.update(json.loads(body))
                LOCK.notify_all()
            return self.answer(200, "{}")
        self.hear(body)

    def do_GET(self):
        if self.path == "/tests/seen":
            with LOCK:
                return self.answer(200, json.dumps(SEEN))
        self.hear("")

    def hear(self, body):
        headers = {name.lower(): value for name, value in self.headers.items()}
        with LOCK:
            SEEN["requests"].append({"method": self.command, "path": self.path, "headers": headers, "body": body})
            SEEN["at_once"] += 1
            SEEN["most_at_once"] = max(SEEN["most_at_once"], SEEN["at_once"])
            if self.path in SETUP["paths"]:
                answer = SETUP["paths"][self.path]
            else:
                answer = SETUP["answers"].pop(0) if SETUP["answers"] else SETUP["status"]
            delay_s = SETUP["delay_s"]
        time.sleep(delay_s)
        if answer == "hang":
            with LOCK:
                LOCK.wait_for(lambda: SETUP["released"])
            answer = "drop"
        with LOCK:
            SEEN["at_once"] -= 1
        if answer == "drop":
            self.close_connection = True
        else:
            self.answer(answer, "what it says is not looked at")

    def answer(self, status, text):
        body = b"" if status == 204 else text.encode()
        self.send_response(status)
        if 300 <= status < 400:
            self.send_header("Location", "/elsewhere")
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
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


address, _, port = sys.argv[1].rpartition(":")
server = Server((address or "127.0.0.1", int(port)), Receiver)
if len(sys.argv) > 2:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[2], sys.argv[3])
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
threading.Thread(target=end_with_parent, daemon=True).start()
print(server.server_address[1], flush=True)
server.serve_forever()
