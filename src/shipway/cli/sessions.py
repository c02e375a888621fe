"""The client that a command uses."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from shipway.core.text import printable_json

if TYPE_CHECKING:
    import httpx

    from shipway.client.synchronous import Client


def client_of(server: str | None, state_dir: Path | None = None) -> Client:
    """A client of the server that the options name, or of the one that it finds."""
    # httpx has a command line of its own, whose import takes longer than all the rest of it.
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]
    from shipway.client.synchronous import Client

    class PrintingClient(Client):
        """Gives texts of the server as a terminal can show them: whoever named a thing does not control it."""

        def _body_of(self, response: httpx.Response) -> bytes:
            is_json = "json" in response.headers.get("content-type", "")
            return printable_json(response.content) if is_json else response.content

    return PrintingClient(server, state_dir=state_dir)
