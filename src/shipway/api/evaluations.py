"""Routes of evaluations."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Response

from shipway.api.guard import Actor
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.models import query_of
from shipway.api.services import UsesServices
from shipway.core.evaluations import Evaluation, Findings

_MOST_BYTES = 8 * 1024 * 1024
"""A thousand slices with all their intervals take about two."""

router = APIRouter(tags=["models"])
ANSWERS = [Evaluation, Findings]


@router.post(
    "/models/{model}/versions/{version}/evaluations",
    status_code=201,
    responses={201: answers(Evaluation, "Kept.")},
    openapi_extra=takes(Findings),
)
def keep(
    model: str,
    version: str,
    services: UsesServices,
    actor: Actor,
    body: Annotated[Findings, body_of(Findings, most_bytes=_MOST_BYTES)],
) -> Response:
    """Keeps what an evaluation found of a version; its digest must be that of the version."""
    query = query_of(model, version)
    kept = services.evaluations.keep(query, body, actor=actor, now=services.now())
    return answer(kept, status=201)


@router.get(
    "/models/{model}/versions/{version}/evaluations",
    responses={200: answers(list[Evaluation], "Newest first.")},
)
def list_evaluations(model: str, version: str, services: UsesServices) -> Response:
    """The evaluations of a version's bundle."""
    return answer(services.evaluations.of(query_of(model, version)))
