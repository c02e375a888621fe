"""Feedback in files: CSV, JSON lines and Parquet, read as they are sent."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterable, Iterator, Mapping
from hashlib import sha256
from pathlib import Path
from typing import IO, Any

import msgspec

from shipway.core.errors import InvalidRequest

OUTCOME = "outcome."
"""What begins the columns of outcomes: `outcome.revenue`."""

FIELDS = ("request_id", "key", "row", "label", "score", "id", "at")
_EXAMPLE = (
    "Its columns are `request_id` or `key`, `row`, `label`, `score`, `outcome.NAME`, `id` and `at`."
)
_ROWS = 4096
_CHUNK_BYTES = 1 << 20


def items_in(path: Path) -> Iterator[dict[str, Any]]:
    """The feedback in a file, told apart by its name's end; `-` is JSON lines on stdin.

    Items without an `id` get one of the file's content and their place in it, so that a file that is sent
    again counts once.

    Raises:
        InvalidRequest: the file cannot be read, or a column of it is none of feedback's.
    """
    if str(path) == "-":
        yield from _lines(sys.stdin, "stdin")
        return
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidRequest(
            f"`{path}` is no file of feedback.",
            next_step="Give a file whose name ends with `.csv`, `.jsonl` or `.parquet`.",
        )
    try:
        digest = _digest(path)
        for place, item in enumerate(reader(path)):
            yield item if item.get("id") else {**item, "id": f"{digest}:{place}"}
    except (OSError, UnicodeDecodeError, csv.Error) as exc:
        raise InvalidRequest(f"`{path}` cannot be read: {exc}.", next_step=_EXAMPLE) from exc


def _digest(path: Path) -> str:
    found = sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            found.update(chunk)
    return found.hexdigest()[:24]


def _from_lines(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as lines:
        yield from _lines(lines, f"`{path}`")


def _lines(lines: IO[str] | Iterable[str], source: str) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            yield msgspec.json.decode(line, type=dict[str, Any])
        except msgspec.MsgspecError as exc:
            raise InvalidRequest(
                f"Line {number} of {source} is no feedback: {exc}.",
                next_step='Write it as {"request_id": "a7", "label": 1}.',
                line=number,
            ) from exc


def _from_csv(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        rows = csv.DictReader(stream)
        _require_known(path, rows.fieldnames or ())
        for row in rows:
            yield _item(path, row)


def _from_parquet(path: Path) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet as parquet

    try:
        with parquet.ParquetFile(path) as file:
            _require_known(path, file.schema_arrow.names)
            for batch in file.iter_batches(batch_size=_ROWS):
                for row in batch.to_pylist():
                    yield _item(path, row)
    except pa.ArrowException as exc:
        raise InvalidRequest(f"`{path}` cannot be read: {exc}.", next_step=_EXAMPLE) from exc


_READERS = {
    ".csv": _from_csv,
    ".jsonl": _from_lines,
    ".ndjson": _from_lines,
    ".parquet": _from_parquet,
    ".pq": _from_parquet,
}


def _require_known(path: Path, columns: Iterable[str]) -> None:
    for name in columns:
        if name not in FIELDS and not name.startswith(OUTCOME):
            raise InvalidRequest(
                f"`{path}` has the column `{name}`, which feedback has not.", next_step=_EXAMPLE
            )


def _item(path: Path, row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of a table as an item: empty cells are left out, and texts become the numbers they stand for."""
    item: dict[str, Any] = {}
    outcomes: dict[str, float] = {}
    for name, cell in row.items():
        if cell is None or cell == "" or cell != cell:
            continue
        if not isinstance(name, str):
            raise InvalidRequest(
                f"A line of `{path}` has more cells than columns.", next_step=_EXAMPLE
            )
        if name.startswith(OUTCOME):
            outcomes[name.removeprefix(OUTCOME)] = _number(path, name, cell)
        else:
            item[name] = _cell(path, name, cell)
    return {**item, "outcomes": outcomes} if outcomes else item


def _cell(path: Path, name: str, cell: Any) -> Any:
    match name:
        case "row":
            number = _number(path, name, cell)
            return int(number) if number.is_integer() else number
        case "score":
            return _number(path, name, cell)
        case "label" | "at":
            return cell
        case _:
            return str(cell)


def _number(path: Path, name: str, cell: Any) -> float:
    try:
        return float(cell)
    except (TypeError, ValueError) as exc:
        raise InvalidRequest(
            f"`{cell}` in column `{name}` of `{path}` is no number.", next_step=_EXAMPLE
        ) from exc
