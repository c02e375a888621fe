"""Monitors over a real registry, log and database: from the slot that has come to the alert, each run once."""

from __future__ import annotations

import asyncio
import sys
import threading
from datetime import timedelta
from itertools import pairwise
from pathlib import Path

import httpx
import msgspec
import numpy as np
import pytest

from shipway.api.app import create_app
from shipway.api.services import Services
from shipway.control.access import Access, KeyRequest
from shipway.control.audit import AuditLog
from shipway.control.changes import Request
from shipway.control.monitor_orders import Orders
from shipway.control.monitor_runner import KEEP, MonitorRunner
from shipway.control.monitors import Monitors
from shipway.control.predictions import Predictions
from shipway.control.registry import Registry
from shipway.core import captures
from shipway.core.access import ANYBODY, Grant, Role
from shipway.core.captures import Feedback, Prediction, Shape
from shipway.core.capturing import Capture
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import ConflictError, NotFound, StoreUnavailable
from shipway.core.monitor_runs import FAILED, LEASE, MOST_ATTEMPTS, MonitorVerdict, RunState
from shipway.core.monitors import Against, MonitorKind, MonitorSpec
from shipway.core.signature import Layout, Signature
from shipway.core.versions import VersionRef
from shipway.monitoring.process import RunProcess
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.testing.bundles import write_bundle

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1] / "contract"))
from monitored import DAY, END, INPUTS, OUTPUTS, profile, values
from spooling import micros, segment

HOUR = timedelta(hours=1)
DRIFT = MonitorSpec(kind=MonitorKind.DRIFT)
ENVIRONMENT = "dev"
BROKEN_AT = END - 8 * HOUR


class World:
    """A control's monitors, with a clock that stands still unless it is moved."""

    def __init__(self, state: Path, database: Database) -> None:
        self.state, self.database, self.now = state, database, END
        self.signals: list = []
        self.artifacts = ArtifactStore(str(state / "artifacts"))
        self.registry = Registry(database, self.artifacts)
        self.log = Predictions(database, self.artifacts, environment=ENVIRONMENT, state_dir=state)
        self.monitors = Monitors(database, self.artifacts.reports, environment=ENVIRONMENT)
        self.runner = self.new_runner()

    def new_runner(self, log=None) -> MonitorRunner:
        return MonitorRunner(
            self.database,
            Orders(self.registry, log or self.log),
            self.artifacts.reports,
            environment=ENVIRONMENT,
            process=RunProcess(self.state / "cache"),
            observe=lambda signals, now: self.signals.extend(signals),
            clock=lambda: self.now,
            scratch=self.state / "run",
        )

    def register(self, directory: Path, *, files=None, **content) -> None:
        signature = Signature(layout=Layout.COLUMNS, inputs=INPUTS, outputs=OUTPUTS)
        files = {
            "model/model.bin": str(content).encode(),
            "profile.json": msgspec.json.encode(profile()),
            **(files or {}),
        }
        given = {"signature": signature, "profile": "profile.json", **content}
        write_bundle(directory, files=files, **given)
        self.registry.register("churn", directory, actor="ada", now=END)

    def put(self, *monitors: MonitorSpec, version: int | None = 1, **capture) -> None:
        spec = EndpointSpec(
            name="churn", model="churn:1", environment=ENVIRONMENT,
            capture=Capture(**capture), monitors=monitors or None,
        )  # fmt: skip
        active = None if version is None else VersionRef("churn", version)
        with self.database.transaction() as tx:
            before = tx.endpoints.get(ENVIRONMENT, "churn")
            generation = 0 if before is None else before.generation
            state = EndpointState(
                spec=spec, generation=generation + 1, phase=Phase.LIVE, active=active
            )
            tx.endpoints.put(state, expected_generation=generation or None)

    def record(
        self,
        *,
        rows=3000,
        broken=False,
        version=1,
        start=END - DAY,
        end=END,
        role=captures.Role.PRIMARY,
    ) -> None:
        shape = Shape(
            environment=ENVIRONMENT, endpoint="churn", model="churn", version=version,
            inputs=INPUTS, outputs=OUTPUTS,
        )  # fmt: skip
        columns = values(rows, np.random.default_rng(5))
        times = [start + (end - start) * (n / rows) for n in range(rows)]
        if broken:
            columns["income"][[at >= BROKEN_AT for at in times]] *= 100
        kept = (
            Prediction(
                shape=shape, at_us=micros(at), request_id=f"r{version}-{n}",
                role=role,
                inputs={field.name: columns[field.name][n : n + 1] for field in INPUTS},
                outputs={"score": columns["score"][n : n + 1]},
            )
            for n, at in enumerate(times)
        )  # fmt: skip
        self.log.ingest(segment(kept), gateway="g1", now=self.now)

    def say_what_came_true(self, *, rows=1500, off=0.1) -> None:
        """Feedback on the recorded predictions; those after `BROKEN_AT` are off by eight times as much."""
        scores = values(rows, np.random.default_rng(5))["score"]
        said = []
        for n in range(rows):
            at = END - 8 * DAY + 8 * DAY * (n / rows)
            gap = off * (8 if at >= BROKEN_AT else 1) * (1 + n % 3)
            said.append(
                Feedback(
                    environment=ENVIRONMENT, endpoint="churn", at_us=micros(at) + 1,
                    request_id=f"r1-{n}", score=float(scores[n]) + gap,
                )
            )  # fmt: skip
        self.log.ingest(segment((), said), gateway="g1", now=self.now)

    def newest(self, monitor="drift"):
        return self.monitors.runs("churn", monitor, limit=99)

    def fired(self):
        return [(one.rule, one.is_firing) for one in self.signals]


