"""Routes of alerts and silences."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor, Caller, require
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import Services, UsesServices
from shipway.api.sight import may_read_endpoint
from shipway.control.alerting.silencing import SilenceRequest
from shipway.control.alerting.views import AlertStory, RulesView
from shipway.control.changes import Request
from shipway.core.access import SERVER, Kind, Principal, Resource, Right, permits
from shipway.core.alerts.lifecycle import Alert
from shipway.core.alerts.plan import Deed
from shipway.core.alerts.silences import Silence
from shipway.core.errors import NotFound


class Verb(StrEnum):
    """What a person can say of an alert."""

    ACKNOWLEDGE = "acknowledge"
    RESOLVE = "resolve"
    ACT = "act"


class Saying(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a person intervenes, for the record; with `act`, what is done. With `dry_run` nothing is."""

    reason: str = ""
    do: Deed | None = None
    dry_run: bool = False


class Acted(msgspec.Struct, frozen=True, kw_only=True):
    """The alert, and with `act` what was done about it."""

    alert: Alert
    done: str = ""


router = APIRouter(tags=["alerts"])
ANSWERS = [Alert, AlertStory, Saying, Acted, Silence, SilenceRequest, RulesView]


@router.get("/alerts", responses={200: answers(list[Alert], "The newest first.")})
def list_alerts(
    services: UsesServices,
    caller: Caller,
    endpoint: str | None = None,
    is_open: Annotated[
        bool, Query(alias="open", description="Only those that have not ended.")
    ] = True,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Response:
    """The alerts that the caller may see."""
    found = services.alerts.newest(
        endpoint=endpoint,
        is_open=is_open,
        limit=limit,
        may_see=partial(_may_read, services, caller),
    )
    return answer(found)


@router.get("/alerts/{alert}", responses={200: answers(AlertStory, "The alert.")})
def show_alert(alert: str, services: UsesServices, caller: Caller) -> Response:
    """All that is known of an alert: what happened, who was told, what can be done."""
    _seen(services, caller, alert)
    return answer(services.alerts.story(alert, services.now()))


@router.post(
    "/alerts/{alert}/{verb}",
    responses={200: answers(Acted, "The alert after it.")},
    openapi_extra=takes(Saying),
)
def say(
    alert: str,
    verb: Verb,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    body: Annotated[Saying, body_of(Saying)],
) -> Response:
    """Acknowledges or resolves an alert, or does something about it."""
    found = _seen(services, caller, alert)
    require(caller, Right.DEPLOY, _resource(services, found.endpoint))
    request = Request(actor=actor, now=services.now(), reason=body.reason, dry_run=body.dry_run)
    if verb is Verb.ACT:
        done = services.alerts.act(alert, body.do, request)
        return answer(Acted(alert=services.alerts.get(alert), done=done))
    said: Callable[[str, Request], Alert] = getattr(services.alerts, verb.value)
    return answer(Acted(alert=said(alert, request)))


@router.get(
    "/endpoints/{name}/alert-rules", responses={200: answers(RulesView, "In the order of names.")}
)
def list_rules(name: str, services: UsesServices) -> Response:
    """The alert rules of an endpoint, who is told, and what is done."""
    return answer(services.alerts.rules(name))


@router.get("/silences", responses={200: answers(list[Silence], "In the order of their ends.")})
def list_silences(services: UsesServices, caller: Caller) -> Response:
    """The silences that the caller may see and that have not ended."""
    found = services.silences.present(services.now())
    return answer([one for one in found if _may_read(services, caller, one.endpoint)])


@router.post(
    "/silences",
    status_code=201,
    responses={201: answers(Silence, "The silence.")},
    openapi_extra=takes(SilenceRequest),
)
def silence(
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    wanted: Annotated[SilenceRequest, body_of(SilenceRequest)],
) -> Response:
    """Lets nobody be told of certain alerts of an endpoint for a while."""
    require(caller, Right.DEPLOY, _resource(services, wanted.endpoint))
    made = services.silences.add(wanted, Request(actor=actor, now=services.now()))
    return answer(made, status=201)


@router.delete("/silences/{silence}", responses={200: answers(Silence, "The silence.")})
def unsilence(silence: str, services: UsesServices, caller: Caller, actor: Actor) -> Response:
    """Ends a silence now."""
    found = next((s for s in services.silences.present(services.now()) if s.id == silence), None)
    if found is None or not _may_read(services, caller, found.endpoint):
        raise NotFound(
            f"There is no silence `{silence}`.", next_step="`shipway alerts silences` has them."
        )
    require(caller, Right.DEPLOY, _resource(services, found.endpoint))
    return answer(services.silences.end(silence, Request(actor=actor, now=services.now())))


def _seen(services: Services, caller: Principal, alert_id: str) -> Alert:
    """The alert, when the caller may know of it.

    Raises:
        NotFound: there is none, or none for them.
    """
    alert: Alert = services.alerts.get(alert_id)
    if not _may_read(services, caller, alert.endpoint):
        raise NotFound(
            f"There is no alert `{alert_id}`.", next_step="`shipway alerts list --all` has them."
        )
    return alert


def _may_read(services: Services, caller: Principal, endpoint: str) -> bool:
    if endpoint:
        return may_read_endpoint(services, caller, endpoint)
    return permits(caller, Right.READ, SERVER)


def _resource(services: Services, endpoint: str) -> Resource:
    if not endpoint:
        return SERVER
    return Resource(Kind.ENDPOINT, endpoint, services.access.environment)
