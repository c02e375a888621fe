"""The catalogue of the prediction log: which segments were taken in, and which files there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.partitions import KEEP_DAYS, Contents, Partition
from shipway.store.sql.tables import prediction_files as files
from shipway.store.sql.tables import prediction_shapes as shapes
from shipway.store.sql.tables import segments

_AT_ONCE = 500
"""Paths named in one statement: databases bound its parameters."""


class SegmentRows:
    """The segments of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def has(self, segment_id: str) -> bool:
        """Whether a segment was taken in."""
        query = sa.select(segments.c.id).where(segments.c.id == segment_id)
        return self._connection.scalar(query) is not None

    def add(self, segment_id: str, *, gateway: str, at: datetime, facts: tuple[int, int]) -> None:
        """Says that a new segment was taken in; `facts` are its frames and its bytes."""
        row = {"id": segment_id, "gateway": gateway, "at": at}
        frames, size = facts
        self._connection.execute(sa.insert(segments).values(**row, frames=frames, size_bytes=size))

    def forget(self, *, before: datetime) -> int:
        """Forgets those that were taken in before then; how many."""
        done = self._connection.execute(sa.delete(segments).where(segments.c.at < before))
        return int(done.rowcount)


class PartitionRows:
    """The files of the log, of one transaction. A retired one is read by nobody new."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def add(self, partitions: Iterable[Partition], kept: Mapping[str, str]) -> None:
        """Adds files; `kept` are the shapes that they name, as JSON by hash."""
        for name in kept.keys() - self.shapes(list(kept)).keys():
            self._connection.execute(sa.insert(shapes).values(hash=name, shape=kept[name]))
        rows = [_row(one) for one in partitions]
        if rows:
            self._connection.execute(sa.insert(files), rows)

    def shapes(self, hashes: Sequence[str]) -> dict[str, str]:
        """Those of the shapes that are known, as JSON by hash."""
        found: dict[str, str] = {}
        for part in _parts(hashes):
            query = sa.select(shapes.c.hash, shapes.c.shape).where(shapes.c.hash.in_(part))
            found.update((row.hash, row.shape) for row in self._connection.execute(query))
        return found

    def of(self, environment: str, endpoint: str) -> list[Partition]:
        """The files of an endpoint, oldest first."""
        mine = (files.c.environment == environment) & (files.c.endpoint == endpoint)
        return self._partitions(mine)

    def all_of(self, environment: str) -> list[Partition]:
        """The files of an environment, oldest first."""
        return self._partitions(files.c.environment == environment)

    def retire(self, paths: Sequence[str], *, now: datetime) -> int:
        """Retires files; how many of them were there and not retired yet."""
        done = 0
        for part in _parts(paths):
            live = files.c.path.in_(part) & files.c.retired_at.is_(None)
            update = sa.update(files).where(live).values(retired_at=now)
            done += self._connection.execute(update).rowcount
        return done

    def retired(self, *, before: datetime) -> list[str]:
        """The paths of those that were retired before then."""
        query = sa.select(files.c.path).where(files.c.retired_at < before)
        return list(self._connection.scalars(query))

    def forget(self, paths: Sequence[str]) -> None:
        """Forgets files, and shapes that no other one names."""
        for part in _parts(paths):
            self._connection.execute(sa.delete(files).where(files.c.path.in_(part)))
        if paths:
            named = sa.select(files.c.shape)
            self._connection.execute(sa.delete(shapes).where(shapes.c.hash.not_in(named)))

    def known(self, paths: Sequence[str]) -> set[str]:
        """Those of the paths that are of files, retired ones too."""
        found: set[str] = set()
        for part in _parts(paths):
            found.update(
                self._connection.scalars(sa.select(files.c.path).where(files.c.path.in_(part)))
            )
        return found

    def longest_keep_days(self) -> int:
        """How long any endpoint's log is kept, by what they said when the files were written."""
        longest = self._connection.scalar(sa.select(sa.func.max(files.c.keep_days)))
        return max(int(longest or 0), KEEP_DAYS)

    def _partitions(self, mine: sa.ColumnElement[bool]) -> list[Partition]:
        query = sa.select(files).where(mine & files.c.retired_at.is_(None))
        rows = self._connection.execute(query.order_by(files.c.since, files.c.path))
        return [_partition(row) for row in rows]


def _parts(paths: Sequence[str]) -> Iterator[Sequence[str]]:
    return (paths[at : at + _AT_ONCE] for at in range(0, len(paths), _AT_ONCE))


def _row(one: Partition) -> dict[str, Any]:
    row = msgspec.structs.asdict(one)
    kind = row.pop("contents")
    return {**row, "kind": kind.value, "day": one.day.isoformat(), "retired_at": None}


def _partition(row: sa.Row[Any]) -> Partition:
    facts = dict(row._mapping)
    del facts["retired_at"]
    kind, day = Contents(facts.pop("kind")), date.fromisoformat(facts.pop("day"))
    return Partition(**facts, contents=kind, day=day)
