"""TLS of a gateway: to its callers over HTTP and gRPC, and to control as a caller itself."""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path

import msgspec

from shipway.tls.contexts import caller_context, pinned_context
from shipway.tls.files import TlsFiles
from shipway.tls.latest import Latest
from shipway.tls.serving import ServerTls, tls_of


class GatewayTls:
    """What a gateway's doors speak TLS with, and what it calls control with.

    `control_cert` is the certificate of a control on this machine; without it control's must be
    vouched for by `files.ca`, and have the name by which it is called.

    Raises:
        CertificateUnusable: a file cannot be used; says which, and why.
    """

    def __init__(self, files: TlsFiles, *, control_cert: Path | None = None) -> None:
        self._http = tls_of(files, alpn=("http/1.1",))
        self._grpc = tls_of(files, alpn=("h2",))
        self.calling = _calling(files, control_cert)

    @property
    def scheme(self) -> str:
        """Of the gateway's own URL."""
        return "http" if self._http is None else "https"

    @property
    def http(self) -> ssl.SSLContext | None:
        """For the HTTP door; None for one without TLS."""
        return _context(self._http)

    @property
    def grpc(self) -> ssl.SSLContext | None:
        """For the gRPC door; None for one without TLS."""
        return _context(self._grpc)

    async def watch(self) -> None:
        """Takes new certificates for its callers when there are some, until cancelled."""
        async with asyncio.TaskGroup() as group:
            for door in (self._http, self._grpc):
                if door is not None:
                    group.create_task(door.watch())


def _context(door: ServerTls | None) -> ssl.SSLContext | None:
    return None if door is None else door.context


def _calling(files: TlsFiles, control_cert: Path | None) -> Latest[ssl.SSLContext] | None:
    """What control is called with; None when there is nothing to show and nobody in particular to trust.

    A gateway without a certificate for calls shows its server's, if control can know that: control
    refuses one that somebody else vouches for.
    """
    if not (files.ca or files.client or control_cert):
        return None

    def build() -> ssl.SSLContext:
        own = files
        if files.client is None and files.server is not None and _is_known(files):
            own = msgspec.structs.replace(files, client_cert=files.cert, client_key=files.key)
        return pinned_context(control_cert, own) if control_cert else caller_context(own)

    paths = (*msgspec.structs.astuple(files), control_cert)
    return Latest(paths, build)


def _is_known(files: TlsFiles) -> bool:
    from shipway.tls.pairs import is_vouched_for

    return bool(files.cert and files.client_ca and is_vouched_for(files.cert, files.client_ca))
