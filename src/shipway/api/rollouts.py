"""Routes of rollouts."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import msgspec
from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import Services, UsesServices
from shipway.control.changes import Request
from shipway.control.rollout_views import RolloutView
from shipway.control.rollouts import Counted, Outcome
from shipway.core.evidence import Pair
from shipway.core.rollouts import Event


class Action(StrEnum):
    """What a person can do to a rollout."""

    PAUSE = "pause"
    RESUME = "resume"
    PROMOTE = "promote"
    ABORT = "abort"


class Word(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a person intervenes, for the record; with `dry_run` nothing is done."""

    reason: str = ""
    dry_run: bool = False


router = APIRouter(tags=["rollouts"])
ANSWERS = [RolloutView, Pair, Word, Outcome, Counted]


@router.get("/endpoints/{name}/rollout", responses={200: answers(RolloutView, "The rollout.")})
def show_rollout(name: str, services: UsesServices) -> Response:
    """The rollout under way, or the last one."""
    return answer(services.rollouts.status(name))


@router.get(
    "/endpoints/{name}/rollouts", responses={200: answers(list[RolloutView], "Newest first.")}
)
def list_rollouts(
    name: str, services: UsesServices, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> Response:
    """The endpoint's rollouts."""
    return answer(services.rollouts.history(name, limit=limit))


@router.get("/endpoints/{name}/rollout/pairs", responses={200: answers(list[Pair], "Worst first.")})
def list_pairs(name: str, services: UsesServices) -> Response:
    """The mirrored requests on which the two versions differed most."""
    return answer(services.rollouts.pairs(name))


@router.post(
    "/endpoints/{name}/rollout/outcomes",
    responses={200: answers(Counted, "What became of them.")},
    openapi_extra=takes(list[Outcome]),
)
def post_outcomes(
    name: str, services: UsesServices, body: Annotated[list[Outcome], body_of(list[Outcome])]
) -> Response:
    """Counts what happened after predictions, for guards on metrics and A/B tests."""
    return answer(services.rollouts.record_outcomes(name, body))


@router.post(
    "/endpoints/{name}/rollout/{action}",
    responses={200: answers(RolloutView, "The rollout after it.")},
    openapi_extra=takes(Word),
)
def act(
    name: str,
    action: Action,
    services: UsesServices,
    actor: Actor,
    body: Annotated[Word, body_of(Word)],
) -> Response:
    """Pauses, resumes, promotes or aborts the rollout under way."""
    request = _request(services, actor, body)
    return answer(services.rollouts.act(name, Event(action.value), request))


def _request(services: Services, actor: str, word: Word) -> Request:
    return Request(actor=actor, now=services.now(), dry_run=word.dry_run, reason=word.reason)
