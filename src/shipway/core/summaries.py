"""What is kept of an answer to compare two versions by: one label, one number, or one row to look at.

Of the first row only: a request of a thousand rows is one answer, as a request of one row is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import islice
from math import isfinite, isinf, isnan
from typing import Any, NamedTuple

import numpy as np

from shipway.core.bundles import ModelConfig
from shipway.core.outputs import Outputs
from shipway.core.signature import Signature
from shipway.core.tensors import Array

LONGEST_TEXT = 200
MOST_COLUMNS = 100
MOST_VALUES = 20
"""A row that is kept to be looked at has no longer texts, no more columns, no more values in each."""

_ODD = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)


class Summary(NamedTuple):
    """An answer's label and number; None where it has none.

    `scale` is what differences of the number are measured by: 1 for a probability, else 0, and they
    are relative to the numbers themselves.
    """

    label: str | None = None
    score: float | None = None
    scale: float = 0.0


Summarise = Callable[[Outputs], Summary]


def compile_summary(signature: Signature, config: ModelConfig) -> Summarise:
    """The function that sums up finished outputs. It never raises, whatever the outputs are.

    The label is the output `label`, else the first output that is one value per row and no float. The
    number is, of `probabilities`, that of class 1 where there are two and the largest where there are
    more; of other models, the first float output: its value, or the largest of several.
    """
    label_of = label_output(signature, config)
    chances_of = config.output_names.get("probabilities", "probabilities")
    names = signature.output_names()
    scored_by = chances_of if chances_of in names else ""
    if not scored_by:
        scored_by = next((f.name for f in signature.outputs if f.dtype.is_float), "")
    scale = float(scored_by == chances_of)

    def summarise(outputs: Outputs) -> Summary:
        label = _label(outputs.get(label_of))
        return Summary(label, _score(outputs.get(scored_by), is_chance=scale > 0), scale)

    return summarise


def label_output(signature: Signature, config: ModelConfig) -> str:
    """The output that an answer's label is from; empty where there is none."""
    name = config.output_names.get("label", "label")
    if name in signature.output_names():
        return name
    singles = (f.name for f in signature.outputs if not f.dtype.is_float and _is_single(f.shape))
    return next(singles, "")


def _is_single(shape: Sequence[int]) -> bool:
    return all(size == 1 for size in shape[1:])


def _label(array: Array | None) -> str | None:
    try:
        return None if array is None or not array.size else _text(array.flat[0])
    except _ODD:
        return None


def _text(item: Any) -> str | None:
    value = item.item() if isinstance(item, np.generic) else item
    if isinstance(value, bytes):
        value = value.decode("utf-8", "replace")
    return None if value is None else str(value)[:LONGEST_TEXT]


def _score(array: Array | None, *, is_chance: bool) -> float | None:
    try:
        if array is None or not array.size:
            return None
        row = array.ravel() if array.ndim < 2 else array[0].ravel()
        if array.ndim < 2 or len(row) == 1:
            return float(row[0])
        return float(row[1]) if is_chance and len(row) == 2 else float(row.max())
    except _ODD:
        return None


def difference(one: Summary, other: Summary) -> float:
    """How far the numbers are apart, as a share of the larger; of 1 where both are probabilities.

    `0.30` and `0.33` are `0.03` apart as probabilities, and `0.0909` as values of a regression. 0 where
    neither has a number, 1 where only one has.
    """
    a, b = one.score, other.score
    if a is None or b is None:
        return float(a is not b)
    if isnan(a) or isnan(b) or isinf(a) or isinf(b):
        return float(not (a == b or (isnan(a) and isnan(b))))
    scale = max(min(one.scale, other.scale), abs(a), abs(b))
    return abs(a / scale - b / scale) if scale else 0.0


def first_row(arrays: Mapping[str, Array]) -> dict[str, Any]:
    """The first row as JSON values, cut to what a person can look at. Never raises."""
    return {
        name: _shown(array)
        for name, array in islice(arrays.items(), MOST_COLUMNS)
        if isinstance(array, np.ndarray)
    }


def _shown(array: Array) -> Any:
    if not array.ndim:
        return _plain(array.item())
    if not len(array):
        return None
    if array.ndim == 1:
        return _plain(array[0])
    return [_plain(item) for item in islice(array[0].flat, MOST_VALUES)]


def _plain(item: Any) -> Any:
    value = item.item() if isinstance(item, np.generic) else item
    match value:
        case None | bool() | int():
            return value
        case float():
            return value if isfinite(value) else None
        case bytes():
            return value[:LONGEST_TEXT].decode("utf-8", "replace")
        case str():
            return value[:LONGEST_TEXT]
        case _:
            return type(value).__name__
