"""Accepting a spec: what a person applies or deploys, and what an alias does that moved."""

from __future__ import annotations

import secrets

import msgspec

from shipway.control.admission import require_admitted
from shipway.control.changes import Request
from shipway.control.registry import resolved
from shipway.core.capturing import require_fields
from shipway.core.deployments import Order, accepted, follows
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import InvalidSpec
from shipway.core.fallbacks import static_outputs
from shipway.core.placement import placed
from shipway.core.registry import VersionRecord
from shipway.core.versions import VersionRef, parse_version
from shipway.store.sql.database import Transaction


class Accepted(msgspec.Struct, frozen=True, kw_only=True):
    """An endpoint before and after a spec was accepted; nothing is written yet."""

    before: EndpointState | None
    after: EndpointState


def accept(
    tx: Transaction, spec: EndpointSpec, request: Request, *, releases_memory: bool
) -> Accepted:
    """What the spec makes of its endpoint. With `releases_memory`, `auto` places nothing inline.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        InvalidSpec: the fallback could not answer for it, or `capture` names a field that it has not.
        RolloutUnderWay: another version is being rolled out.
        PolicyUnmet: the environment's policy does not let the version in.
    """
    record = resolved(tx, parse_version(spec.model))
    _check_fallback(tx, spec, record)
    require_fields(spec.capture, record.manifest.content.signature)
    inline = placed(spec.placement, record.manifest, releases_memory=releases_memory).inline
    before = tx.endpoints.get(spec.environment, spec.name)
    if not _is_in(before, record.ref):
        require_admitted(tx, spec, record, now=request.now)
    order = Order(
        id=new_id(spec.name),
        actor=request.actor,
        now=request.now,
        supersedes=request.supersede,
    )
    return Accepted(
        before=before, after=accepted(before, spec, record.ref, inline=inline, order=order)
    )


def _is_in(state: EndpointState | None, version: VersionRef) -> bool:
    """Whether the version serves or is on its way already: then only other settings change."""
    if state is None:
        return False
    is_coming = state.phase in (Phase.STARTING, Phase.RELEASING) and state.target == version
    return is_coming or state.active == version


def new_id(endpoint: str) -> str:
    """A new rollout's id: short enough to type, and never given out before."""
    return f"{endpoint[:40]}-{secrets.token_hex(4)}"


def to_follow(tx: Transaction, state: EndpointState) -> bool:
    """Whether the endpoint's alias means another version than it serves or has given up."""
    query = parse_version(state.spec.model)
    if query.alias is None:
        return False
    number = tx.aliases.all_of(query.model).get(query.alias)
    return number is not None and follows(state, VersionRef(query.model, number))


def _check_fallback(tx: Transaction, spec: EndpointSpec, record: VersionRecord) -> None:
    """Refuses a fallback that could not answer for this version.

    Raises:
        InvalidSpec: the endpoint does not exist, or the static answer does not fit the outputs.
        VersionNotFound: the version does not exist.
    """
    fallback = spec.fallback
    if fallback is None:
        return
    if fallback.answer is not None:
        static_outputs(fallback.answer, record.manifest.content.signature, 1)
    if fallback.version is not None:
        resolved(tx, parse_version(f"{record.model}:{fallback.version}"))
    if (
        fallback.endpoint is not None
        and tx.endpoints.get(spec.environment, fallback.endpoint) is None
    ):
        raise InvalidSpec(
            f"The fallback of endpoint `{spec.name}` is endpoint `{fallback.endpoint}`,"
            " which does not exist.",
            next_step=f"Deploy `{fallback.endpoint}` first.",
        )
