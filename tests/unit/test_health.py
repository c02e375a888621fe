"""What the doctor makes of facts."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from shipway.core.audit import Change, next_event
from shipway.core.backups import first_loose_link
from shipway.core.health import (
    BundleFault,
    CertificateFacts,
    ChainFacts,
    ClockFacts,
    DatabaseFacts,
    Diagnosis,
    DiskFacts,
    EndpointFacts,
    Holder,
    Level,
    PortFacts,
    RolloutFacts,
    SecretFacts,
    bundles_diagnoses,
    certificate_diagnosis,
    chain_diagnosis,
    clock_diagnoses,
    database_diagnosis,
    disk_diagnosis,
    endpoint_diagnosis,
    port_diagnosis,
    rollout_diagnosis,
    secret_diagnosis,
    span_of,
    summary_of,
)

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
GB = 1024**3
OK, WARNING, PROBLEM = Level.OK, Level.WARNING, Level.PROBLEM


def level(found: Diagnosis) -> Level:
    """Its level; whatever is not fine says what to do, and only that."""
    assert (found.level is OK) == (found.next_step == "")
    assert found.message.endswith((".", "…"))
    return found.level


@pytest.mark.parametrize(
    ("holder", "expected"),
    [(Holder.NOBODY, OK), (Holder.OURS, OK), (Holder.ANOTHER, PROBLEM)],
)
def test_port_of_another_program_is_a_problem(holder: Holder, expected: Level) -> None:
    facts = PortFacts(name="gateway", port=8080, flag="--port", holder=holder)
    assert level(port_diagnosis(facts)) is expected


@pytest.mark.parametrize(
    ("free", "total", "free_files", "expected"),
    [
        (50 * GB, 100 * GB, 500, OK),
        (5 * GB, 1000 * GB, 500, OK),  # little of a large disk is still much
        (1 * GB, 100 * GB, 500, WARNING),
        (1 * GB, 2 * GB, 500, OK),  # half of a small disk
        (GB // 10, 100 * GB, 500, PROBLEM),
        (50 * GB, 100 * GB, 50, WARNING),
        (50 * GB, 100 * GB, 10, PROBLEM),
    ],
)
def test_disk_is_judged_by_share_and_bytes_and_inodes(
    free: int, total: int, free_files: int, expected: Level
) -> None:
    facts = DiskFacts(
        purpose="The state directory", path="/x", free_bytes=free, total_bytes=total,
        free_files=free_files, total_files=1000,
    )  # fmt: skip
    assert level(disk_diagnosis(facts)) is expected


def test_disk_without_a_bound_on_files_is_not_out_of_them() -> None:
    facts = DiskFacts(purpose="x", path="/x", free_bytes=50 * GB, total_bytes=100 * GB)
    assert level(disk_diagnosis(facts)) is OK


@pytest.mark.parametrize(
    ("ahead_s", "expected"),
    [(0.4, OK), (-0.4, OK), (3.0, WARNING), (-3.0, WARNING), (31.0, PROBLEM), (-31.0, PROBLEM)],
)
def test_clock_is_compared_with_others(ahead_s: float, expected: Level) -> None:
    (found,) = clock_diagnoses(ClockFacts(ahead_s={"the database": ahead_s}), now=NOW)
    assert level(found) is expected
    if expected is not OK:
        assert ("ahead of" if ahead_s > 0 else "behind") in found.message


@pytest.mark.parametrize(("later_s", "expected"), [(-60, OK), (0.5, OK), (60, PROBLEM)])
def test_event_that_is_yet_to_come_shows_a_clock_that_was_set_back(
    later_s: float, expected: Level
) -> None:
    facts = ClockFacts(newest_event_at=NOW + timedelta(seconds=later_s))
    (found,) = clock_diagnoses(facts, now=NOW)
    assert level(found) is expected


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"expires_at": NOW + timedelta(days=90)}, OK),
        ({"expires_at": NOW + timedelta(days=13)}, WARNING),
        ({"expires_at": NOW}, PROBLEM),
        ({"expires_at": NOW + timedelta(days=90), "begins_at": NOW + timedelta(hours=1)}, PROBLEM),
        ({"expires_at": NOW + timedelta(days=90), "key_matches": True}, OK),
        ({"expires_at": NOW + timedelta(days=90), "key_matches": False}, PROBLEM),
        ({"fault": "no PEM"}, PROBLEM),
    ],
)
def test_certificate_is_judged_by_its_dates_and_its_key(
    fields: dict[str, Any], expected: Level
) -> None:
    assert level(certificate_diagnosis(CertificateFacts(path="/c", **fields), now=NOW)) is expected


@pytest.mark.parametrize(
    ("mode", "is_ours", "expected"),
    [(0o600, True, OK), (0o400, True, OK), (0o640, True, PROBLEM), (0o602, True, PROBLEM),
     (0o600, False, WARNING)],
)  # fmt: skip
def test_secret_is_its_owners_alone(mode: int, *, is_ours: bool, expected: Level) -> None:
    facts = SecretFacts(path="/k", mode=mode, is_ours=is_ours)
    assert level(secret_diagnosis(facts)) is expected


@pytest.mark.parametrize(
    ("phase", "age_s", "expected"),
    [
        ("running", 650, OK), ("running", 661, PROBLEM),
        ("preparing", 900, OK), ("preparing", 901, PROBLEM),
        ("paused", 23 * 3600, OK), ("paused", 25 * 3600, WARNING),
    ],
)  # fmt: skip
def test_rollout_is_stuck_once_it_is_beyond_its_own_limits(
    phase: str, age_s: float, expected: Level
) -> None:
    facts = RolloutFacts(
        endpoint="churn", candidate="churn:2", phase=phase, step="canary 5 %",
        since=NOW - timedelta(seconds=age_s), limit_s=600.0,
    )  # fmt: skip
    assert level(rollout_diagnosis(facts, now=NOW)) is expected


@pytest.mark.parametrize(
    ("phase", "serves", "expected"),
    [("live", True, OK), ("failed", True, WARNING), ("live", False, PROBLEM),
     ("failed", False, PROBLEM)],
)  # fmt: skip
def test_endpoint_that_cannot_answer_is_a_problem_and_one_that_kept_its_version_a_warning(
    phase: str, *, serves: bool, expected: Level
) -> None:
    assert (
        level(endpoint_diagnosis(EndpointFacts(name="a", phase=phase, serves=serves))) is expected
    )


@pytest.mark.parametrize(
    ("schema", "faults", "expected"),
    [("0002", (), OK), (None, (), WARNING), ("0001", (), WARNING), ("0003", (), PROBLEM),
     ("0002", ("page 3 is torn",), PROBLEM)],
)  # fmt: skip
def test_database_is_judged_by_its_checks_and_its_schema(
    schema: str | None, faults: tuple[str, ...], expected: Level
) -> None:
    facts = DatabaseFacts(place="db", schema=schema, known_schema="0002", faults=faults)
    assert level(database_diagnosis(facts)) is expected


def test_each_damaged_bundle_is_named_with_its_versions() -> None:
    assert [level(one) for one in bundles_diagnoses([], read=1, looked_at=2)] == [OK]
    fault = BundleFault(digest="sha256:" + "a" * 64, versions=("a:1", "b:3"), reason="it is gone.")
    found = bundles_diagnoses([fault, fault], read=0, looked_at=2)
    assert [level(one) for one in found] == [PROBLEM, PROBLEM]
    assert "a:1, b:3" in found[0].message


def test_broken_chain_is_a_problem_and_the_worst_level_is_the_summary() -> None:
    whole = chain_diagnosis(ChainFacts(checked=3))
    broken = chain_diagnosis(ChainFacts(checked=3, fault="event 2 was changed"))
    warned = clock_diagnoses(ClockFacts(ahead_s={"x": 3.0}), now=NOW)[0]
    assert (level(whole), level(broken)) == (OK, PROBLEM)
    assert summary_of([]) is OK
    assert summary_of([whole, warned]) is WARNING
    assert summary_of([warned, broken, whole]) is PROBLEM


def test_time_spans_read_as_people_say_them() -> None:
    said = [span_of(s) for s in (5, 119, 120, 7199, 7200, 172_799, 172_800)]
    assert said == ["5 s", "119 s", "2 min", "119 min", "2 h", "47 h", "2 d"]


def chain(length: int) -> list[Any]:
    events: list[Any] = []
    for number in range(length):
        change = Change(at=NOW, actor="a", action="b", subject=str(number))
        events.append(next_event(change, events[-1] if events else None))
    return events


@pytest.mark.parametrize("start", [0, 1, 3])
def test_chain_may_begin_late_but_every_later_change_is_found(start: int) -> None:
    import msgspec

    whole = chain(6)[start:]
    assert first_loose_link(whole) is None
    for at in range(len(whole)):
        forged = msgspec.structs.replace(whole[at], actor="mallory")
        found = first_loose_link([*whole[:at], forged, *whole[at + 1 :]])
        assert found is not None
        assert found.sequence == whole[at].sequence
    for at in range(1, len(whole) - 1):
        found = first_loose_link([*whole[:at], *whole[at + 1 :]])
        assert found is not None
        assert found.sequence == whole[at].sequence
    assert first_loose_link([whole[0], *whole]) is not None
    assert first_loose_link([]) is None
    first = msgspec.structs.replace(chain(1)[0], previous_hash="1" * 64)
    assert first_loose_link([first]) is not None