@pytest.fixture
def world(tmp_path):
    state = tmp_path / "state"
    database = Database.open(sqlite_url(state))
    world = World(state, database)
    world.register(tmp_path / "bundle")
    yield world
    world.runner.close()
    database.close()


def test_due_monitor_finds_what_moved_and_tells_the_alerts(world):
    world.put(DRIFT)
    world.record(broken=True)
    world.runner.tick()
    (run,) = world.newest()
    assert (run.state, run.verdict) == (RunState.DONE, MonitorVerdict.FIRING)
    assert run.due_at == DRIFT.schedule("churn").newest(END)
    whole = world.monitors.run("churn", run.id)
    assert whole.report.findings[0].feature == "income"
    assert abs(whole.report.since - BROKEN_AT) <= HOUR
    assert whole.report.reference == "the baseline of churn:1"
    assert world.fired() == [("drift", True), (FAILED, False)]
    page = world.monitors.artifact("churn", run.id, "report.html")
    assert b"income" in page
    assert list((world.state / "run").iterdir()) == [], "nothing is left behind"


def test_slot_is_run_once_and_the_next_one_again(world):
    world.put(DRIFT)
    world.record()
    for _ in range(3):
        world.runner.tick()
    assert len(world.newest()) == 1
    world.now += 30 * HOUR
    world.runner.tick()
    assert len(world.newest()) == 2, "a day missed is one run"
    # A steady log, then none: nothing to say, so an alert would stay as it is.
    assert world.fired() == [("drift", False), (FAILED, False), (FAILED, False)]


def test_slot_is_not_lost_to_a_database_that_is_away_for_a_moment(world, monkeypatch):
    world.put(DRIFT)

    def away():
        raise StoreUnavailable("The database cannot be used.")

    with monkeypatch.context() as moment:
        moment.setattr(world.database, "transaction", away)
        with pytest.raises(StoreUnavailable):
            world.runner.plan(world.now)
    world.runner.plan(world.now)
    assert len(world.newest()) == 1


def test_clock_set_back_runs_on(world):
    world.put(DRIFT)
    world.runner.tick()
    world.now -= 30 * DAY
    world.runner.tick()
    assert len(world.newest()) == 2


def test_defaults_run_from_the_first_moment(world):
    world.put()
    world.record()
    world.runner.tick()
    stands = world.monitors.of("churn", now=world.now)
    verdicts = {one.monitor.label: one.last and one.last.verdict for one in stands}
    # There is no feedback, so that errors are not looked at. The bundle's baseline has no outputs, and there are no days before: nothing to compare these with.
    assert verdicts == {
        "drift": MonitorVerdict.STEADY,
        "prediction_drift": MonitorVerdict.INCONCLUSIVE,
        "quality": MonitorVerdict.STEADY,
        "performance": None,
    }
    assert all(one.next_at > world.now for one in stands)


def test_nothing_runs_where_nothing_is_kept_or_serves(world):
    world.put(DRIFT, version=None)
    world.runner.tick()
    assert world.newest() == ()


def test_versions_are_compared_in_the_same_window(world, tmp_path):
    world.register(tmp_path / "other", options={"second": "yes"})
    world.record(broken=True, version=1)
    world.record(version=2)
    world.put(MonitorSpec(kind=MonitorKind.DRIFT, against=Against(version=2)))
    world.runner.tick()
    (run,) = world.newest()
    assert run.verdict is MonitorVerdict.FIRING
    report = world.monitors.run("churn", run.id).report
    assert report.reference == "version 2 in the same window"
    assert report.reference_rows > 2500


