"""Routes of environments' policies."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Response

from shipway.api.guard import Actor
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import UsesServices
from shipway.control.environments import PolicyChange
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy

router = APIRouter(tags=["environments"])
ANSWERS = [DeclaredPolicy, PolicyChange, EnvironmentPolicy]

DryRun = Annotated[bool, Query(description="Only say what would change.")]
_CHANGED: dict[int | str, dict[str, Any]] = {
    200: answers(PolicyChange, "What changes, and the policy after it.")
}


@router.get("/environments", responses={200: answers(list[DeclaredPolicy], "In name order.")})
def list_environments(services: UsesServices) -> Response:
    """The environments that have a policy."""
    return answer(services.environments.list())


@router.get("/environments/{name}", responses={200: answers(DeclaredPolicy, "The policy.")})
def show_environment(name: str, services: UsesServices) -> Response:
    """The policy of an environment."""
    return answer(services.environments.get(name))


@router.put("/environments/{name}", responses=_CHANGED, openapi_extra=takes(EnvironmentPolicy))
def apply(
    name: str,
    services: UsesServices,
    actor: Actor,
    policy: Annotated[Any, body_of(Any)],
    dry_run: DryRun = False,
) -> Response:
    """Makes an environment's policy what the body says."""
    now = services.now()
    return answer(services.environments.apply(name, policy, actor=actor, now=now, dry_run=dry_run))


@router.delete("/environments/{name}", responses=_CHANGED)
def delete(name: str, services: UsesServices, actor: Actor, dry_run: DryRun = False) -> Response:
    """Forgets an environment's policy: every version may enter it."""
    now = services.now()
    return answer(services.environments.delete(name, actor=actor, now=now, dry_run=dry_run))
