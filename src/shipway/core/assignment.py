"""Which version a caller gets."""

from __future__ import annotations

from hashlib import blake2b


def place_of(salt: str, key: str) -> float:
    """The place of a key among all callers, from 0 to 100; the same wherever it is asked."""
    digest = blake2b(f"{salt}\0{key}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64 * 100
