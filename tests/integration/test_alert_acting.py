"""What is done about alerts, over real endpoints and rollouts in a database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from shipway.control.alerting.acting import Acting, Order
from shipway.control.changes import Request
from shipway.control.endpoints import Endpoints
from shipway.control.rollouts import Rollouts
from shipway.control.views import Seen
from shipway.core.alerts.channels import Channel, ChannelKind, Hidden
from shipway.core.alerts.deciding import Handling, decide
from shipway.core.alerts.messages import MessageKind
from shipway.core.alerts.plan import Deed, Mode, Reaction
from shipway.core.endpoints import EndpointSpec, EndpointState, Fallback
from shipway.core.endpoints import Phase as EndpointPhase
from shipway.core.errors import ConflictError
from shipway.core.observed import Observed
from shipway.core.rollouts import Rollout, RolloutPhase
from shipway.core.signals import Signal
from shipway.core.strategies import Canary, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.store.sql.database import Database, sqlite_url

NOW = datetime(2026, 3, 4, 5, 6, tzinfo=UTC)
V1, V2 = VersionRef("churn", 1), VersionRef("churn", 2)
REQUEST = Request(actor="shipway", now=NOW, reason="Alert abc (error-rate): too many.")
NOTHING = Seen(
    observed=Observed(replicas=(), gateways=(), revision="", settled=True),
    gateways=(),
    local={},
    at=NOW,
)


class World:
    def __init__(self, database):
        self.database = database
        shared = {"environment": "dev", "seen": lambda: NOTHING, "poke": lambda: None}
        endpoints = Endpoints(database, read_log=lambda *_: [], **shared)
        self.acting = Acting(database, endpoints, Rollouts(database, **shared))
        told = Signal(environment="dev", endpoint="churn", rule="drift", at=NOW, is_firing=True)
        (self.alert,) = decide({}, [told], NOW, handling_of=lambda _: Handling()).fired

    def put(self, *, fallback=None, **fields):
        spec = EndpointSpec(name="churn", model="churn:1", environment="dev", fallback=fallback)
        state = EndpointState(
            **({"spec": spec, "generation": 1, "phase": EndpointPhase.LIVE, "active": V1} | fields)
        )
        with self.database.transaction() as tx:
            tx.endpoints.put(state, expected_generation=None)

    def do(self, deed, **fields):
        reaction = Reaction(when="drift", do=deed, mode=Mode.DO, **fields)
        return self.acting.carry_out(Order(alert=self.alert, reaction=reaction), REQUEST)

    def state(self):
        with self.database.reading() as tx:
            return tx.endpoints.get("dev", "churn")

    def audited(self):
        with self.database.reading() as tx:
            event = tx.audit.newest(limit=1)[0]
        return event.action, event.actor, event.details["reason"]


@pytest.fixture
def world(tmp_path):
    database = Database.open(sqlite_url(tmp_path))
    yield World(database)
    database.close()


def test_the_fallback_answers_everything_until_the_spec_says_otherwise(world):
    world.put(fallback=Fallback(version=2))
    assert "fallback" in world.do(Deed.FALLBACK)
    assert world.state().spec.fallback == Fallback(version=2, always=True)
    assert world.audited() == ("endpoint.divert", "shipway", REQUEST.reason)
    generation = world.state().generation
    world.do(Deed.FALLBACK)
    assert world.state().generation == generation


def test_without_a_fallback_nothing_is_switched(world):
    world.put()
    with pytest.raises(ConflictError):
        world.do(Deed.FALLBACK)


def test_a_rollout_is_paused(world):
    rollout = Rollout(
        id="r",
        endpoint="churn",
        environment="dev",
        plan=RolloutPlan(stages=(Canary(steps=(50,), hold_s=10),)),
        primary=V1,
        candidate=V2,
        phase=RolloutPhase.RUNNING,
        started_at=NOW,
        started_by="ada",
        since=NOW,
    )
    world.put(phase=EndpointPhase.RELEASING, target=V2, rollout=rollout)
    assert world.do(Deed.PAUSE) == "the rollout of churn:2 is paused"
    assert world.state().rollout.phase is RolloutPhase.PAUSED
    assert world.audited()[:2] == ("rollout.pause", "shipway")


def test_a_new_model_is_asked_for_with_window_and_reason(world):
    world.put()
    with pytest.raises(ConflictError):
        world.do(Deed.RETRAIN, channel="ci")
    channel = Channel(
        name="ci",
        environment="dev",
        kind=ChannelKind.WEBHOOK,
        url=Hidden(sealed="x"),
        shown="https://ci/…",
        created_at=NOW,
        created_by="ada",
    )
    with world.database.transaction() as tx:
        tx.channels.put(channel)
    world.do(Deed.RETRAIN, channel="ci")
    with world.database.reading() as tx:
        (one,) = tx.notifications.of_channel("dev", "ci", limit=5)
    assert one.message.kind is MessageKind.RETRAIN
    assert one.message.reason == REQUEST.reason
    assert one.message.window == (NOW - timedelta(days=7), NOW)
    assert world.audited() == ("endpoint.retrain", "shipway", REQUEST.reason)
