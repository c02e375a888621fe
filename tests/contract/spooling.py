"""Segments for the tests of the prediction log, as a gateway would have made them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
from duckdb import DuckDBPyConnection

from shipway.control.predictions import Predictions
from shipway.core.captures import Feedback, Prediction, Role, Shape
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.store.predictions.reading import connected
from shipway.wire.spool import (
    end_payload,
    feedback_payload,
    frame,
    prediction_payload,
    segment_head,
    shape_payload,
)

NOW = datetime(2026, 5, 6, 12, tzinfo=UTC)
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def shape(endpoint: str = "churn", version: int = 1, **fields: DataType) -> Shape:
    inputs = fields or {"age": DataType.FP64, "plan": DataType.STRING}
    return Shape(
        environment="dev",
        endpoint=endpoint,
        model="churn",
        version=version,
        inputs=tuple(Field(name=name, dtype=dtype) for name, dtype in inputs.items()),
        outputs=(Field(name="label", dtype=DataType.INT64),),
    )


def texts(*items: str | None):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


def prediction(
    request_id: str = "r-1", *, at: datetime = NOW, of: Shape | None = None, **facts
) -> Prediction:
    inputs = facts.pop("inputs", None) or {"age": np.array([41.5]), "plan": texts("basic")}
    outputs = facts.pop("outputs", None) or {"label": np.array([1])}
    return Prediction(
        shape=of or shape(),
        at_us=micros(at),
        request_id=request_id,
        inputs=inputs,
        outputs=outputs,
        **{"latency_us": 1500, "principal": "web", "role": Role.PRIMARY, **facts},
    )


def segment(
    predictions: Iterable[Prediction] = (),
    feedback: Iterable[Feedback] = (),
    *,
    segment_id: bytes | None = None,
) -> bytes:
    numbers: dict[int, int] = {}
    payloads: list[bytes] = []
    for one in predictions:
        if id(one.shape) not in numbers:
            numbers[id(one.shape)] = len(numbers)
            payloads.append(shape_payload(numbers[id(one.shape)], one.shape))
        payloads.append(prediction_payload(numbers[id(one.shape)], one))
    payloads += map(feedback_payload, feedback)
    payloads.append(end_payload(len(payloads)))
    return segment_head(segment_id or uuid4().bytes) + b"".join(map(frame, payloads))


@contextmanager
def opened(log: Predictions, endpoint: str, **range_: Any) -> Iterator[DuckDBPyConnection]:
    """A connection with the views over what is stored of an endpoint."""
    with (
        log.files(endpoint, **range_) as files,
        tempfile.TemporaryDirectory() as temp_dir,
        connected(files, temp_dir=Path(temp_dir)) as connection,
    ):
        yield connection


def rows(connection, sql: str = "SELECT * FROM predictions ORDER BY _at, _request_id, _row"):
    """What a query gives, as a list of dicts."""
    table = connection.execute(sql).to_arrow_table()
    return table.to_pylist()


def ids(connection, where: str = "true") -> Sequence[str]:
    found = rows(connection, f"SELECT _request_id FROM predictions WHERE {where} ORDER BY 1")
    return [row["_request_id"] for row in found]
