"""The rows to predict, from a file, stdin, or the command line itself."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest

_NEXT_STEP = "Give `--data FILE`, `-` for stdin, or JSON such as '{\"age\": 41}'."


def rows_from(*, source: str | None, path: Path | None, drop: Sequence[str]) -> Any:
    """The rows to predict: `source` is JSON text, a file's name, or `-`; `path` is a file.

    Raises:
        InvalidRequest: there is no data, two sources of it, or it cannot be read.
    """
    if (source is None) == (path is None):
        found = "no data" if source is None else "data from two places"
        raise InvalidRequest(f"The command line names {found}.", next_step=_NEXT_STEP)
    if path is not None:
        return _from_file(path, drop=drop)
    text = source or ""
    if text == "-":
        return _from_stdin(drop=drop)
    if text.lstrip()[:1] in ("{", "["):
        return _from_json(text, drop=drop)
    return _from_file(Path(text), drop=drop)


def _from_json(text: str, *, drop: Sequence[str]) -> Any:
    try:
        rows = msgspec.json.decode(text)
    except msgspec.DecodeError as exc:
        raise InvalidRequest(f"The data is not JSON: {exc}.", next_step=_NEXT_STEP) from exc
    return {name: rows[name] for name in rows if name not in drop} if type(rows) is dict else rows


def _from_file(path: Path, *, drop: Sequence[str]) -> Any:
    from shipway.bundles.samples import read_sample

    sample = read_sample(path, drop=drop)
    if not sample.is_table and len(sample.inputs) == 1:
        return next(iter(sample.inputs.values()))
    return sample.inputs


def _from_stdin(*, drop: Sequence[str]) -> Any:
    with TemporaryDirectory(prefix="shipway-") as scratch:
        given = sys.stdin.buffer.read()
        if not given.strip():
            raise InvalidRequest("Nothing came from stdin.", next_step=_NEXT_STEP)
        path = Path(scratch) / "stdin"
        path.write_bytes(given)
        return _from_file(path, drop=drop)
