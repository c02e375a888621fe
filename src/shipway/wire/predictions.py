"""What "the prediction" is, where a dialect carries one value per row.

The label of a classifier, the number of a regressor, the only output of any other model; else an
object per row. A caller may name the outputs instead: one gives bare values, several give objects.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from shipway.core.errors import InvalidRequest
from shipway.core.outputs import Outputs
from shipway.core.signature import Signature
from shipway.core.tensors import Array

PROBABILITIES = "probabilities"
"""The output that is never the prediction itself."""

_PREDICTIONS = ("label", "prediction")


def wanted_outputs(signature: Signature, parameters: Any = None) -> tuple[str, ...]:
    """The outputs to answer with: those that `parameters["outputs"]` name, else the prediction.

    Raises:
        InvalidRequest: `parameters` is no object, or its `outputs` no list of names.
    """
    asked = _named_outputs(parameters)
    if asked is not None:
        return asked
    names = signature.output_names()
    for name in _PREDICTIONS:
        if name in names:
            return (name,)
    rest = tuple(name for name in names if name != PROBABILITIES)
    return rest if len(rest) == 1 else names


def _named_outputs(parameters: Any) -> tuple[str, ...] | None:
    if parameters is None:
        return None
    if not isinstance(parameters, dict):
        raise InvalidRequest("Parameters must be a JSON object.", path="parameters")
    asked = parameters.get("outputs")
    if asked is None:
        return None
    if not isinstance(asked, list) or not asked or not all(isinstance(o, str) for o in asked):
        raise InvalidRequest("`outputs` must be a list of output names.", path="parameters.outputs")
    return tuple(dict.fromkeys(asked))


def values_by_row(outputs: Outputs) -> list[Any]:
    """One JSON value per row: bare for one output, an object for several.

    Raises:
        InvalidRequest: the outputs differ in their numbers of rows.
    """
    columns = {name: _as_list(array) for name, array in outputs.items()}
    if len(columns) == 1:
        return next(iter(columns.values()))
    if len({len(values) for values in columns.values()}) > 1:
        raise InvalidRequest(
            "The model's outputs differ in their numbers of rows.",
            next_step="Ask for one of them by name, or use Open Inference.",
            path="parameters.outputs",
        )
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def values_by_name(outputs: Outputs) -> Any:
    """The outputs as columns: bare for one output, an object for several."""
    columns = {name: plain(array) for name, array in outputs.items()}
    return next(iter(columns.values())) if len(columns) == 1 else columns


def plain(array: Array) -> Any:
    """An array as nested lists of JSON values; bytes that are no UTF-8 text are `{"b64": …}`."""
    value = array.tolist()
    return _readable(value) if array.dtype.kind in "OS" else value


def _as_list(array: Array) -> list[Any]:
    value = plain(array)
    return value if isinstance(value, list) else [value]


def _readable(value: Any) -> Any:
    if isinstance(value, list):
        return [_readable(item) for item in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return as_base64(value)


def as_base64(value: bytes) -> Mapping[str, str]:
    """Bytes in JSON: `{"b64": …}`."""
    return {"b64": base64.b64encode(value).decode()}
