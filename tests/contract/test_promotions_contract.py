"""The laws of policies, reviews and promotions, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from shipway.control.audit import AuditLog
from shipway.control.changes import Request
from shipway.control.deploying import accept
from shipway.control.environments import Environments
from shipway.control.promotions import PromotionRequest, Promotions, ReviewRequest
from shipway.control.registry import Registry
from shipway.core.candidacy import Opinion, Promotion, Review
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import (
    EnvironmentNotFound,
    InvalidRequest,
    InvalidSpec,
    PolicyUnmet,
    ShipwayError,
)
from shipway.core.evaluations import Evaluation, Measure, Task
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy
from shipway.core.registry import VersionRecord
from shipway.core.strategies import RolloutPlan
from shipway.core.versions import VersionRef, parse_version
from shipway.store.sql.database import Database
from shipway.testing.bundles import write_bundle
from shipway.wire.policies import policy_of

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
TWO = {"approvals": {"required": 2}}


@pytest.fixture
def environments(database: Database) -> Environments:
    return Environments(database)


@pytest.fixture
def promotions(database: Database) -> Promotions:
    return Promotions(database)


def add(registry: Registry, tmp_path: Path, data: bytes, model: str = "churn") -> VersionRecord:
    directory = tmp_path / f"{model}-{data.decode()}"
    write_bundle(directory, files={"model/model.bin": data})
    return registry.register(model, directory, actor="ada", now=NOW)[0]


def declare(environments: Environments, name: str = "production", **policy: Any) -> None:
    environments.apply(name, policy, actor="root", now=NOW, dry_run=False)


def say(
    promotions: Promotions,
    version: str,
    reviewer: str,
    decision: Opinion = Opinion.APPROVED,
    environment: str = "production",
) -> Any:
    said = ReviewRequest(environment=environment, decision=decision, reason="seen")
    return promotions.review(parse_version(version), said, actor=reviewer, now=NOW)


def promote(
    promotions: Promotions, version: str, environment: str = "production", **options: Any
) -> Any:
    wanted = PromotionRequest(environment=environment, **options)
    return promotions.promote(parse_version(version), wanted, actor="ben", now=NOW)


def deploy(database: Database, version: str, environment: str = "production", **spec: Any) -> None:
    """As the use case does, without a reconciler."""
    wanted = EndpointSpec(name="churn", model=version, environment=environment, **spec)
    with database.transaction() as tx:
        request = Request(actor="ben", now=NOW)
        change = accept(tx, wanted, request, releases_memory=False)
        generation = None if change.before is None else change.before.generation
        tx.endpoints.put(change.after, expected_generation=generation)


def follow(database: Database, model: str, environment: str, name: str = "churn") -> None:
    """An endpoint that follows an alias already, and serves version 1."""
    spec = EndpointSpec(name=name, model=model, environment=environment)
    active = VersionRef("churn", 1)
    with database.transaction() as tx:
        state = EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=active)
        tx.endpoints.put(state, expected_generation=None)


def refused(action: Any, *args: Any, **options: Any) -> PolicyUnmet:
    with pytest.raises(PolicyUnmet) as caught:
        action(*args, **options)
    error = caught.value
    for line in error.details["unmet"]:
        assert f"  - {line}" in error.message.splitlines()
    assert error.next_step
    return error


def test_rows_are_read_back_as_they_were_put(database: Database) -> None:
    policy = policy_of({"name": "production", "freeze": [{"days": ["fri"], "from": "16:00"}]})
    declared = DeclaredPolicy(policy=policy, generation=7)
    first = Review(
        environment="production",
        digest="d",
        model="churn",
        number=3,
        reviewer="ben",
        decision=Opinion.APPROVED,
        reason="ä",
        at=NOW,
    )
    others = [
        msgspec.structs.replace(first, **change)
        for change in ({"environment": "staging"}, {"model": "fraud"}, {"digest": "e"})
    ]
    promotion = Promotion(
        environment="production",
        digest="d",
        model="churn",
        number=3,
        at=NOW,
        by="ben",
        policy_generation=7,
    )
    again = msgspec.structs.replace(first, decision=Opinion.REJECTED, at=NOW + timedelta(hours=1))
    with database.transaction() as tx:
        tx.policies.put(DeclaredPolicy(policy=EnvironmentPolicy(name="production"), generation=6))
        tx.policies.put(declared)
        for review in (first, *others, again):
            tx.reviews.put(review)
        tx.promotions.put(msgspec.structs.replace(promotion, by="eve"))
        tx.promotions.put(promotion)
    with database.reading() as tx:
        assert tx.policies.get("production") == declared
        assert tx.policies.list() == [declared]
        assert tx.policies.get("staging") is None
        assert tx.reviews.of("churn", "d") == [others[0], again]
        assert tx.promotions.of("churn", "d") == [promotion]
        assert tx.promotions.of("fraud", "d") == []


def test_evaluations_of_a_digest_come_newest_first(database: Database) -> None:
    def evaluation(name: str, hours: int, digest: str = "d") -> Evaluation:
        return Evaluation(
            id=name,
            model="churn",
            number=1,
            digest=digest,
            at=NOW + timedelta(hours=hours),
            by="ada",
            task=Task.REGRESSION,
            label="y",
            data="x.csv",
            data_sha256="0",
            rows=1,
            measures=(Measure(name="rmse", value=1.0, low=0.5, high=2.0, better="lower"),),
        )

    given = [evaluation("a", 0), evaluation("b", 2), evaluation("c", 1), evaluation("x", 3, "e")]
    with database.transaction() as tx:
        for one in given:
            tx.evaluations.add(one)
    with database.reading() as tx:
        assert tx.evaluations.of_digest("d") == [given[1], given[2], given[0]]


def test_policy_change_is_on_record_once_and_its_generation_grows(
    environments: Environments, audit: AuditLog
) -> None:
    shown = environments.apply("production", TWO, actor="root", now=NOW, dry_run=True)
    assert shown.changes == ("create the policy of `production`",)
    with pytest.raises(EnvironmentNotFound):
        environments.get("production")
    declare(environments, **TWO)
    declare(environments, **TWO)
    changed = environments.apply(
        "production", {"approvals": {"required": 3}}, actor="root", now=NOW, dry_run=False
    )
    assert changed.changes == ("approvals.required: 2 -> 3",)
    assert environments.get("production").generation == 2
    assert [event.action for event in audit.newest()] == ["environment.apply"] * 2
    environments.delete("production", actor="root", now=NOW, dry_run=False)
    assert environments.list() == ()
    with pytest.raises(InvalidSpec, match="not of `staging`"):
        environments.apply("staging", {"name": "dev"}, actor="root", now=NOW, dry_run=False)


def test_promotion_waits_for_its_approvals_and_then_moves_the_alias(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    audit: AuditLog,
    tmp_path: Path,
) -> None:
    declare(environments, **TWO)
    record = add(registry, tmp_path, b"one")
    say(promotions, "churn:1", "ben")
    say(promotions, "churn:1", "ben")
    say(promotions, "churn:1", "ada")
    error = refused(promote, promotions, "churn:1")
    assert error.details["unmet"] == ["2 approvals, not by its author ada: 1 (ben)"]
    assert "`shipway approve churn:1 --to production`" in error.next_step
    say(promotions, "churn:1", "eve")
    shown = promote(promotions, "churn:1", dry_run=True)
    assert (shown.promotion, shown.alias) == (None, None)
    done = promote(promotions, "churn:1", reason="spring")
    assert (done.alias, done.previous, done.admitted) == (1, None, True)
    assert done.promotion.digest == record.digest
    assert promote(promotions, "churn:1").promotion == done.promotion
    newest = [(event.action, event.subject) for event in audit.newest(limit=2)]
    assert newest == [("alias.set", "churn@production"), ("version.promote", "churn:1")]
    details = audit.newest(limit=2)[1].details
    assert details["rules"] == [
        "2 approvals, not by its author ada: 2 (ben, eve)",
        "a known author: ada",
    ]


def test_approval_does_not_carry_over_to_other_bytes_nor_to_another_model(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    declare(environments, **TWO)
    add(registry, tmp_path, b"one")
    for reviewer in ("ben", "eve"):
        say(promotions, "churn:1", reviewer)
    promote(promotions, "churn:1")
    add(registry, tmp_path, b"two")
    add(registry, tmp_path, b"one", model="fraud")
    for version in ("churn:2", "fraud:1"):
        refused(promote, promotions, version)
        refused(deploy, database, version)
    deploy(database, "churn:1")


def test_number_given_out_again_would_not_help_since_the_bytes_count(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    declare(environments, approvals={"required": 1})
    add(registry, tmp_path, b"one")
    say(promotions, "churn:1", "ben")
    promote(promotions, "churn:1")
    registry.delete_alias("churn", "production", actor="ada", now=NOW)
    registry.delete_version(parse_version("churn:1"), actor="ada", now=NOW)
    other, same = add(registry, tmp_path, b"two"), add(registry, tmp_path, b"one")
    refused(deploy, database, str(other.ref))
    deploy(database, str(same.ref))


def test_version_that_was_not_promoted_comes_in_by_no_door(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    for data in (b"one", b"two"):
        add(registry, tmp_path, data)
    registry.set_alias(parse_version("churn:1"), "champion", actor="ada", now=NOW)
    follow(database, "churn@champion", "production")
    declare(environments, approvals={"required": 1})
    lines = ["promoted to `production`: not promoted", "1 approval, not by its author ada: 0"]
    for version in ("churn:2", "churn"):
        error = refused(deploy, database, version)
        assert error.details["unmet"] == lines
    two = parse_version("churn:2")
    for alias in ("champion", "production"):
        error = refused(registry.set_alias, two, alias, actor="ada", now=NOW)
        assert error.details["unmet"] == lines
        assert error.next_step.endswith(f"then `shipway alias churn:2 {alias}`.")
    registry.set_alias(two, "candidate", actor="ada", now=NOW)
    refused(deploy, database, "churn@candidate")
    say(promotions, "churn:2", "ben")
    promote(promotions, "churn:2")
    assert registry.set_alias(two, "champion", actor="ada", now=NOW).previous == 1
    deploy(database, "churn@candidate")


def test_promotion_elsewhere_does_not_move_an_alias_that_a_restricted_environment_follows(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    for data in (b"one", b"two"):
        add(registry, tmp_path, data)
    promote(promotions, "churn:1", "staging")
    follow(database, "churn@staging", "production")
    declare(environments)
    error = refused(promote, promotions, "churn:2", "staging")
    assert error.details["environments"] == ["production"]
    with database.reading() as tx:
        assert tx.aliases.all_of("churn") == {"staging": 1}


def test_rejection_withdraws_what_was_promoted_until_the_same_person_approves(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    declare(environments, approvals={"required": 1})
    add(registry, tmp_path, b"one")
    say(promotions, "churn:1", "ben")
    promote(promotions, "churn:1")
    assert not say(promotions, "churn:1", "eve", Opinion.REJECTED).admitted
    error = refused(deploy, database, "churn:1")
    assert error.details["unmet"] == ["no rejection: eve rejected it (seen)"]
    say(promotions, "churn:1", "ben")
    refused(deploy, database, "churn:1")
    assert say(promotions, "churn:1", "eve").admitted
    deploy(database, "churn:1")


def test_promotion_from_before_there_was_a_policy_lets_nothing_in(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    add(registry, tmp_path, b"one")
    free = promote(promotions, "churn:1")
    assert (free.has_policy, free.admitted, free.rules) == (False, True, ())
    declare(environments)
    error = refused(deploy, database, "churn:1")
    assert error.details["unmet"] == [
        "promoted to `production`: promoted before there was a policy"
    ]
    promote(promotions, "churn:1")
    deploy(database, "churn:1")


def test_what_serves_already_may_be_changed_in_a_freeze_but_not_replaced(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    for data in (b"one", b"two"):
        add(registry, tmp_path, data)
    follow(database, "churn:1", "production")
    declare(environments)
    promote(promotions, "churn:2")
    declare(environments, freeze=[{"days": ["wed"]}])
    deploy(database, "churn:1", replicas=3)
    error = refused(deploy, database, "churn:2")
    assert error.details["unmet"] == ["no freeze: frozen until 2026-05-07 00:00 UTC"]
    refused(promote, promotions, "churn:2")


def test_strategy_of_the_endpoint_must_be_allowed(
    environments: Environments,
    promotions: Promotions,
    registry: Registry,
    database: Database,
    tmp_path: Path,
) -> None:
    for data in (b"one", b"two"):
        add(registry, tmp_path, data)
    follow(database, "churn@production", "production")
    declare(environments, allowed_strategies=["canary"])
    error = refused(promote, promotions, "churn:2")
    assert error.details["unmet"] == ["endpoint `churn` changes by canary: none"]
    refused(deploy, database, "churn:2")
    deploy(database, "churn:1", rollout=RolloutPlan())
    promote(promotions, "churn:1")
    refused(deploy, database, "churn:2", rollout=RolloutPlan())


def test_reviews_need_a_person_a_number_and_an_environment_that_asks(
    environments: Environments, promotions: Promotions, registry: Registry, tmp_path: Path
) -> None:
    declare(environments)
    add(registry, tmp_path, b"one")
    wrong: list[tuple[type[ShipwayError], tuple[str, ...]]] = [
        (InvalidRequest, ("churn:1", "anonymous")),
        (InvalidSpec, ("churn", "ben")),
        (InvalidSpec, ("churn@champion", "ben")),
    ]
    for kind, (version, reviewer) in wrong:
        with pytest.raises(kind):
            say(promotions, version, reviewer)
    with pytest.raises(EnvironmentNotFound, match="Did you mean `production`"):
        say(promotions, "churn:1", "ben", environment="prodution")


def test_checklist_shows_every_environment_with_a_policy_and_who_said_what(
    environments: Environments, promotions: Promotions, registry: Registry, tmp_path: Path
) -> None:
    declare(environments, **TWO)
    declare(environments, "staging")
    add(registry, tmp_path, b"one")
    promote(promotions, "churn:1", "qa")
    for reviewer in ("ada", "ben"):
        say(promotions, "churn:1", reviewer)
    found = promotions.of(parse_version("churn"), now=NOW)
    assert [(one.environment, one.admitted) for one in found] == [
        ("production", False),
        ("qa", True),
        ("staging", False),
    ]
    assert {(r.reviewer, r.counts) for r in found[0].reviews} == {("ada", False), ("ben", True)}


def test_two_who_promote_at_once_leave_one_record_each_and_one_alias(
    promotions: Promotions, registry: Registry, audit: AuditLog, tmp_path: Path
) -> None:
    for data in (b"one", b"two"):
        add(registry, tmp_path, data)
    versions = ["churn:1", "churn:2"] * 6
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda version: promote(promotions, version), versions))
    events = [e.subject for e in audit.newest(limit=1000) if e.action == "version.promote"]
    assert sorted(events) == ["churn:1", "churn:2"]
    assert audit.first_broken_link() is None
