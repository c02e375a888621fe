"""Feedback at the gateway's door: it is acknowledged once it is on disk, and by who may send it alone."""

import asyncio
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import pytest

from shipway.core.access import Grant, Role
from shipway.core.capturing import Capture
from shipway.core.endpoints import Limits
from shipway.core.errors import StoreUnavailable
from shipway.core.keys import digest_of, read_key
from shipway.gateway import feedback as door_module
from shipway.gateway.app import Gateway
from shipway.gateway.feedback import MOST_WAITING, FeedbackDoor
from shipway.gateway.http import Request
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.store.api_keys import new_key_text
from shipway.wire.credentials import KeyEntry
from shipway.wire.feedback import microseconds
from shipway.wire.snapshot import OPEN, AccessList, Route, Snapshot
from shipway.wire.spool import feedback_payload, frame, segment_head

sys.path.insert(0, str(Path(__file__).parent))
from segments import read_segment

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATH = "/v2/models/{}/feedback"
ALL = Capture()
LABEL = {"request_id": "r1", "label": 1}


class File:
    """A spool of one segment: what `put_feedback` returned for is on the disk."""

    def __init__(self, path):
        self.path = path
        self._handle = os.open(path, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.write(self._handle, segment_head(b"\1" * 16))
        self.open_gate = asyncio.Event()
        self.open_gate.set()

    async def put_feedback(self, feedback):
        await self.open_gate.wait()
        os.write(self._handle, frame(feedback_payload(feedback)))
        await asyncio.to_thread(os.fsync, self._handle)

    @property
    def kept(self):
        return read_segment(self.path.read_bytes()).feedback

    def close(self):
        os.close(self._handle)


@pytest.fixture
def spool(tmp_path):
    spool = File(tmp_path / "one.seg")
    yield spool
    spool.close()


def gateway_of(spool, *, access=OPEN, capture=ALL):
    table = RouteTable(lambda: None)
    routes = (
        Route(name="mine.m", limits=Limits(), variants=(), capture=capture),
        Route(name="theirs.m", limits=Limits(), variants=(), capture=capture),
    )
    table.apply(Snapshot.of(routes, access))
    door = FeedbackDoor(table, spool, environment="dev", now=lambda: NOW)
    return Gateway(table, Serving(table), feedback=door)


async def posted(gateway, body, *, endpoint="mine.m", key=""):
    headers = {b"authorization": f"Bearer {key}".encode()} if key else {}
    request = Request("POST", PATH.format(endpoint).encode(), headers)
    request.body = body if isinstance(body, bytes) else msgspec.json.encode(body)
    answer = gateway.handle(request)
    return await answer if isinstance(answer, asyncio.Task) else answer


async def test_what_is_acknowledged_is_on_disk(spool):
    items = [{**LABEL, "id": str(n)} for n in range(50)]
    answer = await posted(gateway_of(spool), items)
    assert (answer.status, msgspec.json.decode(answer.body)) == (202, {"accepted": 50})
    assert [(one.id, one.label, one.at_us) for one in spool.kept] == [
        (str(n), "1", microseconds(NOW)) for n in range(50)
    ]
    assert {(one.environment, one.endpoint, one.principal) for one in spool.kept} == {
        ("dev", "mine.m", "")
    }


async def test_nothing_is_acknowledged_before_it_is_kept(spool):
    spool.open_gate.clear()
    asked = asyncio.ensure_future(posted(gateway_of(spool), LABEL))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not asked.done()
    assert spool.kept == []
    spool.open_gate.set()
    assert (await asked).status == 202
    assert len(spool.kept) == 1


async def test_a_list_with_one_unsound_item_keeps_nothing(spool):
    answer = await posted(gateway_of(spool), [LABEL, {"request_id": "r2"}])
    assert answer.status == 400
    assert b"$[1]" in answer.body
    assert spool.kept == []


async def test_an_endpoint_that_keeps_no_predictions_says_how_to_keep_them(spool):
    answer = await posted(gateway_of(spool, capture=None), LABEL)
    assert answer.status == 409
    assert b"Add `capture: {}` to its spec" in answer.body


async def test_an_endpoint_that_is_not_there_is_not_found(spool):
    assert (await posted(gateway_of(spool), LABEL, endpoint="mine.n")).status == 404


async def test_a_spool_that_fails_is_told_and_not_acknowledged(spool):
    class Full:
        async def put_feedback(self, feedback):
            raise StoreUnavailable("The disk is full.", next_step="Make room.")

    assert (await posted(gateway_of(Full()), LABEL)).status == 503
    assert (await posted(gateway_of(None), LABEL)).status == 503


async def test_a_spool_that_hangs_is_not_waited_for_longer_than_said(spool, monkeypatch):
    monkeypatch.setattr(door_module, "PATIENCE_S", 0.01)
    spool.open_gate.clear()
    assert (await posted(gateway_of(spool), LABEL)).status == 504


async def test_only_so_many_wait_for_the_disk_and_places_are_given_back(spool):
    spool.open_gate.clear()
    gateway = gateway_of(spool)
    waiting = [asyncio.ensure_future(posted(gateway, LABEL)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert (await posted(gateway, LABEL)).status == 429
    waiting[0].cancel()
    spool.open_gate.set()
    answers = await asyncio.gather(*waiting, return_exceptions=True)
    assert [answer.status for answer in answers[1:]] == [202] * (MOST_WAITING - 1)
    assert (await posted(gateway, LABEL)).status == 202


async def test_who_may_ask_the_endpoint_may_say_what_came_of_it_and_nobody_else(spool):
    keys = {role: new_key_text() for role in (Role.INVOKER, Role.ADMIN)}
    entries = tuple(
        KeyEntry(
            id=read_key(text).id,
            name=f"the {role.value}",
            digest=digest_of(text),
            grants=(Grant(role=role, project="mine"),),
        )
        for role, text in keys.items()
    )
    gateway = gateway_of(spool, access=AccessList(environment="dev", keys=entries))
    statuses = {
        (role.value, endpoint): (await posted(gateway, LABEL, endpoint=endpoint, key=key)).status
        for role, key in keys.items()
        for endpoint in ("mine.m", "theirs.m")
    }
    assert statuses == {
        ("invoker", "mine.m"): 202,
        ("invoker", "theirs.m"): 404,
        ("admin", "mine.m"): 403,
        ("admin", "theirs.m"): 404,
    }
    assert (await posted(gateway, LABEL)).status == 401
    assert [one.principal for one in spool.kept] == ["the invoker"]
