"""The laws of the plan: bounded, idempotent, convergent, and never taking the last ready replica."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import count

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shipway.core.backoff import CAP_S, pause_s
from shipway.core.capturing import Capture
from shipway.core.endpoints import EndpointSpec, EndpointState, Limits, Phase
from shipway.core.isolation import Sandbox
from shipway.core.observed import Desired, GatewayEvidence, Observed, VariantEvidence, VersionFact
from shipway.core.reconcile import (
    Action,
    Activate,
    FailTarget,
    ForgetReplica,
    KillReplica,
    StartReplica,
    StopReplica,
    plan,
    serving,
    start_failure,
    wanted_versions,
)
from shipway.core.replicas import Replica, ReplicaState, restart_at
from shipway.core.secrets import SecretRef
from shipway.core.versions import VersionRef

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V1, V2, V3 = (VersionRef("churn", number) for number in (1, 2, 3))
replace = msgspec.structs.replace


def state_of(**changes):
    replicas = changes.pop("replicas", 1)
    rows = changes.pop("max_batch_rows", 64)
    spec = EndpointSpec(
        name="churn", model="churn:1", replicas=replicas, limits=Limits(max_batch_rows=rows)
    )
    defaults = {"spec": spec, "generation": 1, "phase": Phase.STARTING}
    return EndpointState(**{**defaults, **changes})


def desired_of(state, *, inline=()):
    facts = {v: VersionFact(inline=v in inline) for v in (V1, V2, V3)}
    return Desired(state=state, facts=facts)


ids = count()


def replica_of(version=V1, state=ReplicaState.READY, **changes):
    defaults = {
        "id": f"r{next(ids)}",
        "endpoint": "churn",
        "version": version,
        "slot": 0,
        "generation": 1,
        "max_batch_rows": 64,
        "state": state,
        "started_at": NOW,
        "ready_at": NOW if state is ReplicaState.READY else None,
    }
    return Replica(**{**defaults, **changes})


def exit_of(version=V1, **changes):
    return replica_of(version, ReplicaState.EXITED, **{"exited_at": NOW, **changes})


def gateway_of(*ready, revision="now", in_flight=(), errors=None):
    keys = {*ready, *in_flight, *(errors or {})}
    return GatewayEvidence(
        id="g",
        revision=revision,
        variants={
            ("churn", str(v)): VariantEvidence(
                ready=v in ready, in_flight=int(v in in_flight), error=(errors or {}).get(v, "")
            )
            for v in keys
        },
    )


def seen(*replicas, gateways=(), settled=True):
    return Observed(
        replicas=tuple(replicas), gateways=tuple(gateways), revision="now", settled=settled
    )


def test_changed_secrets_start_a_new_replica_before_the_old_one_goes():
    token = SecretRef(env="MODEL_TOKEN")
    state = state_of(phase=Phase.LIVE, active=V1)
    spec = replace(state.spec, secrets={"TOKEN": token}, capture=Capture(redact=("x",)))
    state = replace(state, spec=spec)
    for old in (
        replica_of(secrets=(("TOKEN", SecretRef(env="MODEL_OLD")),), redacts=True),
        replica_of(secrets=(("TOKEN", token),), redacts=False),
    ):
        gateway = gateway_of(V1)
        (start,) = plan((desired_of(state),), seen(old, gateways=(gateway,)), NOW)
        assert isinstance(start, StartReplica)
        assert (start.secrets, start.redacts) == ((("TOKEN", token),), True)
        new = replica_of(secrets=start.secrets, redacts=True)
        assert serving(desired_of(state), V1, [old, new]) == (new,)
        (stop,) = plan((desired_of(state),), seen(old, new, gateways=(gateway,)), NOW)
        assert stop == StopReplica(id=old.id)


class World:
    """A machine on which actions take effect, replicas come up, and gateways follow."""

    def __init__(self, state, *, inline=(), replicas=()):
        self.state = state
        self.inline = inline
        self.replicas = {r.id: r for r in replicas}
        self.now = NOW

    def desired(self):
        return () if self.state is None else (desired_of(self.state, inline=self.inline),)

    def observed(self):
        return seen(*self.replicas.values(), gateways=(self.gateway(),))

    def gateway(self):
        callable_now = []
        for one in self.desired():
            for version in wanted_versions(one.state, self.now):
                if version in self.inline or serving(one, version, self.replicas.values()):
                    callable_now.append(version)
        return gateway_of(*callable_now)

    def plan(self):
        return plan(self.desired(), self.observed(), self.now)

    def apply(self, action: Action):
        match action:
            case StartReplica():
                new = replica_of(
                    action.version,
                    ReplicaState.STARTING,
                    slot=action.slot,
                    generation=action.generation,
                    max_batch_rows=action.max_batch_rows,
                    max_batch_delay_ms=action.max_batch_delay_ms,
                    sandbox=action.sandbox,
                    started_at=self.now,
                )
                self.replicas[new.id] = new
            case StopReplica() | ForgetReplica():
                self.replicas.pop(action.id, None)
            case KillReplica():
                self.change(action.id, state=ReplicaState.EXITED, exited_at=self.now)
            case Activate():
                if self.state.generation == action.generation:
                    self.state = replace(
                        self.state,
                        active=self.state.target,
                        previous=self.state.active,
                        target=None,
                        previous_until=self.now + timedelta(seconds=600),
                        phase=Phase.LIVE,
                        generation=action.generation + 1,
                    )
            case FailTarget():
                if self.state.generation == action.generation:
                    self.state = replace(
                        self.state, phase=Phase.FAILED, generation=action.generation + 1
                    )

    def change(self, replica_id, **changes):
        if replica_id in self.replicas:
            self.replicas[replica_id] = replace(self.replicas[replica_id], **changes)

    def come_up(self):
        for one in list(self.replicas.values()):
            if one.state in (ReplicaState.BUILDING, ReplicaState.STARTING):
                self.change(one.id, state=ReplicaState.READY, ready_at=self.now)
            elif one.state is ReplicaState.UNRESPONSIVE:
                self.change(one.id, silent_s=one.silent_s + 1)

    def rounds_until_quiet(self, limit=60):
        """Rounds of plan and apply until no news can come: nothing starts, no pause runs."""
        for number in range(limit):
            actions = self.plan()
            for action in actions:
                self.apply(action)
            before = dict(self.replicas)
            self.come_up()
            if not actions and before == self.replicas:
                self.now += timedelta(seconds=CAP_S)
                if not self.plan():
                    return number
            self.now += timedelta(seconds=1)
        raise AssertionError(f"still planning after {limit} rounds: {self.plan()}")

    def place(self):
        """What matters of where the world stands."""
        running = sorted(
            (str(r.version), r.slot, r.max_batch_rows)
            for r in self.replicas.values()
            if r.is_running
        )
        state = self.state
        names = None if state is None else (state.active, state.previous, state.phase)
        return running, names


versions = st.sampled_from([V1, V2, V3])
replicas_st = st.builds(
    replica_of,
    versions,
    st.sampled_from(list(ReplicaState)),
    slot=st.integers(0, 3),
    generation=st.integers(1, 2),
    max_batch_rows=st.sampled_from([32, 64]),
    exited_at=st.just(NOW - timedelta(seconds=3)),
)


@st.composite
def states(draw):
    active = draw(st.none() | versions)
    phase = draw(st.sampled_from([Phase.STARTING, Phase.FAILED] + [Phase.LIVE] * bool(active)))
    target = draw(versions.filter(lambda v: v != active)) if phase is not Phase.LIVE else None
    return state_of(
        active=active,
        target=target,
        phase=phase,
        previous=draw(st.none() | versions.filter(lambda v: v != active)),
        previous_until=draw(st.sampled_from([None, NOW, NOW + timedelta(hours=1)])),
        replicas=draw(st.integers(1, 3)),
        generation=draw(st.integers(1, 2)),
    )


worlds = st.builds(
    World,
    st.none() | states(),
    inline=st.sets(versions).map(tuple),
    replicas=st.lists(replicas_st, max_size=8),
)


def finish_stopping(world):
    """A replica that was told to stop ends by itself."""
    for one in list(world.replicas.values()):
        if one.state is ReplicaState.STOPPING:
            del world.replicas[one.id]


@given(worlds)
def test_planning_until_empty_ends_in_bounded_rounds(world):
    assert world.rounds_until_quiet() < 60


@given(worlds, st.randoms(use_true_random=False))
@settings(deadline=None)
def test_half_applied_and_replayed_plans_converge_to_the_same_place(world, random):
    straight = World(world.state, inline=world.inline, replicas=world.replicas.values())
    finish_stopping(straight)
    finish_stopping(world)
    straight.rounds_until_quiet()
    for _ in range(3):
        actions = world.plan()
        for action in [a for a in actions if random.random() < 0.5] + [
            a for a in actions if random.random() < 0.3
        ]:
            world.apply(action)
        world.come_up()
        world.now += timedelta(seconds=1)
    world.rounds_until_quiet()
    assert world.place() == straight.place()


@given(worlds)
def test_a_plan_on_its_own_result_without_news_only_moves_on(world):
    """Applied actions are not planned again: none is repeated on what it produced."""
    first = world.plan()
    for action in first:
        world.apply(action)
    second = world.plan()
    for action in second:
        world.apply(action)
    assert not set(first) & set(second)
    changed_state = any(isinstance(a, Activate | FailTarget) for a in (*first, *second))
    assert changed_state or world.plan() == ()


@given(worlds)
def test_active_never_loses_its_last_ready_replica_because_of_a_plan(world):
    for _ in range(12):
        state, inline = world.state, world.inline
        if state is None or state.active is None or state.active in inline:
            return
        ready = {
            r.id
            for r in world.replicas.values()
            if r.version == state.active and r.state is ReplicaState.READY
        }
        for action in world.plan():
            world.apply(action)
            if world.state.active == state.active and ready:
                assert any(
                    world.replicas[i].state is ReplicaState.READY
                    for i in ready & set(world.replicas)
                )
        world.come_up()
        world.now += timedelta(seconds=1)


@given(worlds)
def test_a_full_set_of_replicas_runs_once_planning_is_done(world):
    world.rounds_until_quiet()
    running, _ = world.place()
    if world.state is None:
        assert running == []
        return
    wanted = [v for v in wanted_versions(world.state, world.now) if v not in world.inline]
    spec = world.state.spec
    expected = sorted((str(v), slot, 64) for v in wanted for slot in range(spec.replicas))
    assert running == expected


def test_a_first_deployment_starts_its_replicas_and_waits():
    world = World(state_of(target=V1, replicas=2))
    starts = world.plan()
    assert [(a.version, a.slot) for a in starts] == [(V1, 0), (V1, 1)]


def test_switch_needs_every_replica_and_a_live_gateway():
    state = state_of(active=V1, target=V2, replicas=2)
    one = desired_of(state)
    v1 = [replica_of(V1, slot=0), replica_of(V1, slot=1)]
    half = [*v1, replica_of(V2, slot=0), replica_of(V2, ReplicaState.STARTING, slot=1)]
    full = [*v1, replica_of(V2, slot=0), replica_of(V2, slot=1)]
    switch = (Activate(endpoint="churn", target=V2, generation=1),)
    both = gateway_of(V1, V2)
    assert plan([one], seen(*half, gateways=[both]), NOW) == ()
    assert plan([one], seen(*full), NOW) == ()
    assert plan([one], seen(*full, gateways=[both, gateway_of(V1)]), NOW) == ()
    assert plan([one], seen(*full, gateways=[both, both]), NOW) == switch


@pytest.mark.parametrize(
    ("exits", "fails"),
    [
        ([exit_of(V2)] * 2, False),
        ([exit_of(V2)] * 3, True),
        ([exit_of(V2, generation=0)] * 3, False),
        ([exit_of(V2, code="bundle_corrupt", message="`model.onnx` was changed.")], True),
    ],
)
def test_a_target_fails_after_three_exits_or_one_that_nothing_can_mend(exits, fails):
    numbered = [replace(e, id=f"e{i}") for i, e in enumerate(exits)]
    one = desired_of(state_of(active=V1, target=V2))
    actions = plan([one], seen(replica_of(V1), *numbered), NOW + timedelta(hours=1))
    assert any(isinstance(action, FailTarget) for action in actions) is fails


def test_a_failed_target_carries_the_replicas_own_message_and_active_serves_on():
    corrupt = exit_of(V2, code="bundle_corrupt", message="`model.onnx` was changed.")
    world = World(state_of(active=V1, target=V2), replicas=[replica_of(V1), corrupt])
    actions = world.plan()
    assert (
        FailTarget(endpoint="churn", target=V2, generation=1, message="`model.onnx` was changed.")
        in actions
    )
    world.rounds_until_quiet()
    assert [r for r in world.replicas.values() if r.version == V1 and r.is_running]
    assert corrupt.id in world.replicas, "its log stays readable"


def test_an_inline_target_that_a_gateway_cannot_load_fails_with_its_words():
    one = desired_of(state_of(active=V1, target=V2), inline=(V1, V2))
    gateway = gateway_of(V1, errors={V2: "`onnx/model.onnx` was changed."})
    (failure,) = plan([one], seen(gateways=[gateway]), NOW)
    assert failure == FailTarget(
        endpoint="churn", target=V2, generation=1, message="`onnx/model.onnx` was changed."
    )


def test_a_version_that_is_not_known_yet_is_left_alone():
    one = Desired(state=state_of(target=V1), facts={})
    assert plan([one], seen(), NOW) == ()


def test_an_active_replica_is_restarted_for_ever():
    exits = [exit_of(exited_at=NOW - timedelta(minutes=i), id=f"e{i}") for i in range(8)]
    one = desired_of(state_of(active=V1, phase=Phase.LIVE))
    actions = plan([one], seen(*exits), NOW + timedelta(seconds=CAP_S))
    assert [type(action) for action in actions] == [StartReplica]


@pytest.mark.parametrize(
    ("failures", "pause"),
    [(0, 0.0), (1, 0.5), (2, 1.0), (3, 2.0), (6, 16.0), (7, 30.0), (99, 30.0)],
)
def test_pauses_double_up_to_the_cap(failures, pause):
    assert pause_s(failures) == pause


def test_the_first_restart_of_a_replica_that_was_ready_is_immediate():
    assert restart_at([exit_of(ready_at=NOW)]) == NOW
    assert restart_at([exit_of()]) == NOW + timedelta(seconds=0.5)


def test_replica_that_is_killed_again_and_again_after_it_served_is_restarted_at_once():
    kills = [NOW + timedelta(seconds=10 * n) for n in range(20)]
    exits = [exit_of(ready_at=at - timedelta(seconds=7), exited_at=at) for at in kills]
    for number in range(1, 20):
        assert restart_at(exits[:number]) == kills[number - 1]
    assert restart_at([]) is None


def test_a_stable_replica_ends_the_row_of_failures():
    early = [exit_of(exited_at=NOW - timedelta(minutes=5)) for _ in range(4)]
    stable = exit_of(ready_at=NOW - timedelta(seconds=31))
    assert restart_at([*early, stable]) == NOW
    brief = exit_of(ready_at=NOW - timedelta(seconds=1))
    assert restart_at([*early, brief]) == NOW + timedelta(seconds=4)


@pytest.mark.parametrize(
    ("replica", "hung"),
    [
        (replica_of(state=ReplicaState.UNRESPONSIVE, silent_s=2.0), False),
        (replica_of(state=ReplicaState.UNRESPONSIVE, silent_s=3.0), True),
        (replica_of(busy_s=34.0), False),
        (replica_of(busy_s=36.0), True),
        (replica_of(state=ReplicaState.STARTING, started_at=NOW - timedelta(seconds=599)), False),
        (replica_of(state=ReplicaState.STARTING, started_at=NOW - timedelta(seconds=601)), True),
        (replica_of(state=ReplicaState.BUILDING, started_at=NOW - timedelta(hours=1)), False),
    ],
)
def test_a_hung_replica_is_killed_and_its_slot_filled(replica, hung):
    one = desired_of(state_of(active=V1, phase=Phase.LIVE))
    actions = plan([one], seen(replica), NOW)
    kinds = [type(action) for action in actions]
    assert kinds == ([KillReplica, StartReplica] if hung else [])


def test_a_removed_variant_runs_until_no_gateway_has_a_request_in_it():
    one = desired_of(state_of(active=V2, phase=Phase.LIVE))
    v2, v1 = replica_of(V2), replica_of(V1)
    stop = (StopReplica(id=v1.id),)

    def planned(*gateways, settled=True):
        return plan([one], seen(v2, v1, gateways=gateways, settled=settled), NOW)

    assert planned(gateway_of(V2, in_flight=[V1])) == ()
    assert planned(gateway_of(V2, revision="old")) == ()
    assert planned(gateway_of(V2), gateway_of(V2, revision="old")) == ()
    assert planned(settled=False) == ()
    assert planned(gateway_of(V2)) == stop
    assert planned() == stop


def test_the_previous_version_is_kept_until_its_time():
    until = NOW + timedelta(minutes=10)
    one = desired_of(state_of(active=V2, previous=V1, previous_until=until, phase=Phase.LIVE))
    both = [replica_of(V2), replica_of(V1)]
    assert plan([one], seen(*both), NOW) == ()
    assert plan([one], seen(*both), until) == (StopReplica(id=both[1].id),)


def test_a_changed_batch_size_replaces_a_replica_only_after_its_successor_is_ready():
    one = desired_of(state_of(active=V1, phase=Phase.LIVE, max_batch_rows=8))
    old = replica_of(V1)
    (start,) = plan([one], seen(old), NOW)
    assert (start.slot, start.max_batch_rows) == (0, 8)
    new = replica_of(V1, ReplicaState.STARTING, max_batch_rows=8)
    assert plan([one], seen(old, new), NOW) == ()
    assert serving(one, V1, [old, new]) == (old,)
    new = replace(new, state=ReplicaState.READY)
    assert serving(one, V1, [old, new]) == (new,)
    assert plan([one], seen(old, new), NOW) == (StopReplica(id=old.id),)


def test_a_changed_batch_delay_replaces_replicas_too():
    state = state_of(active=V1, phase=Phase.LIVE)
    limits = replace(state.spec.limits, max_batch_delay_ms=1.0)
    one = desired_of(replace(state, spec=replace(state.spec, limits=limits)))
    old = replica_of(V1)
    (start,) = plan([one], seen(old), NOW)
    assert (start.slot, start.max_batch_delay_ms) == (0, 1.0)
    new = replica_of(V1, max_batch_delay_ms=1.0)
    assert plan([one], seen(old, new), NOW) == (StopReplica(id=old.id),)


def test_scaling_down_waits_for_the_slots_that_stay():
    one = desired_of(state_of(active=V1, phase=Phase.LIVE, replicas=1))
    extra = replica_of(V1, slot=1)
    starting = replica_of(V1, ReplicaState.STARTING, slot=0)
    assert plan([one], seen(starting, extra), NOW) == ()
    ready = replace(starting, state=ReplicaState.READY)
    assert plan([one], seen(ready, extra), NOW) == (StopReplica(id=extra.id),)


def test_old_exits_are_forgotten():
    exits = [exit_of(exited_at=NOW - timedelta(minutes=i), id=f"old{i}") for i in range(10)]
    one = desired_of(state_of(active=V1, phase=Phase.LIVE))
    actions = plan([one], seen(replica_of(V1), *exits), NOW)
    assert actions == (ForgetReplica(id="old8"), ForgetReplica(id="old9"))


def test_a_restart_is_not_held_up_by_a_clock_that_was_set_back():
    one = desired_of(state_of(active=V1))
    exited = [exit_of(V1, started_at=NOW, exited_at=NOW) for _ in range(3)]
    for before in (timedelta(hours=1), timedelta(days=400)):
        (start,) = plan([one], seen(*exited), NOW - before)
        assert isinstance(start, StartReplica)
    assert plan([one], seen(*exited), NOW) == ()


def test_no_active_version_is_replaced_before_every_gateway_had_its_say():
    state = state_of(active=V1, target=V2)
    both = [replica_of(V1), replica_of(V2)]
    world = {"gateways": [gateway_of(V1, V2)]}
    assert plan([desired_of(state)], seen(*both, **world, settled=False), NOW) == ()
    assert plan([desired_of(state)], seen(*both, **world), NOW) != ()
    first = state_of(target=V2)
    assert plan([desired_of(first)], seen(replica_of(V2), **world, settled=False), NOW) != ()


counts_st = st.dictionaries(versions, st.integers(0, 3))


class CountedWorld(World):
    """A world in which versions have counts of their own, some of them none."""

    counts: dict

    def desired(self):
        return [replace(one, counts=self.counts) for one in super().desired()]


def counted(world, counts):
    made = CountedWorld(world.state, inline=world.inline, replicas=world.replicas.values())
    target = None if world.state is None else world.state.target
    made.counts = {v: max(n, 1) if v == target else n for v, n in counts.items()}
    return made


@given(worlds, counts_st)
def test_every_version_comes_to_have_as_many_replicas_as_it_should(world, counts):
    finish_stopping(world)
    made = counted(world, counts)
    made.rounds_until_quiet()
    for one in made.desired():
        for version in wanted_versions(one.state, made.now):
            mine = [r for r in made.replicas.values() if r.version == version and r.is_running]
            wanted = 0 if version in made.inline else one.count_of(version)
            assert len(mine) == wanted


def test_a_version_that_sleeps_loses_its_replicas_only_when_nobody_is_inside():
    one = replace(desired_of(state_of(active=V1, phase=Phase.LIVE)), counts={V1: 0})
    asleep = replica_of(id="r")
    assert serving(one, V1, [asleep]) == ()
    inside = gateway_of(V1, in_flight=(V1,))
    assert plan([one], seen(asleep, gateways=(inside,)), NOW) == ()
    old = gateway_of(V1, revision="old")
    assert plan([one], seen(asleep, gateways=(old,)), NOW) == ()
    assert plan([one], seen(asleep, gateways=(gateway_of(V1),)), NOW) == (StopReplica(id="r"),)


def test_a_held_request_is_inside_no_replica():
    one = replace(desired_of(state_of(active=V1, phase=Phase.LIVE)), counts={V1: 0})
    held = VariantEvidence(ready=True, in_flight=2, held=2)
    gateway = GatewayEvidence(id="g", revision="now", variants={("churn", str(V1)): held})
    seen_now = seen(replica_of(id="r"), gateways=(gateway,))
    assert plan([one], seen_now, NOW) == (StopReplica(id="r"),)


def test_a_version_that_waits_for_memory_is_not_started():
    one = replace(desired_of(state_of(active=V1, phase=Phase.LIVE)), waiting={V1: ""})
    assert plan([one], seen(gateways=(gateway_of(),)), NOW) == ()


@pytest.mark.parametrize(
    ("exits", "reason"),
    [
        ([], ""),
        ([exit_of(message="no")] * 2, ""),
        ([exit_of(message="no")] * 3, "no"),
        ([exit_of(message="torn", code="bundle_corrupt")], "torn"),
        ([exit_of(message="no")] * 3 + [replica_of()], ""),
        (
            [exit_of(exited_at=NOW - timedelta(seconds=9))] * 2
            + [exit_of(ready_at=NOW, exited_at=NOW - timedelta(seconds=5)), exit_of()],
            "",
        ),
    ],
)
def test_callers_who_wait_are_told_once_a_replica_has_failed_as_often_as_a_target_may(
    exits, reason
):
    one = desired_of(state_of(active=V1, phase=Phase.LIVE))
    assert start_failure(one, V1, exits) == reason


def test_a_changed_sandbox_replaces_the_replicas_that_have_the_old_one():
    old = replica_of(V1, ReplicaState.READY)
    state = state_of(phase=Phase.LIVE, active=V1)
    spec = replace(state.spec, sandbox=Sandbox(network=True))
    observed = Observed(replicas=(old,), gateways=(gateway_of(V1),), revision="now", settled=True)
    (start,) = plan([desired_of(replace(state, spec=spec))], observed, NOW)
    assert isinstance(start, StartReplica)
    assert start.sandbox == Sandbox(network=True)
    assert plan([desired_of(state)], observed, NOW) == ()
