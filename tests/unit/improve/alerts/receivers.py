"""Receivers of alerts, as real as the ones that people run: an HTTP server and a mail server."""

import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Hook:
    """What a webhook's server got, and what it answers."""

    def __init__(self) -> None:
        self.url = ""
        self.status = 200
        self.got: list[tuple[dict[str, str], bytes]] = []


@contextmanager
def hook() -> Iterator[Hook]:
    """An HTTP server that takes posts."""
    made = Hook()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            made.got.append((dict(self.headers), body))
            self.send_response(made.status)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        made.url = f"http://127.0.0.1:{server.server_address[1]}/hooks/T0?token=geheim"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()


class Post:
    """What a mail server got: envelopes and texts."""

    def __init__(self) -> None:
        self.server = ""
        self.refuses = False
        self.mails: list[tuple[str, list[str], str]] = []


@contextmanager
def post_office() -> Iterator[Post]:
    """A server that speaks as much of SMTP (RFC 5321) as a client needs to deliver."""
    made = Post()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            sender, to = "", list[str]()
            self.say("220 here")
            while line := self.rfile.readline().decode().rstrip():
                match line.split(" ")[0].upper().split(":")[0]:
                    case "MAIL":
                        sender = line.split("<")[1].split(">")[0]
                        self.say("250 ok")
                    case "RCPT":
                        to.append(line.split("<")[1].split(">")[0])
                        self.say("550 no such user" if made.refuses else "250 ok")
                    case "DATA":
                        self.say("354 go on")
                        lines: list[str] = []
                        while (text := self.rfile.readline().decode().rstrip("\r\n")) != ".":
                            lines.append(text)
                        made.mails.append((sender, to, "\n".join(lines)))
                        self.say("250 taken")
                    case "QUIT":
                        self.say("221 bye")
                        return
                    case _:
                        self.say("250 ok")

        def say(self, text: str) -> None:
            self.wfile.write(f"{text}\r\n".encode())

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        made.server = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield made
        finally:
            server.shutdown()
            thread.join()
