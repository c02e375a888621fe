"""May a version enter an environment? Every rule of the policy, beside what was found.

`checklist` is asked when a version is promoted, `admission` when it is to serve, and `standing` of one
that was promoted before. Nothing is admitted unless `unmet` of these is empty.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta

from shipway.core.candidacy import Candidate, Opinion, Review, Rule
from shipway.core.checks import checked
from shipway.core.errors import PolicyUnmet
from shipway.core.policy import AllowedStrategy, Approvals, EnvironmentPolicy, Freeze, Weekday
from shipway.core.strategies import RolloutPlan
from shipway.core.trust import trusted
from shipway.core.versions import VersionRef

NOBODY = "anonymous"
"""Who asks without a name; nobody can tell them from the author."""

Plans = Sequence[tuple[str, RolloutPlan | None]]
"""Endpoints by name, and how each would change to the version."""


def checklist(
    policy: EnvironmentPolicy, candidate: Candidate, *, now: datetime, plans: Plans = ()
) -> tuple[Rule, ...]:
    """What a promotion needs. `plans` are of the endpoints that follow it at once."""
    return (
        *checked(policy.checks, candidate, now),
        *trusted(policy.checks, candidate),
        *_earlier(policy, candidate),
        *_agreed(policy, candidate),
        *_thawed(policy, now),
        *_allowed(policy, plans),
    )


def admission(
    policy: EnvironmentPolicy, candidate: Candidate, *, now: datetime, plans: Plans = ()
) -> tuple[Rule, ...]:
    """What a version needs to be put behind an endpoint."""
    return (*standing(policy, candidate), *_thawed(policy, now), *_allowed(policy, plans))


def standing(policy: EnvironmentPolicy, candidate: Candidate) -> tuple[Rule, ...]:
    """Whether the version was promoted, and its bytes and what people said of it still let it in."""
    promoted = _promoted(policy, candidate)
    return (promoted, *trusted(policy.checks, candidate), *_agreed(policy, candidate))


def unmet(rules: Iterable[Rule]) -> tuple[Rule, ...]:
    """Those that are not met, in their order."""
    return tuple(rule for rule in rules if not rule.met)


def refusal(
    version: VersionRef, objections: Sequence[tuple[str, Sequence[Rule]]], *, then: str
) -> PolicyUnmet:
    """The error that says every unmet rule of each environment; `then` is what to repeat at last."""
    lines = [
        f"`{environment}`: {rule.line}" if len(objections) > 1 else rule.line
        for environment, rules in objections
        for rule in rules
    ]
    places = " and ".join(f"`{environment}`" for environment, _ in objections)
    count = "1 rule is" if len(lines) == 1 else f"{len(lines)} rules are"
    steps = dict.fromkeys(rule.next_step for _, rules in objections for rule in rules)
    return PolicyUnmet(
        "\n".join([f"`{version}` may not enter {places}: {count} not met.", *_listed(lines)]),
        next_step="; ".join([*(step for step in steps if step), then]) + ".",
        unmet=lines,
        version=str(version),
        environments=[environment for environment, _ in objections],
    )


def _listed(lines: Iterable[str]) -> Iterator[str]:
    return (f"  - {line}" for line in lines)


def counts(approvals: Approvals, review: Review, author: str) -> bool:
    """Whether a review has weight: of an approval also that the author may have given it."""
    if not _may_review(approvals, review.reviewer):
        return False
    is_authors = approvals.exclude_author and review.reviewer == author
    return review.decision is Opinion.REJECTED or not is_authors


def _may_review(approvals: Approvals, reviewer: str) -> bool:
    return reviewer != NOBODY and (not approvals.by or reviewer in approvals.by)


def _promoted(policy: EnvironmentPolicy, candidate: Candidate) -> Rule:
    promotion = candidate.promotion_to(policy.name)
    if promotion is None:
        found = "not promoted"
    elif promotion.policy_generation == 0:
        found = "promoted before there was a policy"
    else:
        found = f"by {promotion.by}, {promotion.at:%Y-%m-%d %H:%M} UTC"
    return Rule(
        asks=f"promoted to `{policy.name}`",
        found=found,
        met=promotion is not None and promotion.policy_generation > 0,
        next_step=f"`shipway promote {candidate.version} --to {policy.name}`",
    )


def _earlier(policy: EnvironmentPolicy, candidate: Candidate) -> Iterator[Rule]:
    before = policy.from_environment
    if before is None:
        return
    promotion = candidate.promotion_to(before)
    approvals = candidate.source.approvals if candidate.source else Approvals()
    against = _rejections(approvals, candidate, before)
    found = "not promoted" if promotion is None else f"by {promotion.by}"
    yield Rule(
        asks=f"promoted to `{before}` before",
        found=f"rejected there by {_names(against)}" if against else found,
        met=promotion is not None and not against,
        next_step=f"`shipway promote {candidate.version} --to {before}`",
    )


def _agreed(policy: EnvironmentPolicy, candidate: Candidate) -> Iterator[Rule]:
    yield from _approved(policy, candidate)
    for review in _rejections(policy.approvals, candidate, policy.name):
        yield Rule(
            asks="no rejection",
            found=f"{review.reviewer} rejected it{_because(review.reason)}",
            met=False,
            next_step=f"Settle it with {review.reviewer}, whose `shipway approve"
            f" {candidate.version} --to {policy.name}` takes the rejection back",
        )


def _approved(policy: EnvironmentPolicy, candidate: Candidate) -> Iterator[Rule]:
    approvals = policy.approvals
    if approvals.required == 0:
        return
    approving = {
        review.reviewer
        for review in candidate.reviews_in(policy.name)
        if review.decision is Opinion.APPROVED and counts(approvals, review, candidate.author)
    }
    people = f" by {' or '.join(approvals.by)}" if approvals.by else ""
    but = f", not by its author {candidate.author}" if approvals.exclude_author else ""
    yield Rule(
        asks=f"{_counted(approvals.required, 'approval')}{people}{but}",
        found=f"{len(approving)}{f' ({_sorted(approving)})' if approving else ''}",
        met=len(approving) >= approvals.required,
        next_step=f"`shipway approve {candidate.version} --to {policy.name}`",
    )
    if approvals.exclude_author:
        yield Rule(
            asks="a known author",
            found=candidate.author,
            met=candidate.author != NOBODY,
            next_step="Register it with a name (`X-Shipway-Actor`), so that its author can be"
            " told from its reviewers",
        )


def _rejections(approvals: Approvals, candidate: Candidate, environment: str) -> tuple[Review, ...]:
    return tuple(
        review
        for review in candidate.reviews_in(environment)
        if review.decision is Opinion.REJECTED and counts(approvals, review, candidate.author)
    )


def _thawed(policy: EnvironmentPolicy, now: datetime) -> Iterator[Rule]:
    if not policy.freeze:
        return
    ends = [(freeze, end) for freeze in policy.freeze if (end := frozen_until(freeze, now))]
    for freeze, end in ends:
        yield Rule(
            asks="no freeze",
            found=f"frozen until {end:%Y-%m-%d %H:%M} UTC{_because(freeze.reason)}",
            met=False,
            next_step=f"Wait until {end:%Y-%m-%d %H:%M} UTC; `shipway rollback` works meanwhile",
        )
    if not ends:
        yield Rule(asks="no freeze", found="none now", met=True)


def frozen_until(freeze: Freeze, now: datetime) -> datetime | None:
    """When the freeze that `now` is in ends; None outside of it. Its end is outside, its begin inside."""
    if freeze.start is not None and freeze.end is not None:
        return freeze.end.astimezone(UTC) if freeze.start <= now < freeze.end else None
    midnight = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    # One that began yesterday may still last.
    for day in (midnight - timedelta(days=1), midnight):
        if tuple(Weekday)[day.weekday()] not in freeze.days:
            continue
        start, end = day + _time(freeze.since), day + _time(freeze.until)
        if end <= start:
            end += timedelta(days=1)
        if start <= now < end:
            return end
    return None


def _time(text: str) -> timedelta:
    hours, minutes = text.split(":")
    return timedelta(hours=int(hours), minutes=int(minutes))


def _allowed(policy: EnvironmentPolicy, plans: Plans) -> Iterator[Rule]:
    allowed = policy.allowed_strategies
    if not allowed:
        return
    for endpoint, plan in plans:
        used = strategies_of(plan)
        yield Rule(
            asks=f"endpoint `{endpoint}` changes by {' or '.join(allowed)}",
            found=" then ".join(used),
            met=set(used) <= set(allowed),
            next_step=f"Give `{endpoint}` a `rollout` of {' or '.join(allowed)} in its spec",
        )


def strategies_of(plan: RolloutPlan | None) -> tuple[AllowedStrategy, ...]:
    """The strategies of a plan's stages, in order; `none` without a plan."""
    if plan is None or not plan.stages:
        return (AllowedStrategy.NONE,)
    return tuple(AllowedStrategy(str(stage.__struct_config__.tag)) for stage in plan.stages)


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _sorted(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def _names(reviews: Iterable[Review]) -> str:
    return _sorted(review.reviewer for review in reviews)


def _because(reason: str) -> str:
    return f" ({reason})" if reason else ""
