"""What a policy lets in: every rule by itself, and the laws that hold for all of them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from math import nan

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.admission import (
    NOBODY,
    admission,
    checklist,
    frozen_until,
    refusal,
    standing,
    strategies_of,
    unmet,
)
from shipway.core.bundles import ParityReport
from shipway.core.candidacy import Candidate, LiveVersion, Opinion, Promotion, Review
from shipway.core.evaluations import (
    Against,
    Difference,
    Evaluation,
    LatencyProfile,
    Measure,
    Slice,
    Task,
)
from shipway.core.policy import (
    AllowedStrategy,
    Approvals,
    Checks,
    EnvironmentPolicy,
    EvaluationCheck,
    Freeze,
    LatencyCheck,
    SliceOf,
    Weekday,
)
from shipway.core.signature import Field
from shipway.core.strategies import Ab, BlueGreen, Canary, RolloutPlan, Shadow
from shipway.core.versions import VersionRef
from shipway.testing.bundles import SIGNATURE

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)  # a Wednesday
DIGEST = "sha256:" + "a" * 64
OTHER = "sha256:" + "b" * 64
HASH = "c" * 64
replace = msgspec.structs.replace


def measure(value: float, name: str = "auc") -> Measure:
    return Measure(name=name, value=value, low=value, high=value, better="higher")


def evaluation(value: float = 0.9, *, days_old: float = 0, **fields: object) -> Evaluation:
    values: dict[str, object] = {
        "id": "e1",
        "model": "churn",
        "number": 3,
        "digest": DIGEST,
        "at": NOW - timedelta(days=days_old),
        "by": "ada",
        "task": Task.CLASSIFICATION,
        "label": "churned",
        "data": "holdout.csv",
        "data_sha256": HASH,
        "rows": 100,
        "measures": (measure(value),),
    }
    return Evaluation(**(values | fields))  # type: ignore[arg-type]


def candidate(**fields: object) -> Candidate:
    values: dict[str, object] = {
        "version": VersionRef("churn", 3),
        "digest": DIGEST,
        "author": "ada",
        "signature": SIGNATURE,
    }
    return Candidate(**(values | fields))  # type: ignore[arg-type]


def review(
    reviewer: str, decision: Opinion = Opinion.APPROVED, digest: str = DIGEST, **fields: str
) -> Review:
    values = {"environment": "production", "model": "churn", "reason": ""} | fields
    return Review(digest=digest, number=3, reviewer=reviewer, decision=decision, at=NOW, **values)


def promotion(environment: str = "production", generation: int = 1, **fields: str) -> Promotion:
    values = {"digest": DIGEST, "model": "churn"} | fields
    return Promotion(
        environment=environment, number=3, at=NOW, by="ada", policy_generation=generation, **values
    )


def live(digest: str = OTHER, number: int = 2, **fields: object) -> LiveVersion:
    signature = replace(SIGNATURE, **fields)
    version = VersionRef("churn", number)
    return LiveVersion(endpoint="churn", version=version, digest=digest, signature=signature)


def policy(**fields: object) -> EnvironmentPolicy:
    return EnvironmentPolicy(name="production", **fields)  # type: ignore[arg-type]


def checks(**fields: object) -> EnvironmentPolicy:
    return policy(checks=Checks(**fields))  # type: ignore[arg-type]


def missing(asked: EnvironmentPolicy, one: Candidate, **options: object) -> list[str]:
    rules = checklist(asked, one, now=NOW, **options)  # type: ignore[arg-type]
    return [rule.line for rule in unmet(rules)]


def auc(**fields: object) -> EnvironmentPolicy:
    return checks(evaluations=(EvaluationCheck(metric="auc", **fields),))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "evaluations", "found"),
    [
        (auc(at_least=0.9), [evaluation(0.9)], None),
        (auc(at_least=0.9), [evaluation(0.89)], "0.89"),
        (auc(at_least=0.9), [evaluation(nan)], "nan"),
        (auc(at_most=0.9), [evaluation(nan)], "nan"),
        (auc(at_most=0.9), [evaluation(0.91)], "0.91"),
        (auc(at_least=0.9), [], "not evaluated"),
        (auc(at_least=0.9), [evaluation(0.8), evaluation(0.95, days_old=1)], "0.8"),
        (auc(at_least=0.9), [evaluation(measures=(measure(1.0, "f1"),))], "not measured"),
        (auc(at_least=0.9, data="holdout.csv"), [evaluation(0.95)], None),
        (auc(at_least=0.9, data=HASH), [evaluation(0.95)], None),
        (auc(at_least=0.9, data=f"sha256:{HASH}"), [evaluation(0.95)], None),
        (auc(at_least=0.9, data="d" * 64), [evaluation(0.95)], "not evaluated"),
        (auc(at_least=0.9, data="other.csv"), [evaluation(0.95)], "not evaluated"),
        (auc(at_least=0.9, max_age_days=30), [evaluation(0.95, days_old=30)], None),
        (auc(at_least=0.9, max_age_days=30), [evaluation(0.95, days_old=31)], "31.0 days ago"),
        (auc(at_least=0.9, max_age_days=30), [evaluation(0.95, days_old=-1)], None),
        (
            auc(at_least=0.9, slice=SliceOf(column="city", value="Ulm")),
            [evaluation(0.95)],
            "not evaluated over this slice",
        ),
        (
            auc(at_least=0.9, slice=SliceOf(column="city", value="Ulm")),
            [
                evaluation(
                    0.95,
                    slices=(Slice(column="city", value="Ulm", rows=9, measures=(measure(0.5),)),),
                )
            ],
            "0.5",
        ),
    ],
)
def test_evaluation_must_be_the_newest_that_fits_and_within_its_bounds(
    asked: EnvironmentPolicy, evaluations: list[Evaluation], found: str | None
) -> None:
    lines = missing(asked, candidate(evaluations=tuple(evaluations)))
    assert (found is None) == (lines == [])
    assert found is None or found in lines[0]


@pytest.mark.parametrize(
    ("p95", "p99", "profile", "count"),
    [
        (20, 50, (20, 50), 0),
        (20, 50, (21, 51), 2),
        (20, None, (21, 51), 1),
        (20, 50, None, 2),
        (20, 50, (nan, 1), 1),
    ],
)
def test_latency_is_judged_by_the_stored_profile(
    p95: float, p99: float | None, profile: tuple[float, float] | None, count: int
) -> None:
    latency = profile and LatencyProfile(
        callers=8, requests=100, p50_ms=1, p95_ms=profile[0], p99_ms=profile[1], per_s=10
    )
    one = candidate(evaluations=(evaluation(), evaluation(latency=latency)))
    asked = checks(latency=LatencyCheck(p95_ms=p95, p99_ms=p99))
    assert len(missing(asked, one)) == count


@pytest.mark.parametrize(
    ("report", "is_met"),
    [
        (None, False),
        (ParityReport(holds=False, reason="off"), False),
        (ParityReport(holds=True, reason=""), True),
    ],
)
def test_parity_must_have_been_measured_and_hold(
    report: ParityReport | None, *, is_met: bool
) -> None:
    assert (missing(checks(parity=True), candidate(parity=report)) == []) == is_met


def test_signature_is_compared_with_each_live_version_of_other_bytes() -> None:
    asked = checks(compatible_signature=True)
    more = (*SIGNATURE.outputs, Field(name="score", dtype=SIGNATURE.outputs[0].dtype))
    assert missing(asked, candidate()) == []
    assert missing(asked, candidate(live=(live(),))) == []
    (line,) = missing(asked, candidate(live=(live(outputs=more),)))
    assert "callers of `churn` (churn:2)" in line
    assert "output `score` is no longer given" in line
    assert missing(asked, candidate(live=(live(digest=DIGEST, outputs=more),))) == []


@pytest.mark.parametrize(
    ("against", "verdicts", "found"),
    [
        ("churn:2", ("better", "same"), None),
        ("churn:2", ("better", "worse"), "worse in `m1`"),
        ("churn:1", ("better",), "not compared"),
        (None, (), "not compared"),
    ],
)
def test_no_metric_may_be_worse_than_that_of_the_live_version(
    against: str | None, verdicts: tuple[str, ...], found: str | None
) -> None:
    differences = tuple(
        Difference(name=f"m{i}", value=0, low=0, high=0, p_value=1, test="mcnemar", verdict=verdict)
        for i, verdict in enumerate(verdicts)
    )
    compared = against and Against(version=against, differences=differences)
    one = candidate(live=(live(),), evaluations=(evaluation(against=compared),))
    lines = missing(checks(not_worse_than_live=True), one)
    assert (found is None) == (lines == [])
    assert found is None or found in lines[0]


def test_newer_comparison_replaces_an_older_one() -> None:
    worse = Difference(name="m", value=0, low=0, high=0, p_value=0, test="t", verdict="worse")
    new = evaluation(against=Against(version="churn:2", differences=(worse,)))
    old = evaluation(days_old=1, against=Against(version="churn:2", differences=()))
    asked = checks(not_worse_than_live=True)
    assert missing(asked, candidate(live=(live(),), evaluations=(new, old)))
    assert missing(asked, candidate(live=(live(),), evaluations=(old, new))) == []


APPROVED, REJECTED = Opinion.APPROVED, Opinion.REJECTED


@pytest.mark.parametrize(
    ("approvals", "reviews", "count"),
    [
        (Approvals(required=2), [review("ben"), review("eve")], 0),
        (Approvals(required=2), [review("ben")], 1),
        (Approvals(required=2), [review("ben"), review("ada")], 1),
        (Approvals(required=2, exclude_author=False), [review("ben"), review("ada")], 0),
        (Approvals(required=1, by=("ben",)), [review("eve")], 1),
        (Approvals(required=1, by=("ben",)), [review("ben")], 0),
        (Approvals(required=1), [review(NOBODY)], 1),
        (Approvals(required=1), [review("ben", environment="staging")], 1),
        (Approvals(required=1), [review("ben", model="fraud")], 1),
        (Approvals(required=1), [review("ben", digest=OTHER)], 1),
        (Approvals(required=1), [review("ben"), review("eve", REJECTED)], 1),
        (Approvals(required=1, by=("ben",)), [review("ben"), review("eve", REJECTED)], 0),
        (Approvals(required=1), [review("ben", REJECTED)], 2),
        (Approvals(), [review("ada", REJECTED)], 1),
        (Approvals(), [review("ben", REJECTED, digest=OTHER)], 0),
    ],
)
def test_approvals_are_of_different_people_who_may_and_a_rejection_blocks(
    approvals: Approvals, reviews: list[Review], count: int
) -> None:
    assert len(missing(policy(approvals=approvals), candidate(reviews=tuple(reviews)))) == count


def test_author_who_is_nobody_cannot_be_excluded_so_nothing_is_admitted() -> None:
    asked = policy(approvals=Approvals(required=1))
    one = candidate(author=NOBODY, reviews=(review("ben"),))
    assert missing(asked, one) == ["a known author: anonymous"]
    free = policy(approvals=Approvals(required=1, exclude_author=False))
    assert missing(free, one) == []


@pytest.mark.parametrize(
    ("freeze", "now", "end"),
    [
        (("2026-05-06T00:00", "2026-05-07T00:00"), "2026-05-06T00:00", "2026-05-07T00:00"),
        (("2026-05-06T00:00", "2026-05-07T00:00"), "2026-05-07T00:00", None),
        (("2026-05-06T00:00", "2026-05-07T00:00"), "2026-05-05T23:59", None),
        (("wed",), "2026-05-06T00:00", "2026-05-07T00:00"),
        (("wed",), "2026-05-07T00:00", None),
        (("wed", "16:00", "18:00"), "2026-05-06T15:59", None),
        (("wed", "16:00", "18:00"), "2026-05-06T16:00", "2026-05-06T18:00"),
        (("wed", "22:00", "06:00"), "2026-05-07T05:59", "2026-05-07T06:00"),
        (("wed", "22:00", "06:00"), "2026-05-06T05:59", None),
        (("wed", "22:00", "06:00"), "2026-05-07T06:00", None),
    ],
)
def test_freeze_holds_from_its_begin_to_just_before_its_end(
    freeze: tuple[str, ...], now: str, end: str | None
) -> None:
    if len(freeze) == 2:
        window = Freeze(start=at(freeze[0]), end=at(freeze[1]))
    else:
        since, until = (freeze[1:] or ("00:00", "24:00"))[:2]
        window = Freeze(days=(Weekday(freeze[0]),), since=since, until=until)
    for zone in (UTC, timezone(timedelta(hours=9)), timezone(timedelta(hours=-9))):
        assert frozen_until(window, at(now).astimezone(zone)) == (end and at(end))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def test_freeze_blocks_promotion_and_deployment_and_says_until_when_and_why() -> None:
    asked = policy(freeze=(Freeze(days=(Weekday.WED,), reason="audit"),))
    frozen = "no freeze: frozen until 2026-05-07 00:00 UTC (audit)"
    one = candidate(promotions=(promotion(),))
    assert missing(asked, one) == [frozen]
    assert [rule.line for rule in unmet(admission(asked, one, now=NOW))] == [frozen]
    assert unmet(standing(asked, one)) == ()


PLANS = {
    "none": None,
    "canary": RolloutPlan(stages=(Canary(),)),
    "blue_green": RolloutPlan(stages=(BlueGreen(),)),
    "chain": RolloutPlan(stages=(Shadow(), Canary())),
    "ab": RolloutPlan(stages=(Ab(metric="clicks"),)),
    "empty": RolloutPlan(stages=()),
}


@pytest.mark.parametrize(
    ("allowed", "let_in"),
    [
        ((), set(PLANS)),
        (("canary",), {"canary"}),
        (("canary", "shadow"), {"canary", "chain"}),
        (("none",), {"none", "empty"}),
        (("blue_green", "ab"), {"blue_green", "ab"}),
    ],
)
def test_each_stage_of_a_plan_must_be_an_allowed_strategy(
    allowed: tuple[str, ...], let_in: set[str]
) -> None:
    asked = policy(allowed_strategies=tuple(AllowedStrategy(name) for name in allowed))
    one = candidate(promotions=(promotion(),))
    found = {
        name
        for name, plan in PLANS.items()
        if not unmet(admission(asked, one, now=NOW, plans=(("churn", plan),)))
    }
    assert found == let_in


def test_every_strategy_has_its_name_in_the_policy() -> None:
    used = {name for plan in PLANS.values() for name in strategies_of(plan)}
    assert used == set(AllowedStrategy)


@pytest.mark.parametrize(
    ("promotions", "is_met"),
    [
        ((), False),
        ((promotion(),), True),
        ((promotion(generation=0),), False),
        ((promotion("staging"),), False),
        ((promotion(digest=OTHER),), False),
        ((promotion(model="fraud"),), False),
    ],
)
def test_admission_needs_a_promotion_of_exactly_these_bytes_under_a_policy(
    promotions: tuple[Promotion, ...], *, is_met: bool
) -> None:
    found = unmet(admission(policy(), candidate(promotions=promotions), now=NOW))
    assert (found == ()) == is_met


def test_rejection_after_the_promotion_withdraws_it_until_the_same_person_approves() -> None:
    one = candidate(promotions=(promotion(),), reviews=(review("ben", REJECTED),))
    (rule,) = unmet(standing(policy(), one))
    assert rule.line == "no rejection: ben rejected it"
    assert unmet(standing(policy(), replace(one, reviews=(review("ben"),)))) == ()


def test_version_must_have_been_promoted_to_the_environment_before_and_not_rejected_there() -> None:
    asked = policy(from_environment="staging")
    here = candidate(promotions=(promotion("staging", generation=0),))
    assert missing(asked, candidate()) == ["promoted to `staging` before: not promoted"]
    assert missing(asked, here) == []
    against = replace(here, reviews=(review("ben", REJECTED, environment="staging"),))
    assert missing(asked, against) == ["promoted to `staging` before: rejected there by ben"]
    source = EnvironmentPolicy(name="staging", approvals=Approvals(by=("eve",)))
    assert missing(asked, replace(against, source=source)) == []


def test_refusal_names_every_unmet_rule_and_the_commands_that_meet_them() -> None:
    asked = policy(
        checks=Checks(
            evaluations=(EvaluationCheck(metric="auc", at_least=0.9, data="holdout.csv"),)
        ),
        approvals=Approvals(required=1),
    )
    rules = unmet(checklist(asked, candidate(), now=NOW))
    error = refusal(VersionRef("churn", 3), [("production", rules)], then="then again")
    assert error.message.splitlines() == [
        "`churn:3` may not enter `production`: 2 rules are not met.",
        "  - `auc` at least 0.9 on `holdout.csv`: not evaluated",
        "  - 1 approval, not by its author ada: 0",
    ]
    assert error.details["unmet"] == [rule.line for rule in rules]
    assert error.next_step == (
        "`shipway evaluate churn:3 --data holdout.csv --label COLUMN`;"
        " `shipway approve churn:3 --to production`; then again."
    )


people = st.sampled_from(["ada", "ben", "eve", "kim", NOBODY])
digests = st.sampled_from([DIGEST, OTHER])
said = st.builds(
    review,
    people,
    st.sampled_from(Opinion),
    digests,
    environment=st.sampled_from(["production", "staging"]),
    model=st.sampled_from(["churn", "fraud"]),
)
asked_approvals = st.builds(
    Approvals,
    required=st.integers(0, 3),
    by=st.lists(people, max_size=3).map(tuple),
    exclude_author=st.booleans(),
)


def newest_of_each(reviews: list[Review]) -> tuple[Review, ...]:
    """As the rows keep them: one for each person, environment, digest and model."""
    return tuple({(r.environment, r.digest, r.model, r.reviewer): r for r in reviews}.values())


@given(st.lists(said, max_size=8).map(newest_of_each), asked_approvals)
def test_nothing_said_of_other_bytes_another_model_or_environment_changes_a_decision(
    reviews: tuple[Review, ...], approvals: Approvals
) -> None:
    asked = policy(approvals=approvals)
    mine = tuple(
        r for r in reviews if (r.digest, r.model, r.environment) == (DIGEST, "churn", "production")
    )
    everything = checklist(asked, candidate(reviews=reviews), now=NOW)
    assert everything == checklist(asked, candidate(reviews=mine), now=NOW)


@given(st.lists(said, max_size=8).map(newest_of_each), asked_approvals)
def test_people_let_a_version_in_exactly_when_enough_may_and_do_and_nobody_who_may_rejects(
    reviews: tuple[Review, ...], approvals: Approvals
) -> None:
    one = candidate(reviews=reviews)
    may = {
        r.reviewer: r.decision
        for r in one.reviews_in("production")
        if r.reviewer != NOBODY and (not approvals.by or r.reviewer in approvals.by)
    }
    enough = sum(
        decision is APPROVED and not (approvals.exclude_author and name == "ada")
        for name, decision in may.items()
    )
    is_let_in = enough >= approvals.required and REJECTED not in may.values()
    assert (missing(policy(approvals=approvals), one) == []) == is_let_in


@given(
    parity=st.booleans(),
    value=st.sampled_from([0.7, 0.9]),
    reviewers=st.sets(st.sampled_from(["ben", "eve"])),
    is_frozen=st.booleans(),
    strategy=st.sampled_from(["none", "canary"]),
    was_in_staging=st.booleans(),
)
def test_nothing_is_missing_exactly_when_every_rule_is_met(
    *,
    parity: bool,
    value: float,
    reviewers: set[str],
    is_frozen: bool,
    strategy: str,
    was_in_staging: bool,
) -> None:
    asked = policy(
        checks=Checks(parity=True, evaluations=(EvaluationCheck(metric="auc", at_least=0.8),)),
        approvals=Approvals(required=2),
        freeze=(Freeze(days=(Weekday.WED if is_frozen else Weekday.SUN,)),),
        allowed_strategies=(AllowedStrategy.CANARY,),
        from_environment="staging",
    )
    one = candidate(
        parity=ParityReport(holds=parity, reason=""),
        evaluations=(evaluation(value),),
        reviews=tuple(review(name) for name in sorted(reviewers)),
        promotions=(promotion("staging"),) if was_in_staging else (),
    )
    met = [
        parity,
        value >= 0.8,
        len(reviewers) == 2,
        not is_frozen,
        strategy == "canary",
        was_in_staging,
    ]
    lines = missing(asked, one, plans=(("churn", PLANS[strategy]),))
    assert len(lines) == met.count(False)
