"""The gRPC server of a gateway: connections from a bound socket, until it is told to stop."""

from __future__ import annotations

import asyncio
import socket
import ssl

from shipway.gateway.accepting import handshaking
from shipway.gateway.crowd import Crowd
from shipway.gateway.grpc.call import Service
from shipway.gateway.grpc.connection import Connection

TICK_S = 0.5
"""How often watches and silent connections are looked at."""


async def serve(
    service: Service,
    listening: socket.socket,
    stopping: asyncio.Event,
    *,
    drain_s: float,
    tls: ssl.SSLContext | None = None,
    crowd: Crowd[Connection] | None = None,
) -> None:
    """Serves on a bound socket until `stopping`, then answers what it has, for `drain_s` at most."""
    crowd = Crowd() if crowd is None else crowd
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(service, crowd), sock=listening, backlog=2048, **handshaking(tls)
    )
    ticking = asyncio.ensure_future(_tick(crowd))
    await stopping.wait()
    server.close()
    until = loop.time() + drain_s
    for connection in crowd:
        connection.stop()
    while len(crowd) and loop.time() < until:  # noqa: ASYNC110 - ends with the last of many
        await asyncio.sleep(0.02)
    ticking.cancel()
    for connection in crowd:
        connection.drop()


async def _tick(crowd: Crowd[Connection]) -> None:
    loop = asyncio.get_running_loop()
    while True:
        await asyncio.sleep(TICK_S)
        for connection in crowd:
            connection.tick(loop.time())