@pytest.mark.parametrize("kind", [MonitorKind.DRIFT, MonitorKind.QUALITY])
def test_copies_that_no_caller_saw_are_not_in_the_window(world, kind):
    world.put(MonitorSpec(kind=kind))
    world.record(rows=1500)
    world.record(rows=1500, role=captures.Role.CANDIDATE)
    world.record(broken=True, role=captures.Role.SHADOW)
    world.runner.tick()
    (run,) = world.newest(kind.value)
    assert run.verdict is MonitorVerdict.STEADY
    assert 2500 < world.monitors.run("churn", run.id).report.rows <= 3000


def test_copies_are_not_in_the_days_before_either(world):
    world.put(MonitorSpec(kind=MonitorKind.DRIFT, against=Against(trailing="7d")))
    world.record(broken=True)
    world.record(broken=True, start=END - 8 * DAY, end=END - 3 * DAY)
    world.record(rows=9000, start=END - 8 * DAY, end=END - DAY, role=captures.Role.SHADOW)
    world.runner.tick()
    (run,) = world.newest()
    assert 2000 < world.monitors.run("churn", run.id).report.reference_rows <= 3000


def test_version_that_had_nothing_but_copies_can_be_compared_with(world, tmp_path):
    world.register(tmp_path / "other", options={"second": "yes"})
    world.record(broken=True, version=1)
    world.record(version=2, role=captures.Role.SHADOW)
    world.put(MonitorSpec(kind=MonitorKind.DRIFT, against=Against(version=2)))
    world.runner.tick()
    (run,) = world.newest()
    assert run.verdict is MonitorVerdict.FIRING
    assert world.monitors.run("churn", run.id).report.reference_rows > 2500


def test_redacted_input_is_not_judged(world):
    world.put(DRIFT, redact=("income",))
    world.record(broken=True)
    world.runner.tick()
    (run,) = world.newest()
    assert run.verdict is MonitorVerdict.STEADY
    assert "income" not in str(world.monitors.run("churn", run.id).report.findings)


def test_errors_are_looked_at_once_there_is_feedback(world):
    world.put(MonitorSpec(kind=MonitorKind.PERFORMANCE, min_rows=50))
    world.record(rows=1500, start=END - 8 * DAY)
    world.runner.tick()
    assert world.newest("performance") == ()
    world.say_what_came_true()
    world.now += HOUR
    world.runner.tick()
    (run,) = world.newest("performance")
    assert run.verdict is MonitorVerdict.FIRING
    assert "mean absolute error rose from 0.2" in run.summary
    assert world.fired() == [("performance", True), (FAILED, False)]


class Away:
    """A log whose store does not answer."""

    def files(self, endpoint, **bounds):
        raise StoreUnavailable("The artifact store `s3://x` cannot be used: timeout.")


def test_run_that_cannot_work_says_why_and_is_an_alert_of_its_own(world):
    world.put(DRIFT)
    world.runner.close()
    world.runner = world.new_runner(Away())
    world.runner.tick()
    (run,) = world.newest()
    assert run.state is RunState.ERROR
    assert "cannot be used: timeout" in run.message
    assert world.fired() == [(FAILED, True)]
    world.runner.close()
    world.runner = world.new_runner()
    world.now += HOUR
    world.runner.tick()
    assert world.fired()[-1] == (FAILED, False), "and it is over once it works"


def test_profile_that_is_none_is_an_error_of_the_run(world, tmp_path):
    world.register(tmp_path / "foreign", files={"profile.json": b'{"rows": "many"}'})
    world.put(DRIFT, version=2)
    world.runner.tick()
    (run,) = world.newest()
    assert run.state is RunState.ERROR
    assert "`profile.json` of churn:2 is not a baseline profile" in run.message


def test_directory_that_cannot_be_written_is_an_error_of_the_run(world):
    world.put(DRIFT)
    (world.state / "run").write_text("in the way")
    world.runner.tick()
    (run,) = world.newest()
    assert run.state is RunState.ERROR
    assert f"`{world.state / 'run'}` cannot be used: File exists" in run.message
    assert world.fired() == [(FAILED, True)]


def test_tick_that_fails_in_an_unknown_way_is_logged_and_not_the_last(world, caplog):
    world.put(DRIFT)
    world.runner._observe = lambda signals, now: 1 / 0
    world.runner._tick_safely()
    assert "Monitors cannot run now" in caplog.text
    assert "ZeroDivisionError" in caplog.text


