"""Limits of callers and endpoints at a gateway's doors, and counts that gateways of a machine share."""

import asyncio
import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import msgspec
import pytest

from shipway.core.access import ANYBODY
from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.core.rates import DAY_S, CallerLimits, RateLimit, Whose
from shipway.core.telemetry import Outcome
from shipway.gateway.app import Gateway
from shipway.gateway.cells import PATIENCE_S
from shipway.gateway.doorkeeper import Caller, Doorkeeper
from shipway.gateway.grpc.codec import GrpcInference, InferCall
from shipway.gateway.grpc.messages import ModelInferRequest
from shipway.gateway.http import Request
from shipway.gateway.ledger import Bounds, MachineLedger, Visit
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.testing.live import SIGNATURE
from shipway.wire.open_inference import OpenInference
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

NOON = 8_000.5 * DAY_S
SLOW = RateLimit(per_s=0.001, burst=3)
"""Three, and no more while a test lasts."""

BODY = {"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1]}]}
PATH = "/v2/models/e/infer"


class Model:
    """A runner that answers at once, or when it is let."""

    is_ready = True
    error = ""
    ready_replicas = 1
    ejected = 0

    def __init__(self, *, at_once=True):
        self.at_once = at_once
        self.let = asyncio.Event()

    def run_now(self, inputs):
        return {"y": inputs["x"] * 2} if self.at_once else None

    async def infer(self, inputs, *, timeout_s):
        del timeout_s
        await self.let.wait()
        return {"y": inputs["x"] * 2}

    def close(self):
        pass


class Everybody(Doorkeeper):
    """Lets everybody in, by these bounds."""

    bounds: Bounds = ()

    def admit(self, sent, endpoint):
        return Caller(ANYBODY, self.bounds)


class Door:
    """A gateway of one endpoint, without sockets."""

    def __init__(self, ledger=None, *, model=None, **limits):
        self.model = model or Model()
        self.table = RouteTable(lambda: None, ledger=ledger, door=Everybody())
        self.table._runner = lambda spec, row: self.model
        self.serving = Serving(self.table)
        self.gateway = Gateway(self.table, self.serving)
        self.limit(**limits)

    def limit(self, **limits):
        variant = Variant(
            model="m", version=1, digest="d", weight_pct=100, inline=True, bundle_dir="",
            served=Served.ONNX, signature=SIGNATURE, config=ModelConfig(),
        )  # fmt: skip
        route = Route(name="e", limits=Limits(**limits), variants=(variant,))
        # As it comes from control.
        sent = msgspec.json.encode(Snapshot.of((route,), OPEN))
        self.table.apply(msgspec.json.decode(sent, type=Snapshot))

    def post(self, path=PATH, body=BODY, **headers):
        request = Request("POST", path.encode(), {b"content-type": b"application/json", **headers})
        request.body = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.gateway.handle(request)

    def ask(self, bounds=()):
        self.table.door.bounds = bounds
        request = Request("POST", PATH.encode(), {b"content-type": b"application/json"})
        request.body = json.dumps(BODY).encode()
        return self.serving.answer(OpenInference(), request, "e")


def end(ledger):
    asyncio.run(ledger.close())


def headers_of(answer):
    return dict(answer.headers)


def test_endpoint_answers_its_burst_and_refuses_the_next_with_the_time_to_come_again():
    door = Door(rate={"per_s": 0.5, "burst": 2})
    first, second, third = (door.post() for _ in range(3))
    assert [first.status, second.status, third.status] == [200, 200, 429]
    assert headers_of(first)[b"ratelimit-limit"] == b"2"
    assert headers_of(first)[b"ratelimit-remaining"] == b"1"
    assert headers_of(second)[b"ratelimit-remaining"] == b"0"
    assert headers_of(third)[b"ratelimit-reset"] == b"4"
    assert headers_of(third)[b"retry-after"] == b"2"
    assert b"Endpoint `e` is over its rate of 0.5 requests per second (burst 2)." in third.body
    assert door.table.route("e").gate.row.values[Outcome.SHED] == 1
    assert door.table.route("e").gate.in_flight == 0


def test_unlimited_endpoint_says_nothing_of_limits_and_keeps_no_counts():
    door = Door()
    assert b"ratelimit-limit" not in headers_of(door.post())
    assert door.table.route("e").bounds == ()


DIALECTS = {
    "open inference": (PATH, BODY),
    "generate": ("/v2/models/e/generate", {"x": 1}),
    "tf serving": ("/v1/models/e:predict", {"instances": [{"x": 1}]}),
    "mlflow": ("/models/e/invocations", {"dataframe_records": [{"x": 1}]}),
    "torchserve": ("/predictions/e", {"x": 1}),
}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_tells_of_limits_on_answers_and_refusals(dialect):
    door = Door(rate={"per_s": 0.001, "burst": 1})
    path, body = DIALECTS[dialect]
    answer, refusal = door.post(path, body), door.post(path, body)
    assert (answer.status, refusal.status) == (200, 429), answer.body
    assert headers_of(answer)[b"ratelimit-remaining"] == b"0"
    assert headers_of(refusal)[b"ratelimit-limit"] == b"1"
    assert headers_of(refusal)[b"retry-after"] == b"1000"


def test_grpc_refuses_with_resource_exhausted_and_when_to_come_again():
    door = Door(rate={"per_s": 0.3, "burst": 1})
    request = ModelInferRequest(model_name="e")
    request.inputs.add(name="x", datatype="FP64", shape=[1]).contents.fp64_contents.append(1.0)
    call = InferCall(request, None)
    answer, refusal = (door.serving.answer(GrpcInference(), call, "e") for _ in range(2))
    assert answer.message
    assert b"ratelimit-remaining\x010" in answer.trailers
    assert not refusal.message
    assert b"\x0bgrpc-status\x018" in refusal.trailers
    assert b"grpc-retry-pushback-ms\x043" in refusal.trailers
    assert b"ratelimit-limit\x011" in refusal.trailers


def test_key_and_project_and_endpoint_count_the_same_request_each():
    door = Door(daily_requests=100, cost=7)
    ledger = door.table.ledger
    key = ledger.bound(Whose.KEY, "k", CallerLimits(rate=SLOW))
    project = ledger.bound(Whose.PROJECT, "p", CallerLimits(daily_budget=15))
    answers = [door.ask(key + project) for _ in range(3)]
    assert [answer.status for answer in answers] == [200, 200, 429]
    assert b"Project `p` has too little left of its 15 units of today (UTC)." in answers[2].body
    # The refusal was charged to nobody: the key has one of its three left.
    assert [door.ask(key).status for _ in range(2)] == [200, 429]
    # Another key is not concerned.
    assert door.ask(ledger.bound(Whose.KEY, "k2", CallerLimits(rate=SLOW))).status == 200


def test_body_over_a_keys_limit_is_refused_before_it_is_counted():
    door = Door()
    size = len(json.dumps(BODY))
    small = CallerLimits(max_body_bytes=size - 1, daily_requests=1)
    bounds = door.table.ledger.bound(Whose.KEY, "k", small)
    assert door.ask(bounds).status == 413
    wide = CallerLimits(max_body_bytes=size, daily_requests=1)
    bounds = door.table.ledger.bound(Whose.KEY, "k", wide)
    assert [door.ask(bounds).status for _ in range(2)] == [200, 429]


def test_new_snapshot_forgets_nothing_that_was_used():
    door = Door(rate=msgspec.to_builtins(SLOW))
    assert [door.post().status for _ in range(2)] == [200, 200]
    door.limit(rate=msgspec.to_builtins(SLOW), max_queue=5)
    assert [door.post().status for _ in range(2)] == [200, 429]
    door.limit()
    assert door.post().status == 200


async def test_requests_under_way_are_bounded_and_count_until_they_end():
    door = Door(model=Model(at_once=False))
    bounds = door.table.ledger.bound(Whose.KEY, "k", CallerLimits(max_concurrency=2))
    inside = [door.ask(bounds) for _ in range(2)]
    refused = door.ask(bounds)
    assert refused.status == 429
    assert b"Key `k` has 2 requests under way, as many as it may." in refused.body
    inside[0].cancel()
    await asyncio.gather(inside[0], return_exceptions=True)
    third = door.ask(bounds)
    assert isinstance(third, asyncio.Task)
    door.model.let.set()
    assert [answer.status for answer in await asyncio.gather(inside[1], third)] == [200, 200]
    door.model.at_once = True
    assert [door.ask(bounds).status for _ in range(5)] == [200] * 5


# Gateways of one machine


@pytest.fixture
def ledgers(tmp_path):
    """Makes ledgers of gateways on one state directory."""
    with ExitStack() as stack:

        def make(**more):
            ledger = MachineLedger(tmp_path / "limits", **more)
            stack.callback(end, ledger)
            return ledger

        yield make


def asked(ledger, limits, name="k", **more):
    visit = Visit(ledger.bound(Whose.KEY, name, limits), **more)
    return visit, ledger.ask(visit).refusal


def is_let_in(ledger, limits, name="k"):
    return asked(ledger, limits, name)[1] is None


def test_gateways_of_a_machine_let_in_exactly_the_burst_between_them(ledgers):
    first, second = ledgers(), ledgers()
    limits = CallerLimits(rate=SLOW)
    assert [is_let_in(g, limits) for g in (first, second, first, second, first)] == [
        True, True, True, False, False,
    ]  # fmt: skip


def test_days_counts_outlive_all_gateways_and_end_with_the_day(ledgers):
    clock = [NOON]
    limits = CallerLimits(daily_requests=3)
    for expected in ([True, True], [True, False], [False, False]):
        ledger = ledgers(wall=lambda: clock[0])
        assert [is_let_in(ledger, limits) for _ in range(2)] == expected
        end(ledger)
    clock[0] += DAY_S
    assert is_let_in(ledgers(wall=lambda: clock[0]), limits)


def test_what_was_under_way_in_a_gateway_that_ended_blocks_nobody(ledgers):
    first, second = ledgers(), ledgers()
    limits = CallerLimits(max_concurrency=1)
    assert is_let_in(first, limits)
    assert not is_let_in(second, limits)
    end(first)  # as a killed process: its lock is gone, its count is not
    second._looked_at = 0.0
    assert is_let_in(second, limits)
    assert not is_let_in(ledgers(), limits)


def test_new_gateway_in_a_slot_begins_with_nothing_under_way(ledgers):
    ended, limits = ledgers(), CallerLimits(max_concurrency=1)
    other = ledgers()
    asked(ended, limits)
    end(ended)
    ledgers()  # takes the slot
    assert is_let_in(other, limits)


def test_late_leave_of_a_closed_gateway_does_not_touch_its_successor(ledgers):
    ended, limits = ledgers(), CallerLimits(max_concurrency=2)
    visit, _ = asked(ended, limits)
    end(ended)
    successor = ledgers()
    ended.leave(visit)
    assert [is_let_in(successor, limits) for _ in range(3)] == [True, True, False]


HOLDING = """
import os
import signal
import sys
from pathlib import Path
from shipway.core.access import ANYBODY
from shipway.gateway.doorkeeper import Caller, Doorkeeper
from shipway.gateway.ledger import Bounds
from shipway.gateway.ledger import MachineLedger

with MachineLedger(Path(sys.argv[1]))._held():
    print("held", flush=True)
    os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_gateway_that_was_stopped_in_its_decision_holds_nobody_up(ledgers, tmp_path):
    ledger, limits = ledgers(), CallerLimits(daily_requests=200)
    command = [sys.executable, "-c", HOLDING, str(tmp_path / "limits")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout.readline() == b"held\n"
            os.waitpid(holder.pid, os.WUNTRACED)
            begun = time.monotonic()
            assert all(is_let_in(ledger, limits) for _ in range(200))
            assert not is_let_in(ledger, limits)
            assert time.monotonic() - begun < PATIENCE_S
            assert not ledger._cells.lock.is_held
        finally:
            holder.kill()
    is_let_in(ledger, limits)
    assert ledger._cells.lock.is_held


ASKING = """
import sys
from pathlib import Path
from shipway.core.rates import CallerLimits, Whose
from shipway.core.access import ANYBODY
from shipway.gateway.doorkeeper import Caller, Doorkeeper
from shipway.gateway.ledger import Bounds
from shipway.gateway.ledger import MachineLedger, Visit

ledger = MachineLedger(Path(sys.argv[1]))
limits = CallerLimits(daily_budget=8_000, max_concurrency=3)
bounds = ledger.bound(Whose.KEY, "k", limits)
print("ready", flush=True)
sys.stdin.readline()
admitted = busy = 0
while True:
    visit = Visit(bounds)
    decision = ledger.ask(visit)
    if decision.refusal is None:
        admitted += 1
        ledger.leave(visit)
    elif decision.refusal.kind == "daily_budget":
        break
    else:
        busy += 1
print(admitted)
"""


def test_processes_that_decide_at_the_same_moment_count_every_request_once(tmp_path):
    command = [sys.executable, "-c", ASKING, str(tmp_path / "limits")]
    with ExitStack() as stack:
        asking = [
            stack.enter_context(
                subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            )
            for _ in range(4)
        ]
        for process in asking:
            assert process.stdout.readline() == "ready\n"
        for process in asking:
            process.stdin.write("go\n")
            process.stdin.flush()
        counts = [int(process.stdout.readline()) for process in asking]
    assert sum(counts) == 8_000
    assert min(counts) > 0


def test_cells_of_long_ago_are_freed_when_nobody_else_lives(ledgers, tmp_path):
    clock = [NOON]
    old = ledgers(wall=lambda: clock[0])
    for number in range(1000):
        asked(old, CallerLimits(daily_requests=1), name=f"old {number}")
    end(old)
    size = (tmp_path / "limits" / "ledger.bin").stat().st_size
    clock[0] += 3 * DAY_S
    new = ledgers(wall=lambda: clock[0])
    for number in range(1000):
        assert is_let_in(new, CallerLimits(daily_requests=1), name=f"new {number}")
    assert (tmp_path / "limits" / "ledger.bin").stat().st_size == size
    assert not is_let_in(new, CallerLimits(daily_requests=1), name="new 7")
    third = ledgers(wall=lambda: clock[0])
    assert not is_let_in(third, CallerLimits(daily_requests=1), name="new 999")
    assert is_let_in(third, CallerLimits(daily_requests=1), name="newest")
    assert not is_let_in(new, CallerLimits(daily_requests=1), name="newest")


def test_torn_file_is_begun_anew(ledgers, tmp_path):
    directory = tmp_path / "limits"
    directory.mkdir()
    (directory / "ledger.bin").write_bytes(b"\xff" * 3000)
    limits = CallerLimits(daily_requests=1)
    assert [is_let_in(ledgers(), limits) for _ in range(2)] == [True, False]


def test_counts_of_another_layout_are_not_read_as_these(ledgers, tmp_path):
    limits, file = CallerLimits(daily_requests=1), tmp_path / "limits" / "ledger.bin"
    ledger = ledgers()
    assert is_let_in(ledger, limits)
    end(ledger)
    file.write_bytes(b"SHIPUSE0" + file.read_bytes()[8:])
    assert [is_let_in(ledgers(), limits) for _ in range(2)] == [True, False]


def test_gateway_that_cannot_write_counts_for_itself_and_says_so(tmp_path, capfd):
    (tmp_path / "limits").write_text("a file")
    ledger = MachineLedger(tmp_path / "limits")
    assert "The limits of callers are this gateway's alone" in capfd.readouterr().err
    assert [is_let_in(ledger, CallerLimits(rate=SLOW)) for _ in range(4)] == [True] * 3 + [False]
