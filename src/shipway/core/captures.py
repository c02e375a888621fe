"""What the prediction log holds: predictions as they were served, and the feedback that came later."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum, unique

import msgspec

from shipway.core.signature import Field, Signature
from shipway.core.tensors import Array

SYSTEM_COLUMNS = (
    "_request_id",
    "_row",
    "_at",
    "_version",
    "_role",
    "_latency_ms",
    "_principal",
    "_segment",
    "_key",
)
"""Columns that every table of predictions has, beside the model's inputs and outputs."""


@unique
class Role(IntEnum):
    """The place of a version behind its endpoint when it answered."""

    PRIMARY = 0
    CANDIDATE = 1
    SHADOW = 2
    """It answered a copy of the request, which no caller saw."""


class Shape(msgspec.Struct, frozen=True, kw_only=True):
    """What all predictions of one version behind an endpoint have in common.

    `inputs` and `outputs` are the fields that are kept, in signature order.
    """

    environment: str
    endpoint: str
    model: str
    version: int
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    batchable: bool = True

    @classmethod
    def of(
        cls, *, environment: str, endpoint: str, version: tuple[str, int], signature: Signature
    ) -> Shape:
        """The shape of a version's predictions when all of their fields are kept."""
        return cls(
            environment=environment,
            endpoint=endpoint,
            model=version[0],
            version=version[1],
            inputs=signature.inputs,
            outputs=signature.outputs,
            batchable=signature.batchable,
        )


class Prediction(msgspec.Struct, frozen=True, kw_only=True):
    """One request that was answered, with its answer.

    `at_us` are microseconds since 1970, UTC, when the answer was ready; `latency_us` from the request
    read to that. `principal` is the caller's name, empty where access control is off. `segment` and
    `key` (the business key: a customer, an order) are texts, empty for none. `inputs` and `outputs`
    hold arrays by field name, redacted already; fields that are not kept are absent.
    """

    shape: Shape
    at_us: int
    request_id: str
    inputs: Mapping[str, Array]
    outputs: Mapping[str, Array]
    role: Role = Role.PRIMARY
    latency_us: int = 0
    principal: str = ""
    segment: str = ""
    key: str = ""

    @property
    def rows(self) -> int:
        """How many rows it has: of the first input that has any; 1 where rows are not counted."""
        if not self.shape.batchable:
            return 1
        return next((len(a) for a in (*self.inputs.values(), *self.outputs.values()) if a.ndim), 1)


class Feedback(msgspec.Struct, frozen=True, kw_only=True):
    """What was learned of a prediction afterwards, found by `request_id` or else by `key`.

    `id` is the sender's, so that a repeated message counts once; empty for none. `row` is the row of
    the request, None for all of it. `label` is the truth as text, `score` the truth as a number, and
    `outcomes` are business metrics by name. Of several for one prediction, the one with the latest
    `at_us` holds for each of its parts; `at_us` is when it came, or what its sender said.
    """

    environment: str
    endpoint: str
    at_us: int
    request_id: str = ""
    key: str = ""
    id: str = ""
    row: int | None = None
    label: str | None = None
    score: float | None = None
    outcomes: Mapping[str, float] = {}
    principal: str = ""


def columns_of(
    inputs: Sequence[str], outputs: Sequence[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The table columns of a version's inputs and outputs, by field name.

    A field's column has its own name. `in.` or `out.` stands before it where that begins with `_`, as
    the names of the system columns do, and before an output that is called like an input.

    >>> columns_of(["age", "_at"], ["age", "label"])
    ({'age': 'age', '_at': 'in._at'}, {'age': 'out.age', 'label': 'label'})
    """
    taken = set(inputs)
    ins = {name: f"in.{name}" if name.startswith("_") else name for name in inputs}
    outs = {
        name: f"out.{name}" if name.startswith("_") or name in taken else name for name in outputs
    }
    return ins, outs
