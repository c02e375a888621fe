"""The route of live performance."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Response

from shipway.api.messages import answer, answers
from shipway.api.services import UsesServices
from shipway.api.times import Moment, moment
from shipway.control.performance import Asked
from shipway.core.performance import By, Performance

router = APIRouter(tags=["predictions"])
ANSWERS = [Performance]


@router.get(
    "/endpoints/{name}/performance",
    responses={200: answers(Performance, "What feedback says of the predictions.")},
)
def show_performance(
    name: str,
    services: UsesServices,
    version: Annotated[int | None, Query(ge=1)] = None,
    since: Moment = "",
    until: Moment = "",
    by: Annotated[By | None, Query(description="What to part the answers by.")] = None,
) -> Response:
    """How good the endpoint's predictions were, by version and role. `until` is not included."""
    asked = Asked(
        endpoint=name,
        version=version,
        since=moment("since", since),
        until=moment("until", until),
        by=by,
    )
    return answer(services.performances.of(asked))
