"""Who calls control, by the certificate that the caller showed.

ASGI's TLS extension, which would say so, is not in uvicorn. But uvicorn gives each request a copy of
the `state` that its connection was made with, and that is ours to fill: never from a header.
"""

from __future__ import annotations

import asyncio

from fastapi import Request
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shipway.tls.peers import peer_of


class PeerProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol, whose requests know their connection's peer."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # uvicorn's own is as narrow
        """Called by asyncio."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "peer": peer_of(transport)}


def peer(request: Request) -> str:
    """The identity in the certificate that the caller showed; empty when it showed none."""
    return getattr(request.state, "peer", "")
