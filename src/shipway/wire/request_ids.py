"""The id by which a caller, the logs and the traces name one request: the header `x-request-id`."""

from __future__ import annotations

import secrets
from collections.abc import Mapping

from shipway.core.text import printable

HEADER = b"x-request-id"
MOST_CHARACTERS = 128


def given_id(headers: Mapping[bytes, bytes]) -> str:
    """The id that a request, or an answer, came with, fit for a line of a log; empty without one."""
    given = headers.get(HEADER)
    return "" if given is None else shown(given.decode("utf-8", "replace"))


def shown(text: str) -> str:
    """A caller's text, short and in one line, so that it forges none."""
    return printable(text[:MOST_CHARACTERS]).replace("\n", "\\n").replace("\t", "\\t")


def made_id() -> str:
    """An id for a request that came without one."""
    return secrets.token_hex(8)
