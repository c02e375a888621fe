"""Routes of promotions and reviews."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from shipway.api.guard import Actor, Caller
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.models import query_of
from shipway.api.services import UsesServices
from shipway.api.sight import require_in
from shipway.control.promotions import PromotionRequest, PromotionView, ReviewRequest
from shipway.core.access import Right

router = APIRouter(tags=["promotions"])
ANSWERS = [PromotionView, PromotionRequest, ReviewRequest]


@router.get(
    "/models/{model}/versions/{version}/promotions",
    responses={200: answers(list[PromotionView], "In the order of environments.")},
)
def list_promotions(model: str, version: str, services: UsesServices) -> Response:
    """Where a version stands in each environment: what is met, what is missing, who said what."""
    return answer(services.promotions.of(query_of(model, version), now=services.now()))


@router.post(
    "/models/{model}/versions/{version}/promotions",
    responses={200: answers(PromotionView, "Promoted, or with `dry_run` promotable.")},
    openapi_extra=takes(PromotionRequest),
)
def promote(
    model: str,
    version: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    wanted: Annotated[PromotionRequest, body_of(PromotionRequest)],
) -> Response:
    """Lets a version into an environment once every rule of its policy is met, and moves its alias."""
    require_in(caller, Right.DEPLOY, model, wanted.environment)
    query, now = query_of(model, version), services.now()
    return answer(services.promotions.promote(query, wanted, actor=actor, now=now))


@router.post(
    "/models/{model}/versions/{version}/reviews",
    responses={200: answers(PromotionView, "Where the version stands now.")},
    openapi_extra=takes(ReviewRequest),
)
def review(
    model: str,
    version: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    said: Annotated[ReviewRequest, body_of(ReviewRequest)],
) -> Response:
    """Approves or rejects exactly these bytes for an environment."""
    require_in(caller, Right.APPROVE, model, said.environment)
    query, now = query_of(model, version), services.now()
    return answer(services.promotions.review(query, said, actor=actor, now=now))
