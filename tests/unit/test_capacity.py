"""How many replicas each version should have: by load, by memory, and from what runs after a restart."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import msgspec

from shipway.control.budget import Look
from shipway.control.capacity import Capacity
from shipway.control.published import PublishedHistory
from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import EndpointSpec, EndpointState, Limits, Phase, Residency, Scaling
from shipway.core.observed import Desired, GatewayEvidence, Observed, VariantEvidence, VersionFact
from shipway.core.reconcile import FailTarget, StartReplica, StopReplica, plan
from shipway.core.replicas import Replica, ReplicaState
from shipway.core.versions import VersionRef
from shipway.testing.live import SIGNATURE
from shipway.wire.snapshot import OPEN, ReplicaAddress, Route, Snapshot, Variant

NOW = datetime(2026, 1, 1, tzinfo=UTC)
replace = msgspec.structs.replace


def endpoint(name, *, target=False, **spec):
    version = VersionRef(name, 1)
    state = EndpointState(
        spec=EndpointSpec(name=name, model=f"{name}:1", **spec),
        generation=1,
        phase=Phase.STARTING if target else Phase.LIVE,
        active=None if target else version,
        target=version if target else None,
    )
    return Desired(state=state, facts={version: VersionFact(inline=False)})


def replica(name, slot=0, state=ReplicaState.READY, **changes):
    return Replica(
        id=f"{name}-{slot}", endpoint=name, version=VersionRef(name, 1), slot=slot, generation=1,
        max_batch_rows=64, state=state, started_at=NOW,
        ready_at=NOW if state is ReplicaState.READY else None,
        **{"memory_mb": 40.0, "peak_mb": 40.0, **changes},
    )  # fmt: skip


def gateway(revision="now", **variants):
    said = {(name, f"{name}:1"): evidence for name, evidence in variants.items()}
    return GatewayEvidence(id="g", revision=revision, variants=said)


def idle(asked_s=0.0):
    return VariantEvidence(ready=True, asked_s=asked_s)


def held(asked_s=100.0):
    return VariantEvidence(ready=True, in_flight=1, held=1, asked_s=asked_s)


def inside(asked_s=100.0):
    return VariantEvidence(ready=True, in_flight=1, load=1.0, asked_s=asked_s)


def look(*replicas, gateways=(), steady_s=100.0, settled=True):
    observed = Observed(
        replicas=replicas, gateways=tuple(gateways), revision="now", settled=settled
    )
    return Look(observed=observed, local={}, now=NOW, steady_s=steady_s)


def counts(desired):
    return {
        one.state.spec.name: one.count_of(VersionRef(one.state.spec.name, 1)) for one in desired
    }


def test_without_scaling_and_budget_the_spec_is_the_number():
    assert counts(Capacity().decided([endpoint("a", replicas=3)], look())) == {"a": 3}


def test_a_restarted_control_goes_on_from_what_runs():
    scaling = Scaling(max_replicas=8)
    running = [replica("a", slot) for slot in range(5)]
    seen = look(*running, gateways=[gateway(a=idle())])
    assert counts(Capacity().decided([endpoint("a", scaling=scaling)], seen)) == {"a": 5}
    assert counts(Capacity().decided([endpoint("a", scaling=scaling, replicas=2)], look())) == {
        "a": 2
    }


def test_a_restarted_control_wakes_nobody_unless_it_is_to_be_preloaded():
    scaling = Scaling(min_replicas=0)
    some = [
        endpoint("a", scaling=scaling),
        endpoint("b", scaling=scaling, residency=Residency.PRELOAD),
        endpoint("new", scaling=scaling, target=True),
    ]
    assert counts(Capacity().decided(some, look())) == {"a": 0, "b": 1, "new": 1}


def test_a_request_that_is_held_wakes_its_endpoint_and_no_other():
    capacity = Capacity()
    some = [endpoint(name, scaling=Scaling(min_replicas=0)) for name in "ab"]
    assert counts(capacity.decided(some, look(gateways=[gateway(a=idle(), b=idle())]))) == {
        "a": 0,
        "b": 0,
    }
    seen = look(gateways=[gateway(a=held(), b=idle())], steady_s=100.01)
    assert counts(capacity.decided(some, seen)) == {"a": 1, "b": 0}


def test_without_a_gateway_nothing_changes():
    capacity = Capacity()
    some = [endpoint("a", scaling=Scaling(min_replicas=0, idle_s=1))]
    capacity.decided(some, look(replica("a"), gateways=[gateway(a=inside())]))
    assert counts(capacity.decided(some, look(replica("a"), steady_s=900.0))) == {"a": 1}


def test_the_time_of_waking_is_from_the_request_to_the_first_ready_replica():
    capacity = Capacity()
    some = [endpoint("a", scaling=Scaling(min_replicas=0))]
    capacity.decided(some, look(gateways=[gateway(a=idle())]))
    capacity.decided(some, look(gateways=[gateway(a=held())], steady_s=101.0))
    starting = replica("a", state=ReplicaState.STARTING)
    capacity.decided(some, look(starting, gateways=[gateway(a=held())], steady_s=102.0))
    assert capacity.woken == {}
    capacity.decided(some, look(replica("a"), gateways=[gateway(a=held())], steady_s=103.5))
    assert capacity.woken == {"a": 2.5}


def test_after_a_start_of_the_server_only_preloaded_and_pinned_models_are_loaded():
    capacity = Capacity(budget_mb=150)
    some = [
        endpoint("auto"),
        endpoint("pinned", residency=Residency.PINNED),
        endpoint("one", residency=Residency.PRELOAD),
        endpoint("two", residency=Residency.PRELOAD),
    ]
    desired = capacity.decided(some, look(gateways=[gateway(auto=idle())]))
    assert counts(desired) == {"auto": 0, "pinned": 1, "one": 1, "two": 1}
    started = [a.endpoint for a in plan(desired, look().observed, NOW)]
    assert started == ["pinned", "one"], "a never measured one is taken to need 64 MB"


def test_an_evicted_model_leaves_the_routes_then_stops_and_only_then_the_other_starts():
    capacity = Capacity(budget_mb=110)
    some = [endpoint("a"), endpoint("b"), endpoint("c")]
    loaded = (replica("a"), replica("b"))

    def actions(*replicas, revision="now", **variants):
        variants = {"a": idle(50), "b": idle(40), "c": held(), **variants}
        seen = look(*replicas, gateways=[gateway(revision, **variants)])
        desired = capacity.decided(some, seen)
        return counts(desired), plan(desired, seen.observed, NOW)

    found, acts = actions(*loaded, revision="old")
    assert (found, acts) == ({"a": 1, "b": 0, "c": 1}, ())
    found, acts = actions(*loaded)
    assert acts == (StopReplica(id="b-0"),)
    stopping = replace(replica("b"), state=ReplicaState.STOPPING)
    assert actions(replica("a"), stopping)[1] == ()
    (start,) = actions(replica("a"))[1]
    assert isinstance(start, StartReplica)
    assert start.endpoint == "c"


def test_a_request_that_comes_while_its_model_leaves_brings_it_back():
    capacity = Capacity(budget_mb=110)
    some = [endpoint("a"), endpoint("b"), endpoint("c")]
    loaded = (replica("a"), replica("b"))
    seen = look(*loaded, gateways=[gateway(a=idle(50), b=idle(40), c=held())])
    assert counts(capacity.decided(some, seen)) == {"a": 1, "b": 0, "c": 1}
    seen = look(*loaded, gateways=[gateway(a=idle(50), b=held(), c=held())])
    assert counts(capacity.decided(some, seen)) == {"a": 0, "b": 1, "c": 1}


def test_nothing_is_evicted_before_every_gateway_had_time_to_report():
    capacity = Capacity(budget_mb=110)
    some = [endpoint("a"), endpoint("b"), endpoint("c")]
    seen = look(replica("a"), replica("b"), gateways=[gateway(c=held())], settled=False)
    assert counts(capacity.decided(some, seen)) == {"a": 1, "b": 1, "c": 1}


def test_a_target_that_no_budget_can_hold_fails_and_says_so():
    desired = Capacity(budget_mb=50).decided([endpoint("a", target=True)], look())
    (action,) = plan(desired, look().observed, NOW)
    assert isinstance(action, FailTarget)
    assert action.message == (
        "The memory budget of 50 MB cannot hold a:1, which needs about 64 MB."
    )


def test_a_model_that_grew_over_the_budget_may_start_again_and_one_that_began_so_may_not():
    def started_again(*sizes_mb):
        capacity = Capacity(budget_mb=100)
        for size_mb in sizes_mb:
            grown = replica("a", memory_mb=size_mb, peak_mb=size_mb)
            capacity.decided([endpoint("a")], look(grown, gateways=[gateway(a=idle())]))
        asked = look(gateways=[gateway(a=held())])
        desired = capacity.decided([endpoint("a")], asked)
        return [type(action).__name__ for action in plan(desired, asked.observed, NOW)]

    assert started_again(40.0, 400.0) == ["StartReplica"]
    assert started_again(400.0) == []


def test_a_crashed_model_that_nobody_asks_for_stays_down_and_its_exits_are_forgotten():
    exited = replica("a", state=ReplicaState.EXITED, exited_at=NOW - timedelta(seconds=1))
    seen = look(exited, gateways=[gateway(a=idle())])
    desired = Capacity(budget_mb=100).decided([endpoint("a")], seen)
    assert [type(a).__name__ for a in plan(desired, seen.observed, NOW)] == ["ForgetReplica"]


def test_a_replica_may_end_once_no_snapshot_that_a_gateway_has_or_may_get_names_it():
    history = PublishedHistory()

    def published(*ids):
        addresses = tuple(ReplicaAddress(id=i, address="unix:/x") for i in ids)
        variant = Variant(
            model="a", version=1, digest="", weight_pct=100, inline=False, bundle_dir="",
            served=Served.ONNX, signature=SIGNATURE, config=ModelConfig(), replicas=addresses,
        )  # fmt: skip
        snapshot = Snapshot.of((Route(name="a", limits=Limits(), variants=(variant,)),), OPEN)
        history.note(snapshot)
        return snapshot

    first, second, third = published("x"), published("y"), published("y", "z")

    def names(snapshot):
        observed = Observed(
            replicas=(), gateways=(gateway(snapshot.revision),), revision="", settled=True
        )
        return history.placed(observed, third).gateways[0].names

    assert names(first) == {"x", "y", "z"}
    assert names(second) == {"y", "z"}
    assert names(third) == {"y", "z"}
    assert names(replace(first, revision="unknown")) is None
