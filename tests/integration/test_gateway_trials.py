"""Who gets the candidate, what is counted of both versions, and what becomes of copies."""

import asyncio
import sys
import time
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from shipway.core.assignment import place_of
from shipway.core.endpoints import Limits
from shipway.core.errors import ModelFailed, QueueFull, ReplicaLost
from shipway.core.signature import Field, Layout, Signature
from shipway.core.strategies import Segment, Source, Sticky
from shipway.core.tensors import DataType
from shipway.gateway.app import labelled
from shipway.gateway.follow import Follower
from shipway.gateway.http import serve
from shipway.gateway.main import bound
from shipway.gateway.metrics import page as metrics_page
from shipway.gateway.mirror import MOST_AT_ONCE, MOST_WAITING
from shipway.gateway.telemetry import Telemetry
from shipway.wire.codec import Answer
from shipway.wire.snapshot import OPEN, GatewayReport, Snapshot

sys.path.insert(0, str(Path(__file__).parent))
from trial_world import DOORS, Hangs, Raises, settled, token, trial_world, until

USERS = [f"user-{number}" for number in range(40)]


def sent_by(source, user):
    """The options of a request by a user, whose key is where the source says."""
    match source:
        case Source.HEADER:
            return {"headers": {"x-user": user}}
        case Source.CLAIM:
            return {"headers": {"authorization": token(sub=user)}}
        case Source.KEY:
            return {"headers": {"x-api-key": user}}
        case Source.JSON_PATH:
            return {"params": {"user": user}, "parameters": {"user": user}}


NAMES = {
    Source.HEADER: "X-User", Source.CLAIM: "sub", Source.JSON_PATH: "parameters.user", Source.KEY: "",
}  # fmt: skip


_NO_JSON = ("grpc", Source.JSON_PATH)


@pytest.mark.parametrize(
    ("door", "source"),
    [(door, source) for door in ("rest", "grpc") for source in NAMES if (door, source) != _NO_JSON],
)
async def test_same_key_gets_the_same_version_and_stays_as_the_weight_grows(tmp_path, door, source):
    sticky = Sticky(by=source, name=NAMES[source])
    moved = set()
    async with trial_world(tmp_path, weight=5, sticky=sticky) as world:
        for epoch, weight in enumerate((5, 25, 50, 100), start=1):
            world.apply(weight=weight, sticky=sticky, epoch=epoch)
            now = set()
            for user in USERS:
                versions = {
                    await world.version_for(4, door=door, **sent_by(source, user)) for _ in range(2)
                }
                assert len(versions) == 1
                now |= {user} if versions == {2} else set()
            assert moved <= now
            moved = now
            assert world.seen.candidate.answered == 2 * len(now)
            assert world.seen.primary.answered == 2 * (len(USERS) - len(now))
        assert moved == set(USERS)


async def test_same_key_gets_the_same_version_through_every_door(tmp_path):
    sticky = Sticky(name="x-user")
    async with trial_world(tmp_path, weight=50, sticky=sticky) as world:
        for user in USERS[:10]:
            versions = {
                await world.version_for(4, door=door, headers={"x-user": user}) for door in DOORS
            }
            assert versions == {2 if place_of("r1", user) < 50 else 1}


@pytest.mark.parametrize("door", DOORS)
async def test_first_row_of_an_input_is_a_key(tmp_path, door):
    sticky = Sticky(by=Source.INPUT, name="x")
    async with trial_world(tmp_path, weight=50, sticky=sticky) as world:
        for value in range(1, 20):
            expected = 2 if place_of("r1", str(value)) < 50 else 1
            assert await world.version_for(value, 99, door=door) == expected


@pytest.mark.parametrize("door", DOORS)
@pytest.mark.parametrize("by", [Source.CLAIM, Source.INPUT, Source.JSON_PATH])
async def test_what_cannot_be_read_as_a_key_never_fails_a_request(tmp_path, door, by):
    sticky = Sticky(by=by, name="nowhere.at.all")
    segments = (Segment(by=Source.CLAIM, name="org", values=("a",)),)
    for options in ({}, {"segments": segments}):
        async with trial_world(tmp_path, weight=50, sticky=sticky, **options) as world:
            for bearer in ("Bearer x.y", "Bearer a.!!!.c", "Bearer", "Basic x"):
                status, _, said = await world.ask(4, door=door, headers={"authorization": bearer})
                assert (status, said) == (200, "")
            assert (await world.ask("a", door=door))[0] >= 400


