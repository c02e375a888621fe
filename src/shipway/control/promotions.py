"""Promoting and reviewing versions: each change is one transaction, its audit record included."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

import msgspec

from shipway.control.admission import alias_objections, candidate_of, followers, plans_in
from shipway.control.environments import declared_in
from shipway.control.registry import checked_alias, resolved
from shipway.core.admission import NOBODY, checklist, counts, refusal, standing, unmet
from shipway.core.audit import Change
from shipway.core.candidacy import Opinion, Promotion, Review, Rule
from shipway.core.errors import InvalidRequest, InvalidSpec
from shipway.core.policy import EnvironmentPolicy
from shipway.core.registry import VersionRecord
from shipway.core.versions import VersionQuery
from shipway.store.sql.database import Database, Transaction

Reason = Annotated[str, msgspec.Meta(max_length=4000)]


class ReviewView(msgspec.Struct, frozen=True, kw_only=True):
    """What somebody said last of the version, and whether it has weight."""

    reviewer: str
    decision: Opinion
    reason: str
    at: datetime
    counts: bool


class PromotionView(msgspec.Struct, frozen=True, kw_only=True):
    """Where a version stands on its way into an environment.

    `rules` are all that a promotion needs; there are none without a policy (`has_policy`).
    `promotion` is the one on record. `admitted`: it may be deployed there, freezes and strategies
    apart. `alias` is the one named like the environment: where it points now, and with `previous`
    where it pointed before. `followers` are the endpoints that follow it, `serving` those of the
    environment where the version serves or is on its way.
    """

    environment: str
    version: str
    digest: str
    has_policy: bool
    rules: tuple[Rule, ...]
    reviews: tuple[ReviewView, ...]
    promotion: Promotion | None
    admitted: bool
    alias: int | None
    previous: int | None
    followers: tuple[str, ...]
    serving: tuple[str, ...]
    dry_run: bool = False


class PromotionRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The environment that a version shall be promoted to, and why."""

    environment: str
    reason: Reason = ""
    dry_run: bool = False


class ReviewRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What somebody says of a version in an environment, and why."""

    environment: str
    decision: Opinion
    reason: Reason = ""


class Promotions:
    """Promotions and reviews over a database. Thread-safe; methods block, may raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def of(self, query: VersionQuery, *, now: datetime) -> tuple[PromotionView, ...]:
        """Where a version stands: in each environment with a policy, and where it was promoted to.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
        """
        with self._database.reading() as tx:
            record = resolved(tx, query)
            places = {one.policy.name for one in tx.policies.list()}
            places |= {p.environment for p in tx.promotions.of(record.model, record.digest)}
            return tuple(_view(tx, record, place, now=now) for place in sorted(places))

    def promote(
        self, query: VersionQuery, wanted: PromotionRequest, *, actor: str, now: datetime
    ) -> PromotionView:
        """Lets exactly these bytes into an environment, and points the alias of its name at them.

        Promoting again changes nothing, unless the policy is another one by now.

        Raises:
            PolicyUnmet: with each rule that is not met: of the environment, and of any other whose
                endpoints follow the alias.
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
            InvalidSpec: the environment's name is malformed.
        """
        environment = checked_alias(wanted.environment)
        with self._database.transaction() as tx:
            record = resolved(tx, query)
            before = _view(tx, record, environment, now=now)
            _require_met(tx, record, before, now=now)
            if not wanted.dry_run:
                rules = [rule.line for rule in before.rules]
                _promote(tx, record, environment, actor=actor, now=now, why=(wanted.reason, rules))
            after = _view(tx, record, environment, now=now)
        previous, dry_run = before.alias, wanted.dry_run
        return msgspec.structs.replace(after, previous=previous, dry_run=dry_run)

    def review(
        self, query: VersionQuery, said: ReviewRequest, *, actor: str, now: datetime
    ) -> PromotionView:
        """Puts on record what a person says of exactly these bytes, in place of what they said before.

        The word of somebody whose word does not count is kept, and shown as such.

        Raises:
            EnvironmentNotFound: the environment has no policy, so nobody is asked.
            ModelNotFound, VersionNotFound: there is no such version.
            InvalidSpec: the version is not given by number; an alias may move while one reads.
            InvalidRequest: the person has no name.
        """
        _require_number(query)
        if actor == NOBODY:
            raise InvalidRequest(
                "A review needs the name of a person.",
                next_step="Send it as `X-Shipway-Actor`; the command line sends the user's.",
            )
        with self._database.transaction() as tx:
            declared_in(tx, said.environment)
            record = resolved(tx, query)
            _review(tx, record, said, actor=actor, now=now)
            return _view(tx, record, said.environment, now=now)


