"""Measures of the past from a Prometheus that scrapes gateways and control.

https://prometheus.io/docs/prometheus/latest/querying/api/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import msgspec

from shipway.control.history import MOST_POINTS, Period, Point, Series
from shipway.core.errors import InvalidRequest, StoreUnavailable
from shipway.core.measures import measure_of
from shipway.core.promql import query_of, selector_of

_TIMEOUT_S = 10.0


class _Result(msgspec.Struct, frozen=True):
    """A series of an answer: `value` of an instant query, `values` of a range, as (time, number)."""

    metric: dict[str, str] = {}
    value: tuple[float, str] | None = None
    values: tuple[tuple[float, str], ...] = ()


class _Data(msgspec.Struct, frozen=True):
    result: tuple[_Result, ...]


class _Answer(msgspec.Struct, frozen=True):
    status: str
    data: _Data | None = None
    error: str = ""


class Prometheus:
    """See `control.history.Measures`. Thread-safe; all methods block."""

    def __init__(self, url: str) -> None:
        """`url` is Prometheus' own, without `/api/v1`; it may hold a user and a password."""
        self._url = url.rstrip("/")

    def measure(
        self, name: str, endpoint: str, *, version: str = "", since: datetime, until: datetime
    ) -> float | None:
        """See `Measures`.

        Raises:
            InvalidRequest: no measure has that name.
            StoreUnavailable: Prometheus does not answer, or with an error.
        """
        measure_of(name, endpoint)
        query = query_of(name, of=selector_of(endpoint, version), window=_window(since, until))
        results = self._asked("query", {"query": query, "time": f"{until.timestamp():.3f}"})
        if not results or results[0].value is None:
            return None
        return _number(results[0].value[1])

    def period(self, *, since: datetime, until: datetime) -> Period:
        """See `Measures`: each measure is asked for once, when it is first wanted.

        What it gives raises InvalidRequest and StoreUnavailable, as `measure` does.
        """
        known: dict[str, dict[str, float | None]] = {}

        def measured(name: str, endpoint: str) -> float | None:
            measure_of(name, endpoint)
            if name not in known:
                known[name] = self._of_each(name, since, until)
            return known[name].get(endpoint)

        return measured

    def _of_each(self, name: str, since: datetime, until: datetime) -> dict[str, float | None]:
        query = query_of(name, of='endpoint!=""', window=_window(since, until), by_endpoint=True)
        results = self._asked("query", {"query": query, "time": f"{until.timestamp():.3f}"})
        return {
            one.metric.get("endpoint", ""): _number(one.value[1])
            for one in results
            if one.value is not None
        }

    def series(
        self,
        name: str,
        endpoint: str,
        *,
        version: str = "",
        since: datetime,
        until: datetime,
        step_s: float,
    ) -> Series:
        """See `Measures`. A point is evaluated at the end of its step.

        Raises:
            InvalidRequest: no measure has that name, or there would be too many points.
            StoreUnavailable: Prometheus does not answer, or with an error.
        """
        measure_of(name, endpoint)
        step, count = _steps(since, until, step_s)
        query = query_of(name, of=selector_of(endpoint, version), window=f"{step}s")
        first = since.timestamp() + step
        results = self._asked(
            "query_range",
            {
                "query": query,
                "start": f"{first:.3f}",
                "end": f"{first + step * (count - 1):.3f}",
                "step": str(step),
            },
        )
        pairs = results[0].values if results else ()
        found = {round((at - first) / step): _number(text) for at, text in pairs}
        points = tuple(
            Point(
                at=(since + timedelta(seconds=step * place)).astimezone(UTC), value=found.get(place)
            )
            for place in range(count)
        )
        return Series(step_s=step, points=points)

    def _asked(self, what: str, form: Mapping[str, str]) -> tuple[_Result, ...]:
        try:
            answer = httpx.post(
                f"{self._url}/api/v1/{what}", data=dict(form), timeout=_TIMEOUT_S, trust_env=False
            )
            said = msgspec.json.decode(answer.content, type=_Answer)
        except (httpx.HTTPError, httpx.InvalidURL, msgspec.MsgspecError, UnicodeDecodeError) as exc:
            raise _away(type(exc).__name__) from exc
        if said.data is None:
            raise _away(said.error or said.status)
        return said.data.result


def _window(since: datetime, until: datetime) -> str:
    return f"{max(1, round((until - since).total_seconds()))}s"


def _steps(since: datetime, until: datetime, step_s: float) -> tuple[int, int]:
    """The step in whole seconds, and how many there are."""
    step = max(1, math.ceil(step_s))
    count = max(1, math.ceil((until - since).total_seconds() / step))
    if count > MOST_POINTS:
        raise InvalidRequest(
            f"A series has at most {MOST_POINTS:,} points.",
            next_step="Ask for a shorter period, or a longer `step`.",
            path="step",
        )
    return step, count


def _number(text: str) -> float | None:
    """A sample's value; None for one of nothing (`NaN`)."""
    value = float(text)
    return value if math.isfinite(value) else None


def _away(why: Any) -> StoreUnavailable:
    return StoreUnavailable(
        f"Prometheus cannot say what was measured: {why}.",
        next_step="Check `SHIPWAY_PROMETHEUS_URL`, or leave it unset: control keeps a history itself.",
    )
