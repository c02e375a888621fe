"""The client that a command uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shipway.client.synchronous import Client


def client_of(server: str | None, state_dir: Path | None = None) -> Client:
    """A client of the server that the options name, or of the one that it finds."""
    from shipway.client.synchronous import Client

    return Client(server, state_dir=state_dir)
