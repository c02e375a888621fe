"""What is kept of releases, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.config import Config

from shipway.control.changes import Request, put
from shipway.core.audit import first_broken_link
from shipway.core.deployments import Order, accepted, activated, released, stepped
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.evaluations import Evaluation, Measure, Task
from shipway.core.evidence import Account, Moments, TrialReport
from shipway.core.rollouts import Decision, Event, RolloutPhase, begun
from shipway.core.strategies import BlueGreen, Canary, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.store.sql import migration
from shipway.store.sql.database import Database
from shipway.store.sql.engine import WRITES

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
V1, V2, V3 = (VersionRef("churn", number) for number in (1, 2, 3))


def rollout(number: int = 1, *, endpoint: str = "churn", environment: str = "dev") -> Any:
    return begun(
        RolloutPlan(stages=(Canary(), BlueGreen())),
        V1,
        V2,
        id=f"{endpoint}-{number}",
        place=(environment, endpoint),
        actor="ada",
        now=NOW + timedelta(seconds=number),
    )


def test_a_rollout_is_read_back_as_it_was_put_and_is_one_row(database: Database) -> None:
    first = rollout()
    later = msgspec.structs.replace(first, phase=RolloutPhase.RUNNING, message="ä")
    with database.transaction() as tx:
        tx.rollouts.put(first)
        tx.rollouts.put(later)
    with database.reading() as tx:
        assert tx.rollouts.get(first.id) == later
        assert tx.rollouts.of("dev", "churn", limit=10) == [later]
        assert tx.rollouts.get("nobody") is None


def test_rollouts_of_an_endpoint_come_newest_first_and_from_its_environment_alone(
    database: Database,
) -> None:
    others = (rollout(8, environment="staging"), rollout(9, endpoint="fraud"))
    with database.transaction() as tx:
        for one in (rollout(1), rollout(3), rollout(2), *others):
            tx.rollouts.put(one)
    with database.reading() as tx:
        found = tx.rollouts.of("dev", "churn", limit=2)
    assert [one.id for one in found] == ["churn-3", "churn-2"]


def test_outcomes_add_up_by_metric_and_version(database: Database) -> None:
    with database.transaction() as tx:
        tx.outcomes.add("r", "sold", "churn:1", Moments(n=2, total=1.0, squares=1.0))
        tx.outcomes.add("r", "sold", "churn:1", Moments(n=1, total=0.5, squares=0.25))
        tx.outcomes.add("r", "sold", "churn:2", Moments(n=1, total=3.0, squares=9.0))
        tx.outcomes.add("other", "sold", "churn:2", Moments(n=7))
    with database.reading() as tx:
        assert tx.outcomes.of("r") == {
            ("sold", "churn:1"): Moments(n=3, total=1.5, squares=1.25),
            ("sold", "churn:2"): Moments(n=1, total=3.0, squares=9.0),
        }


def test_an_outcome_that_is_posted_twice_is_new_once(database: Database) -> None:
    many = [str(number) for number in range(1200)]
    with database.transaction() as tx:
        assert tx.outcomes.unseen("r", ["a", "b", "a"]) == {"a", "b"}
        assert tx.outcomes.unseen("r", many) == set(many)
    with database.transaction() as tx:
        assert tx.outcomes.unseen("r", ["b", "c", *many]) == {"c"}
        assert tx.outcomes.unseen("other", ["b"]) == {"b"}


def evaluation(number: int, digest: str = "sha256:a", model: str = "churn") -> Evaluation:
    accuracy = Measure(name="accuracy", value=0.9, low=0.8, high=0.95, better="higher")
    return Evaluation(
        id=f"{model}-{number}",
        model=model,
        number=1,
        digest=digest,
        at=NOW + timedelta(seconds=number),
        by="ada",
        task=Task.CLASSIFICATION,
        label="churned",
        data="test.parquet",
        data_sha256="0" * 64,
        rows=10,
        resamples=1000,
        measures=(accuracy,),
        notes=("ä",),
    )


def test_evaluations_are_found_by_the_bytes_they_are_of_newest_first(database: Database) -> None:
    first, second, elsewhere = evaluation(1), evaluation(2), evaluation(3, model="fraud")
    with database.transaction() as tx:
        for one in (second, elsewhere, first, evaluation(4, digest="sha256:b", model="other")):
            tx.evaluations.add(one)
    with database.reading() as tx:
        assert tx.evaluations.of_digest("sha256:a") == [elsewhere, second, first]
        assert tx.evaluations.of_digest("sha256:a", limit=1) == [elsewhere]
        assert tx.evaluations.of_digest("sha256:c") == []


def test_a_rollout_and_its_end_are_written_with_the_endpoint_and_its_audit_record(
    database: Database,
) -> None:
    request = Request(actor="ada", now=NOW, reason="because")
    spec = EndpointSpec(name="churn", environment="dev", model="churn:1", rollout=RolloutPlan())
    first = activated(accepted(None, spec, V1, inline=False, order=order("r0")), NOW)
    rolling = released(accepted(first, spec_of(spec, 2), V2, inline=False, order=order("r1")), NOW)
    wish = Order(id="r2", actor="ada", now=NOW, supersedes=True)
    seen = TrialReport(
        rollout="r1", epoch=1, primary=Account(latency={3: 1}), candidate=Account(scores={-4: 2})
    )
    pause = Decision(event=Event.PAUSE, message="", seen=seen)
    paused = stepped(rolling, pause, NOW)
    second = accepted(paused, spec_of(spec, 3), V3, inline=False, order=wish)
    steps = [(None, first), (first, rolling), (rolling, paused), (paused, second)]
    for before, after in steps:
        with database.transaction() as tx:
            put(tx, before, after, request, "endpoint.deploy")
    with database.reading() as tx:
        found = {one.id: one.phase for one in tx.rollouts.of("dev", "churn", limit=10)}
        events = tx.audit.newest(limit=10)
        assert tx.endpoints.get("dev", "churn") == second
    assert found == {"r1": RolloutPhase.SUPERSEDED, "r2": RolloutPhase.PREPARING}
    assert len(events) == 4
    assert first_broken_link(reversed(events)) is None
    assert events[0].details["after"]["rollout"]["id"] == "r2"
    assert events[0].details["reason"] == "because"


def spec_of(spec: EndpointSpec, number: int) -> EndpointSpec:
    return msgspec.structs.replace(spec, model=f"churn:{number}")


def order(name: str) -> Order:
    return Order(id=name, actor="ada", now=NOW)


def test_endpoints_of_the_same_name_live_side_by_side_in_two_environments(
    database: Database,
) -> None:
    with database.transaction() as tx:
        for environment, generation in (("staging", 1), ("production", 4)):
            tx.endpoints.put(state(environment, generation), expected_generation=None)
        tx.endpoints.delete("staging", "churn")
        assert [s.spec.environment for s in tx.endpoints.list()] == ["production"]


def state(environment: str, generation: int = 1) -> EndpointState:
    spec = EndpointSpec(name="churn", model="churn:1", environment=environment)
    return EndpointState(spec=spec, generation=generation, phase=Phase.LIVE, active=V1)


@pytest.mark.parametrize("there_and_back", [False, True])
def test_endpoints_of_the_schema_before_are_kept(
    database: Database, *, there_and_back: bool
) -> None:
    engine = database._engine
    downgrade(engine)
    text = msgspec.json.encode(state("staging", 3)).decode()
    with engine.begin() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO endpoints (name, environment, generation, state)"
                " VALUES ('churn', 'staging', 3, :state)"
            ),
            {"state": text},
        )
    migration.upgrade(engine)
    if there_and_back:
        downgrade(engine)
        migration.upgrade(engine)
    with database.reading() as tx:
        assert tx.endpoints.get("staging", "churn") == state("staging", 3)


def downgrade(engine: sa.Engine) -> None:
    config = Config()
    config.set_main_option("script_location", str(migration._SCRIPTS))
    with engine.connect().execution_options(**WRITES) as connection, connection.begin():
        config.attributes["connection"] = connection
        command.downgrade(config, "0001")
