"""The changes of an endpoint's state, and the snapshots compiled from them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.control.gateways import STALE_S, Gateways
from shipway.control.local_versions import LocalVersion
from shipway.control.snapshots import compiled
from shipway.control.views import Seen, desired_of, endpoint_view
from shipway.core.bundles import Feed, Format, OnnxForm, Served
from shipway.core.changes import described
from shipway.core.deployments import Order, activated, rolled_back
from shipway.core.deployments import accepted as accepted_by
from shipway.core.deployments import failed as failed_at
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase, Placement
from shipway.core.errors import InvalidSpec, NothingToRollBack
from shipway.core.failures import LastWord, last_word
from shipway.core.observed import Observed
from shipway.core.registry import VersionRecord
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.strategies import Canary, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.testing.bundles import manifest_of
from shipway.wire.snapshot import OPEN, GatewayReport, VariantReport
from shipway.wire.specs import spec_of as parsed_spec

NOW = datetime(2026, 1, 1, tzinfo=UTC)
V1, V2, V3 = VERSIONS = [VersionRef("churn", number) for number in (1, 2, 3)]
ONNX = OnnxForm(
    path="onnx/model.onnx",
    feeds=(Feed(graph_input="x", dtype="FP64", columns=("x",)),),
    outputs={"y": "y"},
)


def accepted(before, spec, version, *, inline):
    return accepted_by(
        before, spec, version, inline=inline, order=Order(id="r", actor="a", now=NOW)
    )


def failed(state, message):
    return failed_at(state, message, NOW)


def spec_of(model="churn:1", **fields):
    return EndpointSpec(name="churn", model=model, environment="dev", **fields)


def live(active=V1, previous=None, **fields):
    return EndpointState(
        spec=spec_of(str(active)), generation=5, phase=Phase.LIVE, active=active, previous=previous,
        **fields,
    )  # fmt: skip


def manifest(size=10, *, served=Served.ONNX):
    files = {"model/model.bin": b"x", "onnx/model.onnx": b"y"}
    made = manifest_of(files, served=served, onnx=ONNX, format=Format.SKLEARN)
    big = tuple(
        msgspec.structs.replace(f, size_bytes=size) if f.path.startswith("onnx/") else f
        for f in made.content.files
    )
    return msgspec.structs.replace(made, content=msgspec.structs.replace(made.content, files=big))


def test_a_new_endpoint_starts_its_first_version():
    state = accepted(None, spec_of(), V1, inline=True)
    assert (state.generation, state.phase, state.target, state.active) == (
        1,
        Phase.STARTING,
        V1,
        None,
    )
    assert described(None, state) == ("create endpoint `churn` in `dev`", "start churn:1")


def test_accepting_what_is_already_so_changes_nothing():
    before = live()
    assert accepted(before, before.spec, V1, inline=False) is before
    starting = accepted(before, spec_of("churn:2"), V2, inline=False)
    assert accepted(starting, starting.spec, V2, inline=False) is starting


def test_another_spec_never_moves_a_version_that_serves():
    before = live(inline=(V1,))
    after = accepted(before, spec_of(placement=Placement.PROCESS, replicas=2), V1, inline=False)
    assert after.inline == (V1,)
    assert described(before, after) == (
        "replicas: 1 -> 2 (churn:1 runs in the gateways, which need none)",
        "placement: auto -> process (from the next version on; churn:1 stays where it is)",
    )
    next_one = accepted(before, spec_of("churn:2", placement=Placement.PROCESS), V2, inline=False)
    assert (next_one.active, next_one.inline) == (V1, (V1,))


def test_deploying_the_active_version_gives_up_the_target():
    starting = accepted(live(), spec_of("churn:2"), V2, inline=False)
    back = accepted(starting, spec_of("churn:1"), V1, inline=False)
    assert (back.phase, back.active, back.target) == (Phase.LIVE, V1, None)
    assert "give up churn:2; churn:1 serves on" in described(starting, back)


def test_a_plan_is_told_step_by_step_before_it_begins():
    plan = RolloutPlan(stages=(Canary(steps=(5, 50), hold_s=9),), success="fewer alarms")
    before = live()
    after = accepted(before, spec_of("churn:2", rollout=plan), V2, inline=False)
    said = described(before, after)
    assert said[:3] == (
        "start churn:2 to replace churn:1",
        "then canary 5 %, 9 s",
        "then canary 50 %, 9 s",
    )
    assert said[3].startswith("rolled back by: error_rate")
    assert said[4] == "success: fewer alarms"
    other = accepted_by(
        after,
        after.spec,
        V3,
        inline=False,
        order=Order(id="s", actor="a", now=NOW, supersedes=True),
    )
    assert described(after, other)[0] == "give up the rollout of churn:2"


def test_a_failed_target_may_be_tried_again():
    starting = accepted(live(), spec_of("churn:2"), V2, inline=False)
    given_up = failed(starting, "It does not load.")
    assert (given_up.phase, given_up.active, given_up.message) == (
        Phase.FAILED, V1, "It does not load.",
    )  # fmt: skip
    again = accepted(given_up, given_up.spec, V2, inline=False)
    assert (again.phase, again.message) == (Phase.STARTING, "")
    assert again.generation > given_up.generation


def test_activation_keeps_what_it_replaced_warm():
    starting = accepted(live(), spec_of("churn:2", warm_s=60), V2, inline=True)
    after = activated(starting, NOW)
    assert (after.active, after.target, after.previous) == (V2, None, V1)
    assert after.previous_until == NOW + timedelta(seconds=60)


def test_rollback_swaps_a_warm_version_at_once():
    after = rolled_back(live(V2, V1), NOW, is_warm=True)
    assert (after.phase, after.active, after.previous) == (Phase.LIVE, V1, V2)
    assert after.previous_until == NOW + timedelta(seconds=600)
    assert after.spec.model == "churn:1"


def test_rollback_deploys_a_cold_version():
    after = rolled_back(live(V2, V1, inline=(V1,)), NOW, is_warm=False)
    assert (after.phase, after.active, after.target) == (Phase.STARTING, V2, V1)
    assert after.inline == (V1,)


def test_rollback_during_a_change_gives_the_change_up():
    starting = accepted(live(V1, V3), spec_of("churn:2"), V2, inline=False)
    after = rolled_back(starting, NOW, is_warm=False)
    assert (after.phase, after.active, after.target) == (Phase.LIVE, V1, None)


@pytest.mark.parametrize("state", [live(), accepted(None, spec_of(), V1, inline=False)])
def test_there_is_nothing_to_roll_back_to_without_an_earlier_version(state):
    with pytest.raises(NothingToRollBack):
        rolled_back(state, NOW, is_warm=True)


moves = st.lists(
    st.one_of(
        st.tuples(st.just("deploy"), st.sampled_from(VERSIONS), st.booleans()),
        st.tuples(st.sampled_from(["activate", "fail", "roll back", "roll back cold"])),
    ),
    max_size=12,
)


def run(moves):
    """The states that a sequence of moves goes through; impossible moves are skipped."""
    state, now = None, NOW
    for move in moves:
        now += timedelta(seconds=30)
        match move:
            case ("deploy", version, inline):
                state = accepted(state, spec_of(str(version)), version, inline=inline)
            case ("activate",) if state is not None and state.phase is Phase.STARTING:
                state = activated(state, now)
            case ("fail",) if state is not None and state.phase is Phase.STARTING:
                state = failed(state, "It failed.")
            case ("roll back",) | ("roll back cold",) if state is not None:
                try:
                    state = rolled_back(state, now, is_warm=move[0] == "roll back")
                except NothingToRollBack:
                    continue
            case _:
                continue
        yield state, now


def local_of(version):
    record = VersionRecord(
        model=version.model, number=version.number, digest=f"sha256:{version.number}",
        format=Format.SKLEARN, served=Served.ONNX, size_bytes=1, created_at=NOW, created_by="me",
        manifest=manifest(), manifest_sha256="",
    )  # fmt: skip
    return LocalVersion(record=record, bundle_dir=Path("/bundle"))


LOCAL = {version: local_of(version) for version in VERSIONS}


@given(moves)
def test_generations_grow_and_a_serving_version_is_never_lost(moves):
    before = None
    for state, _ in run(moves):
        if before is not None:
            assert state is before or state.generation == before.generation + 1
            assert before.active is None or state.active is not None
        assert state.phase is not Phase.LIVE or state.active is not None
        assert state.target is None or state.target != state.active
        before = state


@given(moves, st.sets(st.sampled_from(VERSIONS)))
def test_weights_sum_to_100_whenever_a_version_is_active(moves, ready):
    replicas = [replica_of(version) for version in ready]
    for state, now in run(moves):
        one = desired_of(state, LOCAL)
        snapshot = compiled([one], LOCAL, replicas, now, published=None, access=OPEN)
        (route,) = snapshot.routes
        expected = 100 if state.active is not None else 0
        assert sum(variant.weight_pct for variant in route.variants) == expected
        assert len({variant.key for variant in route.variants}) == len(route.variants)
        assert endpoint_view(state, seen_of(replicas, now)).active == (
            str(state.active) if state.active else None
        )


def replica_of(version):
    return Replica(
        id=f"r{version.number}", endpoint="churn", version=version, slot=0, generation=1,
        max_batch_rows=64, state=ReplicaState.READY, started_at=NOW, address="unix:/r",
    )  # fmt: skip


def seen_of(replicas, now):
    observed = Observed(replicas=tuple(replicas), gateways=(), revision="")
    return Seen(observed=observed, gateways=(), local=LOCAL, at=now)


def test_an_active_version_that_is_not_known_yet_keeps_its_published_route():
    one = desired_of(live(), LOCAL)
    assert compiled([one], {}, [], NOW, published=None, access=OPEN) is None
    before = compiled([one], LOCAL, [replica_of(V1)], NOW, published=None, access=OPEN)
    assert compiled([one], {}, [], NOW, published=before, access=OPEN) == before
    elsewhere = desired_of(msgspec.structs.replace(live(), active=V2), LOCAL)
    assert compiled([elsewhere], {}, [], NOW, published=before, access=OPEN) is None


def test_a_starting_endpoint_says_what_it_waits_for():
    state = accepted(None, spec_of(), V1, inline=False)
    assert endpoint_view(state, seen_of([], NOW)).message == (
        "Starting churn:1: 0 of 1 replicas are ready."
    )
    assert endpoint_view(state, seen_of([replica_of(V1)], NOW)).message == (
        "Waiting for a gateway: none has reported."
    )
    building = msgspec.structs.replace(
        replica_of(V1), state=ReplicaState.BUILDING, message="Installed 3 packages"
    )
    assert endpoint_view(state, seen_of([building], NOW)).message == (
        "Building the environment of churn:1. Installed 3 packages"
    )


def report_of(gateway="g", in_flight=0):
    variant = VariantReport(endpoint="churn", variant="churn:1", ready=True, in_flight=in_flight)
    return GatewayReport(gateway=gateway, revision="r", variants=(variant,))


def test_a_silent_gateway_counts_as_gone():
    gateways = Gateways(started_s=0.0)
    gateways.note(report_of(), NOW, steady_s=1.0)
    assert len(gateways.evidence(1.0 + STALE_S - 0.1)) == 1
    assert gateways.evidence(1.0 + STALE_S) == ()


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=1)])
def test_a_corrected_wall_clock_neither_silences_a_gateway_nor_keeps_a_dead_one(jump):
    gateways = Gateways(started_s=0.0)
    gateways.note(report_of("live"), NOW, steady_s=1.0)
    gateways.note(report_of("dead"), NOW, steady_s=1.0)
    gateways.note(report_of("live"), NOW + jump, steady_s=1.0 + STALE_S)
    assert [seen.report.gateway for seen in gateways.live(1.0 + STALE_S)] == ["live"]


def test_only_news_of_a_gateway_is_news():
    gateways = Gateways(started_s=0.0)
    assert gateways.note(report_of(), NOW, steady_s=0.0)
    assert not gateways.note(report_of(), NOW, steady_s=0.0)
    assert gateways.note(report_of(in_flight=1), NOW, steady_s=0.0)
    assert not gateways.note(report_of(in_flight=2), NOW, steady_s=0.0)


def test_every_live_gateway_has_had_its_say_after_the_stale_time():
    gateways = Gateways(started_s=0.0)
    assert not gateways.is_settled(0.0)
    assert gateways.is_settled(STALE_S)


def test_the_last_word_is_found_among_other_lines():
    log = 'Traceback\n{"not": "it"}\n{"error": "bundle_corrupt", "message": "`a` was changed."}\nbye\n'
    assert last_word(log) == LastWord(error="bundle_corrupt", message="`a` was changed.")
    assert last_word(log).as_error().code == "bundle_corrupt"
    assert last_word("nothing\n{broken\n") is None


def test_a_warm_time_that_no_date_can_hold_is_refused_before_it_is_stored():
    with pytest.raises(InvalidSpec, match="warm_s"):
        parsed_spec({"name": "churn", "model": "churn:1", "warm_s": 1e300})
