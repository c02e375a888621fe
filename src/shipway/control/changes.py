"""Writing a changed endpoint: its state, its rollout and the audit record, in one transaction."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec

from shipway.core.audit import Change
from shipway.core.deployments import superseded
from shipway.core.endpoints import EndpointState
from shipway.core.rollouts import Rollout
from shipway.store.sql.database import Transaction


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks for a change, when, why, and whether it is only to be shown.

    With `supersede`, it takes the place of a rollout that is under way.
    """

    actor: str
    now: datetime
    dry_run: bool = False
    reason: str = ""
    supersede: bool = False


def put(
    tx: Transaction,
    before: EndpointState | None,
    after: EndpointState,
    request: Request,
    action: str,
) -> None:
    """Writes `after` over `before`, with the rollouts that changed, and puts it on record.

    Raises:
        ConflictError: the endpoint is not as `before` says any more.
    """
    tx.endpoints.put(after, expected_generation=None if before is None else before.generation)
    ended = superseded(before, after, request.now)
    for rollout in (ended, after.rollout):
        if rollout is not None and (before is None or rollout != before.rollout):
            tx.rollouts.put(rollout)
    record(tx, before, after, request, action)


def record(
    tx: Transaction,
    before: EndpointState | None,
    after: EndpointState | None,
    request: Request,
    action: str,
) -> None:
    """Puts a change of an endpoint on record."""
    subject = next(state.spec.name for state in (after, before) if state is not None)
    details: dict[str, Any] = {"before": _facts(before), "after": _facts(after)}
    if request.reason:
        details["reason"] = request.reason
    tx.audit.append(
        Change(at=request.now, actor=request.actor, action=action, subject=subject, details=details)
    )


def _facts(state: EndpointState | None) -> dict[str, Any] | None:
    """What the audit record keeps of a state."""
    if state is None:
        return None
    facts = {
        "spec": msgspec.to_builtins(state.spec, str_keys=True),
        "phase": state.phase.value,
        "active": _name(state.active),
        "target": _name(state.target),
        "previous": _name(state.previous),
    }
    return facts if state.rollout is None else {**facts, "rollout": _rollout_facts(state.rollout)}


def _rollout_facts(rollout: Rollout) -> dict[str, Any]:
    """A rollout with the evidence that decided its last move; without its history, which is here."""
    facts: dict[str, Any] = msgspec.to_builtins(rollout, str_keys=True)
    seen = facts.pop("seen")
    if seen is not None:
        seen["pairs"].pop("worst")  # callers' inputs are no matter for the audit record
    del facts["history"]
    return {**facts, "seen": seen}


def _name(version: object) -> str | None:
    return None if version is None else str(version)
