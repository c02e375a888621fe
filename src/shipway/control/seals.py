"""Signing the audit chain's heads, checking the chain against them, and changing the key."""

from __future__ import annotations

import heapq
import logging
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from threading import RLock

import msgspec

from shipway.core.audit import GENESIS, BrokenLink, Change
from shipway.core.errors import InvalidRequest
from shipway.core.heads import Cut, Head, KeyChange, key_name, message_of
from shipway.core.verification import ChainVerdict, Link, first_lost_head, position, verdict_of
from shipway.store.archives import Archives
from shipway.store.keys import AuditKeys, SigningKey, is_signed
from shipway.store.sql.database import Database, Transaction
from shipway.store.witness import Witness

_log = logging.getLogger(__name__)


class Seals:
    """The signatures over one audit chain, by the key of this state directory.

    Thread-safe; methods block, and may raise StoreUnavailable and StateUnusable. A head goes to the
    database first and then to the file `audit/heads.jsonl`, so that a death in between loses none: the
    next signing brings the file up to date.
    """

    def __init__(self, database: Database, state_dir: Path) -> None:
        self.database = database
        self.keys = AuditKeys(state_dir / "keys")
        self.archives = Archives(state_dir / "audit" / "archive")
        self.witness = Witness(state_dir / "audit" / "heads.jsonl")
        self.lock = RLock()
        self._key: SigningKey | None = None

    def sign(self, *, now: datetime) -> Head | None:
        """Signs the newest event, unless this key has signed it already; gives the new head."""
        with self.lock:
            head = None
            with self.database.reading() as tx:
                is_due = self._is_due(tx)
            if is_due:
                with self.database.transaction() as tx:
                    head = self.signed_head(tx, self.key, now=now)
            self._tell_witness()
        return head

    def verify(self, *, archives: bool = False) -> ChainVerdict:
        """Whether the chain and its heads hold. Reads all of them; `archives`, also those before."""
        trusted = self.keys.trusted()
        with self.database.snapshot() as tx:
            verdict = verdict_of(chain_in(tx), trusted=trusted, is_signed=is_signed)
            cuts = tx.cuts.all()
            heads_from = cuts[-1].heads_from if cuts else 1
            lost = self._lost_head(tx, heads_from=heads_from, at=verdict.last)
        faults = [verdict.broken, lost]
        if archives:
            faults += self._archive_faults(cuts, trusted)
        broken = min((one for one in faults if one), key=lambda one: one.sequence, default=None)
        return msgspec.structs.replace(verdict, holds=broken is None, broken=broken)

    def rotate(self, *, actor: str, now: datetime) -> KeyChange:
        """Replaces the key. Both keys sign the chain with the rotation in it, each for the other."""
        with self.lock:
            old, new = self.key, self.keys.stage()
            change = KeyChange(before=old.public_key, after=new.public_key)
            with self.database.transaction() as tx:
                tx.audit.append(_rotation(change, actor=actor, now=now))
                self.signed_head(tx, old, now=now, vouches_for=new.public_key)
                self.signed_head(tx, new, now=now, vouches_for=old.public_key)
                self.keys.adopt(new)
            self._key = new
            self._tell_witness()
        return change

    @property
    def key(self) -> SigningKey:
        """The key that signs; made when there is none."""
        if self._key is None:
            self._key = self.keys.current()
        return self._key

    def signed_head(
        self, tx: Transaction, key: SigningKey, *, now: datetime, vouches_for: str = ""
    ) -> Head:
        """Signs the newest event inside a transaction."""
        newest = next(iter(tx.audit.newest(limit=1)), None)
        head = Head(
            number=tx.heads.next_number(),
            sequence=0 if newest is None else newest.sequence,
            hash=GENESIS if newest is None else newest.hash,
            at=now,
            public_key=key.public_key,
            vouches_for=vouches_for,
        )
        signed = msgspec.structs.replace(head, signature=key.sign(message_of(head)))
        tx.heads.add(signed)
        return signed

    def _is_due(self, tx: Transaction) -> bool:
        newest = next(iter(tx.audit.newest(limit=1)), None)
        last = tx.heads.newest_of(self.key.public_key)
        state = (0, GENESIS) if newest is None else (newest.sequence, newest.hash)
        if last is not None and last.sequence > state[0]:
            _log.error(
                "Event %s of the audit chain was signed and is gone: see `shipway audit verify`.",
                last.sequence,
            )
        return last is None or (last.sequence, last.hash) != state

    def _tell_witness(self) -> None:
        with self.database.reading() as tx:
            self.witness.add(tx.heads.by_number(after=self.witness.last_number()))

    def _lost_head(self, tx: Transaction, *, heads_from: int, at: int) -> BrokenLink | None:
        try:
            kept = tx.heads.by_number()
            return first_lost_head(self.witness.heads(), kept, heads_from=heads_from)
        except InvalidRequest as exc:
            return BrokenLink(sequence=at, reason=exc.message.removesuffix("."))

    def _archive_faults(
        self, cuts: list[Cut], trusted: frozenset[str]
    ) -> Iterator[BrokenLink | None]:
        """The first fault of each archive; one that was not changed still has to lead to the next."""
        last = 0
        for cut in cuts:
            if cut.first != last + 1:
                yield BrokenLink(
                    sequence=last + 1, reason=f"the archive of event {last + 1} is missing"
                )
            fault = self.archives.fault_of(cut)
            if fault is None:
                links = self.archives.links(cut.archive)
                fault = verdict_of(links, trusted=trusted, is_signed=is_signed).broken
            yield fault
            last = cut.sequence


def chain_in(tx: Transaction, *, through: int | None = None) -> Iterator[Link]:
    """The chain of a transaction with its heads and its cut; `through` ends it after that event."""
    cut = tx.cuts.newest()
    if cut is not None:
        yield cut
    parts: list[Iterator[Link]] = [tx.audit.chain(), tx.heads.by_event()]
    for link in heapq.merge(*parts, key=position):
        if through is not None and link.sequence > through:
            return
        yield link


def _rotation(change: KeyChange, *, actor: str, now: datetime) -> Change:
    details = {"before": change.before, "after": change.after}
    return Change(
        at=now,
        actor=actor,
        action="audit.rotate_key",
        subject=key_name(change.after),
        details=details,
    )
