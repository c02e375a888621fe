"""What a server that is up says of itself."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from shipway.client.answers import Endpoint, Status
from shipway.client.synchronous import Client
from shipway.core.errors import ShipwayError
from shipway.core.health import (
    ClockFacts,
    Diagnosis,
    EndpointFacts,
    Level,
    clock_diagnoses,
    endpoint_diagnosis,
)
from shipway.supervisor.records import Running

_REPORTED_WITHIN_S = 5.0
"""A gateway that control names has reported within so many seconds of control's clock."""


def server_diagnoses(server: Running, *, now: datetime) -> Iterator[Diagnosis]:
    """Whether control answers, gateways report, and endpoints can."""
    try:
        with Client(state_dir=Path(server.state_dir)) as client:
            status = client.status()
    except ShipwayError as exc:
        yield Diagnosis(
            check="server",
            level=Level.PROBLEM,
            message=f"Control does not answer: {exc.message}",
            next_step=f"See `{server.state_dir}/logs/control.log`; `shipway down`, then `up`, helps.",
        )
        return
    yield Diagnosis(check="server", level=Level.OK, message=f"Control {status.version} answers.")
    yield from _gateways(status, server)
    yield from _clock(status, now=now)
    for endpoint in status.endpoints:
        yield endpoint_diagnosis(_facts(endpoint))


def _gateways(status: Status, server: Running) -> Iterator[Diagnosis]:
    if not status.gateways:
        yield Diagnosis(
            check="gateways",
            level=Level.PROBLEM,
            message="No gateway has reported to control lately.",
            next_step=f"See `{server.state_dir}/logs/gateway.log`.",
        )
        return
    behind = [one.id for one in status.gateways if not one.revision]
    for name in behind:
        yield Diagnosis(
            check="gateways",
            level=Level.WARNING,
            message=f"Gateway {name} has no config yet.",
            next_step="Wait a moment; then see its log.",
        )
    if not behind:
        count = len(status.gateways)
        yield Diagnosis(check="gateways", level=Level.OK, message=f"{count} reported, with config.")


def _clock(status: Status, *, now: datetime) -> list[Diagnosis]:
    """Control's clock by when it last heard of gateways, which is at most seconds ago."""
    heard = [one.seen_at for one in status.gateways if one.seen_at is not None]
    if not heard:
        return []
    ahead_s = (max(heard) - now).total_seconds()
    if ahead_s < 0:
        ahead_s = min(0.0, ahead_s + _REPORTED_WITHIN_S)
    found = clock_diagnoses(ClockFacts(ahead_s={"control": ahead_s}), now=now)
    return [one for one in found if one.level is not Level.OK]


def _facts(endpoint: Endpoint) -> EndpointFacts:
    active = [one for one in endpoint.variants if one.version == endpoint.active]
    return EndpointFacts(
        name=endpoint.name,
        phase=endpoint.phase.value,
        message=endpoint.message,
        serves=all(one.ready or one.asleep for one in active) and bool(active),
    )
