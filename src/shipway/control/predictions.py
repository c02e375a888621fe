"""The use cases of the prediction log: segments are taken in, and their rows are read."""

from __future__ import annotations

import gc
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import msgspec

from shipway.core.errors import InvalidRequest
from shipway.core.partitions import KEEP_DAYS, Contents, Partition, since_of_newest
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.objects.faults import translated_faults
from shipway.store.predictions.reading import LogFiles
from shipway.store.sql.database import Database, Transaction
from shipway.store.staging import Staging
from shipway.wire.feedback import microseconds
from shipway.wire.packed import segment_id

if TYPE_CHECKING:
    from shipway.store.predictions.tables import Read

_log = logging.getLogger(__name__)


class Predictions:
    """The log of one environment. Thread-safe; methods block and may raise StoreUnavailable.

    `state_dir` has the staging of files, the cache of a remote store's, and `spool-rejected`.
    """

    def __init__(
        self, database: Database, artifacts: ArtifactStore, *, environment: str, state_dir: Path
    ) -> None:
        self.environment = environment
        self._database = database
        self._objects = artifacts.log
        self._staging = Staging(state_dir / "staging")
        self._rejected = state_dir / "spool-rejected"
        self._cache = state_dir / "cache" / "predictions"
        self._one_segment = Lock()
        self._last_arrival_us = 0

    def ingest(self, data: bytes, *, gateway: str, now: datetime) -> bool:
        """Takes a segment in; False when it was in already.

        Idempotent: the files have the segment's names, and one transaction makes them part of the log.
        What cannot be read of it is kept in `spool-rejected`.

        Raises:
            InvalidRequest: nothing of it can be read.
        """
        name = segment_id(data)
        if name is None:
            raise self._rejection(data)
        with self._database.reading() as tx:
            if tx.segments.has(name):
                return False
        # One at a time: its rows are in memory.
        with self._one_segment:
            return self._taken_in(data, name, gateway=gateway, now=now)

    def _taken_in(self, data: bytes, name: str, *, gateway: str, now: datetime) -> bool:
        # pyarrow is not loaded before there is something to write.
        from shipway.store.predictions.parts import hash_of
        from shipway.store.predictions.tables import rows_of

        arrived_us = max(microseconds(now), self._last_arrival_us + 1)
        with _uncollected():
            read = rows_of(data, arrived_us=arrived_us)
        self._last_arrival_us = arrived_us + read.frames
        if read.refused or read.good_bytes < len(data):
            if not read.frames:
                raise self._rejection(data)
            _log.warning(
                "Segment %s makes no sense in %s frames and after %s of %s bytes: %s",
                *(name, read.refused, read.good_bytes, len(data), self._set_aside(data)),
            )
        partitions = self._stored(read, name, now)
        shapes = dict(hash_of(one.shape) for one in read.rows if one.shape is not None)
        with self._database.transaction() as tx:
            if tx.segments.has(name):
                return False
            tx.segments.add(name, gateway=gateway, at=now, facts=(read.frames, len(data)))
            tx.partitions.add(_with_keep_days(tx, partitions), shapes)
        return True

    def _stored(self, read: Read, name: str, now: datetime) -> list[Partition]:
        from shipway.store.predictions.parts import by_day, partition_of
        from shipway.store.predictions.writing import write_table

        stored = []
        with self._staging.new() as directory:
            for rows, day in by_day(read.rows, now.date()):
                draft = directory / "rows.parquet"
                write_table(rows.table, draft)
                partition = partition_of(rows, day, name, draft.stat().st_size)
                self._objects.put(partition.path, draft)
                stored.append(partition)
        return stored

    def _rejection(self, data: bytes) -> InvalidRequest:
        return InvalidRequest(
            "The body is no spool segment, or nothing of it can be read.",
            next_step=f"Its bytes are kept in `{self._set_aside(data)}` of the server.",
        )

    def _set_aside(self, data: bytes) -> Path:
        """Keeps bytes that make no sense, under their hash: the same ones are kept once."""
        path = self._rejected / f"{sha256(data).hexdigest()[:32]}.seg"
        draft = path.with_suffix(f".{os.getpid()}.draft")
        with translated_faults(str(self._rejected)):
            self._rejected.mkdir(parents=True, exist_ok=True)
            draft.write_bytes(data)
            draft.replace(path)
        return path

    @contextmanager
    def files(
        self,
        endpoint: str,
        *,
        version: int | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[LogFiles]:
        """The files that hold an endpoint's log, near at hand for as long as the block lasts.

        Of predictions, those of the `version` and between `since` and `until` (not included); of
        feedback, all that came since the day before `since`: it is later than what it is about.

        Raises:
            InvalidRequest: the store is remote, and they are too much for its cache.
        """
        with self._database.reading() as tx:
            found = tx.partitions.of(self.environment, endpoint)
        wanted = [one for one in found if _is_wanted(one, version, since, until)]
        with self._objects.near(
            [(one.path, one.size_bytes) for one in wanted], self._cache
        ) as near:
            groups: dict[str, list[str]] = {}
            feedback: list[str] = []
            for one in wanted:
                if (path := near.get(one.path)) is None:
                    _log.warning("File `%s` of the prediction log is missing", one.path)
                elif one.contents is Contents.FEEDBACK:
                    feedback.append(str(path))
                else:
                    groups.setdefault(one.shape, []).append(str(path))
            yield LogFiles(
                predictions=tuple(map(tuple, groups.values())),
                feedback=tuple(feedback),
                since=since,
                until=until,
            )

    def since_of_newest(
        self, endpoint: str, rows: int, *, version: int, since: datetime
    ) -> datetime:
        """From when on the log has so many rows of a version at least; `since` where it has fewer."""
        with self._database.reading() as tx:
            found = tx.partitions.of(self.environment, endpoint)
        mine = [one for one in found if one.version == version]
        return since_of_newest(mine, rows, since=since)


@contextmanager
def _uncollected() -> Iterator[None]:
    """No garbage collection meanwhile. What a segment becomes has no cycles, and walking it holds all threads."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _is_wanted(
    one: Partition, version: int | None, since: datetime | None, until: datetime | None
) -> bool:
    if one.contents is Contents.FEEDBACK:
        return since is None or one.day + timedelta(days=1) >= since.astimezone(UTC).date()
    return (
        (version is None or one.version == version)
        and (since is None or one.until >= since)
        and (until is None or one.since < until)
    )


def _with_keep_days(tx: Transaction, partitions: Sequence[Partition]) -> list[Partition]:
    """The files with what their endpoints say of now: those of a deleted one stay as long."""
    said: Mapping[tuple[str, str], Any] = {
        place: tx.endpoints.get(*place)
        for place in {(one.environment, one.endpoint) for one in partitions}
    }
    kept = []
    for one in partitions:
        state = said[one.environment, one.endpoint]
        capture = None if state is None else state.spec.capture
        keep_days = KEEP_DAYS if capture is None else capture.keep_days
        kept.append(msgspec.structs.replace(one, keep_days=keep_days))
    return kept
