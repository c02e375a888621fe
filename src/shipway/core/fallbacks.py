"""What answers in place of a version that cannot."""

from __future__ import annotations

from math import prod
from typing import Any

import numpy as np

from shipway.core.endpoints import Fallback
from shipway.core.errors import (
    DeadlineExceeded,
    InvalidSpec,
    ModelFailed,
    NoReadyReplica,
    ReplicaLost,
)
from shipway.core.outputs import Outputs
from shipway.core.signature import Field, Signature
from shipway.core.tensors import NUMPY_OF, Array

COVERED = (NoReadyReplica, ReplicaLost, ModelFailed)
"""What a fallback stands in for. Never for a caller's error, nor for a request that was shed."""


def covers(fallback: Fallback, error: Exception) -> bool:
    """Whether the fallback answers in place of this error.

    Once the deadline has passed only a static answer does: it takes no time.
    """
    if isinstance(error, DeadlineExceeded):
        return fallback.answer is not None
    return isinstance(error, COVERED)


def named(fallback: Fallback) -> str:
    """`endpoint:NAME`, `version:N` or `answer`, as callers are told."""
    if fallback.endpoint is not None:
        return f"endpoint:{fallback.endpoint}"
    return "answer" if fallback.version is None else f"version:{fallback.version}"


def static_outputs(answer: dict[str, list[Any]], signature: Signature, rows: int) -> Outputs:
    """The outputs of a static answer for so many rows, in signature order.

    Raises:
        InvalidSpec: the answer does not fit the outputs.
    """
    names = signature.output_names()
    if set(answer) != set(names):
        raise InvalidSpec(
            f"The fallback's answer gives {_listed(answer)}; the model gives {_listed(names)}.",
            next_step="Give each output of the model once in `fallback.answer`.",
        )
    repeated = rows if signature.batchable else 1
    return {
        field.name: np.repeat(_row(field, answer[field.name]), repeated, axis=0)
        for field in signature.outputs
    }


def _row(field: Field, values: list[Any]) -> Array:
    """One row, as an array whose first dimension is 1."""
    inner = field.shape[1:]
    try:
        array = np.array(values, NUMPY_OF[field.dtype])
        if not field.dtype.is_numeric and field.dtype.value == "BYTES":
            array = np.array([_bytes(item) for item in values], dtype=object)
        if -1 not in inner and array.size != prod(inner):
            raise ValueError(f"{array.size} values where {prod(inner)} are needed")
        return array.reshape((1, *inner))
    except (ValueError, TypeError, OverflowError) as exc:
        raise InvalidSpec(
            f"The fallback's answer for `{field.name}` is not one row of"
            f" {field.dtype} {list(field.shape)}: {exc}.",
            next_step="Give the list of one row's values in `fallback.answer`.",
        ) from exc


def _bytes(item: Any) -> Any:
    return item.encode() if isinstance(item, str) else item


def _listed(names: Any) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) or "nothing"