def _require_number(query: VersionQuery) -> None:
    if query.number is None:
        raise InvalidSpec(
            f"`{query}` may mean another version tomorrow.",
            next_step=f"Name the version that you looked at by its number: `{query.model}:2`.",
        )


def _require_met(
    tx: Transaction, record: VersionRecord, view: PromotionView, *, now: datetime
) -> None:
    mine = unmet(view.rules)
    objections = [(view.environment, mine)] if mine else []
    objections += alias_objections(tx, record, view.environment, now=now, but=view.environment)
    if objections:
        then = f"then `shipway promote {record.ref} --to {view.environment}`"
        raise refusal(record.ref, objections, then=then)


def _promote(
    tx: Transaction,
    record: VersionRecord,
    environment: str,
    *,
    actor: str,
    now: datetime,
    why: tuple[str, list[str]],
) -> None:
    reason, rules = why
    declared = tx.policies.get(environment)
    generation = 0 if declared is None else declared.generation
    earlier = tx.promotions.of(record.model, record.digest)
    known = next((p for p in earlier if p.environment == environment), None)
    if known is None or known.policy_generation != generation:
        promotion = Promotion(
            environment=environment,
            digest=record.digest,
            model=record.model,
            number=record.number,
            at=now,
            by=actor,
            policy_generation=generation,
        )
        tx.promotions.put(promotion)
        details = {
            "environment": environment,
            "before": msgspec.to_builtins(known),
            "after": msgspec.to_builtins(promotion),
            "reason": reason,
            "rules": rules,
        }
        _record(tx, "version.promote", str(record.ref), details, actor=actor, now=now)
    previous = tx.aliases.all_of(record.model).get(environment)
    if previous != record.number:
        tx.aliases.point(environment, record.ref)
        moved = {"before": previous, "after": record.number, "reason": reason or "promoted"}
        _record(tx, "alias.set", f"{record.model}@{environment}", moved, actor=actor, now=now)


def _review(
    tx: Transaction, record: VersionRecord, said: ReviewRequest, *, actor: str, now: datetime
) -> None:
    review = Review(
        environment=said.environment,
        digest=record.digest,
        model=record.model,
        number=record.number,
        reviewer=actor,
        decision=said.decision,
        reason=said.reason.replace("\0", ""),  # PostgreSQL keeps none in text
        at=now,
    )
    known = tx.reviews.of(record.model, record.digest)
    before = next(
        (r for r in known if (r.environment, r.reviewer) == (said.environment, actor)), None
    )
    tx.reviews.put(review)
    details = {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(review)}
    _record(tx, f"review.{said.decision}", str(record.ref), details, actor=actor, now=now)


def _view(
    tx: Transaction, record: VersionRecord, environment: str, *, now: datetime
) -> PromotionView:
    declared = tx.policies.get(environment)
    policy = EnvironmentPolicy(name=environment) if declared is None else declared.policy
    candidate = candidate_of(tx, policy, record)
    following = followers(tx, record.model, environment)
    plans = plans_in(environment, following)
    rules = checklist(policy, candidate, now=now, plans=plans) if declared else ()
    alias = tx.aliases.all_of(record.model).get(environment)
    return PromotionView(
        environment=environment,
        version=str(record.ref),
        digest=record.digest,
        has_policy=declared is not None,
        rules=rules,
        reviews=tuple(
            ReviewView(
                reviewer=review.reviewer,
                decision=review.decision,
                reason=review.reason,
                at=review.at,
                counts=counts(policy.approvals, review, record.created_by),
            )
            for review in candidate.reviews_in(environment)
        ),
        promotion=candidate.promotion_to(environment),
        admitted=declared is None or not unmet(standing(policy, candidate)),
        alias=alias,
        previous=alias,
        followers=tuple(state.spec.name for state in following),
        serving=tuple(
            state.spec.name
            for state in tx.endpoints.list()
            if state.spec.environment == environment and record.ref in (state.active, state.target)
        ),
    )


def _record(
    tx: Transaction,
    action: str,
    subject: str,
    details: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
) -> None:
    tx.audit.append(
        Change(at=now, actor=actor, action=action, subject=subject, details=dict(details))
    )
