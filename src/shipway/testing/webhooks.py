"""A webhook receiver for tests: it keeps what it was told, and can fail, be slow, or hang up."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from shipway.wire.webhooks import IDEMPOTENCY_KEY


class Heard:
    """One request: its headers (lower case), its bytes, and the JSON in them."""

    def __init__(self, headers: dict[str, str], body: bytes) -> None:
        self.headers = headers
        self.body = body
        self.key = headers.get(IDEMPOTENCY_KEY.lower(), "")

    @property
    def document(self) -> dict[str, Any]:
        """The JSON of the body."""
        known: dict[str, Any] = json.loads(self.body)
        return known


class Receiver:
    """What a webhook was told. `answers` are statuses of the next requests; None hangs up, then 200."""

    def __init__(self, server: ThreadingHTTPServer) -> None:
        self.url = f"http://127.0.0.1:{server.server_address[1]}/hook/s3cr3t"
        self.heard: list[Heard] = []
        self.taken: dict[str, Heard] = {}
        self.answers: list[int | None] = []
        self.hold = threading.Event()
        self.hold.set()

    @property
    def bare(self) -> list[dict[str, Any]]:
        """What came without a key, as Apprise sends it."""
        return [one.document for one in self.heard if not one.key]

    def events(self, rule: str) -> list[str]:
        """What was told of a rule's alerts, in the order in which it was taken."""
        return [
            item["event"]
            for one in self.taken.values()
            for item in one.document.get("items", ())
            if item["rule"] == rule
        ]


@contextmanager
def receiver() -> Iterator[Receiver]:
    """A receiver on loopback."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            """Called by http.server."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            one = Heard({name.lower(): value for name, value in self.headers.items()}, body)
            made.heard.append(one)
            made.hold.wait(30)
            status = made.answers.pop(0) if made.answers else 200
            if status is None:
                self.close_connection = True
                return
            if status == 200:
                made.taken.setdefault(one.key, one)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words: Any) -> None:
            """Called by http.server; nothing is logged."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made = Receiver(server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield made
    finally:
        made.hold.set()
        server.shutdown()
        server.server_close()
        thread.join()
