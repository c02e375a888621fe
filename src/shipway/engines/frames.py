"""Columns of a request as the frame or matrix that a model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from shipway.core.tensors import Array, null_mask


def frame_of(
    inputs: Mapping[str, Array],
    names: Sequence[str],
    *,
    categorical: frozenset[str] = frozenset(),
    null: object = np.nan,
) -> Any:
    """A pandas frame of the `names`, in that order.

    Text is put into object columns with `null` for None, or into columns of dtype category when
    named in `categorical`.
    """
    import pandas

    columns = {name: _column(inputs[name], null) for name in names}
    frame = pandas.DataFrame({name: pandas.Series(c, dtype=c.dtype) for name, c in columns.items()})
    present = [name for name in names if name in categorical]
    return frame.astype(dict.fromkeys(present, "category")) if present else frame


def by_trained_names(
    inputs: Mapping[str, Array], names: Sequence[str] | None
) -> Mapping[str, Array]:
    """The inputs under the names of the training; in order, where those are spelled otherwise.

    LightGBM keeps `mean_radius` of a column `mean radius`.
    """
    if not names or len(names) != len(inputs) or all(name in inputs for name in names):
        return inputs
    return dict(zip(names, inputs.values(), strict=True))


def matrix_of(inputs: Mapping[str, Array]) -> Array:
    """The one tensor of the inputs, or their columns stacked into [rows, columns], in order."""
    arrays = list(inputs.values())
    if len(arrays) == 1:
        return arrays[0] if arrays[0].ndim > 1 else arrays[0].reshape(-1, 1)
    return np.column_stack(arrays)


def _column(array: Array, null: object) -> Array:
    if array.dtype != object or null is None:
        return array
    missing = null_mask(array)
    if not missing.any():
        return array
    filled = array.copy()
    filled[missing] = null
    return filled
