"""Shipway: a trained model becomes a live, versioned endpoint.

`shipway.Client` and `shipway.AsyncClient` are loaded at their first use, so that importing the package
(which every replica and every `shipway --help` does) costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shipway.client.asynchronous import AsyncClient
    from shipway.client.synchronous import Client

__all__ = ["AsyncClient", "Client"]

_HOMES = {
    "AsyncClient": "shipway.client.asynchronous",
    "Client": "shipway.client.synchronous",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module `shipway` has no attribute `{name}`")
    return getattr(import_module(home), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
