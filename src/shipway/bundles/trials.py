"""Trying a model out: does it answer these inputs, and with what?"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import numpy as np

from shipway.core.errors import InvalidArtifact
from shipway.core.signature import Field
from shipway.core.tensors import NUMPY_OF, Array
from shipway.engines.port import Engine

Arrays = dict[str, Array]


class _Refused(Exception):
    """The model raised; the cause is chained."""


def answers(engine: Engine, inputs: Mapping[str, Array], *, what: str, next_step: str) -> Arrays:
    """The model's outputs. `what` names the inputs in the error.

    Raises:
        InvalidArtifact: the model's code raised.
    """
    try:
        return _run(engine, inputs)
    except _Refused as exc:
        fact = " ".join(str(exc).split())[:400].rstrip(".")
        raise InvalidArtifact(
            f"The model does not answer {what}: {fact}.", next_step=next_step
        ) from exc.__cause__


def takes(engine: Engine, inputs: Mapping[str, Array]) -> bool:
    """Whether the model answers without raising and without a NaN in its answer."""
    try:
        outputs = _run(engine, inputs)
    except _Refused:
        return False
    floats = (array for array in outputs.values() if array.dtype.kind == "f")
    return not any(np.isnan(array).any() for array in floats)


def _run(engine: Engine, inputs: Mapping[str, Array]) -> Arrays:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return engine.run(dict(inputs))
        except Exception as exc:  # the model's code may raise anything
            raise _Refused(f"{type(exc).__name__}: {exc}") from exc


def rows_of(inputs: Mapping[str, Array], rows: slice) -> Arrays:
    """These rows of every input."""
    return {name: array[rows] for name, array in inputs.items()}


def doubled(inputs: Mapping[str, Array]) -> Arrays:
    """Every input twice, one after the other."""
    return {name: np.concatenate([array, array]) for name, array in inputs.items()}


def made_up_rows(fields: Sequence[Field], *, rows: int) -> Arrays:
    """Inputs made from a signature alone: zeros, and first categories; free dimensions are 1."""
    return {field.name: _made_up(field, rows=rows) for field in fields}


def _made_up(field: Field, *, rows: int) -> Array:
    free = (rows, *(1 for _ in field.shape[1:]))
    shape = tuple(
        own if fixed < 0 else fixed for own, fixed in zip(free, field.shape, strict=False)
    )
    if field.dtype.is_numeric:
        start = field.minimum or 0
        return np.full(shape, start, dtype=NUMPY_OF[field.dtype])
    text = field.categories[0] if field.categories else ""
    array = np.empty(shape, dtype=object)
    array[...] = text if field.dtype == "STRING" else text.encode()
    return array


def with_null(inputs: Mapping[str, Array], names: Sequence[str]) -> Arrays:
    """The inputs with a null in the first element of each named one."""
    changed = {name: array.copy() for name, array in inputs.items()}
    for name in names:
        array = changed[name]
        array.flat[0] = None if array.dtype == object else np.nan
    return changed
