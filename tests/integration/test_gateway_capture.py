"""What a gateway writes into the prediction log: every answer of a model, once, as its endpoint declares."""

import asyncio
import errno
import json
import os
import sys
import threading
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shipway.core.access import Grant, Role
from shipway.core.captures import Role as Place
from shipway.core.capturing import Capture, Durability, How, Reading, Redact
from shipway.core.endpoints import Cache, Fallback
from shipway.core.errors import ModelFailed, NoReadyReplica
from shipway.core.keys import read_key, written
from shipway.core.spooling import SpoolBounds
from shipway.core.strategies import Source
from shipway.core.telemetry import Column, Outcome
from shipway.gateway.app import Gateway
from shipway.gateway.fronts import Dialect, Front
from shipway.gateway.grpc.call import Reply
from shipway.gateway.http import Request, encoded
from shipway.gateway.metrics import page as metrics_page
from shipway.gateway.segments import complete
from shipway.gateway.serving import Serving
from shipway.gateway.spool import Spool
from shipway.wire.credentials import KeyEntry
from shipway.wire.snapshot import AccessList, Snapshot

sys.path.insert(0, str(Path(__file__).parent))
from segments import read_segment
from trial_world import (
    DOORS,
    ID_PLACES,
    IDS,
    Raises,
    settled,
    token,
    trial_world,
    until,
    with_id,
)

ALL = Capture()
SYNCED = Capture(durability=Durability.SYNCED)


class Log:
    """A world whose predictions can be read once the spool is closed."""

    def __init__(self, world, spool, directory):
        self.world, self.spool, self.directory = world, spool, directory

    async def predictions(self):
        await settled()
        await self.spool.close()
        return self.on_disk()

    def on_disk(self):
        segments = [read_segment(path.read_bytes()) for path in complete(self.directory)]
        return [one for segment in segments for one in segment.predictions]


@asynccontextmanager
async def logged(directory, capture=ALL, **options):
    spool = Spool(
        directory / "spool", gateway="g", environment="dev",
        bounds=SpoolBounds(segment_age_s=600),
    )  # fmt: skip
    try:
        async with trial_world(directory, spool, capture=capture, **options) as world:
            yield Log(world, spool, directory / "spool")
    finally:
        await spool.close()


def told_id(answer):
    if isinstance(answer, Reply):
        name = b"x-request-id"
        at = answer.trailers.index(name) + len(name)
        return answer.trailers[at + 1 : at + 1 + answer.trailers[at]].decode()
    return dict(answer.headers)[b"x-request-id"].decode()


async def answer_of(world, *values, **options):
    answer = world.send(*values, **options)
    return await answer if isinstance(answer, asyncio.Future) else answer


@pytest.mark.parametrize("capture", [ALL, SYNCED], ids=["buffered", "synced"])
@pytest.mark.parametrize("door", DOORS)
async def test_every_door_records_what_it_answered(tmp_path, door, capture):
    async with logged(tmp_path, capture, rollout=None) as log:
        await log.world.table.loaded()
        answer = await answer_of(log.world, 2.0, 5.0, door=door)
        (one,) = await log.predictions()
        assert one.request_id == told_id(answer)
        assert (one.shape.environment, one.shape.endpoint) == ("dev", "main")
        assert (one.shape.model, one.shape.version) == ("main", 1)
        assert (one.role, one.rows, one.principal) == (Place.PRIMARY, 2, "")
        np.testing.assert_array_equal(one.inputs["x"], [2.0, 5.0])
        np.testing.assert_array_equal(one.outputs["y"], [6.0, 15.0])
        assert 0 < one.latency_us < 10_000_000
        assert one.at_us > 1_700_000_000_000_000


