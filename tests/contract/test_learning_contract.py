"""Feedback reaches the guards of a rollout under way: late and corrected labels count once, as they are now."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from shipway.control.learning import Learning
from shipway.control.performance import Performances
from shipway.control.predictions import Predictions
from shipway.control.rollouts import Outcome, Rollouts
from shipway.control.views import Seen
from shipway.core.captures import Feedback, Role
from shipway.core.capturing import Capture
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import InvalidRequest, StoreUnavailable
from shipway.core.evidence import Moments
from shipway.core.observed import Observed
from shipway.core.rollouts import begun
from shipway.core.strategies import Canary, Guards, MetricGuard, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.testing.bundles import write_bundle

sys.path.insert(0, str(Path(__file__).parent))
from spooling import NOW, micros, prediction, segment, shape

ACCURACY, REVENUE = "feedback:accuracy", "feedback:revenue"
GUARDS = Guards(metrics=tuple(MetricGuard(metric=name) for name in (ACCURACY, REVENUE, "sold")))
V1, V2 = VersionRef("churn", 1), VersionRef("churn", 2)


class World:
    """An endpoint with a rollout that began at noon, and its log."""

    def __init__(self, database, artifacts, registry, directory):
        self.database = database
        for number in (1, 2):
            bundle = directory / str(number)
            write_bundle(bundle, files={"model/model.bin": bytes([number])})
            registry.register("churn", bundle, actor="ada", now=NOW)
        state_dir = directory / "control"
        self.log = Predictions(database, artifacts, environment="dev", state_dir=state_dir)
        # Each question is asked anew.
        clock_s = iter(range(0, 10**9, 100)).__next__
        performances = Performances(database, self.log, state_dir=state_dir, clock_s=clock_s)
        self.learning = Learning(database, performances, environment="dev")
        self.shapes = {1: shape(version=1), 2: shape(version=2)}

    def put(self, guards=GUARDS):
        plan = RolloutPlan(stages=(Canary(),), guards=guards)
        place = ("dev", "churn")
        rollout = begun(plan, V1, V2, id="r", place=place, actor="ada", now=NOW)
        spec = EndpointSpec(name="churn", model="churn:2", environment="dev", capture=Capture())
        state = EndpointState(
            spec=spec, generation=1, phase=Phase.RELEASING, active=V1, target=V2, rollout=rollout
        )
        with self.database.transaction() as tx:
            tx.endpoints.put(state, expected_generation=None)

    def answers(self, version, role, *labels, since_s=1):
        """One answer for each label, from so many seconds after noon on."""
        self.log.ingest(
            segment(
                prediction(
                    f"{version}-{role.name}-{since_s + n}",
                    at=NOW + timedelta(seconds=since_s + n),
                    of=self.shapes[version],
                    role=role,
                    outputs={"label": np.array([label])},
                )
                for n, label in enumerate(labels)
            ),
            gateway="gw",
            now=NOW,
        )

    def says(self, request_id, *, later_s=3600, **parts):
        said = Feedback(
            environment="dev",
            endpoint="churn",
            at_us=micros(NOW + timedelta(seconds=later_s)),
            request_id=request_id,
            **parts,
        )
        self.log.ingest(segment(feedback=[said]), gateway="gw", now=NOW)

    @property
    def outcomes(self):
        with self.database.reading() as tx:
            return tx.outcomes.of("r")


@pytest.fixture
def world(database, artifacts, registry, tmp_path):
    return World(database, artifacts, registry, tmp_path)


def test_what_feedback_says_is_counted_as_it_is_now(world):
    world.put()
    world.answers(1, Role.PRIMARY, 1, 1, since_s=-9)  # before the rollout
    world.says("1-PRIMARY--9", label="1")
    world.answers(1, Role.PRIMARY, 1, 0, 1)
    world.answers(2, Role.CANDIDATE, 1, 0)
    assert world.learning.learn() == 1
    assert world.outcomes == {}
    for request_id, label in (("1-PRIMARY-1", "1"), ("1-PRIMARY-2", "1"), ("2-CANDIDATE-1", "1")):
        world.says(request_id, label=label)
    world.says("2-CANDIDATE-2", outcomes={"revenue": 3.0, "returned": 1.0})
    world.learning.learn()
    first = {
        (ACCURACY, "churn:1"): Moments(n=2, total=1.0, squares=1.0),
        (ACCURACY, "churn:2"): Moments(n=1, total=1.0, squares=1.0),
        (REVENUE, "churn:2"): Moments(n=1, total=3.0, squares=9.0),
    }
    assert world.outcomes == first
    # Looked at again, they count no more than once; and what is corrected is what it is now.
    world.says("2-CANDIDATE-1", label="0", later_s=7200)
    world.learning.learn()
    corrected = {(ACCURACY, "churn:2"): Moments(n=1, total=0.0, squares=0.0)}
    assert world.outcomes == first | corrected


def test_rollouts_that_do_not_ask_for_feedback_cost_nothing(world):
    world.put(guards=Guards(metrics=(MetricGuard(metric="sold"),)))
    assert world.learning.learn() == 0


class Away:
    def of(self, asked):
        raise StoreUnavailable("It is away.")


def test_a_log_that_is_away_leaves_what_was_known(world, caplog):
    world.put()
    known = Moments(n=5, total=4.0, squares=4.0)
    with world.database.transaction() as tx:
        tx.outcomes.put("r", ACCURACY, "churn:2", known)
    assert Learning(world.database, Away(), environment="dev").learn() == 0
    assert world.outcomes == {(ACCURACY, "churn:2"): known}
    assert "It is away" in caplog.text


def test_what_feedback_says_cannot_be_posted(world):
    world.put()
    nothing = Observed(replicas=(), gateways=(), revision="r")
    seen = Seen(observed=nothing, gateways=(), local={}, at=NOW)
    rollouts = Rollouts(world.database, environment="dev", seen=lambda: seen, poke=lambda: None)
    with pytest.raises(InvalidRequest, match="nobody posts"):
        rollouts.record_outcomes("churn", [Outcome(metric=ACCURACY, value=1.0, version="2")])
    assert rollouts.record_outcomes("churn", [Outcome(metric="sold", value=1.0, version="2")])
