"""What feedback says becomes outcomes of a rollout's versions: the same numbers that posting them would give."""

from __future__ import annotations

from datetime import UTC, datetime
from statistics import fmean, variance

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core import intervals
from shipway.core.errors import InvalidSpec
from shipway.core.evidence import Moments
from shipway.core.learned import learned
from shipway.core.performance import (
    Business,
    Errors,
    Performance,
    Slice,
    classification,
    regression,
)
from shipway.core.rollouts import begun
from shipway.core.strategies import Ab, Canary, Guards, MetricGuard, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.wire.specs import spec_of

NOW = datetime(2026, 5, 6, 7, tzinfo=UTC)
V1, V2 = VersionRef("churn", 1), VersionRef("churn", 2)
values = st.lists(st.floats(-1e6, 1e6, allow_nan=False), min_size=1, max_size=50)


def rollout(candidate=V2):
    return begun(
        RolloutPlan(stages=(Canary(),)),
        V1,
        candidate,
        id="r",
        place=("dev", "churn"),
        actor="ada",
        now=NOW,
    )


def part(version, role, *, right=0, n=0, outcomes=(), **facts):
    """A slice of classes, `right` of `n` right."""
    confusion = {("a", "a"): right, ("a", "b"): n - right}
    known = classification(right, n, {k: v for k, v in confusion.items() if v}) if n else None
    return Slice(
        version=version,
        role=role,
        predictions=100,
        labelled=n,
        classification=known,
        outcomes=tuple(outcomes),
        **facts,
    )


def business(metric, posted):
    spread = variance(posted) if len(posted) > 1 else None
    mean = intervals.mean(fmean(posted), spread, len(posted))
    return Business(metric=metric, n=len(posted), mean=mean, total=sum(posted))


def found(*parts, of=None):
    return learned(Performance(endpoint="churn", slices=parts), of or rollout())


def test_labels_are_counted_right_or_wrong_by_version_and_by_no_other():
    parts = (
        part(1, "primary", right=70, n=90),
        part(2, "candidate", right=7, n=10),
        part(2, "shadow", right=20, n=25),
        part(3, "primary", right=9, n=9),
    )
    assert found(*parts) == {
        ("feedback:accuracy", "churn:1"): Moments(n=90, total=70.0, squares=70.0),
        ("feedback:accuracy", "churn:2"): Moments(n=35, total=27.0, squares=27.0),
    }


@given(values)
def test_outcomes_have_the_moments_that_posting_them_would_give(posted):
    moments = found(part(2, "candidate", outcomes=[business("revenue", posted)]))[
        "feedback:revenue", "churn:2"
    ]
    assert moments.n == len(posted)
    assert moments.mean == pytest.approx(fmean(posted), abs=1e-6)
    expected = variance(posted) if len(posted) > 1 else 0.0
    largest = max(abs(one) for one in posted)
    assert moments.variance == pytest.approx(expected, rel=1e-6, abs=1e-9 * (1 + largest**2))


def test_errors_of_numbers_are_counted_by_their_size():
    errors = Errors(
        n=4, mean=0.0, variance=5.0, size=2.0, size_variance=1.5, square=4.0, square_variance=1.0,
        truth_variance=1.0,
    )  # fmt: skip
    one = Slice(
        version=2, role="candidate", predictions=9, labelled=4, regression=regression(errors)
    )
    moments = found(one)["feedback:absolute_error", "churn:2"]
    assert (moments.n, moments.mean, moments.variance) == (4, 2.0, pytest.approx(1.5))


def test_what_came_of_an_answer_is_no_merit_of_its_shadow():
    revenue = business("revenue", [1.0, 2.0])
    parts = (
        part(1, "primary", outcomes=[revenue]),
        part(2, "shadow", right=1, n=2, outcomes=[revenue]),
    )
    assert set(found(*parts)) == {
        ("feedback:revenue", "churn:1"),
        ("feedback:accuracy", "churn:2"),
    }


def test_versions_of_two_models_are_not_told_apart():
    other = rollout(VersionRef("fraud", 2))
    assert found(part(2, "candidate", right=1, n=1), of=other) == {}


def test_a_plan_knows_what_it_asks_feedback_for():
    guards = Guards(metrics=(MetricGuard(metric="feedback:accuracy"), MetricGuard(metric="sold")))
    plan = RolloutPlan(stages=(Ab(metric="feedback:revenue"),), guards=guards)
    assert plan.feedback_metrics == {"feedback:accuracy", "feedback:revenue"}
    assert RolloutPlan(stages=(Ab(metric="sold"),)).feedback_metrics == frozenset()


def test_a_rollout_that_goes_by_feedback_needs_predictions_that_it_is_about():
    spec = {
        "name": "churn",
        "model": "churn:1",
        "rollout": {"guards": {"metrics": [{"metric": "feedback:accuracy"}]}},
    }
    with pytest.raises(InvalidSpec, match="capture"):
        spec_of(spec)
    assert spec_of(spec | {"capture": {}}).rollout == msgspec.convert(spec["rollout"], RolloutPlan)
