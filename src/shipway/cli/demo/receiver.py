"""A webhook of the demo's own, on this machine, that keeps what it is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from time import monotonic
from typing import Any

import msgspec


class Receiver:
    """Listens from the start of its block to the end. Messages are JSON objects."""

    def __init__(self) -> None:
        self._news = threading.Condition()
        self._told: list[dict[str, Any]] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/alerts"

    def wait_for(
        self, fits: Callable[[dict[str, Any]], bool], *, timeout_s: float
    ) -> dict[str, Any] | None:
        """The first item of a message that fits, told before or in time; None when there is none."""
        deadline = monotonic() + timeout_s
        with self._news:
            while True:
                for message in self._told:
                    for item in message.get("items", ()):
                        if fits(item):
                            return dict(item)
                if not self._news.wait(deadline - monotonic()):
                    return None

    def __enter__(self) -> Receiver:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _take(self, body: bytes) -> None:
        with self._news:
            self._told.append(msgspec.json.decode(body, type=dict[str, Any]))
            self._news.notify_all()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        take = self._take

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                take(self.rfile.read(int(self.headers.get("content-length", "0"))))
                self.send_response(204)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - overridden
                del format, args

        return Handler
