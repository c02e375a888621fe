"""The calls of the metric history, and what they answer. No I/O."""

from __future__ import annotations

from datetime import datetime
from urllib.parse import quote

import msgspec

from shipway.client.exchange import Call, reading
from shipway.client.times import text_of
from shipway.core.endpoints import Phase


class Point(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of the time from `at` on, one step long. None: nothing was there to measure."""

    at: datetime
    value: float | None = None


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of an endpoint over a period, and with a step its course, oldest point first.

    `version` is empty for all versions together; `step_s` is 0 when no step was asked for.
    """

    endpoint: str
    measure: str
    unit: str
    since: datetime
    until: datetime
    version: str = ""
    value: float | None = None
    step_s: int = 0
    points: tuple[Point, ...] = ()


class TopRow(msgspec.Struct, frozen=True, kw_only=True):
    """What one endpoint does now. `requests` are requests per second, each 10 s of the last 5 minutes."""

    endpoint: str
    phase: Phase
    measures: dict[str, float | None]
    weights: dict[str, int] = {}
    requests: tuple[float, ...] = ()


class Top(msgspec.Struct, frozen=True, kw_only=True):
    """What all endpoints do, busiest first, in the `period_s` until `at`.

    `server` has measures of Shipway's own processes; it is empty for who may not see the server.
    """

    at: datetime
    period_s: int
    endpoints: tuple[TopRow, ...] = ()
    server: dict[str, float | None] = {}


def measure(
    endpoint: str,
    name: str,
    *,
    version: str = "",
    since: datetime | None = None,
    until: datetime | None = None,
    step_s: float | None = None,
) -> Call[Measured]:
    """A measure of an endpoint."""
    given = {
        "measure": name,
        "version": version,
        "since": None if since is None else text_of(since),
        "until": None if until is None else text_of(until),
        "step": "" if step_s is None else f"{step_s:g}",
    }
    return Call(
        method="GET",
        path=f"/api/v1/endpoints/{quote(endpoint, safe='')}/metrics",
        query={key: value for key, value in given.items() if value},
        read=reading(Measured),
    )


def top() -> Call[Top]:
    """What all endpoints do now."""
    return Call(method="GET", path="/api/v1/top", read=reading(Top))
