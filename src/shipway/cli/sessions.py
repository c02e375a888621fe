"""The client that a command uses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from shipway.client.synchronous import Client


def client_of(server: str | None, state_dir: Path | None = None) -> Client:
    """A client of the server that the options name, or of the one that it finds."""
    # httpx has a command line of its own, whose import takes longer than all the rest of it.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from shipway.client.synchronous import Client

    return Client(server, state_dir=state_dir)
