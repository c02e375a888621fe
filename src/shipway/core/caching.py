"""Answers kept for equal inputs: the key of an input, and what is kept within a time and a size.

Pure: the time is an argument. `gateway.cache` asks, runs the model and keeps.
"""

from __future__ import annotations

import sys
from collections import OrderedDict
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import NamedTuple

import msgspec
import numpy as np

from shipway.core.endpoints import Cache
from shipway.core.outputs import Outputs
from shipway.core.signature import Signature
from shipway.core.tensors import Array

KEY_BYTES = 32
KeyOf = Callable[[Mapping[str, Array]], bytes | None]

_ENTRY_BYTES = 640
"""What an answer costs beside its arrays: key, two places in an order, entry and dict."""

_ARRAY_BYTES = 144
"""What numpy needs for an array beside its data."""

_encoder = msgspec.msgpack.Encoder()


def compile_key(digest: str, signature: Signature, cache: Cache) -> KeyOf:
    """The function that gives the key of conformed inputs: 32 bytes of BLAKE2b.

    Equal keys mean: the same bundle, the same `ttl_s`, and inputs of the same dtypes, shapes and
    values. All NaNs of floats are one value, as they are one null to callers; -0.0 is not 0.0, which
    a model can tell apart. None: the inputs have no key (text that is not Unicode); do not keep.
    """
    names = tuple(field.name for field in signature.inputs)
    # Where no null is allowed, validation has refused every NaN.
    with_nan = frozenset(field.name for field in signature.inputs if field.nullable)
    begun = blake2b(_encoder.encode((digest, cache.ttl_s, names)), digest_size=KEY_BYTES)

    def key_of(inputs: Mapping[str, Array]) -> bytes | None:
        # Dtypes and shapes first: they say which values follow, and where each of them ends.
        parts = [repr([(array.dtype.str, array.shape) for array in inputs.values()]).encode()]
        nullable: list[Array] = []
        try:
            for name, array in inputs.items():
                if array.dtype.kind == "O":
                    parts.append(_encoder.encode(array.ravel().tolist()))
                elif name in with_nan and array.dtype.kind == "f":
                    nullable.append(array.ravel())
                else:
                    parts.append(array.tobytes())
        except UnicodeEncodeError:
            return None
        if nullable:
            parts.append(_with_one_nan(np.concatenate(nullable)).tobytes())
        state = begun.copy()
        state.update(b"".join(parts))
        return state.digest()

    return key_of


def _with_one_nan(values: Array) -> Array:
    """The values, in place, with one bit pattern for all NaNs."""
    nan = np.isnan(values)
    if nan.any():
        values[nan] = np.nan
    return values


class _Kept(NamedTuple):
    outputs: Outputs
    size_bytes: int
    until: float


class KeptAnswers:
    """Answers by key, each for `ttl_s`, all within `max_bytes`; the one unused for longest goes first.

    `now` is in seconds of a steady clock. Arrays that are given out are shared and read-only.
    """

    def __init__(self, *, ttl_s: float, max_bytes: int) -> None:
        self._ttl_s = ttl_s
        self._max_bytes = max_bytes
        self._by_use: OrderedDict[bytes, _Kept] = OrderedDict()
        self._by_age: OrderedDict[bytes, None] = OrderedDict()
        self.size_bytes = 0

    def __len__(self) -> int:
        return len(self._by_use)

    def get(self, key: bytes, now: float) -> Outputs | None:
        """The answer kept under the key; None when there is none, or its time is over."""
        kept = self._by_use.get(key)
        if kept is None:
            return None
        if kept.until <= now:
            self._drop(key)
            return None
        self._by_use.move_to_end(key)
        return kept.outputs

    def put(self, key: bytes, outputs: Outputs, now: float) -> None:
        """Keeps an answer, unless it alone is over the bound; others go to make room."""
        self.expire(now)
        if key in self._by_use:
            self._drop(key)
        own = {name: _owned(array) for name, array in outputs.items()}
        size = size_of(own)
        if size > self._max_bytes:
            return
        while self.size_bytes + size > self._max_bytes:
            self._drop(next(iter(self._by_use)))
        self._by_use[key] = _Kept(own, size, now + self._ttl_s)
        self._by_age[key] = None
        self.size_bytes += size

    def expire(self, now: float) -> None:
        """Lets go of every answer whose time is over."""
        while self._by_age:
            oldest = next(iter(self._by_age))
            if self._by_use[oldest].until > now:
                return
            self._drop(oldest)

    def _drop(self, key: bytes) -> None:
        self.size_bytes -= self._by_use.pop(key).size_bytes
        del self._by_age[key]


def size_of(outputs: Outputs) -> int:
    """How much memory an answer takes when it is kept, objects and bookkeeping counted."""
    return _ENTRY_BYTES + sum(map(_array_size, outputs.values()))


def _array_size(array: Array) -> int:
    items = array.ravel().tolist() if array.dtype == object else ()
    return _ARRAY_BYTES + array.nbytes + sum(map(sys.getsizeof, items))


def _owned(array: Array) -> Array:
    """The array itself, or a copy of one that would keep a larger buffer alive; read-only."""
    own = array if array.base is None else array.copy()
    own.flags.writeable = False
    return own
