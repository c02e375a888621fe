"""Moving the older part of the audit chain into sealed archives, as the environments' policies say."""

from __future__ import annotations

from datetime import datetime

import msgspec

from shipway.control.seals import Seals, chain_in
from shipway.core.audit import Change
from shipway.core.errors import ConflictError
from shipway.core.heads import Cut, message_of
from shipway.core.retention import Pruned, Retention, last_to_go
from shipway.store.archives import name_of
from shipway.store.sql.database import Transaction


class Pruning:
    """Archives the chain's beginning, and leaves a signed cut in its place. Thread-safe; blocks."""

    def __init__(self, seals: Seals) -> None:
        self._seals = seals

    def prune(
        self, *, before: datetime | None = None, actor: str, now: datetime, dry_run: bool = False
    ) -> Pruned:
        """Archives what the policies let go, or what is older than `before` and no policy keeps.

        An archive ends with a signed head, so that it proves itself; the newest event stays. Killed at
        any moment it leaves the chain whole, and the next call does it again.

        Raises:
            ConflictError: the chain does not hold; nothing is archived before somebody has looked.
            StoreUnavailable, StateUnusable: the database or the directory cannot be used.
        """
        with self._seals.lock:
            with self._seals.database.snapshot() as tx:
                found = _found(tx, before=before, now=now)
            if found is None or dry_run:
                return msgspec.structs.replace(found or Pruned(), dry_run=dry_run)
            self._seals.sign(now=now)
            self._require_whole()
            cut = self._archived(found, now=now)
            self._remove(cut, actor=actor, now=now)
        path = self._seals.archives.path_of(cut.archive)
        return msgspec.structs.replace(found, archive=str(path))

    def _require_whole(self) -> None:
        broken = self._seals.verify().broken
        if broken is not None:
            raise ConflictError(
                f"The audit chain does not hold at event {broken.sequence}: {broken.reason}.",
                next_step="See `shipway audit verify`. Nothing was archived.",
                sequence=broken.sequence,
            )

    def _archived(self, found: Pruned, *, now: datetime) -> Cut:
        """The signed cut of an archive that is on the disk."""
        with self._seals.database.snapshot() as tx:
            digest = self._seals.archives.write(found.archive, chain_in(tx, through=found.last))
            seal = tx.heads.last_within(found.last)
        assert seal is not None
        key = self._seals.key
        cut = Cut(
            first=found.first,
            sequence=seal.sequence,
            hash=seal.hash,
            at=now,
            public_key=key.public_key,
            archive=found.archive,
            sha256=digest,
            heads_from=seal.number + 1,
        )
        cut = msgspec.structs.replace(cut, signature=key.sign(message_of(cut)))
        self._seals.archives.seal(cut)
        return cut

    def _remove(self, cut: Cut, *, actor: str, now: datetime) -> None:
        details = {"first": cut.first, "last": cut.sequence, "sha256": cut.sha256}
        with self._seals.database.transaction() as tx:
            _require_first(tx, cut)
            tx.cuts.add(cut)
            tx.audit.remove_through(cut.sequence)
            tx.heads.remove_through(cut.heads_from - 1)
            tx.audit.append(
                Change(
                    at=now, actor=actor, action="audit.prune", subject=cut.archive, details=details
                )
            )
        self._seals.sign(now=now)
        self._seals.witness.forget_before(cut.heads_from)


def _found(tx: Transaction, *, before: datetime | None, now: datetime) -> Pruned | None:
    """What may go; None when nothing may."""
    keep_days = {one.policy.name: one.policy.audit.keep_days for one in tx.policies.list()}
    retention = Retention(keep_days=keep_days, now=now, before=before)
    ends = [*tx.audit.page(after=None, limit=1), *tx.audit.newest(limit=1)]
    if not ends:
        return None
    first, newest = ends[0].sequence, ends[-1].sequence
    last = min(last_to_go(tx.audit.chain(), retention), newest - 1)
    seal = tx.heads.last_within(last)
    if seal is None or seal.sequence < first:
        return None
    return Pruned(
        events=seal.sequence - first + 1,
        first=first,
        last=seal.sequence,
        archive=name_of(first, seal.sequence),
    )


def _require_first(tx: Transaction, cut: Cut) -> None:
    if [event.sequence for event in tx.audit.page(after=None, limit=1)] != [cut.first]:
        raise ConflictError(
            "Another process archived audit events at the same time.",
            next_step="Repeat it; the events are in the other's archive.",
        )