async def test_requests_without_a_key_are_assigned_by_weight(tmp_path):
    async with trial_world(tmp_path, weight=30, sticky=Sticky(name="x-user")) as world:
        for _ in range(400):
            await world.ask(4)
        assert world.seen.primary.answered + world.seen.candidate.answered == 400
        assert 70 <= world.seen.candidate.answered <= 170  # 120 expected, deviation 9


async def test_requests_outside_of_the_segments_get_the_primary_and_count_nowhere(tmp_path):
    segments = (
        Segment(name="x-country", values=("it", "pt")),
        Segment(by=Source.INPUT, name="x", values=("4", "5")),
    )
    async with trial_world(tmp_path, weight=100, segments=segments, mirror_pct=100) as world:
        assert await world.version_for(4, headers={"x-country": "it"}) == 2
        for value, country in ((4, "de"), (6, "it")):
            assert await world.version_for(value, headers={"x-country": country}) == 1
        assert await world.version_for(4) == 1
        await settled()
        assert (world.seen.primary.answered, world.seen.candidate.answered) == (0, 1)


async def test_accounts_last_as_long_as_the_step(tmp_path):
    async with trial_world(tmp_path, weight=100) as world:
        await world.ask(4)
        first = world.route.trial
        world.apply(weight=100, tolerance=0.5)
        assert world.route.trial is first
        world.apply(weight=100, epoch=2)
        assert world.route.trial is not first
        await world.ask(4)
        assert world.table.trials() == {"main": world.seen}
        assert (first.report.candidate.answered, world.seen.candidate.answered) == (1, 1)
        world.apply(rollout=None)
        assert world.route.trial is None
        assert world.table.trials() == {}


async def test_request_of_an_old_step_is_counted_there(tmp_path):
    async with trial_world(tmp_path, weight=100) as world:
        old = world.seen
        gate = asyncio.Event()

        class Waits(Raises):
            async def infer(self, inputs, *, timeout_s):
                await gate.wait()
                return {"y": inputs["x"] * 2}

        world.put(2, Waits(None, late=True))
        waiting = world.send(4)
        await settled()
        world.apply(weight=50, epoch=2)
        gate.set()
        await waiting
        await settled()
        assert (old.candidate.answered, world.seen.candidate.answered) == (1, 0)


async def test_trial_of_a_version_that_is_not_there_is_ignored(tmp_path):
    async with trial_world(tmp_path, weight=0, versions=(1,)) as world:
        assert world.route.trial is None
        assert await world.ask(4) == (200, 12.0, "")


async def test_labels_and_metadata_name_the_primary_and_the_candidate(tmp_path):
    for weight in (0, 75, 100):
        async with trial_world(tmp_path, weight=weight) as world:
            assert [labelled(world.route, name) for name in ("stable", "canary")] == ["1", "2"]
            assert b'"serving":"main:1"' in world.route.metadata(None)
            assert world.route.is_ready


async def test_primary_is_not_closed_while_the_candidate_has_its_requests(tmp_path):
    async with trial_world(tmp_path, weight=100, limits=Limits(deadline_ms=300)) as world:
        world.put(2, Hangs())
        waiting = world.send(4)
        await settled()
        world.apply(weight=100, versions=(2,))
        world.table.sweep()
        answer = await waiting
        assert (answer.status, dict(answer.headers)[b"x-shipway-rescued"]) == (200, b"2")


