"""The raw bytes that joblib writes behind the mark of an array, skipped as joblib would read them.

Where joblib could read other bytes than are skipped here, the pickle is refused.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from math import prod
from typing import Any

from shipway.bundles.scanning.machine import Unfollowable
from shipway.bundles.scanning.source import Source
from shipway.bundles.scanning.values import Made, Name, Table

WRAPPER = Name("joblib.numpy_pickle", "NumpyArrayWrapper")
_KEYS = frozenset({"subclass", "shape", "order", "dtype", "allow_mmap"})
_ALIGNMENT = "numpy_array_alignment_bytes"
_SUBCLASSES = frozenset(
    {Name("numpy", "ndarray"), Name("numpy", "matrix"), Name("numpy", "memmap")}
)
_KIND = re.compile(r"([biufcmMSUV])([0-9]{1,9})|(O)[0-9]*")
_STRETCHED = "SUV"
_MOST_PADDING = 16
_MOST_ARRAY_BYTES = 1 << 40


def skip_array(made: Made, source: Source, *, objects: Callable[[], None]) -> None:
    """Reads what follows a wrapper that has its state; `objects` follows the pickle of an array of objects.

    Raises:
        Unfollowable, Ended: it cannot be told where the array ends, or it ends too early.
    """
    state = _state(made, source)
    size = item_bytes(state["dtype"])
    if size is None:
        objects()
    else:
        _skip(source, state, size)


def _state(made: Made, source: Source) -> dict[str, Any]:
    state = made.state
    if not isinstance(state, Table) or not state.is_whole:
        raise Unfollowable(source.position, "an array whose description is not plain")
    keys = set(state.items)
    if keys - {_ALIGNMENT} != _KEYS or state.items["subclass"] not in _SUBCLASSES:
        raise Unfollowable(source.position, "an array that is not described as joblib does")
    if state.items.get(_ALIGNMENT, 16) not in (16, None):
        raise Unfollowable(source.position, "an array of unusual alignment")
    return state.items


def _skip(source: Source, state: dict[str, Any], item_size: int) -> None:
    shape = state["shape"]
    if not isinstance(shape, tuple) or not all(type(n) is int and n >= 0 for n in shape):
        raise Unfollowable(source.position, "an array whose shape is not plain")
    size = prod(shape) * item_size
    if size > _MOST_ARRAY_BYTES:
        raise Unfollowable(source.position, "an array larger than any")
    if state.get(_ALIGNMENT) is not None:
        padding = source.read(1)[0]
        if padding > _MOST_PADDING:
            raise Unfollowable(source.position, "an array with more padding than joblib writes")
        source.skip(padding)
    source.skip(size)


def item_bytes(dtype: Any) -> int | None:
    """The size of one item of a pickled `numpy.dtype`; None when its items are objects.

    Raises:
        Unfollowable: the dtype is not plain enough to tell.
    """
    made = isinstance(dtype, Made) and dtype.maker == Name("numpy", "dtype")
    given = dtype.arguments if made and isinstance(dtype.arguments, tuple) else ()
    found = _KIND.fullmatch(given[0]) if given and isinstance(given[0], str) else None
    if found is None:
        raise Unfollowable(0, "an array of an unknown dtype")
    state = dtype.state
    if found[3] or _has_objects(state):
        return None
    kind, size = found[1], int(found[2])
    if kind in _STRETCHED and state is not None:
        size = _stated_size(state)
    elif kind == "U":
        size *= 4
    return size


def _has_objects(state: Any) -> bool:
    """Whether a structured dtype has fields of objects; refused where it cannot be told."""
    if state is None:
        return False
    if not isinstance(state, tuple) or len(state) < 8:
        raise Unfollowable(0, "an array whose dtype is not plain")
    subarray, fields = state[2], state[4]
    if subarray is not None:
        raise Unfollowable(0, "an array of arrays")
    if fields is None:
        return False
    if not isinstance(fields, Table) or not fields.is_whole:
        raise Unfollowable(0, "an array of records that are not plain")
    kinds = [
        field[0] if isinstance(field, tuple) and field else None for field in fields.items.values()
    ]
    return any(item_bytes(kind) is None for kind in kinds)


def _stated_size(state: Any) -> int:
    size = state[5]
    if type(size) is not int or size < 0:
        raise Unfollowable(0, "an array whose item size is not plain")
    return size
