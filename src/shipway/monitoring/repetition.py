"""What the process that counts repeated requests is told, and how it answers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.repeats import Repeats, repeats_of
from shipway.store.predictions.reading import LogFiles, bounded, connected, holding, quoted

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_AT_ONCE = 10_000


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One version's log, which `columns` its requests are compared by, and how long answers would be kept."""

    files: LogFiles
    columns: tuple[str, ...]
    ttl_s: float


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to count: of each log, among the newest `most_rows`. All of it within `timeout_s`."""

    asked: tuple[Asked, ...]
    most_rows: int
    temp_dir: str
    timeout_s: float


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted; else `message` says why nothing was."""

    repeats: Repeats | None = None
    message: str = ""


def counted(order: Order) -> list[Answer]:
    """An answer to each that is asked, in that order: one that cannot be read does not keep others from theirs."""
    end = monotonic() + order.timeout_s
    return [_answered(one, order, end) for one in order.asked]


def _answered(asked: Asked, order: Order, end: float) -> Answer:
    left_s = max(0.1, end - monotonic())
    try:
        files = holding(asked.files, asked.columns)
        if not files.predictions:
            return Answer(repeats=Repeats(requests=0, repeated=0))
        with (
            connected(files, temp_dir=Path(order.temp_dir)) as connection,
            bounded(connection, timeout_s=left_s),
        ):
            asked_at = _requests(connection, asked.columns, order.most_rows)
            return Answer(repeats=repeats_of(asked_at, ttl_s=asked.ttl_s))
    except ShipwayError as exc:
        return Answer(message=exc.message)


def _requests(
    connection: DuckDBPyConnection, columns: Sequence[str], most_rows: int
) -> Iterator[tuple[int, int]]:
    """A key of each request's inputs, all of its rows in their order, with its time; oldest first."""
    # First the time alone, so that no other column of older rows is read.
    found = connection.execute(
        "SELECT epoch_us(min(_at)) FROM (SELECT _at FROM predictions ORDER BY _at DESC LIMIT ?)",
        [most_rows],
    ).fetchone()
    inputs = ", ".join(map(quoted, columns))
    # Rows of a request are equal in `_at`; a sum of hashes needs no list of them.
    result = connection.execute(
        f"SELECT hash(bit_xor(hash(_row, {inputs})), count(*)), epoch_us(_at) FROM predictions"
        " WHERE _at >= make_timestamptz(?) GROUP BY _at, _request_id, _role ORDER BY _at, _request_id",
        found,
    )
    while rows := result.fetchmany(_AT_ONCE):
        yield from rows