class Control:
    """An `http.Application` that gives one snapshot, and keeps the reports that it gets."""

    def __init__(self, snapshot):
        self.snapshot, self.reports, self.at = snapshot, [], []

    def handle(self, request):
        if request.path.endswith("/telemetry"):
            return Answer(503, b"", ())
        if request.method == "POST":
            self.reports.append(msgspec.msgpack.decode(request.body, type=GatewayReport))
            self.at.append(time.monotonic())
            return Answer(200, b"", ())
        if b"revision=" + self.snapshot.revision.encode() in request.query:
            return asyncio.ensure_future(self._same())
        return Answer(200, msgspec.msgpack.encode(self.snapshot), ())

    async def _same(self):
        await asyncio.sleep(0.1)
        return Answer(304, b"", ())

    def failed(self, request, answer):
        return answer

    def body_limit(self, request):
        return 1 << 20

    def refuse(self, error, path):
        return Answer(500, b"", ())


@asynccontextmanager
async def followed(world, directory):
    """Control, and a gateway that follows it and reports to it."""
    control = Control(Snapshot.of((world.route_spec(weight=100),), OPEN))
    listening, stopping = bound("127.0.0.1", 0), asyncio.Event()
    serving = asyncio.ensure_future(serve(control, listening, stopping, drain_s=0.1))
    follower = Follower(
        world.table, gateway="g", address="", environment="dev", state_dir=directory,
        control_url=f"http://127.0.0.1:{listening.getsockname()[1]}", changed=asyncio.Event(), credential=str,
        telemetry=Telemetry(world.table.counters, directory, "g"),
    )  # fmt: skip
    following = asyncio.ensure_future(follower.run())
    try:
        yield control
    finally:
        following.cancel()
        await asyncio.wait([following])
        stopping.set()
        await serving


async def test_gateway_reports_what_it_saw_twice_a_second_and_who_it_is(tmp_path):
    async with trial_world(tmp_path, rollout=None) as world:
        instances = set()
        for _ in range(2):
            async with followed(world, tmp_path) as control:
                await until(lambda c=control: c.reports and c.reports[-1].trials)
                await world.ask(4)
                known = len(control.reports)
                await until(lambda c=control, n=known: len(c.reports) >= n + 3)
            report = control.reports[-1]
            assert report.trials["main"].candidate.answered >= 1
            assert report.trials["main"] == world.seen
            assert min(b - a for a, b in pairwise(control.at[-3:])) < 0.95  # 0.5 s, and not 1 s
            instances |= {one.instance for one in control.reports}
        assert len(instances) == 2
        assert "" not in instances


async def test_weight_of_each_version_is_on_the_metrics_page(tmp_path):
    async with trial_world(tmp_path, weight=25) as world:
        page = metrics_page(world.table).decode()
        assert 'shipway_weight_ratio{endpoint="main",version="main:1"} 0.75' in page
        assert 'shipway_weight_ratio{endpoint="main",version="main:2"} 0.25' in page


# Copies

WRONG_COLUMN = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="z", dtype=DataType.FP64),),
    outputs=(Field(name="y", dtype=DataType.FP64),),
)


@pytest.mark.parametrize("door", DOORS)
async def test_pairs_of_both_versions_are_compared_and_callers_see_the_primary_alone(
    tmp_path, door
):
    async with trial_world(tmp_path, mirror_pct=100) as world:
        for _ in range(10):
            assert await world.ask(6, door=door) == (200, 18.0, "")
        pairs = world.seen.pairs
        await until(lambda: pairs.compared == 10)
        assert (pairs.agreed, pairs.dropped, len(pairs.worst)) == (0, 0, 10)
        assert pairs.worst[0].distance == pytest.approx(1 / 3)
        kept = pairs.worst[0]
        assert (kept.inputs, kept.primary, kept.candidate) == ({"x": 6}, {"y": 18}, {"y": 12})
        assert sum(pairs.delays.values()) == 10
        assert (world.seen.primary.answered, world.seen.candidate.answered) == (10, 10)


async def test_share_of_requests_is_copied_and_pairs_within_the_tolerance_agree(tmp_path):
    async with trial_world(tmp_path, mirror_pct=25, tolerance=0.34) as world:
        for _ in range(200):
            await world.ask(6, id="mine")
        await until(lambda: not world.route.trial.mirror._tasks)
        pairs = world.seen.pairs
        assert 20 <= pairs.compared <= 85  # 50 expected, deviation 6
        assert pairs.agreed == pairs.compared
        assert pairs.worst[0].request_id == "mine"


