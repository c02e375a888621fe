"""What answers when a version cannot: through the request's way, with real inline models."""

import asyncio
import json
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Fallback, Limits
from shipway.core.errors import (
    DeadlineExceeded,
    ModelFailed,
    NoReadyReplica,
    QueueFull,
    ReplicaLost,
)
from shipway.core.telemetry import Column, Outcome, answers
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.testing.live import SIGNATURE, onnx_bundle
from shipway.wire.codec import Timed
from shipway.wire.open_inference import OpenInference
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

STATIC = Fallback(answer={"y": [-1.0]})


class Posted:
    query = b""

    headers: ClassVar = {}

    def __init__(self, *values):
        tensor = {"name": "x", "shape": [len(values)], "datatype": "FP64", "data": values}
        self.body = json.dumps({"inputs": [tensor]}).encode()


class Raises:
    """A runner whose model cannot answer; at once, or after a while."""

    is_ready, error, ejected = True, "", 0

    def __init__(self, exc, *, late):
        self.exc = exc
        self.late = late

    def run_now(self, inputs):
        if not self.late:
            raise self.exc
        return

    async def infer(self, inputs, *, timeout_s):
        raise self.exc

    def close(self):
        pass


class World:
    """Endpoint `main` (versions 2, and 1 without traffic) and endpoint `spare`, all inline."""

    def __init__(self, directory):
        self.directory = directory
        self.table = RouteTable(lambda: None)
        self.serving = Serving(self.table)

    def route(self, name, factors, **fields):
        variants = []
        for number, factor in factors.items():
            bundle = self.directory / f"{name}-{number}"
            manifest = onnx_bundle(bundle, factor)
            variants.append(
                Variant(
                    model=name, version=number, digest=manifest.digest, inline=True,
                    weight_pct=100 if number == max(factors) else 0, bundle_dir=str(bundle),
                    served=Served.ONNX, signature=SIGNATURE, config=ModelConfig(),
                )
            )  # fmt: skip
        return Route(name=name, limits=Limits(), variants=tuple(variants), **fields)

    def break_main(self, exc, *, late=False):
        variant = self.table.route("main").variant("2")
        variant.runner.close()
        variant.runner = Raises(exc, late=late)
        return variant

    async def ask(self, *values, name="main", number=None, timeout_s=60):
        codec = Timed(OpenInference(), timeout_s)
        answer = self.serving.answer(codec, Posted(*values), name, number)
        answer = await answer if isinstance(answer, asyncio.Future) else answer
        said = dict(answer.headers).get(b"x-shipway-fallback", b"").decode()
        return answer.status, json.loads(answer.body), said


@asynccontextmanager
async def world(directory, fallback, *, of_spare=None):
    made = World(directory)
    routes = (
        made.route("main", {1: 3, 2: 2}, fallback=fallback),
        made.route("spare", {1: 10}, fallback=of_spare),
    )
    made.table.apply(Snapshot.of(routes, OPEN))
    await made.table.loaded()
    try:
        yield made
        assert all(route.gate.in_flight == 0 for route in made.table.routes())
        assert all(route.admission.in_flight == 0 for route in made.table.routes())
    finally:
        made.table.close()


@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("kind", [NoReadyReplica, ReplicaLost, ModelFailed])
@pytest.mark.parametrize(
    ("fallback", "said", "values", "model", "version"),
    [
        (Fallback(endpoint="spare"), "endpoint:spare", [10.0, 20.0], "spare", "1"),
        (Fallback(version=1), "version:1", [3.0, 6.0], "main", "1"),
        (STATIC, "answer", [-1.0, -1.0], "main", ""),
    ],
)
async def test_fallback_answers_and_says_so(
    tmp_path, late, kind, fallback, said, values, model, version
):
    async with world(tmp_path, fallback) as made:
        broken = made.break_main(kind("on purpose"), late=late)
        status, body, header = await made.ask(1, 2)
        assert (status, header) == (200, said)
        assert body["outputs"][0]["data"] == values
        assert (body["model_name"], body["model_version"]) == (model, version)
        row = broken.row.values
        assert (row[Column.FALLBACKS], answers(row, Outcome.OK)) == (1, 1)


async def test_endpoint_that_answers_itself_says_nothing_of_a_fallback(tmp_path):
    async with world(tmp_path, STATIC) as made:
        status, body, header = await made.ask(4)
        assert (status, header, body["outputs"][0]["data"]) == (200, "", [8.0])


