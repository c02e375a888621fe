"""Whatever a model returns, as named arrays of the data types that Shipway knows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from shipway.core.tensors import Array


def plain(value: Any) -> Array:
    """The value as an array that has a data type: numpy text becomes an object array of `str`.

    Raises:
        TypeError: no array can be made of it, or of a dtype that has no data type.
    """
    array = np.asarray(value)
    if array.dtype.kind == "U":
        return array.astype(object)
    if array.dtype.kind not in "biufOS":
        raise TypeError(f"the model returned `{array.dtype}` values, which have no data type")
    return array


def flat(value: Any) -> Array:
    """Like `plain`, with a single column [rows, 1] as [rows]."""
    array = plain(value)
    return array.reshape(-1) if array.ndim == 2 and array.shape[1] == 1 else array


def named(value: Any) -> dict[str, Array]:
    """A dict's or frame's entries by their keys; anything else is `prediction`."""
    if isinstance(value, Mapping) or hasattr(value, "columns"):
        return {str(key): plain(value[key]) for key in value}
    return {"prediction": flat(value)}