@pytest.mark.parametrize(
    ("exc", "counted"),
    [
        (ReplicaLost("on purpose"), (5, 0, 0)),
        (RuntimeError("on purpose"), (5, 0, 0)),
        (QueueFull("on purpose", retry_after_s=1), (0, 0, 5)),
    ],
)
async def test_copies_that_fail_are_counted_and_callers_do_not_notice(
    tmp_path, exc, counted, capfd
):
    async with trial_world(tmp_path, mirror_pct=100) as world:
        world.put(2, Raises(exc, late=True))
        for _ in range(5):
            assert await world.ask(6) == (200, 18.0, "")
        seen = world.seen.candidate
        await until(lambda: (seen.failed, seen.rejected, seen.shed) == counted)


@pytest.mark.parametrize("door", DOORS)
async def test_copy_that_the_candidates_own_signature_refuses_is_rejected(tmp_path, door):
    async with trial_world(tmp_path, mirror_pct=100, signatures={2: WRONG_COLUMN}) as world:
        assert await world.ask(6, door=door) == (200, 18.0, "")
        await until(lambda: world.seen.candidate.rejected == 1)


async def test_request_that_the_primary_failed_is_copied_and_one_that_it_refused_is_not(tmp_path):
    async with trial_world(tmp_path, mirror_pct=100) as world:
        world.put(1, Raises(ModelFailed("on purpose")))
        assert (await world.ask(6))[0] == 500
        await until(lambda: world.seen.candidate.answered == 1)
        assert (await world.ask("a"))[0] == 422
        await settled()
        assert (world.seen.candidate.answered, world.seen.candidate.rejected) == (1, 0)
        assert world.seen.pairs.compared == 0


async def test_candidate_that_hangs_costs_callers_nothing_and_copies_are_bounded(
    tmp_path, monkeypatch
):
    monkeypatch.setattr("shipway.gateway.mirror.MOST_INLINE_AT_ONCE", MOST_AT_ONCE)
    monkeypatch.setattr("shipway.gateway.mirror.AFTER_S", 0.0)
    async with trial_world(tmp_path, mirror_pct=100) as world:
        hangs = Hangs()
        candidate = world.put(2, hangs)
        for _ in range(MOST_WAITING + MOST_AT_ONCE + 10):
            assert await world.ask(6) == (200, 18.0, "")
        await settled()
        assert (hangs.inside, world.seen.pairs.dropped) == (MOST_AT_ONCE, 10)
        mirror = world.route.trial.mirror
        world.apply(mirror_pct=100, epoch=2)
        await settled()
        assert (hangs.inside, len(mirror._tasks), len(mirror._waiting)) == (0, 0, 0)
        assert candidate.in_flight == 0
        assert await world.ask(6) == (200, 18.0, "")
        await settled()
        assert hangs.inside == 1
        world.apply(rollout=None)
        await settled()
        assert hangs.inside == 0


async def test_copy_has_the_endpoints_deadline(tmp_path):
    async with trial_world(tmp_path, mirror_pct=100, limits=Limits(deadline_ms=50)) as world:
        hangs = Hangs()
        world.put(2, hangs)
        await world.ask(6, headers={"x-request-timeout-ms": "10"})
        await until(lambda: world.seen.candidate.failed == 1)
        assert hangs.timeouts == [0.05]


async def test_copies_that_would_fill_the_memory_are_dropped(tmp_path, monkeypatch):
    monkeypatch.setattr("shipway.gateway.mirror.MOST_WAITING_BYTES", 500)
    async with trial_world(tmp_path, mirror_pct=100) as world:
        world.put(2, Hangs())
        for _ in range(12):
            await world.ask(6)
        assert 0 < world.seen.pairs.dropped < 12


async def test_candidate_in_this_process_runs_in_a_thread_for_copies(tmp_path):
    async with trial_world(tmp_path, mirror_pct=100) as world:
        runner = world.route.variant("2").runner
        runner.run_now = None  # a call of it would fail the copy
        await world.ask(6)
        await until(lambda: world.seen.pairs.compared == 1)
