"""Outcomes in a file of JSON lines."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest

_EXAMPLE = '{"metric": "converted", "value": 1, "version": "2", "id": "a7"}'


def outcomes_in(file: Path) -> Iterator[dict[str, Any]]:
    """The outcomes in a file (`-` is stdin), a JSON object per line, read as they are asked for.

    Raises:
        InvalidRequest: the file cannot be read, or a line is no JSON object.
    """
    if str(file) == "-":
        yield from _objects(sys.stdin, "stdin")
        return
    try:
        with file.open(encoding="utf-8") as lines:
            yield from _objects(lines, f"`{file}`")
    except (OSError, UnicodeDecodeError) as exc:
        raise InvalidRequest(
            f"`{file}` cannot be read: {exc}.",
            next_step=f"Give a file of lines such as {_EXAMPLE}.",
        ) from exc


def _objects(lines: Iterable[str], source: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError as exc:
            raise InvalidRequest(
                f"Line {number} of {source} is no outcome: {exc}.",
                next_step=f"Write it as {_EXAMPLE}. Lines before it may be counted already; those with"
                " an `id` can be posted again.",
                line=number,
            ) from exc
