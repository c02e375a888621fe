"""What a backup says of itself: its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core.audit import GENESIS, AuditEvent, BrokenLink, hash_of

FORMAT = 1
"""The layout of the archives that this release writes; it reads this and older ones."""


class Kind(StrEnum):
    """How a column's values are written, the same for every database."""

    TEXT = "text"
    INTEGER = "integer"
    FLOAT = "float"
    BOOLEAN = "boolean"
    INSTANT = "instant"
    BYTES = "bytes"
    JSON = "json"


class ColumnFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One column of a table that was backed up."""

    name: str
    kind: Kind


class TableFacts(msgspec.Struct, frozen=True, kw_only=True):
    """One table: its columns, how many rows it had, and the SHA-256 over them in key order."""

    name: str
    columns: tuple[ColumnFacts, ...]
    rows: int
    sha256: str


class AuditHead(msgspec.Struct, frozen=True, kw_only=True):
    """The newest link of the audit chain."""

    sequence: int = 0
    hash: str = GENESIS


class KeptFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of the state directory: a key or a certificate. `mode` has its permission bits."""

    path: str
    mode: int
    sha256: str


class BundleFacts(msgspec.Struct, frozen=True, kw_only=True):
    """The bundles of a backup: how many, and how many bytes their files have."""

    count: int = 0
    size_bytes: int = 0


class BackupManifest(msgspec.Struct, frozen=True, kw_only=True):
    """What is in a backup. `schema` is the database's, `release` the Shipway that wrote it."""

    format: int
    created_at: datetime
    release: str
    schema: str
    tables: tuple[TableFacts, ...]
    audit: AuditHead
    bundles: BundleFacts
    files: tuple[KeptFile, ...]

    @property
    def rows(self) -> int:
        """The rows of all tables."""
        return sum(table.rows for table in self.tables)


def differing_tables(wanted: BackupManifest, found: tuple[TableFacts, ...]) -> list[str]:
    """The names of tables whose rows are not what the manifest says, missing ones among them."""
    there = {table.name: (table.rows, table.sha256) for table in found}
    return [
        table.name for table in wanted.tables if there.get(table.name) != (table.rows, table.sha256)
    ]


def first_loose_link(events: Iterable[AuditEvent]) -> BrokenLink | None:
    """Where the chain, oldest first, breaks; its beginning may have gone to an archive."""
    sequence, previous_hash = 1, GENESIS
    for number, event in enumerate(events):
        if number == 0 and event.sequence > 1:
            sequence, previous_hash = event.sequence, event.previous_hash
        if event.sequence != sequence:
            return BrokenLink(sequence=sequence, reason=f"event {sequence} is missing")
        if event.previous_hash != previous_hash:
            reason = f"event {sequence} does not follow the one before it"
            return BrokenLink(sequence=sequence, reason=reason)
        if event.hash != hash_of(sequence, event, previous_hash):
            return BrokenLink(sequence=sequence, reason=f"event {sequence} was changed")
        sequence, previous_hash = sequence + 1, event.hash
    return None
