"""Where a replica listens. Bound before the process is confined: afterwards it can make no socket."""

from __future__ import annotations

import socket
from contextlib import suppress
from pathlib import Path

_BACKLOG = 1024
"""While the model loads, control looks in again and again; nobody is answered before."""


def listening_at(address: str) -> socket.socket:
    """A socket that listens at `unix:/path` or `tcp:host:port`; a dead one's path is taken over.

    It listens at once, so that nobody can use it to reach another socket instead.

    Raises:
        OSError: the address cannot be had.
    """
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        Path(place).unlink(missing_ok=True)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(place)
    else:
        host, _, port = place.rpartition(":")
        listener = socket.create_server((host, int(port)))
    listener.listen(_BACKLOG)
    return listener


def remove(address: str) -> None:
    """Removes the path of a Unix address. Confined, it may not; then who started it does."""
    scheme, _, place = address.partition(":")
    if scheme == "unix":
        with suppress(OSError):
            Path(place).unlink()
