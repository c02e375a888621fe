"""How well a version does on held-out data, as it is kept with the version."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

import msgspec


class Task(StrEnum):
    """What kind of answers are judged."""

    CLASSIFICATION = "classification"
    REGRESSION = "regression"


class Measure(msgspec.Struct, frozen=True, kw_only=True):
    """One metric with its 95 % bootstrap interval. `better`: `higher` or `lower`."""

    name: str
    value: float
    low: float
    high: float
    better: str


class Slice(msgspec.Struct, frozen=True, kw_only=True):
    """The metrics over the rows whose column has that value."""

    column: str
    value: str
    rows: int
    measures: tuple[Measure, ...]


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """One metric against another version on the same rows: this less the other, with its 95 % interval.

    `p_value` is of the paired test named `test`; `verdict` is `better`, `worse` or `same`.
    """

    name: str
    value: float
    low: float
    high: float
    p_value: float
    test: str
    verdict: str


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """A comparison with another version on the same rows."""

    version: str
    differences: tuple[Difference, ...]


class LatencyProfile(msgspec.Struct, frozen=True, kw_only=True):
    """One-row requests by so many callers at once, in milliseconds."""

    callers: int
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    per_s: float


class Evaluation(msgspec.Struct, frozen=True, kw_only=True):
    """One evaluation of one version. `digest` is its bundle's, `data_sha256` that of the data file."""

    id: str
    model: str
    number: int
    digest: str
    at: datetime
    by: str
    task: Task
    label: str
    data: str
    data_sha256: str
    rows: int
    measures: tuple[Measure, ...]
    slices: tuple[Slice, ...] = ()
    against: Against | None = None
    latency: LatencyProfile | None = None
