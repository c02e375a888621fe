"""What a caller may see, and change, where the path alone does not tell: in lists and in bodies."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from shipway.api.guard import require
from shipway.api.services import Services
from shipway.core.access import (
    Kind,
    Principal,
    Resource,
    Right,
    permits,
    permits_within,
    project_of,
)
from shipway.core.errors import InvalidSpec
from shipway.core.versions import parse_version


def may_read(caller: Principal, model: str) -> bool:
    """Whether a model is in the caller's lists."""
    return permits(caller, Right.READ, Resource(Kind.MODEL, model))


def may_read_endpoint(services: Services, caller: Principal, endpoint: str) -> bool:
    """Whether an endpoint is in the caller's lists: it may read or ask it."""
    resource = Resource(Kind.ENDPOINT, endpoint, services.access.environment)
    return permits(caller, Right.READ, resource) or permits(caller, Right.INVOKE, resource)


def may_audit(caller: Principal, subject: str) -> bool:
    """Whether what was done to a subject is for the caller: it audits the subject's whole project."""
    return permits_within(caller, Right.AUDIT, project_of(subject))


def require_named(services: Services, caller: Principal, spec: Any) -> None:
    """Lets pass who may see what a spec, or a deployment, would put behind an endpoint.

    Raises:
        ModelNotFound, EndpointNotFound, Forbidden: the caller may not.
    """
    if not isinstance(spec, Mapping):
        return  # the use case says what is wrong with it
    model, fallback = spec.get("model"), spec.get("fallback")
    if isinstance(model, str):
        with suppress(InvalidSpec):
            require(caller, Right.READ, Resource(Kind.MODEL, parse_version(model).model))
    other = fallback.get("endpoint") if isinstance(fallback, Mapping) else None
    if isinstance(other, str):
        resource = Resource(Kind.ENDPOINT, other, services.access.environment)
        require(caller, Right.READ, resource)


def require_followers(services: Services, caller: Principal, model: str, alias: str) -> None:
    """Lets pass who may deploy every endpoint that follows the alias.

    Raises:
        EndpointNotFound, Forbidden: the caller may not.
    """
    if services.endpoints is None:
        return
    for endpoint in services.endpoints.following(model, alias):
        resource = Resource(Kind.ENDPOINT, endpoint, services.access.environment)
        require(caller, Right.DEPLOY, resource)


def require_in(caller: Principal, right: Right, model: str, environment: str) -> None:
    """Lets pass who has the right on a model in an environment.

    Raises:
        ModelNotFound, Forbidden: the caller has not.
    """
    require(caller, right, Resource(Kind.MODEL, model, environment))