async def test_what_waits_for_control_is_on_the_metrics_page(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        await answer_of(log.world, 2.0)
        await log.predictions()
        (segment,) = complete(log.directory)
        line = f"shipway_predictions_waiting_bytes {segment.stat().st_size}"
        assert line in metrics_page(log.world.table).decode().splitlines()


async def test_an_endpoint_without_capture_records_nothing_and_tells_no_id(tmp_path):
    async with logged(tmp_path, None, rollout=None) as log:
        answer = await answer_of(log.world, 2.0)
        assert b"x-request-id" not in dict(answer.headers)
        assert await log.predictions() == []


async def test_the_callers_own_id_is_kept_that_of_the_dialect_before_the_header(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        header = {"x-request-id": "from-header"}
        answers = [
            await answer_of(log.world, 1.0, headers=header),
            await answer_of(log.world, 2.0, headers=header, id="from-body"),
            await answer_of(log.world, 3.0, door="mlflow", headers=header),
            await answer_of(log.world, 4.0, door="grpc", headers=header),
        ]
        wanted = ["from-header", "from-body", "from-header", "from-header"]
        assert [told_id(answer) for answer in answers] == wanted
        assert [one.request_id for one in await log.predictions()] == wanted


async def test_an_id_cannot_put_a_header_into_the_answer_and_one_too_long_is_none(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        answer = await answer_of(log.world, 1.0, id="a\r\nset-cookie: é")
        assert told_id(answer) == "a%0D%0Aset-cookie: %C3%A9"
        head = encoded(answer, keep_alive=True, with_body=False)
        assert b"\r\nset-cookie" not in head
        long = await answer_of(log.world, 1.0, id="x" * 201)
        first, second = await log.predictions()
        assert first.request_id == "a\r\nset-cookie: é"
        assert second.request_id == told_id(long) != "x" * 201


@pytest.mark.parametrize(("request_id", "is_one"), IDS.values(), ids=IDS)
async def test_an_id_is_one_or_none_whichever_way_it_comes(tmp_path, request_id, is_one):
    async with logged(tmp_path, rollout=None) as log:
        for door, place in ID_PLACES:
            await answer_of(log.world, 2.0, **with_id(door, place, request_id))
        found = [one.request_id for one in await log.predictions()]
        assert len(found) == len(ID_PLACES)
        made = [one for one in found if one != request_id]
        assert len(set(made)) == (0 if is_one else len(ID_PLACES))


ROW = {"instances": [{"x": 2.0}]}
PATHS = {
    "tf serving": ("/v1/models/main:predict", ROW),
    "torchserve": ("/predictions/main", ROW),
    "generate": ("/v2/models/main/generate", {"x": 2.0}),
    "generate stream": ("/v2/models/main/generate_stream", {"x": 2.0}),
    Dialect.VERTEX: ("/predict", ROW),
    Dialect.SAGEMAKER: ("/invocations", ROW),
}


@pytest.mark.parametrize("dialect", PATHS)
async def test_an_id_in_the_header_is_one_or_none_in_every_dialect(tmp_path, dialect):
    path, body = PATHS[dialect]
    front = None
    if isinstance(dialect, Dialect):
        front = Front(dialect=dialect, endpoint="main", predict_path=path)
    async with logged(tmp_path, rollout=None) as log:
        gateway = Gateway(log.world.table, Serving(log.world.table), front)
        for request_id, _ in IDS.values():
            headers = {
                b"x-request-id": request_id.encode(),
                b"content-type": b"application/json",
            }
            request = Request("POST", path.encode(), headers)
            request.body = json.dumps(body).encode()
            answer = gateway.handle(request)
            answer = await answer if isinstance(answer, asyncio.Future) else answer
            assert answer.status == 200
        found = [one.request_id for one in await log.predictions()]
    wanted = [request_id for request_id, is_one in IDS.values() if is_one]
    assert [one for one in found if one in wanted] == wanted
    assert len(found) == len(IDS)


async def test_a_header_that_is_no_text_is_no_id(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        log.world.gateway.handle(request := request_with(b"\xff\xfe"))
        assert request.body
        (one,) = await log.predictions()
        assert len(one.request_id) == 17


def request_with(request_id):
    request = Request("POST", b"/v2/models/main/infer", {b"x-request-id": request_id})
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [2.0]}
    request.body = json.dumps({"inputs": [tensor]}).encode()
    return request


async def test_ids_that_are_made_are_all_different(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        for _ in range(300):
            await answer_of(log.world, 1.0)
        found = [one.request_id for one in await log.predictions()]
        assert len(set(found)) == 300
        assert {len(one) for one in found} == {17}


async def test_only_answers_of_models_are_predictions(tmp_path):
    fallback = Fallback(answer={"y": [7.0]})
    async with logged(tmp_path, rollout=None, fallback=fallback) as log:
        assert (await log.world.ask("text"))[0] != 200
        log.world.put(1, Raises(NoReadyReplica("away")))
        assert await log.world.ask(2.0) == (200, 7.0, "")
        log.world.put(1, Raises(ModelFailed("broken"), late=True))
        assert await log.world.ask(2.0) == (200, 7.0, "")
        assert await log.predictions() == []


async def test_an_answer_from_the_cache_is_a_prediction_too(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        route = msgspec.structs.replace(
            log.world.route_spec(rollout=None, capture=ALL), cache=Cache(ttl_s=600)
        )
        log.world.table.apply(Snapshot.of((route,), AccessList(is_on=False)))
        for _ in range(3):
            assert (await log.world.ask(2.0))[:2] == (200, 6.0)
        found = await log.predictions()
        assert [one.outputs["y"][0] for one in found] == [6.0] * 3
        assert len({one.request_id for one in found}) == 3


@pytest.mark.parametrize("capture", [ALL, SYNCED], ids=["buffered", "synced"])
async def test_the_candidate_the_primary_and_a_pinned_version_are_told_apart(tmp_path, capture):
    async with logged(tmp_path, capture, weight=100) as log:
        assert (await log.world.ask(2.0, id="tried"))[1] == 4.0
        log.world.apply(capture=capture, weight=0)
        assert (await log.world.ask(2.0, id="primary"))[1] == 6.0
        assert (await log.world.ask(2.0, id="pinned", number=2))[1] == 4.0
        found = {one.request_id: one for one in await log.predictions()}
        assert [
            (found[i].shape.version, found[i].role) for i in ("tried", "primary", "pinned")
        ] == [
            (2, Place.CANDIDATE),
            (1, Place.PRIMARY),
            (2, Place.CANDIDATE),
        ]


@pytest.mark.parametrize("capture", [ALL, SYNCED], ids=["buffered", "synced"])
async def test_a_rescued_request_is_one_prediction_of_the_primary(tmp_path, capture):
    async with logged(tmp_path, capture, weight=100) as log:
        log.world.put(2, Raises(ModelFailed("broken"), late=True))
        answer = await answer_of(log.world, 2.0)
        assert dict(answer.headers)[b"x-shipway-rescued"] == b"2"
        (one,) = await log.predictions()
        assert (one.shape.version, one.role) == (1, Place.PRIMARY)
        assert one.request_id == told_id(answer)


@pytest.mark.parametrize("capture", [ALL, SYNCED], ids=["buffered", "synced"])
async def test_a_shadows_answer_is_found_under_the_id_of_the_request(tmp_path, capture):
    async with logged(tmp_path, capture, mirror_pct=100) as log:
        answer = await answer_of(log.world, 2.0)
        await until(lambda: log.world.seen.candidate.answered == 1)
        primary, shadow = sorted(await log.predictions(), key=lambda one: one.role)
        assert [one.role for one in (primary, shadow)] == [Place.PRIMARY, Place.SHADOW]
        assert primary.request_id == shadow.request_id == told_id(answer)
        assert (primary.outputs["y"][0], shadow.outputs["y"][0]) == (6.0, 4.0)


async def test_a_share_is_kept_by_the_id_alone(tmp_path):
    capture = Capture(share_pct=30)
    async with logged(tmp_path, capture, rollout=None) as log:
        for number in range(400):
            answer = await answer_of(log.world, 1.0, id=f"r{number}")
            assert told_id(answer) == f"r{number}"
        found = [one.request_id for one in await log.predictions()]
        assert 80 < len(found) < 160
    async with logged(tmp_path / "again", capture, rollout=None) as log:
        for number in reversed(range(400)):
            await answer_of(log.world, 1.0, id=f"r{number}")
        assert sorted(one.request_id for one in await log.predictions()) == sorted(found)


async def test_key_and_segment_are_read_where_the_spec_says(tmp_path):
    for capture, headers, wanted in (
        (
            Capture(key=Reading(name="x-user"), segment=Reading(by=Source.JSON_PATH, name="id")),
            {"x-user": "u1"},
            ("u1", "the-id"),
        ),
        (Capture(key=Reading(by=Source.INPUT, name="x")), {}, ("2", "")),
        (
            Capture(segment=Reading(by=Source.CLAIM, name="tenant")),
            {"authorization": token(tenant="acme")},
            ("", "acme"),
        ),
        (Capture(key=Reading(name="x-user")), {"x-user": "long" * 100}, ("long" * 50, "")),
    ):
        directory = tmp_path / str(abs(hash(capture)))
        async with logged(directory, capture, rollout=None) as log:
            await answer_of(log.world, 2.0, headers=headers, id="the-id")
            (one,) = await log.predictions()
            assert (one.key, one.segment) == wanted


async def test_an_api_key_is_never_written(tmp_path):
    async with logged(tmp_path, Capture(key=Reading(by=Source.KEY)), rollout=None) as log:
        for secret in ("Bearer sw_secret", "Bearer sw_secret", "Bearer sw_other"):
            await answer_of(log.world, 2.0, headers={"authorization": secret})
        first, second, third = await log.predictions()
        assert first.key == second.key != third.key
        assert len(first.key) == 32
        assert all(b"sw_" not in path.read_bytes() for path in complete(log.directory))


async def test_what_is_redacted_or_not_named_is_in_no_byte_of_the_spool(tmp_path):
    value = 731.5
    hashed = Redact(field="x", how=How.HASH)
    for number, capture in enumerate(
        (
            Capture(redact=(hashed, "y"), key=Reading(by=Source.INPUT, name="x")),
            Capture(fields=()),
            Capture(redact=("x",), fields=("x",)),
        )
    ):
        async with logged(tmp_path / str(number), capture, rollout=None) as log:
            for _ in range(2):
                assert (await log.world.ask(value))[:2] == (200, value * 3)
            found = await log.predictions()
            assert len(found) == 2
            data = b"".join(path.read_bytes() for path in complete(log.directory))
            for secret in (value, value * 3):
                assert np.float64(secret).tobytes() not in data
                assert str(secret).encode() not in data
            if capture.redact == (hashed, "y"):
                kept = log.world.route.redaction.token(value)
                assert [list(one.inputs["x"]) for one in found] == [[kept], [kept]]
                assert [one.key for one in found] == [kept, kept]
            else:
                assert [one.inputs for one in found] == [{}, {}]
            assert [one.outputs for one in found] == [{}, {}]


async def test_the_callers_name_is_recorded_and_nothing_of_its_key(tmp_path):
    secret = written("k" * 12, "s" * 43)
    known = read_key(secret)
    entry = KeyEntry(
        id=known.id, name="ci", digest=known.digest, grants=(Grant(role=Role.INVOKER),)
    )
    async with logged(tmp_path, rollout=None) as log:
        spec = log.world.route_spec(rollout=None, capture=ALL)
        log.world.table.apply(Snapshot.of((spec,), AccessList(environment="dev", keys=(entry,))))
        assert (await log.world.ask(2.0, headers={"x-api-key": secret}))[0] == 200
        (one,) = await log.predictions()
        assert "ci" in one.principal
        assert secret.encode() not in complete(log.directory)[0].read_bytes()


def fails(descriptor):
    raise OSError(errno.EIO, "Input/output error")


@pytest.mark.parametrize("options", [{"rollout": None}, {"weight": 0}, {"weight": 100}])
@pytest.mark.parametrize("door", DOORS)
async def test_what_cannot_be_recorded_is_answered_with_503_where_synced(
    tmp_path, monkeypatch, door, options
):
    fallback = Fallback(answer={"y": [7.0]})
    async with logged(tmp_path, SYNCED, fallback=fallback, **options) as log:
        with monkeypatch.context() as patch:
            patch.setattr(os, "fdatasync", fails)
            answer = await answer_of(log.world, 2.0, door=door)
            if door == "grpc":
                assert b"14" in answer.trailers
                assert b"recorded" in answer.trailers
                assert answer.message == b""
            else:
                assert answer.status == 503
                assert b"could not be recorded" in answer.body
        await settled()
        assert log.on_disk() == []
        version = 2 if options.get("weight") else 1
        row = log.world.route.variant(str(version)).row.values
        assert row[Outcome.UNAVAILABLE] == 1
        if log.world.route.trial is not None:
            assert log.world.seen.candidate.last_error == ""
        assert (await log.world.ask(2.0, door=door))[0] == 200
        assert len(log.on_disk()) == 1


async def test_an_answer_that_is_synced_leaves_after_its_record_is_on_disk(tmp_path):
    async with logged(tmp_path, SYNCED, rollout=None) as log:
        answers = [await answer_of(log.world, float(n)) for n in range(1, 20)]
        assert [one.request_id for one in log.on_disk()] == [told_id(one) for one in answers]


async def test_a_record_that_takes_too_long_is_answered_before_the_deadline(tmp_path, monkeypatch):
    gate = threading.Event()
    async with logged(tmp_path, SYNCED, rollout=None) as log:
        monkeypatch.setattr(os, "fdatasync", lambda fd: gate.wait(30))
        request = Request("POST", b"/v2/models/main/infer", {b"x-request-timeout-ms": b"50"})
        request.body = json.dumps(
            {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.0]}]}
        ).encode()
        answer = await log.world.gateway.handle(request)
        gate.set()
        assert answer.status == 503
        assert b"before the deadline" in answer.body


async def test_predictions_are_counted_on_their_versions_row(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        for _ in range(5):
            await answer_of(log.world, 1.0)
        row = log.world.route.variant("1").row
        await log.predictions()
        assert row.values[Column.CAPTURED] == 5


async def test_a_recorder_outlives_snapshots_that_change_nothing_of_it(tmp_path):
    async with logged(tmp_path, rollout=None) as log:
        before = log.world.route.variant("1").recorder
        log.world.apply(rollout=None, capture=ALL, weight=0)
        assert log.world.route.variant("1").recorder is before
        log.world.apply(rollout=None, capture=SYNCED)
        assert log.world.route.variant("1").recorder is not before
        log.world.apply(rollout=None)
        assert log.world.route.variant("1").recorder is None
