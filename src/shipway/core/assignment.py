"""Which version a caller gets while two share an endpoint: the same one each time, for the same key.

A key has a *place* among all keys, by a hash of the rollout and the key. The candidate has the places
below its weight. So no gateway has to remember anybody, and whoever was moved to the candidate stays
there as the weight grows.
"""

from __future__ import annotations

from hashlib import blake2b

import numpy as np

from shipway.core.tensors import Array

_BYTES = 6
_PLACES = 2.0 ** (8 * _BYTES)


def place_of(salt: str, key: str) -> float:
    """The place of a key, from 0 up to but not including 100; evenly spread over keys.

    The same in every process and release. Another `salt` gives places that have nothing to do with
    these: who was first to get one candidate is not first again for the next. After the diversion of
    Tang, Agarwal, O'Brien and Meyer, "Overlapping Experiment Infrastructure" (KDD 2010), with BLAKE2b
    (RFC 7693) for the hash.
    """
    text = f"{salt}\0{key}".encode(errors="surrogatepass")
    digest = blake2b(text, digest_size=_BYTES).digest()
    return int.from_bytes(digest, "big") / _PLACES * 100


def is_moved(place: float, weight_pct: float) -> bool:
    """Whether the caller at that place gets the candidate, which has that share of the requests."""
    return place < weight_pct


def key_text(value: object) -> str | None:
    """The text of a value that is a key, however its caller wrote it: 7, 7.0 and "7" are one caller.

    None for what names nobody: null, NaN, empty text, lists and objects.
    """
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case float():
            return (
                None if value != value else str(int(value)) if value.is_integer() else repr(value)
            )
        case bytes():
            return value.decode("utf-8", "replace") or None
        case str():
            return value or None
        case _:
            return None


def row_key(array: Array | None) -> str | None:
    """The text of an input's first row, when that is a key; several values are one key together.

    A row of one value is that value: a column of shape `[-1, 1]` has the keys of one of shape `[-1]`.
    """
    if array is None or not array.size:
        return None
    row = array[0] if array.ndim else array[()]
    if isinstance(row, np.ndarray):
        return str(row.tolist()) if row.size > 1 else key_text(row.item())
    return key_text(row.item() if isinstance(row, np.generic) else row)
