"""A replica's first steps: listen, confine the process, and only then let other packages in.

Only the standard library and Shipway's own files are read before. The interpreter is started with
`-S`, so that nothing of the model's environment has run either.
"""

from __future__ import annotations

import json
import site
import sys
from collections.abc import Sequence
from socket import socket
from typing import Any

from shipway.confinement.confining import NotConfined, confine
from shipway.confinement.order import Order
from shipway.replica.door import listening_at
from shipway.replica.options import options_of

EXIT_NOT_CONFINED = 3
"""The process could not be confined as ordered; the reason is one JSON line on stderr."""


def start(arguments: Sequence[str]) -> int:
    """Runs one replica until SIGTERM; gives the exit code."""
    options = options_of(arguments)
    listener = listening_at(options.address)
    if options.confinement:
        try:
            _confine(options.confinement, listener)
        except NotConfined as exc:
            word = {"error": "isolation_failed", "message": f"It cannot be isolated: {exc}."}
            sys.stderr.write(json.dumps(word) + "\n")
            return EXIT_NOT_CONFINED
    from shipway.replica.main import main

    return main(options, listener)


def _confine(confinement: str, listener: socket) -> None:
    confine(Order.from_json(confinement), keep=frozenset({listener.fileno()}))
    if sys.flags.no_site:
        site.main()
        sys.flags = _FlagsWithSite(sys.flags)  # type: ignore[assignment]  # stands in for it, see there


class _FlagsWithSite:
    """`sys.flags` without the `-S`, which the model's own child processes would be started with too."""

    no_site = 0

    def __init__(self, given: object) -> None:
        self._given = given

    def __getattr__(self, name: str) -> Any:
        return getattr(self._given, name)
