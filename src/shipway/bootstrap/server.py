"""The HTTP server of control."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from functools import partial
from types import FrameType

import uvicorn
from fastapi import FastAPI

from shipway.api.connections import BoundedConnection
from shipway.gateway.crowd import most_connections
from shipway.tls.contexts import GOODBYE_S, HANDSHAKE_S
from shipway.tls.serving import ServerTls


class ControlServer(uvicorn.Server):
    """The control API's server. Before it waits for open requests it lets waiting gateways go."""

    def __init__(
        self, app: FastAPI, *, on_exit: Callable[[], None], tls: ServerTls | None = None
    ) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                limit_concurrency=most_connections(),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
        )
        self._on_exit = on_exit
        self._tls = tls

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn. With TLS, listens as it would, with a bound on handshakes that it has not."""
        if self._tls is None:
            return await super().startup(sockets)
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                partial(
                    BoundedConnection,
                    config=self.config,
                    server_state=self.server_state,
                    app_state=self.lifespan.state,
                ),
                sock=listening,
                backlog=self.config.backlog,
                ssl=self._tls.context,
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=GOODBYE_S,
            )
            for listening in sockets or ()
        ]
        self.started = True
        return None

    def stop(self) -> None:
        """Ends it as SIGTERM would."""
        self._on_exit()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""
        asyncio.get_running_loop().call_soon_threadsafe(self._on_exit)
        super().handle_exit(sig, frame)
