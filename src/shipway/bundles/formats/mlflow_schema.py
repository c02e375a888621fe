"""MLflow's signatures as Shipway's."""

from __future__ import annotations

import json
from typing import Any

from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType, data_type_of

_COLUMN_TYPES = {
    "boolean": DataType.BOOL,
    "integer": DataType.INT32,
    "long": DataType.INT64,
    "float": DataType.FP32,
    "double": DataType.FP64,
    "string": DataType.STRING,
    "binary": DataType.BYTES,
}


def signature_of(text: dict[str, Any] | None, *, with_outputs: bool) -> Signature | None:
    """The signature in an `MLmodel` file; None when it has none, or one that Shipway cannot express.

    Without outputs when an engine of Shipway's names them otherwise than MLflow.
    """
    if not text or not text.get("inputs"):
        return None
    items = json.loads(text["inputs"])
    inputs = [_field(item, "X") for item in items]
    outputs = json.loads(text.get("outputs") or "[]") if with_outputs else []
    answers = [_field(item, "prediction") for item in outputs]
    known = [field for field in (*inputs, *answers) if field is not None]
    if len(known) != len(inputs) + len(answers):
        return None
    tensors = any(item.get("type") == "tensor" for item in items)
    return Signature(
        layout=Layout.TENSORS if tensors else Layout.COLUMNS,
        inputs=tuple(known[: len(inputs)]),
        outputs=tuple(known[len(inputs) :]),
        batchable=all(field.shape[:1] == (-1,) for field in known),
    )


def _field(item: dict[str, Any], unnamed: str) -> Field | None:
    name = item.get("name") or unnamed
    if item.get("type") == "tensor":
        return _tensor(name, item["tensor-spec"])
    dtype = _COLUMN_TYPES.get(item.get("type", ""))
    if dtype is None:
        return None
    nullable = item.get("required") is False and (dtype.is_float or not dtype.is_numeric)
    return Field(name=name, dtype=dtype, nullable=nullable)


def _tensor(name: str, spec: dict[str, Any]) -> Field | None:
    import numpy as np

    try:
        dtype = data_type_of(np.empty(0, dtype=spec["dtype"]))
    except TypeError:
        return None
    return Field(name=name, dtype=dtype, shape=tuple(spec["shape"]))
