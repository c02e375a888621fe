"""The calls of policies, promotions and reviews. No I/O."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from shipway.client.answers import PolicyChange, Standing
from shipway.client.calls import selector
from shipway.client.exchange import Call, reading
from shipway.core.candidacy import Opinion
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy
from shipway.core.versions import parse_version

_API = "/api/v1"


def policies() -> Call[tuple[DeclaredPolicy, ...]]:
    """Every policy."""
    kind = tuple[DeclaredPolicy, ...]
    return Call(method="GET", path=f"{_API}/environments", read=reading(kind))


def policy(environment: str) -> Call[DeclaredPolicy]:
    """The policy of one environment."""
    return Call(method="GET", path=_environment(environment), read=reading(DeclaredPolicy))


def apply(wanted: EnvironmentPolicy, *, dry_run: bool) -> Call[PolicyChange]:
    """Makes an environment's policy what it says."""
    return Call(
        method="PUT",
        path=_environment(wanted.name),
        query=_dry(dry_run=dry_run),
        read=reading(PolicyChange),
        **_json(wanted),
    )


def delete(environment: str, *, dry_run: bool) -> Call[PolicyChange]:
    """Forgets an environment's policy."""
    return Call(
        method="DELETE",
        path=_environment(environment),
        query=_dry(dry_run=dry_run),
        read=reading(PolicyChange),
    )


def standings(version: str) -> Call[tuple[Standing, ...]]:
    """Where a version (`churn:3`) stands in each environment."""
    kind = tuple[Standing, ...]
    return Call(method="GET", path=_version(version, "promotions"), read=reading(kind))


def promote(version: str, environment: str, *, reason: str, dry_run: bool) -> Call[Standing]:
    """Lets a version into an environment."""
    body = {"environment": environment, "reason": reason, "dry_run": dry_run}
    return Call(
        method="POST",
        path=_version(version, "promotions"),
        read=reading(Standing),
        **_json(body),
    )


def review(version: str, environment: str, decision: Opinion, *, reason: str) -> Call[Standing]:
    """Approves or rejects a version for an environment."""
    body = {"environment": environment, "decision": decision, "reason": reason}
    return Call(
        method="POST",
        path=_version(version, "reviews"),
        read=reading(Standing),
        **_json(body),
    )


def _environment(name: str) -> str:
    return f"{_API}/environments/{quote(name, safe='')}"


def _version(text: str, part: str) -> str:
    query = parse_version(text)
    return f"{_API}/models/{quote(query.model)}/versions/{quote(selector(query), safe='@')}/{part}"


def _dry(*, dry_run: bool) -> dict[str, str]:
    return {"dry_run": "true"} if dry_run else {}


def _json(value: Any) -> dict[str, Any]:
    return {
        "body": msgspec.json.encode(value),
        "headers": {"content-type": "application/json"},
    }
