"""Taking callers' connections, all that wait at each turn of the event loop.

uvloop's own servers take one connection per turn. While models run on the loop a turn may last a
tenth of a second, and a thousand new callers would wait minutes for the answer "429, at once".
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

from shipway.tls.contexts import GOODBYE_S, HANDSHAKE_S

BACKLOG = 2048
MOST_PER_TURN = 512
MOST_HANDSHAKES_PER_TURN = 8
"""With TLS: each handshake costs the loop a signature, and those under way wait for none of them."""

EXHAUSTED_PAUSE_S = 0.25
"""With no file descriptor left, nothing is accepted for so long: others may end meanwhile."""


class Acceptor:
    """Accepts on a bound socket, for as long as it is open. `close` takes what waits already."""

    def __init__(
        self,
        listening: socket.socket,
        protocol: Callable[[], asyncio.Protocol],
        *,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._listening = listening
        self._protocol = protocol
        self._tls = handshaking(tls)
        self._most = MOST_PER_TURN if tls is None else MOST_HANDSHAKES_PER_TURN
        self._loop = asyncio.get_running_loop()
        self._attaching: set[asyncio.Task[None]] = set()
        self._pause: asyncio.TimerHandle | None = None
        listening.setblocking(False)
        listening.listen(BACKLOG)
        self._resume()

    async def close(self) -> None:
        """Listens no more, once every connection that waits has been taken."""
        for _ in range(BACKLOG // self._most):
            self._accept_all()
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._listening.close()
        if self._attaching:
            _, late = await asyncio.wait(self._attaching, timeout=GOODBYE_S)
            for task in late:  # a peer that does not go on with its handshake
                task.cancel()

    def _resume(self) -> None:
        self._pause = None
        self._loop.add_reader(self._listening, self._accept_all)

    def _accept_all(self) -> None:
        for _ in range(self._most):
            try:
                accepted, _ = self._listening.accept()
            except (BlockingIOError, InterruptedError):
                return
            except ConnectionError:
                continue  # this caller has left; the next may wait
            except OSError:
                self._rest()
                return
            task = self._loop.create_task(self._attach(accepted))
            self._attaching.add(task)
            task.add_done_callback(self._attaching.discard)

    def _rest(self) -> None:
        if self._pause is not None:
            self._pause.cancel()
        self._loop.remove_reader(self._listening)
        self._pause = self._loop.call_later(EXHAUSTED_PAUSE_S, self._resume)

    async def _attach(self, accepted: socket.socket) -> None:
        try:
            accepted.setblocking(False)
            accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await self._loop.connect_accepted_socket(self._protocol, accepted, **self._tls)
        except OSError:  # the caller has left meanwhile, or does not speak TLS as it must
            accepted.close()


def handshaking(tls: ssl.SSLContext | None) -> dict[str, Any]:
    """How the event loop is to speak TLS on a socket; without it nothing is said."""
    if tls is None:
        return {}
    return {
        "ssl": tls,
        "ssl_handshake_timeout": HANDSHAKE_S,
        "ssl_shutdown_timeout": GOODBYE_S,
    }