def test_run_of_a_killed_control_is_taken_up_after_its_lease(world):
    world.put(DRIFT)
    world.runner.plan(world.now)
    killed = world.new_runner()
    killed._process.run = lambda order: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.work()
    assert not world.runner.work(), "it may still be at it"
    world.now += LEASE
    assert world.runner.work()
    (run,) = world.newest()
    assert (run.state, run.attempts) == (RunState.DONE, 2)


@pytest.mark.parametrize("attempts", [0, MOST_ATTEMPTS])
def test_verdict_is_told_although_control_was_killed_at_the_end_of_the_run(world, attempts):
    world.put(DRIFT)
    world.record(broken=True)
    world.runner.plan(world.now)
    (run,) = world.newest()
    with world.database.transaction() as tx:
        tx.monitor_runs.put(msgspec.structs.replace(run, attempts=attempts), holder="")
    killed = world.new_runner()
    killed._observe = lambda signals, now: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        killed.work()
    world.now += LEASE
    assert world.runner.work()
    told = [("drift", True), (FAILED, False)] if not attempts else [(FAILED, True)]
    assert world.fired() == told
    assert not world.runner.work(), "it has ended"


def test_closing_gives_the_run_back_at_once(world):
    world.put(DRIFT)
    world.record()
    world.runner.plan(world.now)
    thread = threading.Thread(target=world.runner.work)
    thread.start()
    while world.runner._process._process is None and thread.is_alive():
        thread.join(0.001)
    world.runner.close()
    thread.join(30)
    (run,) = world.newest()
    assert (run.state, run.attempts, run.holder) == (RunState.WAITING, 0, "")
    assert world.signals == []
    world.runner = world.new_runner()
    assert world.runner.work()


def test_old_runs_go_with_what_was_made_of_them(world):
    world.put(DRIFT)
    world.record(broken=True)
    world.runner.tick()
    (run,) = world.newest()
    path = f"{run.place}/report.html"
    assert world.artifacts.reports.read(path) is not None
    assert world.runner.sweep(world.now) == 0
    assert world.runner.sweep(world.now + KEEP + HOUR) == 1
    assert world.newest() == ()
    assert world.artifacts.reports.read(path) is None


def test_run_that_a_person_wants_is_on_record_and_does_not_move_the_schedule(world):
    world.put(DRIFT)
    world.record()
    request = Request(actor="ada", now=world.now)
    run = world.monitors.run_now("churn", "drift", request)
    assert world.monitors.run_now("churn", "drift", request) == run, "one at a time"
    world.runner.tick()
    assert len(world.newest()) == 2
    ended = world.monitors.run("churn", run.id)
    assert (ended.by, ended.report.end) == ("ada", world.now)
    assert ended.artifacts == ("report.html", "plot.svg", "plot.png")
    events = AuditLog(world.database).newest(subject="churn")
    (event,) = (one for one in events if one.action == "monitor.run")
    assert event.actor == "ada"
    assert event.details["run"] == run.id


def test_run_over_a_period_judges_that_and_moves_neither_alerts_nor_the_monitors_last_word(world):
    world.put(DRIFT)
    world.record(broken=True)
    world.runner.tick()
    (newest,) = world.newest()
    told = list(world.signals)
    world.now += HOUR / 2
    request = Request(actor="ada", now=world.now)
    before = {"since": END - DAY, "until": BROKEN_AT - HOUR}
    run = world.monitors.run_now("churn", "drift", request, **before)
    assert world.monitors.run_now("churn", "drift", request, **before) == run, "the same waits"
    world.runner.tick()
    ended = world.monitors.run("churn", run.id)
    assert ended.verdict is MonitorVerdict.STEADY, "the hours before it broke"
    assert (ended.report.start, ended.report.end) == (END - DAY, BROKEN_AT - HOUR)
    assert ended.report.rows == 3000 * 15 // 24
    assert world.signals == told
    (stand,) = world.monitors.of("churn", now=world.now)
    assert stand.last.id == newest.id
    events = AuditLog(world.database).newest(subject="churn")
    (event,) = (one for one in events if one.action == "monitor.run")
    assert event.details["period"] == {
        "since": "2026-05-05T07:00:00Z",
        "until": "2026-05-05T22:00:00Z",
    }


def test_slots_that_become_due_while_others_run_are_not_left_out(world, monkeypatch):
    world.put(MonitorSpec(kind=MonitorKind.DRIFT, every="1h"))
    world.runner.tick()
    request = Request(actor="ada", now=world.now)
    for hours in range(4):
        since = END - DAY - hours * HOUR
        world.monitors.run_now("churn", "drift", request, since=since, until=END)
    work = world.runner.work

    def slow():
        world.now += HOUR / 2
        return work()

    monkeypatch.setattr(world.runner, "work", slow)
    world.runner.tick()
    runs = world.newest()
    assert all(one.ended_at for one in runs)
    slots = sorted(one.due_at for one in runs if one.period is None)
    assert len(slots) >= 4
    assert {after - before for before, after in pairwise(slots)} == {HOUR}


