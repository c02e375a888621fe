"""Ports that are kept while the process behind them is replaced."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec

from shipway.core.errors import PortTaken


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Where one of our processes listens. `flag` is the option that chooses the port."""

    host: str
    port: int
    flag: str
    scheme: str = "http"

    @property
    def address(self) -> str:
        """Host and port, as gRPC clients take them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Its address for HTTP."""
        return f"{self.scheme}://{self.address}"


@contextmanager
def reserved(place: Place) -> Iterator[Place]:
    """Keeps the port ours (a free one for 0) while no process of ours listens on it.

    The socket here is bound and never listens, so callers are not kept waiting by it; our own
    processes bind beside it with SO_REUSEPORT.

    Raises:
        PortTaken: another process has the port, or the address is not this machine's.
    """
    if place.port:
        # SO_REUSEPORT would let us in beside another program of the same user: ask without it.
        bound(place, shared=False).close()
    with bound(place, shared=True) as keeper:
        yield msgspec.structs.replace(place, port=keeper.getsockname()[1])


def bound(place: Place, *, shared: bool) -> socket.socket:
    """A socket bound to the place; `shared` lets other processes of the same user bind it too.

    Raises:
        PortTaken: another process has the port, or the address is not this machine's.
    """
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    candidate = socket.socket(family, socket.SOCK_STREAM)
    try:
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        candidate.bind((place.host, place.port))
    except OSError as exc:
        candidate.close()
        raise _refused(place, exc) from exc
    return candidate


def _refused(place: Place, exc: OSError) -> PortTaken:
    if exc.errno == errno.EADDRINUSE:
        return PortTaken(
            f"Port {place.port} on {place.host} is taken by another program.",
            next_step=f"Stop that program, or choose another port with `{place.flag}` "
            "(0 takes a free one).",
            port=place.port,
        )
    return PortTaken(
        f"Nothing can listen on {place.host}:{place.port}: {exc.strerror}.",
        next_step=f"Choose another address with `--host` or port with `{place.flag}`.",
        port=place.port,
    )
