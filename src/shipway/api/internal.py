"""Routes that gateways use: the config snapshot comes down, reports go up."""

from __future__ import annotations

from functools import partial
from time import monotonic
from typing import Annotated

import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query, Request, Response

from shipway.api.guard import AUTHENTICATION, UNKNOWN, Caller
from shipway.api.messages import bounded_body
from shipway.api.services import Services, UsesServices
from shipway.core.denials import Denial
from shipway.core.errors import InvalidRequest, NotFound
from shipway.wire.snapshot import GatewayReport
from shipway.wire.tallies import Taken, TelemetryReport

router = APIRouter(prefix="/internal/v1")

_MSGPACK = "application/msgpack"
_MOST_REPORT_BYTES = 64 * 1024**2
_MOST_SEGMENT_BYTES = 64 * 1024**2
_LONGEST_WAIT_S = 60.0


@router.get("/snapshot")
async def snapshot(
    services: UsesServices,
    environment: str,
    revision: str = "",
    wait_s: Annotated[float, Query(ge=0, le=_LONGEST_WAIT_S)] = 0.0,
) -> Response:
    """The snapshot, as soon as it has another revision than the asker's; 304 after the wait."""
    served = services.endpoints.environment
    if environment != served:
        raise NotFound(
            f"This server has no snapshot of environment `{environment}`, only of `{served}`.",
            next_step="Start the gateway with that environment.",
        )
    found = await services.reconciler.snapshot_after(revision, wait_s=wait_s)
    if found is None:
        return Response(status_code=304)
    return Response(msgspec.msgpack.encode(found), media_type=_MSGPACK)


@router.post("/gateways/{gateway}/report", status_code=204)
async def report(gateway: str, request: Request, services: UsesServices) -> Response:
    """Takes a gateway's report in."""
    body = await bounded_body(request, _MOST_REPORT_BYTES)
    try:
        said = msgspec.msgpack.decode(body, type=GatewayReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"The report cannot be read: {exc}.") from exc
    if said.gateway != gateway:
        raise InvalidRequest(f"The report of `{said.gateway}` was sent as that of `{gateway}`.")
    services.reconciler.note_report(said)
    if said.denials or said.used_keys:
        await anyio.to_thread.run_sync(_noted, services, said)
    return Response(status_code=204)


@router.post("/gateways/{gateway}/telemetry")
async def telemetry(gateway: str, request: Request, services: UsesServices) -> Response:
    """Takes in what the gateways of a machine have counted."""
    body = await bounded_body(request, _MOST_REPORT_BYTES)
    try:
        said = msgspec.msgpack.decode(body, type=TelemetryReport)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"The report cannot be read: {exc}.") from exc
    if said.gateway != gateway:
        raise InvalidRequest(f"The report of `{said.gateway}` was sent as that of `{gateway}`.")
    services.telemetry.note(said, steady_s=monotonic())
    taken = Taken(control=services.telemetry.instance)
    return Response(msgspec.msgpack.encode(taken), media_type=_MSGPACK)


@router.post("/segments", status_code=204)
async def segment(request: Request, services: UsesServices, caller: Caller) -> Response:
    """Takes a sealed spool segment into the prediction log; one that is in already too."""
    body = await bounded_body(request, _MOST_SEGMENT_BYTES)
    ingest = partial(services.predictions.ingest, gateway=caller.name, now=services.now())
    await anyio.to_thread.run_sync(ingest, body)
    return Response(status_code=204)


def _noted(services: Services, said: GatewayReport) -> None:
    """Whom a gateway turned away, and which keys it saw."""
    now = services.now()
    services.access.note_used(said.used_keys, now)
    for denied in said.denials:
        services.audit.deny(
            Denial(
                actor=denied.who or UNKNOWN,
                right=denied.right or AUTHENTICATION,
                subject=denied.endpoint,
                route=f"gateway {said.gateway}",
                origin=denied.source,
                count=denied.count,
            ),
            now=now,
        )
