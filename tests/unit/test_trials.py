"""What control makes of the gateways' reports on a rollout."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from shipway.control.trials import Trials
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.evidence import (
    MOST_LABELS,
    MOST_PAIRS,
    OTHER,
    Account,
    Moments,
    Pair,
    Pairs,
    TrialReport,
    bucket_of,
    edge,
    merged,
    merged_pairs,
    quantile,
)
from shipway.core.observed import Desired, GatewayEvidence, Observed, VariantEvidence
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.rollouts import Decision, Event, begun, moved
from shipway.core.strategies import RolloutPlan
from shipway.core.versions import VersionRef
from shipway.wire.snapshot import GatewayReport

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V1, V2 = VersionRef("churn", 1), VersionRef("churn", 2)


def rollout_of(epoch=1, since=NOW):
    rollout = begun(RolloutPlan(), V1, V2, id="r", place=("dev", "churn"), actor="ada", now=NOW)
    ready = moved(rollout, Decision(event=Event.READY, message=""), since)
    return msgspec.structs.replace(ready, epoch=epoch)


def desired(rollout, *, inline=True):
    state = EndpointState(
        spec=EndpointSpec(name="churn", model="churn:2"),
        generation=1,
        phase=Phase.RELEASING,
        active=V1,
        target=V2,
        rollout=rollout,
        inline=(V1, V2) if inline else (),
    )
    return Desired(state=state, facts={})


def report(answered, *, gateway="g", instance="i", epoch=1, rollout="r"):
    trial = TrialReport(
        rollout=rollout,
        epoch=epoch,
        primary=Account(answered=10 * answered),
        candidate=Account(answered=answered),
    )
    return GatewayReport(
        gateway=gateway, revision="x", variants=(), instance=instance, trials={"churn": trial}
    )


def observed(*gateways, replicas=(), error=""):
    variants = {("churn", str(V2)): VariantEvidence(ready=not error, error=error)}
    return Observed(
        replicas=tuple(replicas),
        gateways=tuple(GatewayEvidence(id=g, revision="x", variants=variants) for g in gateways),
        revision="x",
    )


def evidence(trials, rollout, seen, *, now=NOW, steady_s=0.0, inline=True, sums=None):
    return trials.evidence(
        desired(rollout, inline=inline), rollout, seen, sums=sums or {}, now=now, steady_s=steady_s
    )


def test_each_gateway_counts_once_however_often_it_reports():
    trials = Trials()
    for answered in (1, 5, 7):
        trials.note(report(answered))
        trials.note(report(answered, gateway="h"))
    found = evidence(trials, rollout_of(), observed("g", "h"))
    assert (found.step.candidate.answered, found.step.primary.answered) == (14, 140)
    assert (found.gateways, found.expected) == (2, 2)


def test_a_gateway_that_was_started_again_adds_to_what_it_saw_before():
    trials = Trials()
    trials.note(report(5, instance="first"))
    trials.note(report(2, instance="second"))
    assert evidence(trials, rollout_of(), observed("g")).step.candidate.answered == 7


def test_reports_on_another_step_or_rollout_say_nothing_of_this_one():
    trials = Trials()
    trials.note(report(5, epoch=1))
    trials.note(report(9, gateway="h", epoch=2, rollout="other"))
    found = evidence(trials, rollout_of(epoch=2), observed("g", "h"))
    assert (found.step.candidate.answered, found.gateways, found.expected) == (0, 0, 2)


def test_time_in_a_step_goes_by_the_steady_clock_once_it_was_seen():
    trials, rollout = Trials(), rollout_of()
    assert evidence(trials, rollout, observed(), steady_s=100.0).elapsed_s == 0.0
    for wall in (NOW + timedelta(days=30), NOW - timedelta(days=30)):
        assert evidence(trials, rollout, observed(), now=wall, steady_s=107.0).elapsed_s == 7.0


def test_a_control_that_starts_again_goes_on_counting_from_when_the_step_began():
    later = NOW + timedelta(seconds=40)
    trials, rollout = Trials(), rollout_of()
    assert evidence(trials, rollout, observed(), now=later, steady_s=5.0).elapsed_s == 40.0
    assert evidence(trials, rollout, observed(), now=later, steady_s=6.0).elapsed_s == 41.0


def test_what_keeps_a_candidate_from_answering_is_said():
    trials, rollout = Trials(), rollout_of()
    broken = observed("g", error="It does not load.")
    assert evidence(trials, rollout, broken).problem == "It does not load."
    exited = Replica(
        id="x", endpoint="churn", version=V2, slot=0, generation=1, max_batch_rows=64,
        state=ReplicaState.EXITED, started_at=NOW, ready_at=NOW, exited_at=NOW, message="Killed.",
    )  # fmt: skip
    dead = evidence(trials, rollout, observed("g", replicas=[exited]), inline=False)
    assert "Killed." in dead.problem
    assert dead.exits == 1


def test_outcomes_are_told_apart_by_version():
    sums = {("sold", "churn:1"): Moments(n=4, total=1.0), ("sold", "churn:2"): Moments(n=2)}
    found = evidence(Trials(), rollout_of(), observed(), sums=sums)
    assert found.outcomes["sold"].primary.mean == 0.25
    assert found.outcomes["sold"].candidate.n == 2


@given(st.floats(1e-8, 1e11), st.booleans())
def test_a_bucket_holds_what_lies_within_five_per_cent_below_its_edge(size, is_negative):
    value = -size if is_negative else size
    end = edge(bucket_of(value))
    assert abs(value) <= abs(end) * (1 + 1e-9)
    assert abs(end) <= abs(value) * 1.05 * (1 + 1e-9)
    assert (end < 0) == (value < 0)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=50))
def test_any_number_has_a_bucket_and_buckets_keep_the_order(values):
    numbers = sorted(value for value in values if value == value)
    assert [bucket_of(v) for v in numbers] == sorted(bucket_of(v) for v in numbers)
    assert all(isinstance(bucket_of(value), int) for value in values)


def test_a_quantile_is_read_off_the_buckets():
    buckets: dict[int, int] = {}
    for number in range(1, 101):
        bucket = bucket_of(number / 1000)
        buckets[bucket] = buckets.get(bucket, 0) + 1
    assert quantile(buckets, 0.5) is not None
    assert 0.05 <= quantile(buckets, 0.5) <= 0.0525
    assert quantile({}, 0.5) is None


def test_sums_leave_what_they_add_alone_and_keep_the_worst_pairs():
    one = Account(answered=1, labels={"a": 1}, latency={3: 1})
    assert merged([one, one]).labels == {"a": 2}
    assert one.labels == {"a": 1}
    many = Account(labels={str(number): 1 for number in range(MOST_LABELS)})
    assert merged([many, Account(labels={"new": 5})]).labels[OTHER] == 5
    pairs = [
        Pair(distance=float(n), request_id="", inputs={}, primary={}, candidate={})
        for n in range(30)
    ]
    both = merged_pairs([Pairs(worst=pairs[:20]), Pairs(worst=pairs[20:])])
    assert [pair.distance for pair in both.worst] == [float(n) for n in range(29, 9, -1)]
    assert len(both.worst) == MOST_PAIRS
