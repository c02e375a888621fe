"""Routes of monitors."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor
from shipway.api.messages import answer, answers
from shipway.api.services import UsesServices
from shipway.api.times import Moment, moment
from shipway.control.changes import Request
from shipway.core.monitor_runs import MonitorRun, MonitorStand
from shipway.monitoring.order import PAGE, PNG, SVG

router = APIRouter(tags=["monitors"])
ANSWERS = [MonitorRun, MonitorStand]
_TYPES = {PAGE: "text/html; charset=utf-8", SVG: "image/svg+xml", PNG: "image/png"}
# A report is a page of our own origin that shows what callers sent: it may load and run nothing.
_SAFE = {
    "content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; sandbox",
    "x-content-type-options": "nosniff",
}


@router.get(
    "/endpoints/{name}/monitors",
    responses={200: answers(list[MonitorStand], "In the order of the spec.")},
)
def list_monitors(name: str, services: UsesServices) -> Response:
    """The endpoint's monitors, when each runs next, and what it said last."""
    return answer(services.monitors.of(name, now=services.now()))


@router.post(
    "/endpoints/{name}/monitors/{monitor}/run",
    status_code=202,
    responses={202: answers(MonitorRun, "The run, which waits or runs.")},
)
def run_monitor(
    name: str,
    monitor: str,
    services: UsesServices,
    actor: Actor,
    since: Moment = "",
    until: Moment = "",
) -> Response:
    """Runs a monitor over the window up to now, or over other times, which raises and resolves no alert."""
    request = Request(actor=actor, now=services.now())
    run = services.monitors.run_now(
        name, monitor, request, since=moment("since", since), until=moment("until", until)
    )
    return answer(run, status=202)


@router.get(
    "/endpoints/{name}/monitors/{monitor}/runs",
    responses={200: answers(list[MonitorRun], "The one that was due last first.")},
)
def list_monitor_runs(
    name: str,
    monitor: str,
    services: UsesServices,
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> Response:
    """The runs of a monitor, without their reports."""
    return answer(services.monitors.runs(name, monitor, limit=limit))


@router.get(
    "/endpoints/{name}/monitor-runs/{run}", responses={200: answers(MonitorRun, "The run.")}
)
def show_monitor_run(name: str, run: str, services: UsesServices) -> Response:
    """One run, with its report."""
    return answer(services.monitors.run(name, run))


@router.get("/endpoints/{name}/monitor-runs/{run}/report.html", response_class=Response)
def show_report(name: str, run: str, services: UsesServices) -> Response:
    """The report of a run as one page that needs nothing else."""
    return _file(services, name, run, PAGE)


@router.get("/endpoints/{name}/monitor-runs/{run}/plot.svg", response_class=Response)
def show_drawing(name: str, run: str, services: UsesServices) -> Response:
    """The first findings of a run, drawn; texts have the colour of the page around."""
    return _file(services, name, run, SVG)


@router.get("/endpoints/{name}/monitor-runs/{run}/plot.png", response_class=Response)
def show_picture(name: str, run: str, services: UsesServices) -> Response:
    """The first findings of a run as a picture."""
    return _file(services, name, run, PNG)


def _file(services: UsesServices, endpoint: str, run: str, name: str) -> Response:
    content = services.monitors.artifact(endpoint, run, name)
    return Response(content, media_type=_TYPES[name], headers=_SAFE)
