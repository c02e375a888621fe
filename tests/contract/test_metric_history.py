"""The metric history's laws, the same on SQLite and PostgreSQL."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
import sqlalchemy as sa

from shipway.control.history import MOST_POINTS, History
from shipway.control.telemetry import Telemetry
from shipway.core.alerts.judging import judged
from shipway.core.alerts.rules import Anomaly
from shipway.core.errors import ConflictError, InvalidRequest
from shipway.core.measures import MEASURES, OF_SERVER
from shipway.core.resolutions import FINE, HOURS, MINUTES
from shipway.core.telemetry import Name
from shipway.store.sql.database import Database
from shipway.store.sql.tables import metric_windows
from shipway.wire.tallies import TelemetryReport

NOW = datetime(2026, 5, 6, 7, 30, 0, tzinfo=UTC)
CHURN: Name = ("churn", "churn:1")


class World:
    """A control process with its history; `now` is the time that it believes."""

    def __init__(self, database: Database, environment: str = "dev") -> None:
        self.now = NOW
        self.telemetry = Telemetry()
        self.history = History(
            database, self.telemetry, environment=environment, clock=lambda: self.now
        )

    def says(self, source: str, **counts: int) -> None:
        """A source says what it has counted of `churn:1` since it began."""
        row = (*CHURN, {name: float(count) for name, count in counts.items()})
        self.telemetry.note(TelemetryReport(gateway="g", source=source, rows=(row,)), steady_s=0.0)

    def write(self, gauges: Mapping[Name, Mapping[str, float]] | None = None) -> None:
        self.history.write(gauges or {}, at=self.now - timedelta(seconds=5))

    def counted(self, measure: str = "retries", **period: datetime) -> float | None:
        since = period.get("since", self.now - timedelta(hours=1))
        until = period.get("until", self.now + timedelta(minutes=1))
        return self.history.measure(measure, "churn", since=since, until=until)


def test_reports_that_come_twice_late_or_in_another_order_count_once(database: Database) -> None:
    world = World(database)
    world.says("a", retries=3)
    world.says("a", retries=3)
    world.write()
    world.write()
    world.says("a", retries=5)
    with pytest.raises(ConflictError):
        world.says("a", retries=4)
    world.write()
    assert world.counted() == 5


def test_sources_add_up_and_what_one_counted_stays_when_it_is_gone(database: Database) -> None:
    world = World(database)
    world.says("a", retries=3)
    world.says("b", retries=4)
    world.write()
    world.telemetry.forget_silent(10_000.0)
    world.says("c", retries=5)
    world.write()
    assert world.counted() == 12


def test_control_that_starts_again_loses_nothing_and_counts_nothing_twice(
    database: Database,
) -> None:
    before = World(database)
    before.says("a", retries=10)
    before.write()
    before.says("a", retries=13)  # heard, and killed before it was written
    after = World(database)
    assert after.telemetry.instance != before.telemetry.instance
    after.says("a", retries=13)
    after.write()
    assert after.counted() == 13


def test_two_controls_that_hear_the_same_count_it_once(database: Database) -> None:
    worlds = [World(database) for _ in range(4)]
    for round_ in range(1, 6):
        for world in worlds:
            world.says("a", retries=round_ * 10)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda world: world.write(), worlds))
    assert worlds[0].counted() == 50


def test_source_that_counts_less_than_is_known_is_told_so(database: Database) -> None:
    before = World(database)
    before.says("a", retries=10)
    before.write()
    after = World(database)
    after.says("a", retries=2)
    after.write()
    for count in range(3, 9):  # it must hear so each time: it gives its name up after some
        with pytest.raises(ConflictError, match="another name"):
            after.says("a", retries=count)
        after.write()
    after.says("a", retries=11)  # it had been read in part only
    after.write()
    assert after.counted() == 11
    after.says("fresh", retries=4)
    after.write()
    assert after.counted() == 15


def test_environments_of_one_database_do_not_see_each_other(database: Database) -> None:
    dev, prod = World(database), World(database, environment="production")
    dev.says("a", retries=1)
    dev.write()
    assert prod.counted() is None
    prod.says("a", retries=7)
    prod.write()
    assert (dev.counted(), prod.counted()) == (1, 7)


def test_period_is_the_exact_sum_of_its_windows_however_old(database: Database) -> None:
    world = World(database)
    total, sums = 0, []
    # Of each of three days, of each hour of the last one, and of each 10 s of the last hours.
    ages_s = [
        *range(4 * 86400, 86400, -40_000),
        *range(80_000, 9_000, -3_000),
        *range(8_990, 0, -70),
    ]
    for age_s in ages_s:
        world.now = NOW - timedelta(seconds=age_s)
        total += age_s
        sums.append((world.now - timedelta(seconds=5), age_s))
        world.says("a", retries=total)
        world.write()
    world.now = NOW
    assert world.history.prune(NOW) > 0
    for hours in (1, 2, 3, 23, 47, 60, 100):
        since = HOURS.start_of(NOW - timedelta(hours=hours))
        wanted = sum(count for at, count in sums if since <= at)
        assert world.counted(since=since, until=NOW) == (wanted or None), hours
    assert world.counted(since=NOW - timedelta(days=30), until=NOW) == total


def test_windows_that_are_no_longer_kept_are_dropped_and_others_are_not(
    database: Database,
) -> None:
    world = World(database)
    world.says("a", retries=1)
    world.write()
    for one, left in ((FINE, 2), (MINUTES, 1), (HOURS, 0)):
        world.history.prune(NOW + timedelta(seconds=one.keep_s - one.step_s))
        assert _steps(database) == left + 1
        world.history.prune(NOW + timedelta(seconds=one.keep_s + 2 * one.step_s))
        assert _steps(database) == left


def _steps(database: Database) -> int:
    with database._engine.connect() as connection:
        return len(set(connection.scalars(sa.select(metric_windows.c.step_s))))


def test_gauges_are_means_over_their_looks(database: Database) -> None:
    world = World(database)
    for ready in (2, 2, 0, 0):
        gauges = {("churn", ""): {"looks": 1.0}, CHURN: {"samples": 1.0, "ready": float(ready)}}
        world.write(gauges)
        world.now += timedelta(seconds=10)
    assert world.counted("replicas_ready") == 1.0
    since = world.now - timedelta(seconds=20)
    assert world.counted("replicas_ready", since=since, until=world.now) == 0.0


def test_clock_that_was_set_back_loses_no_count(database: Database) -> None:
    world = World(database)
    world.says("a", retries=3)
    world.write()
    world.now -= timedelta(minutes=10)
    world.says("a", retries=5)
    world.write()
    assert world.counted() == 2
    world.now = NOW
    assert world.counted() == 5


def test_series_has_a_point_for_each_step_and_none_where_nothing_was_kept(
    database: Database,
) -> None:
    world = World(database)
    for place, total in enumerate((10, 10, 40)):
        world.now = NOW + timedelta(seconds=10 * place)
        world.says("a", le_1=total)
        world.write({("churn", ""): {"looks": 5.0}})
    since = NOW - timedelta(seconds=30)
    period = {"since": since, "until": world.now}
    found = world.history.series("requests_per_s", "churn", step_s=5, **period)
    assert found.step_s == 10
    assert [point.value for point in found.points] == [None, None, 1.0, 0.0, 3.0]
    assert found.points[0].at == since
    wide = world.history.series("requests_per_s", "churn", step_s=60, **period)
    assert [(point.at, point.value) for point in wide.points] == [
        (NOW - timedelta(minutes=1), 10 / 60),
        (NOW, 30 / 20),
    ]
    with pytest.raises(InvalidRequest, match=f"{MOST_POINTS:,} points"):
        world.history.series(
            "retries", "churn", step_s=1, since=NOW - timedelta(days=399), until=NOW
        )


def test_versions_are_told_apart(database: Database) -> None:
    world = World(database)
    rows = tuple(("churn", f"churn:{n}", {"retries": float(n)}) for n in (1, 2))
    world.telemetry.note(TelemetryReport(gateway="g", source="a", rows=rows), steady_s=0.0)
    world.write()
    period = {"since": NOW - timedelta(hours=1), "until": NOW}
    assert world.history.measure("retries", "churn", **period) == 3
    assert world.history.measure("retries", "churn", version="churn:2", **period) == 2
    assert world.history.measure("retries", "churn", version="churn:3", **period) is None
    assert world.history.measure("retries", "chur", **period) is None


@pytest.mark.parametrize(
    "rows",
    [
        (("e", "v", {"shed": -1.0}),),
        (("e", "v", {"shed": float("nan")}),),
        (("e" * 64, "v", {"shed": 1.0}),),
        (("e", "v" * 81, {"shed": 1.0}),),
    ],
)
def test_report_that_counts_nothing_sensible_is_refused(rows: tuple[object, ...]) -> None:
    with pytest.raises(InvalidRequest):
        Telemetry().note(TelemetryReport(gateway="g", source="a", rows=rows), steady_s=0.0)  # type: ignore[arg-type]


def test_counts_from_while_control_was_away_are_not_those_of_its_return(database: Database) -> None:
    before = World(database)
    before.says("a", retries=10)
    before.write()
    after = World(database)
    after.now = before.now + timedelta(hours=1)
    after.says("a", retries=500)
    after.write()
    after.says("a", retries=502)
    after.write()
    lately = after.now - timedelta(minutes=1)
    assert after.counted(since=lately) == 2
    assert after.counted(since=before.now - timedelta(hours=1)) == 502


def test_counts_of_a_time_away_are_told_apart_when_control_wrote_before_it_heard(
    database: Database,
) -> None:
    before = World(database)
    before.says("a", retries=10)
    before.write()
    after = World(database)
    after.now = before.now + timedelta(hours=1)
    after.write({("", ""): {"looks": 1.0}})
    after.now += timedelta(seconds=2)
    after.says("a", retries=500)
    after.write()
    after.now += timedelta(seconds=2)
    after.says("a", retries=502)
    after.write()
    assert after.counted(since=after.now - timedelta(minutes=1)) == 2
    assert after.counted(since=before.now - timedelta(hours=1)) == 502
    after.now += timedelta(hours=2)
    after.says("new", retries=7)  # it began long after
    after.write()
    assert after.counted(since=after.now - timedelta(minutes=1)) == 7


def days_of(database: Database, days: int) -> World:
    """A server that answered each second, in 10 ms, from 6:30 to 10:10 of each of so many days before now."""
    world = World(database)
    answers = 0
    for days_ago in range(days, 0, -1):
        for minutes in range(-60, 180, 20):
            world.now = NOW - timedelta(days=days_ago) + timedelta(minutes=minutes)
            answers += 1200
            world.says("a", **{"le_0.01": answers, "retries": answers})
            world.write()
    world.now = NOW
    return world


def test_a_period_has_the_measures_of_every_endpoint_that_each_has_by_itself(
    database: Database,
) -> None:
    world = World(database)
    for tick in range(1, 40):
        rows = tuple(
            (endpoint, f"{endpoint}:{n}", {"le_0.01": 7.0 * tick, "failed": tick, "retries": n})
            for endpoint, n in (("churn", 1), ("churn", 2), ("other", 1))
        )
        world.telemetry.note(TelemetryReport(gateway="g", source="a", rows=rows), steady_s=0.0)
        world.write()
        world.now += timedelta(minutes=11, seconds=7)
    for ago, length in ((0, 60), (600, 3600), (3 * 3600, 600), (0, 7 * 3600), (5 * 86400, 60)):
        until = world.now - timedelta(seconds=ago)
        period = {"since": until - timedelta(seconds=length), "until": until}
        measured = world.history.period(**period)
        for name in MEASURES.keys() - OF_SERVER:
            for endpoint in ("churn", "other", "nobody"):
                by_itself = world.history.measure(name, endpoint, **period)
                assert measured(name, endpoint) == by_itself, (name, endpoint, ago, length)
    with pytest.raises(InvalidRequest):
        world.history.period(**period)("p98_ms", "churn")


def test_short_periods_of_old_days_are_known_by_the_hour(database: Database) -> None:
    world = days_of(database, 7)
    for minutes in range(0, 60, 7):
        until = NOW - timedelta(days=5) + timedelta(minutes=minutes)
        since = until - timedelta(minutes=10)
        period = {"since": since, "until": until}
        assert world.history.measure("requests_per_s", "churn", **period) == pytest.approx(1.0)
        assert world.history.measure("retries", "churn", **period) == pytest.approx(600)
        p99 = world.history.measure("p99_ms", "churn", **period)
        assert p99 is not None
        assert 5 <= p99 <= 10


def test_anomalies_are_judged_at_each_minute_of_an_hour(database: Database) -> None:
    world = days_of(database, 7)
    rule = Anomaly(name="latency", measure="p99_ms")
    slow = 0
    for minute in range(60):
        world.now = NOW + timedelta(minutes=minute)
        slow += 100
        world.says("slow", le_5=slow)
        world.write()
        world.now += timedelta(seconds=10)

        def measured(name: str, ago_s: float, span_s: float) -> float | None:
            until = world.now - timedelta(seconds=ago_s)
            since = until - timedelta(seconds=span_s)
            return world.history.measure(name, "churn", since=since, until=until)

        found = judged(rule, measured)
        assert found is not None, minute
        assert found.holds, minute


def test_series_that_ends_in_the_past_ends_with_a_whole_step(database: Database) -> None:
    world = days_of(database, 4)
    since = HOURS.start_of(NOW - timedelta(days=3))
    until = since + timedelta(hours=2, minutes=1)
    for measure, wanted in (("requests_per_s", 1.0), ("retries", 3600.0)):
        found = world.history.series(measure, "churn", since=since, until=until, step_s=3600)
        assert [point.value for point in found.points] == [wanted] * 3
