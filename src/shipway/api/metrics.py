"""Routes of the metric history."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Caller
from shipway.api.messages import answer, answers
from shipway.api.services import UsesServices
from shipway.api.sight import may_read_endpoint
from shipway.api.times import utc
from shipway.control.history import Point
from shipway.control.top import TopRow, TopView
from shipway.core.access import SERVER, Right, permits
from shipway.core.errors import InvalidRequest
from shipway.core.measures import measure_of
from shipway.core.versions import parse_version

_PERIOD = timedelta(hours=1)
_BEGIN, _END = datetime(1971, 1, 1, tzinfo=UTC), datetime(9000, 1, 1, tzinfo=UTC)
"""Windows have their beginnings counted from 1970."""


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """A measure of an endpoint over a period: its value, and with a `step` its course.

    `version` is empty for all versions together. A value is None where the period does not say.
    `step_s` may be longer than asked: windows of long ago are kept no finer. 0: no step was asked for.
    """

    endpoint: str
    version: str
    measure: str
    unit: str
    since: datetime
    until: datetime
    value: float | None
    step_s: int = 0
    points: tuple[Point, ...] = ()


router = APIRouter(tags=["metrics"])
ANSWERS = [Measured, Point, TopView, TopRow]


@router.get(
    "/endpoints/{name}/metrics", responses={200: answers(Measured, "The measure of the period.")}
)
def measure(
    name: str,
    services: UsesServices,
    measure: Annotated[
        str, Query(description="One of docs/reference/metrics.md.")
    ] = "requests_per_s",
    version: Annotated[str, Query(description="`churn:2`; all versions when left out.")] = "",
    since: Annotated[
        datetime | None, Query(description="An hour before `until` when left out.")
    ] = None,
    until: Annotated[datetime | None, Query(description="Now when left out.")] = None,
    step: Annotated[
        float | None, Query(ge=1, le=366 * 86400, description="Seconds between points.")
    ] = None,
) -> Response:
    """A measure over a period, and its course when `step` is given."""
    end = utc(until) or services.now()
    start = utc(since) or max(end, _BEGIN + _PERIOD) - _PERIOD
    if not _BEGIN <= start < end <= _END:
        raise InvalidRequest(
            f"`since` is not before `until`, or they are not between {_BEGIN.year} and {_END.year}.",
            path="since",
        )
    if version:
        parse_version(version)
    asked = measure_of(measure, name)
    services.endpoints.get(name)
    period = {"version": version, "since": start, "until": end}
    value = services.measures.measure(measure, name, **period)
    series = (
        None if step is None else services.measures.series(measure, name, **period, step_s=step)
    )
    return answer(
        Measured(
            endpoint=name,
            version=version,
            measure=measure,
            unit=asked.unit,
            since=start,
            until=end,
            value=value,
            step_s=0 if series is None else series.step_s,
            points=() if series is None else series.points,
        )
    )


@router.get("/top", responses={200: answers(TopView, "Busiest first.")})
def top(services: UsesServices, caller: Caller) -> Response:
    """What the endpoints do that the caller may see; Shipway's processes, for who may see the server."""
    seen = [e for e in services.endpoints.list() if may_read_endpoint(services, caller, e.name)]
    with_server = permits(caller, Right.READ, SERVER)
    return answer(services.top.view(seen, with_server=with_server, now=services.now()))