async def test_late_answer_is_replaced_by_a_static_one_alone(tmp_path):
    async with world(tmp_path, STATIC) as made:
        made.break_main(DeadlineExceeded("late"), late=True)
        assert (await made.ask(1))[::2] == (200, "answer")
    async with world(tmp_path, Fallback(endpoint="spare")) as made:
        made.break_main(DeadlineExceeded("late"), late=True)
        assert (await made.ask(1))[0] == 504


async def test_shed_requests_and_callers_errors_have_no_fallback(tmp_path):
    async with world(tmp_path, STATIC) as made:
        made.break_main(QueueFull("full", retry_after_s=1), late=True)
        assert (await made.ask(1))[0] == 429
        assert (await made.ask("a"))[0] == 422


async def test_caller_who_asks_for_a_version_gets_that_one_or_its_error(tmp_path):
    async with world(tmp_path, STATIC) as made:
        made.break_main(ModelFailed("on purpose"))
        assert (await made.ask(1, number="2"))[0] == 500
        assert (await made.ask(1, number="1"))[1]["outputs"][0]["data"] == [3.0]


async def test_fallback_of_a_fallback_is_not_followed_and_the_first_error_is_told(tmp_path):
    async with world(tmp_path, Fallback(endpoint="spare"), of_spare=STATIC) as made:
        made.break_main(ReplicaLost("the first"))
        spare = made.table.route("spare").variant(None)
        spare.runner.close()
        spare.runner = Raises(ModelFailed("the second"), late=True)
        status, body, header = await made.ask(1)
        assert (status, header) == (503, "")
        assert "the first" in body["error"]


async def test_fallback_that_is_gone_leaves_the_first_error(tmp_path):
    async with world(tmp_path, Fallback(endpoint="gone")) as made:
        made.break_main(ReplicaLost("the first"))
        status, body, _ = await made.ask(1)
        assert (status, body["code"]) == (503, "replica_lost")


async def test_endpoint_without_a_live_version_is_stood_in_for(tmp_path):
    for fallback, values in ((Fallback(endpoint="spare"), [10.0]), (STATIC, [-1.0])):
        made = World(tmp_path)
        main = made.route("main", {1: 3}, fallback=fallback)
        starting = tuple(
            Variant(**{f: getattr(v, f) for f in v.__struct_fields__} | {"weight_pct": 0})
            for v in main.variants
        )
        main = Route(name="main", limits=main.limits, variants=starting, fallback=fallback)
        made.table.apply(Snapshot.of((main, made.route("spare", {1: 10})), OPEN))
        await made.table.loaded()
        status, body, _ = await made.ask(1)
        assert (status, body["outputs"][0]["data"]) == (200, values)
        made.table.close()


async def test_caller_whose_own_deadline_is_too_near_is_refused_at_once(tmp_path):
    async with world(tmp_path, None) as made:
        made.break_main(ReplicaLost("never asked"), late=True)
        admission = made.table.route("main").admission
        admission.rate_per_s, admission.in_flight = 10.0, 20
        status, body, _ = await made.ask(1, timeout_s=0.5)
        admission.in_flight = 0
        assert (status, body["code"]) == (429, "queue_full")
        assert body["details"]["retry_after_s"] == 2


@pytest.mark.parametrize(
    ("fallback", "said", "values"),
    [
        (Fallback(endpoint="spare", always=True), "endpoint:spare", [10.0, 20.0]),
        (Fallback(version=1, always=True), "version:1", [3.0, 6.0]),
        (Fallback(answer={"y": [-1.0]}, always=True), "answer", [-1.0, -1.0]),
    ],
)
async def test_an_endpoint_switched_to_its_fallback_asks_its_version_nothing(
    tmp_path, fallback, said, values
):
    async with world(tmp_path, fallback) as made:
        variant = made.break_main(AssertionError("the version was asked"), late=False)
        status, body, by = await made.ask(1.0, 2.0)
        assert (status, by) == (200, said)
        assert body["outputs"][0]["data"] == values
        assert answers(variant.row.values, Outcome.OK) == 0
        assert made.table.route("main").gate.row.values[Column.FALLBACKS] == 1


async def test_a_version_asked_by_its_number_answers_though_the_endpoint_is_switched(tmp_path):
    async with world(tmp_path, Fallback(version=1, always=True)) as made:
        _, body, by = await made.ask(1.0, number="2")
        assert (body["outputs"][0]["data"], by) == ([2.0], "")
