"""The laws of rollouts: weights sum to 100, abort works from everywhere, what is unmeasured never promotes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from shipway.core.changes import described
from shipway.core.deployments import (
    Order,
    accepted,
    activated,
    failed,
    follows,
    released,
    rolled_back,
    stepped,
    superseded,
)
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import ConflictError, RolloutNotPossible, RolloutUnderWay
from shipway.core.evidence import Account, Evidence, Pairs, TrialReport
from shipway.core.guards import Verdict
from shipway.core.positions import positions
from shipway.core.reconcile import wanted_versions
from shipway.core.rollouts import (
    TRANSITIONS,
    UNDER_WAY,
    Decision,
    Event,
    Rollout,
    RolloutPhase,
    begun,
    decide,
    findings_of,
    moved,
)
from shipway.core.strategies import (
    Ab,
    BlueGreen,
    Canary,
    Conflict,
    Guards,
    MetricGuard,
    RolloutPlan,
    Shadow,
    Step,
)
from shipway.core.versions import VersionRef
from shipway.wire.specs import spec_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = [VersionRef("churn", number) for number in (1, 2, 3)]
V1, V2, V3 = VERSIONS
replace = msgspec.structs.replace

stages = st.lists(
    st.sampled_from(
        [
            Canary(hold_s=5),
            Canary(steps=(1, Step(weight_pct=50, pause=True), 99), hold_s=0),
            Shadow(hold_s=3),
            Shadow(share_pct=50, pause=True),
            Ab(metric="sold", max_s=60),
        ]
    ),
    max_size=2,
)
plans = st.builds(
    lambda some, last, conflict: RolloutPlan(stages=(*some, *last), on_conflict=conflict),
    stages,
    st.sampled_from([(), (BlueGreen(bake_s=4),)]),
    st.sampled_from(list(Conflict)),
)
counts = st.integers(0, 5000)
accounts = st.builds(
    Account,
    answered=counts,
    failed=st.integers(0, 200),
    rejected=st.integers(0, 50),
    latency=st.dictionaries(st.integers(1, 400), st.integers(1, 2000), max_size=5),
    labels=st.dictionaries(st.sampled_from("abc"), st.integers(1, 2000), max_size=3),
)


@st.composite
def evidence_of(draw, rollout):
    step = TrialReport(
        rollout=rollout.id,
        epoch=rollout.epoch,
        primary=draw(accounts),
        candidate=draw(accounts),
        pairs=Pairs(compared=(n := draw(counts)), agreed=draw(st.integers(0, n))),
    )
    return Evidence(
        step=step,
        elapsed_s=draw(st.sampled_from([0.0, 1.0, 10.0, 100.0, 1e5])),
        exits=draw(st.integers(0, 3)),
        gateways=draw(st.integers(0, 1)),
    )


def order(number=0, **fields):
    return Order(id=f"r{number}", actor="ada", now=NOW, **fields)


def live(plan=None, **fields):
    spec = EndpointSpec(name="churn", model="churn:1", rollout=plan)
    return EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=V1, **fields)


def rolling(plan, *, target=V2):
    """An endpoint whose rollout has begun."""
    before = live(plan)
    spec = replace(before.spec, model=str(target))
    return released(accepted(before, spec, target, inline=False, order=order()), NOW)


class Endpoint(RuleBasedStateMachine):
    """Everything that can happen to an endpoint, in any order."""

    @initialize(plan=plans)
    def start(self, plan):
        self.number = 0
        self.now = NOW
        self.state = live(plan)

    @rule(
        version=st.sampled_from(VERSIONS), plan=st.one_of(st.none(), plans), supersede=st.booleans()
    )
    def deploy(self, version, plan, supersede):
        self.number += 1
        spec = replace(self.state.spec, model=str(version), rollout=plan)
        wish = Order(id=f"r{self.number}", actor="ada", now=self.now, supersedes=supersede)
        try:
            self.move(accepted(self.state, spec, version, inline=False, order=wish))
        except RolloutUnderWay:
            assert self.state.under_way is not None
            assert not supersede

    @precondition(lambda self: self.state.phase is Phase.STARTING)
    @rule()
    def candidate_is_ready(self):
        if self.state.under_way is None:
            self.move(activated(self.state, self.now))
        else:
            self.move(released(self.state, self.now))

    @precondition(lambda self: self.state.phase is Phase.STARTING)
    @rule()
    def candidate_does_not_start(self):
        self.move(failed(self.state, "It does not load.", self.now))

    @precondition(lambda self: self.state.releasing is not None)
    @rule(data=st.data())
    def gateways_report(self, data):
        rollout = self.state.releasing
        evidence = data.draw(evidence_of(rollout))
        decision = decide(rollout, evidence)
        if decision is None:
            return
        if evidence.gateways == 0 and rollout.position.is_observed:
            assert decision.event not in (Event.ADVANCE, Event.FINISH)
        self.move(stepped(self.state, decision, self.now))
        following = self.state.releasing
        if following is not None and decision.event is Event.ADVANCE:
            empty = TrialReport(
                rollout=following.id,
                epoch=following.epoch,
                primary=Account(),
                candidate=Account(),
            )
            # Without news the next step may only be left where it waits for nothing.
            again = decide(following, Evidence(step=empty, elapsed_s=0.0))
            assert again is None or not following.position.is_observed

    @rule(event=st.sampled_from([Event.PAUSE, Event.RESUME, Event.PROMOTE, Event.ABORT]))
    def a_person_decides(self, event):
        try:
            self.move(stepped(self.state, Decision(event=event, message="By hand."), self.now))
        except RolloutNotPossible:
            rollout = self.state.rollout
            assert rollout is None or (rollout.phase, event) not in TRANSITIONS

    @rule(is_warm=st.booleans())
    def a_person_rolls_back(self, is_warm):
        try:
            self.move(rolled_back(self.state, self.now, is_warm=is_warm))
        except ConflictError:
            assert self.state.previous is None

    @rule(seconds=st.integers(-100, 1000))
    def time_passes(self, seconds):
        self.now += timedelta(seconds=seconds)

    def move(self, after):
        before, self.state = self.state, after
        if after is not before:
            assert after.generation > before.generation
        gone = superseded(before, after, self.now)
        if gone is not None:
            assert gone.phase is RolloutPhase.SUPERSEDED
        described(before, after)
        encoded = msgspec.json.encode(after)
        assert msgspec.json.decode(encoded, type=EndpointState) == after

    @invariant()
    def weights_sum_to_100_over_versions_that_are_kept_ready(self):
        weights = self.state.weights()
        assert sum(weights.values()) == 100
        assert set(weights) <= set(wanted_versions(self.state, self.now))

    @invariant()
    def what_served_before_stays_ready_until_the_change_has_ended(self):
        assert self.state.active in wanted_versions(self.state, self.now)
        rollout = self.state.under_way
        if rollout is not None:
            assert (rollout.primary, rollout.candidate) == (self.state.active, self.state.target)
            assert self.state.phase in (Phase.STARTING, Phase.RELEASING)
        else:
            assert self.state.phase is not Phase.RELEASING

    @invariant()
    def abort_works_from_every_state(self):
        if self.state.under_way is None:
            return
        after = rolled_back(self.state, self.now, is_warm=False)
        assert (after.phase, after.active, after.target) == (Phase.LIVE, self.state.active, None)
        assert after.weights() == {self.state.active: 100}
        assert after.under_way is None
        assert after.rollout.ended_at is not None


TestEndpoint = Endpoint.TestCase
TestEndpoint.settings = settings(max_examples=150, stateful_step_count=25, deadline=None)


@given(plans.filter(positions), st.data())
def test_decide_reads_the_same_from_the_same(plan, data):
    rollout = rolling(plan).rollout
    evidence = data.draw(evidence_of(rollout))
    assert decide(rollout, evidence) == decide(rollout, evidence)


@given(plans.filter(positions), st.data())
def test_a_rollout_that_has_ended_moves_no_more(plan, data):
    rollout = rolling(plan).rollout
    for event in (Event.PROMOTE, Event.ABORT, Event.FAIL, Event.SUPERSEDE):
        ended = moved(rollout, Decision(event=event, message=""), NOW)
        assert decide(ended, data.draw(evidence_of(ended))) is None
        for other in Event:
            with pytest.raises(RolloutNotPossible):
                moved(ended, Decision(event=other, message=""), NOW)


def test_the_table_leads_out_of_every_phase_that_is_under_way_by_a_persons_word():
    for phase in UNDER_WAY:
        assert TRANSITIONS[phase, Event.ABORT] is RolloutPhase.ABORTED
        assert TRANSITIONS[phase, Event.SUPERSEDE] is RolloutPhase.SUPERSEDED
    assert {phase for phase, _ in TRANSITIONS} == UNDER_WAY


@pytest.mark.parametrize("stage", [Canary(), Shadow(), Ab(metric="sold"), BlueGreen()])
def test_what_no_gateway_has_seen_is_never_promoted(stage):
    state = rolling(RolloutPlan(stages=(stage,), patience_s=10))
    rollout = state.rollout
    if isinstance(stage, BlueGreen):
        state = stepped(state, Decision(event=Event.ADVANCE, message=""), NOW)
        rollout = state.rollout
    empty = TrialReport(
        rollout=rollout.id, epoch=rollout.epoch, primary=Account(), candidate=Account()
    )
    for elapsed_s in (0.0, 60.0, 400.0, 1e4, 1e7):
        evidence = Evidence(step=empty, elapsed_s=elapsed_s, gateways=0, expected=1)
        decision = decide(rollout, evidence)
        assert decision is None or decision.event in (Event.PAUSE, Event.FAIL)


def test_a_required_metric_without_outcomes_holds_the_rollout_and_pauses_it_at_last():
    guards = Guards(
        error_rate=None, latency=None, shift=None, rejections=None, min_requests=1,
        metrics=(MetricGuard(metric="accuracy"),),
    )  # fmt: skip
    plan = RolloutPlan(stages=(Canary(steps=(50,), hold_s=1),), guards=guards, patience_s=100)
    rollout = rolling(plan).rollout
    seen = TrialReport(
        rollout=rollout.id,
        epoch=rollout.epoch,
        primary=Account(answered=9000),
        candidate=Account(answered=9000),
    )
    assert decide(rollout, Evidence(step=seen, elapsed_s=50)) is None
    decision = decide(rollout, Evidence(step=seen, elapsed_s=102))
    assert decision.event is Event.PAUSE
    assert Verdict.INCONCLUSIVE in {one.verdict for one in decision.findings}


def test_a_manual_gate_waits_for_a_person_and_then_goes_on():
    plan = RolloutPlan(
        stages=(Canary(steps=(Step(weight_pct=20, pause=True), 40), hold_s=1),),
        guards=Guards(error_rate=None, latency=None, shift=None, rejections=None, min_requests=1),
    )
    rollout = rolling(plan).rollout
    seen = TrialReport(
        rollout=rollout.id,
        epoch=rollout.epoch,
        primary=Account(answered=900),
        candidate=Account(answered=900),
    )
    evidence = Evidence(step=seen, elapsed_s=2)
    gate = decide(rollout, evidence)
    assert gate.event is Event.PAUSE
    paused = moved(rollout, gate, NOW)
    assert decide(paused, evidence) is None
    resumed = moved(paused, Decision(event=Event.RESUME, message=""), NOW)
    assert decide(resumed, evidence).event is Event.ADVANCE


def test_guards_watch_while_a_rollout_is_paused():
    rollout = rolling(RolloutPlan()).rollout
    paused = moved(rollout, Decision(event=Event.PAUSE, message=""), NOW)
    seen = TrialReport(
        rollout=rollout.id, epoch=rollout.epoch, primary=Account(), candidate=Account()
    )
    decision = decide(paused, Evidence(step=seen, elapsed_s=1, exits=9))
    assert decision.event is Event.FAIL
    assert "crashes" in decision.message


def test_an_alias_that_still_points_at_what_was_given_up_starts_nothing():
    state = rolling(RolloutPlan())
    state = replace(state, spec=replace(state.spec, model="churn@champion"))
    back = stepped(state, Decision(event=Event.FAIL, message="It is slow."), NOW)
    assert back.spec.model == "churn@champion"
    assert not follows(back, V2)
    assert follows(back, V3)
    again = accepted(back, back.spec, V2, inline=False, order=order(1))
    assert again is back


def test_a_second_rollout_is_refused_or_supersedes_as_asked():
    state = rolling(RolloutPlan())
    spec = replace(state.spec, model="churn:3")
    with pytest.raises(RolloutUnderWay, match="churn:2"):
        accepted(state, spec, V3, inline=False, order=order(1))
    for wish, wanted in (
        (order(1, supersedes=True), spec),
        (order(1), replace(spec, rollout=RolloutPlan(on_conflict=Conflict.SUPERSEDE))),
    ):
        after = accepted(state, wanted, V3, inline=False, order=wish)
        assert (after.phase, after.target, after.rollout.id) == (Phase.STARTING, V3, "r1")
        assert superseded(state, after, NOW).phase is RolloutPhase.SUPERSEDED


@pytest.mark.parametrize(
    ("rollout", "words"),
    [
        ({"stages": [{"strategy": "canary", "steps": [50, 10]}]}, "larger"),
        ({"stages": [{"strategy": "blue_green"}, {"strategy": "shadow"}]}, "last stage"),
        ({"stages": [{"strategy": "canry"}]}, "canry"),
        ({"stages": [{"strategy": "canary", "step": [1]}]}, "step"),
        ({"guards": {"latncy": {}}}, "latency"),
        ({"stages": [{"strategy": "ab", "metric": ""}]}, "metric"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_with_what_to_do(rollout, words):
    with pytest.raises(Exception, match=words):
        spec_of({"name": "churn", "model": "churn:1", "rollout": rollout})


def test_a_plan_without_steps_switches_at_once():
    plan = RolloutPlan(stages=())
    before = live(plan)
    after = accepted(before, replace(before.spec, model="churn:2"), V2, inline=False, order=order())
    assert after.under_way is None
    assert activated(after, NOW).weights() == {V2: 100}


def test_history_is_bounded():
    rollout = rolling(RolloutPlan()).rollout
    for _ in range(300):
        rollout = moved(rollout, Decision(event=Event.PAUSE, message=""), NOW)
        rollout = moved(rollout, Decision(event=Event.RESUME, message=""), NOW)
    assert len(rollout.history) == 200


def test_findings_of_a_preview_say_what_keeps_the_copy_from_answering():
    plan = RolloutPlan(stages=(BlueGreen(),))
    rollout = begun(plan, V1, V2, id="r", place=("dev", "churn"), actor="ada", now=NOW)
    rollout = moved(rollout, Decision(event=Event.READY, message=""), NOW)
    assert isinstance(rollout, Rollout)
    empty = TrialReport(rollout="r", epoch=1, primary=Account(), candidate=Account())
    broken = Evidence(step=empty, elapsed_s=500.0, problem="No replica is ready.")
    assert "No replica" in findings_of(rollout, broken)[0].message
    assert decide(rollout, broken) is None
