"""Runs of monitors: each slot once, whoever asks, whatever is killed; the same on SQLite and PostgreSQL."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest

from shipway.core.monitor_runs import (
    LEASE,
    MOST_ATTEMPTS,
    MonitorReport,
    MonitorRun,
    MonitorVerdict,
    Period,
    RunState,
    Trigger,
    done,
    taken,
)
from shipway.core.monitors import MonitorKind, MonitorSpec
from shipway.store.sql.database import Database

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
HOUR = timedelta(hours=1)
DRIFT = MonitorSpec(kind=MonitorKind.DRIFT)


def run(number: int = 1, **fields: Any) -> MonitorRun:
    given = {"environment": "staging", "endpoint": "churn", "monitor": DRIFT, "due_at": NOW}
    return MonitorRun(id=f"run-{number}", **{**given, **fields})


def report(verdict: MonitorVerdict = MonitorVerdict.STEADY) -> MonitorReport:
    return MonitorReport(
        verdict=verdict, summary="Nothing moved.", start=NOW - HOUR, end=NOW,
        reference="the baseline", rows=10, reference_rows=20, checked=3,
    )  # fmt: skip


def add(database: Database, *runs: MonitorRun) -> list[bool]:
    with database.transaction() as tx:
        return [tx.monitor_runs.add(one) for one in runs]


def take(database: Database, *, holder: str, now: datetime) -> MonitorRun | None:
    with database.transaction() as tx:
        free = tx.monitor_runs.free("staging", now)
        if not free:
            return None
        mine = taken(free[0], holder=holder, now=now)
        assert tx.monitor_runs.put(mine, holder=free[0].holder)
        return mine


def finish(database: Database, mine: MonitorRun, now: datetime, **said: str) -> bool:
    found = msgspec.structs.replace(report(), **said)
    with database.transaction() as tx:
        return tx.monitor_runs.put(
            done(mine, found, artifacts=("report.html",), now=now), holder=mine.holder
        )


def test_run_is_read_back_with_its_report(database: Database) -> None:
    add(database, run())
    mine = take(database, holder="a", now=NOW)
    assert mine is not None
    assert finish(database, mine, NOW + HOUR)
    with database.reading() as tx:
        found = tx.monitor_runs.get("run-1")
        listed = tx.monitor_runs.newest("staging", "churn", "drift", limit=5)
        assert tx.monitor_runs.get("other") is None
    assert found == done(mine, report(), artifacts=("report.html",), now=NOW + HOUR)
    assert listed == [msgspec.structs.replace(found, report=None)]


def test_a_report_keeps_the_names_of_callers_whatever_is_in_them(database: Database) -> None:
    add(database, run())
    mine = take(database, holder="a", now=NOW)
    assert mine is not None
    assert finish(database, mine, NOW + HOUR, summary="new: `a\x00b`")
    with database.reading() as tx:
        found = tx.monitor_runs.get("run-1")
    assert found is not None
    assert found.report is not None
    assert found.summary == found.report.summary == "new: `a\x00b`"


def test_slot_is_run_once_whoever_plans_it(database: Database) -> None:
    assert add(database, run(1), run(2)) == [True, False]
    other = MonitorSpec(kind=MonitorKind.QUALITY)
    assert add(database, run(3, due_at=NOW + HOUR), run(4, monitor=other)) == [True, True]


def test_two_runners_never_take_one_run(database: Database) -> None:
    add(database, *(run(number, due_at=NOW + number * HOUR) for number in range(12)))
    with ThreadPoolExecutor(4) as pool:
        futures = [
            pool.submit(take, database, holder=f"h{number}", now=NOW + 20 * HOUR)
            for number in range(16)
        ]
        found = [future.result() for future in futures]
    runs = [one.id for one in found if one is not None]
    assert len(runs) == 12
    assert len(set(runs)) == 12


def test_longest_due_is_taken_first(database: Database) -> None:
    add(database, run(1, due_at=NOW), run(2, due_at=NOW - HOUR))
    first = take(database, holder="a", now=NOW)
    assert first is not None
    assert first.id == "run-2"


def test_runs_over_other_times_let_those_of_a_schedule_go_first(database: Database) -> None:
    period = Period(since=NOW - 48 * HOUR, until=NOW - 24 * HOUR)
    add(database, run(1, due_at=NOW - HOUR, period=period), run(2, due_at=NOW))
    found = [take(database, holder="a", now=NOW) for _ in range(2)]
    assert [one and one.id for one in found] == ["run-2", "run-1"]


def test_the_last_that_ended_is_of_its_own_window_and_of_its_monitor(database: Database) -> None:
    period = Period(since=NOW - 48 * HOUR, until=NOW - 24 * HOUR)
    quoting = 'Somebody wrote "period":{ into it.'
    add(
        database,
        run(1, due_at=NOW - 3 * HOUR),
        run(2, due_at=NOW - 2 * HOUR),
        run(3, due_at=NOW - HOUR, period=period),
        run(4, due_at=NOW - HOUR, endpoint="other"),
    )
    with database.transaction() as tx:
        assert tx.monitor_runs.last_ended("staging", "churn", "drift") is None
    for mine in iter(lambda: take(database, holder="a", now=NOW), None):
        with database.transaction() as tx:
            found = msgspec.structs.replace(report(), summary=quoting)
            tx.monitor_runs.put(done(mine, found, artifacts=(), now=NOW), holder="a")
    add(database, run(5, due_at=NOW))
    with database.reading() as tx:
        last = tx.monitor_runs.last_ended("staging", "churn", "drift")
        assert last is not None
        assert (last.id, last.summary) == ("run-2", quoting)
        assert tx.monitor_runs.last_ended("staging", "churn", "quality") is None


def test_run_of_the_killed_is_taken_up_after_its_lease_and_not_before(database: Database) -> None:
    add(database, run())
    killed = take(database, holder="killed", now=NOW)
    assert killed is not None
    assert take(database, holder="b", now=NOW + LEASE - timedelta(seconds=1)) is None
    second = take(database, holder="b", now=NOW + LEASE)
    assert second is not None
    assert second.attempts == 2
    # The first was only slow: what it brings now is another's.
    assert not finish(database, killed, NOW + LEASE)
    assert finish(database, second, NOW + LEASE)
    assert not finish(database, second, NOW + LEASE), "an ended run stays as it is"


def test_lease_of_a_clock_that_was_ahead_does_not_hold_for_years(database: Database) -> None:
    add(database, run())
    assert take(database, holder="a", now=NOW + timedelta(days=365)) is not None
    assert take(database, holder="b", now=NOW) is not None


def test_run_that_kills_its_process_each_time_ends_as_an_error(database: Database) -> None:
    add(database, run())
    now = NOW
    for _ in range(MOST_ATTEMPTS):
        assert take(database, holder="a", now=now) is not None
        now += LEASE
    ended = take(database, holder="a", now=now)
    assert ended is not None
    assert ended.state is RunState.ERROR
    assert "started 3 times" in ended.message
    assert take(database, holder="a", now=now + LEASE) is None


def test_last_slot_is_of_the_schedule_and_not_of_the_future(database: Database) -> None:
    add(
        database,
        run(1),
        run(2, due_at=NOW + 9 * HOUR),
        run(3, due_at=NOW + timedelta(minutes=5), trigger=Trigger.PERSON),
    )
    with database.reading() as tx:
        assert tx.monitor_runs.last_slot("staging", "churn", "drift", until=NOW + HOUR) == NOW
        assert tx.monitor_runs.last_slot("staging", "churn", "drift", until=NOW - HOUR) is None
        assert tx.monitor_runs.last_slot("staging", "other", "drift", until=NOW + HOUR) is None


@pytest.mark.parametrize(
    ("before", "keep", "gone"),
    [(NOW, 99, []), (NOW + 2 * HOUR, 99, ["run-0", "run-1"]), (NOW, 2, ["run-0", "run-1"])],
)
def test_old_and_surplus_runs_are_outdated_and_waiting_ones_never(
    database: Database, before: datetime, keep: int, gone: list[str]
) -> None:
    ended = [done(run(n, due_at=NOW + n * HOUR), report(), artifacts=(), now=NOW) for n in range(4)]
    add(database, *ended, run(9, due_at=NOW - 99 * HOUR), run(8, endpoint="other", due_at=NOW))
    with database.transaction() as tx:
        found = tx.monitor_runs.outdated("staging", before=before, keep=keep)
        assert sorted(one.id for one in found) == gone
        tx.monitor_runs.delete([one.id for one in found])
        left = tx.monitor_runs.newest("staging", "churn", "drift", limit=9)
        assert len(left) == 5 - len(gone)


def test_runs_of_another_environment_are_not_taken(database: Database) -> None:
    add(database, run(1, environment="production"))
    assert take(database, holder="a", now=NOW) is None