def test_people_cannot_let_any_number_of_runs_wait(world):
    world.put(DRIFT)
    for hours in range(10):
        request = Request(actor="ada", now=world.now)
        since = END - DAY - hours * HOUR
        world.monitors.run_now("churn", "drift", request, since=since, until=END)
    later = Request(actor="ada", now=world.now + HOUR)
    with pytest.raises(ConflictError, match="10 runs of monitor `drift` of `churn` wait"):
        world.monitors.run_now("churn", "drift", later)
    assert world.monitors.run_now("churn", "drift", later, since=since, until=END)


def test_monitor_that_is_not_there_is_named_with_the_nearest(world):
    world.put(DRIFT)
    with pytest.raises(NotFound, match="Did you mean `drift`"):
        world.monitors.run_now("churn", "drfit", Request(actor="ada", now=END))


class Api:
    """The routes of monitors, for callers with a key each."""

    def __init__(self, world: World) -> None:
        self.access = Access(world.database, environment=ENVIRONMENT, is_on=True)
        services = Services(
            registry=world.registry,
            audit=AuditLog(world.database),
            access=self.access,
            staging=Staging(world.state / "staging"),
            now=lambda: world.now,
            monitors=world.monitors,
        )
        self.app = create_app(services)

    def key(self, role: str, project: str = "*") -> str:
        wanted = KeyRequest(name=role, grants=(Grant(role=Role(role), project=project),))
        return self.access.create(wanted, ANYBODY, actor="test", now=END).key

    def ask(self, method: str, path: str, key: str) -> httpx.Response:
        async def asked() -> httpx.Response:
            transport = httpx.ASGITransport(self.app)
            async with httpx.AsyncClient(transport=transport, base_url="http://control") as http:
                headers = {"authorization": f"Bearer {key}"}
                return await http.request(method, f"/api/v1{path}", headers=headers)

        return asyncio.run(asked())


def test_routes_give_runs_and_files_to_those_who_may_read_the_endpoint(world):
    world.put(DRIFT)
    world.record(broken=True)
    world.runner.tick()
    (run,) = world.newest()
    api = Api(world)
    viewer, stranger = api.key("viewer"), api.key("viewer", "other")
    (stand,) = api.ask("GET", "/endpoints/churn/monitors", viewer).json()
    assert stand["last"]["id"] == run.id
    assert api.ask("GET", "/endpoints/churn/monitors/drift/runs", viewer).json()[0]["id"] == run.id
    below = f"/endpoints/churn/monitor-runs/{run.id}"
    assert api.ask("GET", below, viewer).json()["report"]["findings"][0]["feature"] == "income"
    page = api.ask("GET", f"{below}/report.html", viewer)
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "sandbox" in page.headers["content-security-policy"]
    assert api.ask("GET", f"{below}/plot.svg", viewer).text.startswith("<svg")
    assert api.ask("GET", f"{below}/plot.png", viewer).content.startswith(b"\x89PNG")
    assert api.ask("POST", "/endpoints/churn/monitors/drift/run", viewer).status_code == 403
    operator = api.key("operator")
    run_path = "/endpoints/churn/monitors/drift/run"
    assert api.ask("POST", run_path, operator).status_code == 202
    world.now += HOUR
    past = api.ask(
        "POST", f"{run_path}?since=2026-05-05T07:00:00&until=2026-05-05T08:00Z", operator
    )
    assert past.json()["period"] == {
        "since": "2026-05-05T07:00:00Z",
        "until": "2026-05-05T08:00:00Z",
    }
    assert api.ask("POST", f"{run_path}?since=2027-01-01", operator).status_code == 400
    for path in (below, f"{below}/report.html", "/endpoints/churn/monitors"):
        assert api.ask("GET", path, stranger).status_code == 404
    with world.database.transaction() as tx:
        mine = EndpointSpec(name="other.m", model="churn:1", environment=ENVIRONMENT)
        tx.endpoints.put(
            EndpointState(spec=mine, generation=1, phase=Phase.LIVE), expected_generation=None
        )
    # A run is found below its own endpoint only.
    theirs = f"/endpoints/other.m/monitor-runs/{run.id}"
    for path in (theirs, f"{theirs}/report.html"):
        assert api.ask("GET", path, stranger).status_code == 404
