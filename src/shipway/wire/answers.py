"""Kept answers as bytes, for a store that gateways share.

A value is a checksum of key and tensors, and the tensors as in a frame (`wire.frames`). What was
stored by something else, cut, changed, or under another key is no answer. `FORMAT` is part of every
key's name: gateways of different formats do not see each other's values.
"""

from __future__ import annotations

from hashlib import blake2b

from shipway.core.errors import InvalidRequest
from shipway.core.outputs import Outputs
from shipway.wire.frames import decode_tensors, encode_body

FORMAT = 1
_PREFIX = f"shipway:answer:{FORMAT}:"
_CHECK_BYTES = 16


def name_of(key: bytes) -> str:
    """What a key is called in the shared store."""
    return _PREFIX + key.hex()


def encode_answer(key: bytes, outputs: Outputs) -> bytes:
    """The value that keeps an engine's outputs under this key."""
    body = b"".join(encode_body(outputs))
    return _check(key, body) + body


def decode_answer(key: bytes, value: bytes) -> Outputs | None:
    """The outputs in a value; None when it is not one that was made for this key.

    Numeric arrays are read-only views into `value`.
    """
    check, body = value[:_CHECK_BYTES], memoryview(value)[_CHECK_BYTES:]
    if check != _check(key, body):
        return None
    try:
        return decode_tensors(body)[0]
    except InvalidRequest:
        return None


def _check(key: bytes, body: bytes | memoryview) -> bytes:
    return blake2b(body, digest_size=_CHECK_BYTES, key=key).digest()
