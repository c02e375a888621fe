"""Signed heads of the audit chain: what control swears that the chain was at a time.

A hash chain alone cannot show that its end was cut off, nor that somebody computed all of it anew. A
head is the newest event's number and hash, signed with a key that the database does not hold. Heads
are numbered, so that a removed one is missed. A cut is the signed word that the events up to its own
were archived; the chain begins after it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

IsSigned = Callable[[str, bytes, str], bool]
"""Whether a signature (hex) is that of a public key (hex) over a message."""


class Head(msgspec.Struct, frozen=True, kw_only=True):
    """What the chain's newest event was at a time: its number (0 for an empty chain) and hash.

    `number` grows by one from head to head. `public_key` is hex, Ed25519. At a rotation the old key
    signs a head that `vouches_for` the new one, and the new key one for the old.
    """

    number: int
    sequence: int
    hash: str
    at: datetime
    public_key: str
    vouches_for: str = ""
    signature: str = ""


class Cut(msgspec.Struct, frozen=True, kw_only=True):
    """That the events `first` to `sequence` are in a sealed archive, and no longer in the chain.

    `hash` is that of the last of them, `sha256` that of the archive's bytes. The first head that
    stayed has the number `heads_from`.
    """

    first: int
    sequence: int
    hash: str
    at: datetime
    public_key: str
    archive: str
    sha256: str
    heads_from: int
    signature: str = ""


class KeyChange(msgspec.Struct, frozen=True, kw_only=True):
    """The public keys (hex) before and after a rotation."""

    before: str
    after: str


def message_of(signed: Head | Cut) -> bytes:
    """The bytes under a signature: what kind it is, and canonical JSON of everything else."""
    facts = msgspec.to_builtins(signed, builtin_types=(datetime,))
    del facts["signature"]
    facts["at"] = signed.at.astimezone(UTC)
    kind = type(signed).__name__.lower()
    return f"shipway audit {kind} 1\n".encode() + msgspec.json.encode(facts, order="sorted")


def key_name(public_key: str) -> str:
    """The short name of a public key, for people and file names."""
    return public_key[:16]
