"""Upkeep of the prediction log: small files are merged, and old ones let go."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from shipway.core.audit import Change
from shipway.core.errors import ConflictError, StoreUnavailable
from shipway.core.partitions import Contents, Partition, has_expired, merges
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, Transaction
from shipway.store.staging import Staging

ACTOR = "retention"
GRACE = timedelta(hours=1)
"""A file that was merged or let go stays for so long: somebody may be reading it."""

ORPHAN_AFTER = timedelta(days=1)
"""Younger objects may belong to a segment on its way in."""

_log = logging.getLogger(__name__)


class Upkeep:
    """Keeps one environment's log small. Thread-safe; methods block and may raise StoreUnavailable.

    Killed at any moment it loses nothing, and the next call goes on.
    """

    def __init__(
        self, database: Database, artifacts: ArtifactStore, *, environment: str, state_dir: Path
    ) -> None:
        self._environment = environment
        self._database = database
        self._objects = artifacts.log
        self._staging = Staging(state_dir / "staging")
        self._cache = state_dir / "cache" / "predictions"

    def compact(self, now: datetime) -> int:
        """Merges small files into large ones; how many files are gone.

        What readers see does not change: each merge is one transaction, and the files that it replaces
        stay for a while.
        """
        with self._database.reading() as tx:
            found = tx.partitions.all_of(self._environment)
        gone = 0
        for group in merges(found, now):
            try:
                gone += self._merged(group, now)
            except ConflictError as exc:
                _log.info("Nothing merged: %s", exc)
            except StoreUnavailable as exc:
                _log.warning("Not merged, `%s` and %s more: %s", group[0].path, len(group) - 1, exc)
        return gone

    def _merged(self, group: Sequence[Partition], now: datetime) -> int:
        # pyarrow is not loaded before there is something to merge.
        from shipway.store.predictions.parts import merged_partition
        from shipway.store.predictions.tables import FEEDBACK_SCHEMA
        from shipway.store.predictions.writing import batches_of, write_tables

        names = [(one.path, one.size_bytes) for one in group]
        with self._objects.near(names, self._cache) as near, self._staging.new() as directory:
            group = [one for one in group if one.path in near]
            if len(group) < 2:
                return 0  # what is missing is found by `expire`
            draft = directory / "merged.parquet"
            schema = FEEDBACK_SCHEMA if group[0].contents is Contents.FEEDBACK else None
            write_tables(batches_of([near[one.path] for one in group], schema), draft)
            merged = merged_partition(group, draft.stat().st_size)
            self._objects.put(merged.path, draft)
        self._swap(group, merged, now)
        return len(group) - 1

    def _swap(self, group: Sequence[Partition], merged: Partition, now: datetime) -> None:
        with self._database.transaction() as tx:
            if tx.partitions.retire([one.path for one in group], now=now) != len(group):
                raise ConflictError("Another process has merged these files, or let them go.")
            tx.partitions.add([merged], {})

    def expire(self, now: datetime) -> int:
        """Lets go what is older than its endpoint's `capture.keep_days`; how many files.

        Objects of files that were retired a while ago are deleted, and those that no file names.
        """
        with self._database.reading() as tx:
            found = tx.partitions.all_of(self._environment)
            keep_days = _keep_days(tx, self._environment)
        old = [
            one
            for one in found
            if has_expired(one, keep_days.get(one.endpoint, one.keep_days), now)
        ]
        self._retire(old, now)
        self._collect(now, longest_days=max(keep_days.values(), default=0))
        self._sweep(found, now)
        Staging(self._cache / "open").sweep(unused_since=now - ORPHAN_AFTER)
        return len(old)

    def _retire(self, partitions: Sequence[Partition], now: datetime) -> None:
        by_endpoint: dict[str, list[Partition]] = {}
        for one in partitions:
            by_endpoint.setdefault(one.endpoint, []).append(one)
        for endpoint, gone in by_endpoint.items():
            details = {
                "files": len(gone),
                "rows": sum(one.rows for one in gone),
                "from": min(one.day for one in gone).isoformat(),
                "through": max(one.day for one in gone).isoformat(),
            }
            change = Change(
                at=now, actor=ACTOR, action="predictions.expire", subject=endpoint, details=details
            )
            with self._database.transaction() as tx:
                if tx.partitions.retire([one.path for one in gone], now=now):
                    tx.audit.append(change)

    def _collect(self, now: datetime, *, longest_days: int) -> None:
        """Deletes what was retired a while ago, and forgets segments whose rows are all gone."""
        with self._database.reading() as tx:
            paths = tx.partitions.retired(before=now - GRACE)
        for path in paths:
            self._objects.delete(path)
        with self._database.transaction() as tx:
            tx.partitions.forget(paths)
            days = max(longest_days, tx.partitions.longest_keep_days()) + 2
            tx.segments.forget(before=now - timedelta(days=days))

    def _sweep(self, partitions: Sequence[Partition], now: datetime) -> None:
        """Deletes objects that no file names; none while objects of files are missing.

        Then this is another store than the one that the database tells of, or another moment of it.
        """
        stored = {one.path: one.written_at for one in self._objects.all()}
        lost = sum(one.path not in stored for one in partitions)
        if lost:
            _log.warning(
                "%s of the prediction log's %s files are missing in the artifact store. Check"
                " `SHIPWAY_ARTIFACTS_URL` and that its disk is mounted, or put them back from a backup; until"
                " they are back, or as old as `capture.keep_days`, answers leave them out, and objects that"
                " no file names stay.",
                lost,
                len(partitions),
            )
            return
        with self._database.reading() as tx:
            known = tx.partitions.known(list(stored))
        for path, written_at in stored.items():
            if path not in known and written_at < now - ORPHAN_AFTER:
                self._objects.delete(path)


def _keep_days(tx: Transaction, environment: str) -> dict[str, int]:
    """How long each endpoint of now keeps its log, where it says that."""
    states = [state for state in tx.endpoints.list() if state.spec.environment == environment]
    return {
        state.spec.name: state.spec.capture.keep_days
        for state in states
        if state.spec.capture is not None
    }
