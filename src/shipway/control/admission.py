"""The gate of an environment: no version serves there that its policy does not let in.

Whatever changes what an endpoint serves, or will serve, asks here, inside its own transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from shipway.control.changes import Request
from shipway.control.signers import signed_by
from shipway.core.admission import Plans, admission, refusal, standing, unmet
from shipway.core.audit import Change
from shipway.core.candidacy import Candidate, LiveVersion, Rule
from shipway.core.endpoints import EndpointSpec, EndpointState
from shipway.core.policy import EnvironmentPolicy
from shipway.core.registry import VersionRecord
from shipway.core.scans import substance_of
from shipway.core.trust import trusted
from shipway.core.versions import VersionRef
from shipway.store.sql.database import Transaction


def require_admitted(
    tx: Transaction, spec: EndpointSpec, record: VersionRecord, *, now: datetime
) -> None:
    """Passes when the endpoint may change to the version, now, in the way that its spec says.

    An environment without a policy lets everything in. Not to be asked for a rollback, nor when a
    rollout is given up: these are always let through.

    Raises:
        PolicyUnmet: with each rule that is not met.
    """
    plans = ((spec.name, spec.rollout),)
    found = _objections(tx, spec.environment, record, now=now, plans=plans)
    if found:
        then = f"then `shipway deploy {record.ref} --endpoint {spec.name}`"
        raise refusal(record.ref, [(spec.environment, found)], then=then)


def require_standing(tx: Transaction, state: EndpointState, *, then: str) -> None:
    """Passes when the endpoint's target, on its way already, may still go on.

    Raises:
        PolicyUnmet: its promotion was withdrawn meanwhile, with each rule that is not met.
    """
    version, environment = state.target, state.spec.environment
    lost = () if version is None else _lost(tx, environment, version)
    if version is not None and lost:
        raise refusal(version, [(environment, lost)], then=then)


def require_alias_admitted(
    tx: Transaction, record: VersionRecord, alias: str, *, now: datetime
) -> None:
    """Passes when the alias may point at the version.

    Raises:
        PolicyUnmet: with each rule that is not met, of every environment that has a say.
    """
    found = alias_objections(tx, record, alias, now=now)
    if found:
        raise refusal(record.ref, found, then=f"then `shipway alias {record.ref} {alias}`")


def alias_objections(
    tx: Transaction, record: VersionRecord, alias: str, *, now: datetime, but: str = ""
) -> list[tuple[str, tuple[Rule, ...]]]:
    """What the environments object to the alias pointing at the version, those without a word left out.

    Asked are the environments with endpoints that follow it, and the one of its own name, where it
    says what was promoted; all `but` one.
    """
    following = followers(tx, record.model, alias)
    places = dict.fromkeys([alias, *(state.spec.environment for state in following)])
    found = (
        (place, _objections(tx, place, record, now=now, plans=plans_in(place, following)))
        for place in places
        if place != but
    )
    return [(place, rules) for place, rules in found if rules]


def followers(tx: Transaction, model: str, alias: str) -> tuple[EndpointState, ...]:
    """The endpoints of every environment whose spec names `model@alias`, in the order of names."""
    wanted = f"{model}@{alias}"
    return tuple(state for state in tx.endpoints.list() if state.spec.model == wanted)


def plans_in(environment: str, states: tuple[EndpointState, ...]) -> Plans:
    """How those of the endpoints that are in the environment change their version."""
    return tuple(
        (state.spec.name, state.spec.rollout)
        for state in states
        if state.spec.environment == environment
    )


def let_back(
    tx: Transaction, before: EndpointState, after: EndpointState, request: Request
) -> tuple[str, ...]:
    """What a rollback must say of the version that it returns to, put on record; mostly nothing.

    A rollback is safety first: a version that served before is let back even when its promotion was
    withdrawn meanwhile. That is said plainly instead.
    """
    version, environment = after.target or after.active, after.spec.environment
    if version is None or version == before.active:
        return ()
    lines = [rule.line for rule in _lost(tx, environment, version)]
    if not lines:
        return ()
    if not request.dry_run:
        change = Change(
            at=request.now,
            actor=request.actor,
            action="admission.waived",
            subject=after.spec.name,
            details={"version": str(version), "unmet": lines, "reason": request.reason},
        )
        tx.audit.append(change)
    return (
        f"note: `{environment}` would not admit {version} now ({'; '.join(lines)});"
        " a rollback is let through all the same",
    )


def untrusted_in(tx: Transaction, policy: EnvironmentPolicy) -> tuple[str, ...]:
    """What a policy's word on artifacts means for what serves in its environment now, a line each."""
    states = [s for s in tx.endpoints.list() if s.spec.environment == policy.name]
    serving = {(s.spec.name, v) for s in states for v in (s.active, s.target) if v is not None}
    lines = []
    for endpoint, version in sorted(serving, key=str):
        record = tx.versions.get(version)
        rules = () if record is None else trusted(policy.checks, candidate_of(tx, policy, record))
        lost = "; ".join(rule.line for rule in unmet(rules))
        if lost:
            lines.append(
                f"note: {version} serves behind `{endpoint}` and would not be let in: {lost}"
            )
    return tuple(lines)


def _lost(tx: Transaction, environment: str, version: VersionRef) -> tuple[Rule, ...]:
    """What is not met any more of that which let a version in."""
    declared, record = tx.policies.get(environment), tx.versions.get(version)
    if declared is None or record is None:
        return ()
    return unmet(standing(declared.policy, candidate_of(tx, declared.policy, record)))


def candidate_of(tx: Transaction, policy: EnvironmentPolicy, record: VersionRecord) -> Candidate:
    """All that the policy may ask about the version."""
    source = policy.from_environment and tx.policies.get(policy.from_environment)
    return Candidate(
        version=record.ref,
        digest=record.digest,
        author=record.created_by,
        signature=record.manifest.content.signature,
        parity=record.manifest.provenance.parity,
        evaluations=tuple(tx.evaluations.of_digest(record.digest)),
        reviews=tuple(tx.reviews.of(record.model, record.digest)),
        promotions=tuple(tx.promotions.of(record.model, record.digest)),
        live=tuple(_live(tx, policy.name, record.model)),
        source=source.policy if source else None,
        substance=substance_of(record.manifest.content),
        scan=tx.scans.get(record.digest),
        signed_by=signed_by(tx, policy.checks, record),
    )


def _live(tx: Transaction, environment: str, model: str) -> Iterator[LiveVersion]:
    known: dict[VersionRef, VersionRecord | None] = {}
    for state in tx.endpoints.list():
        active = state.active
        if state.spec.environment != environment or active is None or active.model != model:
            continue
        if active not in known:
            known[active] = tx.versions.get(active)
        if (record := known[active]) is not None:
            yield LiveVersion(
                endpoint=state.spec.name,
                version=active,
                digest=record.digest,
                signature=record.manifest.content.signature,
            )


def _objections(
    tx: Transaction, environment: str, record: VersionRecord, *, now: datetime, plans: Plans
) -> tuple[Rule, ...]:
    declared = tx.policies.get(environment)
    if declared is None:
        return ()
    candidate = candidate_of(tx, declared.policy, record)
    return unmet(admission(declared.policy, candidate, now=now, plans=plans))
