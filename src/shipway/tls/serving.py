"""TLS of a server: certificates that are changed while it serves."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence

from shipway.tls.contexts import server_context
from shipway.tls.files import TlsFiles
from shipway.tls.latest import LOOK_EVERY_S, Latest


class ServerTls:
    """What a listening socket speaks TLS with; each handshake takes the newest good certificate.

    Connections keep what they began with. `context` is one object for as long as the server lives, as
    `asyncio` wants it: OpenSSL asks it for the server's name, and it answers with the newest context.

    Raises:
        CertificateUnusable: a file cannot be used; says which, and why.
    """

    def __init__(self, files: TlsFiles, *, alpn: Sequence[str]) -> None:
        paths = (files.cert, files.key, files.client_ca)
        self._latest = Latest(paths, lambda: server_context(files, alpn=alpn))
        self.context = server_context(files, alpn=alpn)
        self.context.sni_callback = self._choose

    def look(self) -> bool:
        """See `Latest.look`."""
        return self._latest.look()

    async def watch(self) -> None:
        """Looks at the files again and again, until cancelled."""
        while True:
            await asyncio.sleep(LOOK_EVERY_S)
            self.look()

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        """Called by OpenSSL in each handshake, with or without a name of the server."""
        connection.context = self._latest.value


def tls_of(files: TlsFiles, *, alpn: Sequence[str]) -> ServerTls | None:
    """The TLS of a server with these files; None when they name no certificate."""
    return None if files.server is None else ServerTls(files, alpn=alpn)
