"""How well a version does on held-out data, as it is kept with the version."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from math import isfinite

import msgspec

from shipway.core.errors import InvalidRequest


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


class Findings(msgspec.Struct, frozen=True, kw_only=True):
    """What an evaluation found of a bundle, as it is handed in to be kept.

    `digest` is the bundle's, `data_sha256` that of the data file. `resamples` is how many times the
    rows were drawn again for each interval. `notes` say what could not be measured, and why.
    """

    digest: str
    task: Task
    label: str
    data: str
    data_sha256: str
    rows: int
    resamples: int = 0
    measures: tuple[Measure, ...]
    slices: tuple[Slice, ...] = ()
    against: Against | None = None
    latency: LatencyProfile | None = None
    notes: tuple[str, ...] = ()


class Evaluation(Findings, frozen=True, kw_only=True):
    """One evaluation of one version, as it is kept with it."""

    id: str
    model: str
    number: int
    at: datetime
    by: str


MOST_SLICES = 1000
MOST_NAMES = 50
MOST_TEXT = 1000


def check_findings(findings: Findings) -> None:
    """Passes when findings are fit to be kept: finite numbers, and not too much of anything.

    Raises:
        InvalidRequest: something is not; the message says what.
    """
    parts = (findings.measures, *(one.measures for one in findings.slices))
    differences = () if findings.against is None else findings.against.differences
    numbers = [
        number for part in parts for one in part for number in (one.value, one.low, one.high)
    ]
    numbers += [n for one in differences for n in (one.value, one.low, one.high, one.p_value)]
    latency = findings.latency
    if latency is not None:
        numbers += [latency.p50_ms, latency.p95_ms, latency.p99_ms, latency.per_s]
    named = (findings.notes, differences, *parts)
    texts = (findings.label, findings.data, findings.data_sha256, *findings.notes)
    texts += tuple(text for one in findings.slices for text in (one.column, one.value))
    faults = {
        "has no measures": not findings.measures,
        "has no rows": findings.rows < 1,
        "holds a number that is not finite": not all(isfinite(number) for number in numbers),
        f"has more than {MOST_SLICES} slices": len(findings.slices) > MOST_SLICES,
        f"has more than {MOST_NAMES} measures, differences or notes": max(map(len, named))
        > MOST_NAMES,
        f"holds a text of over {MOST_TEXT} characters": max(map(len, texts)) > MOST_TEXT,
    }
    fault = next((words for words, is_so in faults.items() if is_so), None)
    if fault is not None:
        raise InvalidRequest(
            f"The evaluation {fault}.", next_step="Make it with `shipway evaluate`."
        )
