"""API keys: what one looks like, what is kept of it, and when it is good.

A key is `shipway_<id>_<secret>`: the id is public and names the key in lists and in the audit record, the
secret has 256 random bits. Only a SHA-256 of the whole is kept. A slow hash (bcrypt, Argon2) protects
words that people choose; of 256 random bits there is nothing to guess (NIST SP 800-63B, 5.1.2).
"""

from __future__ import annotations

import re
from datetime import datetime
from hashlib import sha256

import msgspec

from shipway.core.access import Grant
from shipway.core.errors import ConflictError
from shipway.core.rates import CallerLimits

PREFIX = "shipway_"
_KEY = re.compile(r"shipway_([a-z2-7]{12})_([A-Za-z0-9_-]{43})")


class Key(msgspec.Struct, frozen=True, kw_only=True):
    """An API key as it is kept: everything but the secret.

    `expires_at` None: it does not expire. `replaced_by` is the id of the key that a rotation made.
    `last_used_at` is known to the minute. `limits` None: what its project and endpoint allow.
    """

    id: str
    name: str
    grants: tuple[Grant, ...]
    created_at: datetime
    created_by: str
    digest: str
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str = ""
    last_used_at: datetime | None = None
    is_local: bool = False
    limits: CallerLimits | None = None

    def is_good(self, now: datetime) -> bool:
        """Whether it opens anything now."""
        return self.revoked_at is None and (self.expires_at is None or now < self.expires_at)


class KeyText(msgspec.Struct, frozen=True):
    """A presented key, taken apart."""

    id: str
    digest: str


def written(key_id: str, secret: str) -> str:
    """The key as its owner gets it, once. `key_id` has 12 of a-z 2-7, `secret` 43 of base64url."""
    return f"{PREFIX}{key_id}_{secret}"


def read_key(text: str) -> KeyText | None:
    """The id and the digest of what looks like a key; None for what does not."""
    found = _KEY.fullmatch(text)
    return None if found is None else KeyText(found[1], digest_of(text))


def digest_of(text: str) -> str:
    """Hex SHA-256 of a whole key."""
    return sha256(text.encode()).hexdigest()


def rotated(key: Key, *, replaced_by: str, until: datetime, now: datetime) -> Key:
    """The old key once another has taken its place: good until then, and no longer than it was.

    Raises:
        ConflictError: it is not good any more, or was rotated already.
    """
    if not key.is_good(now) or key.replaced_by:
        raise ConflictError(
            f"Key `{key.id}` ({key.name}) is revoked, expired or rotated already.",
            next_step="`shipway key list` shows the keys that are good.",
        )
    ends = until if key.expires_at is None else min(until, key.expires_at)
    return msgspec.structs.replace(key, replaced_by=replaced_by, expires_at=ends)


def revoked(key: Key, now: datetime) -> Key:
    """The key once it is revoked; revoking it again changes nothing."""
    return key if key.revoked_at is not None else msgspec.structs.replace(key, revoked_at=now)
