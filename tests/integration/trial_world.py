"""An endpoint in a rollout, in this process, with real inline models and every door of the gateway."""

import asyncio
import base64
import json
from contextlib import asynccontextmanager

import msgspec

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.gateway.app import Gateway
from shipway.gateway.grpc.call import MESSAGE_HEAD, Reply
from shipway.gateway.grpc.messages import ModelInferRequest, ModelInferResponse
from shipway.gateway.grpc.service import Services
from shipway.gateway.http import Request
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.testing.live import SIGNATURE, onnx_bundle
from shipway.wire.snapshot import OPEN, Route, Snapshot, Trial, Variant

FACTORS = {1: 3, 2: 2}
"""Version 1 is the primary and triples; version 2 is the candidate and doubles."""

DOORS = ("rest", "grpc", "mlflow")

IDS = {
    "short": ("7", True),
    "longest": ("x" * 200, True),
    "longest of two bytes each": ("ü" * 200, True),
    "with a blank": ("order 7", True),
    "too long": ("x" * 201, False),
    "too long by a character of two bytes": ("x" * 200 + "ü", False),
    "blank": ("  ", False),
    "of another blank": ("\u2003", False),
    "with a zero byte": ("a\0b", False),
}
"""What callers send as the id of a request, and whether it is one."""

ID_PLACES = (("rest", "id"), ("grpc", "id"), *((door, "header") for door in DOORS))
"""Through which door an id comes, and where it stands there."""


def with_id(door, place, request_id):
    """The options of `TrialWorld.send` that send the id so."""
    header = {"headers": {"x-request-id": request_id}}
    return {"door": door, **({"id": request_id} if place == "id" else header)}


class Raises:
    """A runner whose model cannot answer; at once, or after a while."""

    is_ready, error, ejected, ready_replicas = True, "", 0, 1

    def __init__(self, exc, *, late=False):
        self.exc = exc
        self.late = late
        self.asked = 0

    def run_now(self, inputs):
        self.asked += 1
        if not self.late:
            raise self.exc

    async def infer(self, inputs, *, timeout_s):
        raise self.exc

    def close(self):
        pass


class Hangs(Raises):
    """A runner that never answers, and keeps to nobody's deadline but its caller's."""

    def __init__(self):
        super().__init__(None, late=True)
        self.timeouts, self.inside = [], 0

    async def infer(self, inputs, *, timeout_s):
        self.timeouts.append(timeout_s)
        self.inside += 1
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.Event().wait()
        finally:
            self.inside -= 1


class TrialWorld:
    """Endpoint `main`. `seen` are the accounts of the present step."""

    def __init__(self, directory, spool=None):
        self.directory = directory
        self.table = RouteTable(lambda: None, spool=spool)
        serving = Serving(self.table)
        self.gateway = Gateway(self.table, serving)
        self.services = Services(self.table, serving)

    def apply(self, **options):
        """Applies a snapshot of the endpoint; see `route_spec`."""
        self.table.apply(Snapshot.of((self.route_spec(**options),), OPEN))

    def route_spec(
        self,
        *,
        weight=0,
        versions=(1, 2),
        limits=None,
        fallback=None,
        signatures=None,
        capture=None,
        **of,
    ):
        """The endpoint in a rollout; `of` are fields of the trial, `rollout=None` for none."""
        variants = []
        for number in versions:
            bundle = self.directory / f"{number}"
            manifest = onnx_bundle(bundle, FACTORS[number])
            variants.append(
                Variant(
                    model="main", version=number, digest=manifest.digest, inline=True,
                    weight_pct=weight if number == 2 else 100 - weight, bundle_dir=str(bundle),
                    served=Served.ONNX, signature=(signatures or {}).get(number, SIGNATURE),
                    config=ModelConfig(),
                )
            )  # fmt: skip
        fields = {"rollout": "r1", "epoch": 1, "primary": "main:1", "candidate": "main:2", **of}
        trial = Trial(**fields) if fields["rollout"] else None
        return Route(
            name="main", limits=limits or Limits(), variants=tuple(variants), trial=trial,
            fallback=fallback, capture=capture,
        )  # fmt: skip

    @property
    def route(self):
        return self.table.route("main")

    @property
    def seen(self):
        return self.route.trial.report

    def put(self, number, runner):
        """Puts another runner in the place of a version's model."""
        variant = self.route.variant(str(number))
        variant.runner.close()
        variant.runner = runner
        return variant

    def send(self, *values, door="rest", headers=None, number=None, **more):
        """Sends a request through a door; gives its answer or task."""
        headers = {name.encode(): value.encode() for name, value in (headers or {}).items()}
        if door == "grpc":
            return self._call(values, headers, number, **more)
        if door == "mlflow":
            path, body = "/endpoints/main/invocations", {"inputs": {"x": list(values)}, **more}
        else:
            version = f"/versions/{number}" if number else ""
            path = f"/v2/models/main{version}/infer"
            kind = "BYTES" if isinstance(values[0], str) else "FP64"
            tensor = {"name": "x", "shape": [len(values)], "datatype": kind, "data": values}
            body = {"inputs": [tensor], **more}
        request = Request("POST", path.encode(), headers)
        request.body = json.dumps(body).encode()
        return self.gateway.handle(request)

    def _call(self, values, metadata, number, **more):
        message = ModelInferRequest(model_name="main", model_version=str(number or ""), **more)
        tensor = message.inputs.add(name="x", shape=[len(values)])
        if isinstance(values[0], str):
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.extend(value.encode() for value in values)
        else:
            tensor.datatype = "FP64"
            tensor.contents.fp64_contents.extend(values)
        method = self.services.methods[b"/inference.GRPCInferenceService/ModelInfer"]
        return method.answer(message.SerializeToString(), None, metadata)

    async def ask(self, *values, **options):
        """Status, the first value of the answer, and whom it was rescued from."""
        answer = self.send(*values, **options)
        answer = await answer if isinstance(answer, asyncio.Future) else answer
        for _ in range(2):
            await asyncio.sleep(0)  # what was seen is entered once the answer is out
        if isinstance(answer, Reply):
            return _of_reply(answer)
        said = dict(answer.headers).get(b"x-shipway-rescued", b"").decode()
        body = json.loads(answer.body)
        if answer.status != 200:
            return answer.status, None, said
        values = body["predictions"] if "predictions" in body else body["outputs"][0]["data"]
        first = values[0]
        return 200, next(iter(first.values())) if isinstance(first, dict) else first, said

    async def version_for(self, *values, **options):
        """Which version answered, by what it makes of the first value."""
        status, value, said = await self.ask(*values, **options)
        assert (status, said) == (200, "")
        return {factor: number for number, factor in FACTORS.items()}[value / values[0]]


def _of_reply(reply):
    said = b"x-shipway-rescued" in reply.trailers
    if not reply.message:
        return 500, None, ""
    message = ModelInferResponse.FromString(reply.message[MESSAGE_HEAD.size :])
    return 200, message.outputs[0].contents.fp64_contents[0], "2" if said else ""


def token(**claims):
    """A JSON Web Token that nobody signed."""
    parts = [base64.urlsafe_b64encode(msgspec.json.encode(part)) for part in ({}, claims)]
    return "Bearer " + b".".join(part.rstrip(b"=") for part in (*parts, b"signature")).decode()


@asynccontextmanager
async def trial_world(directory, spool=None, **options):
    made = TrialWorld(directory, spool)
    made.apply(**options)
    await made.table.loaded()
    try:
        yield made
        await settled()
        assert all(route.gate.in_flight == 0 for route in made.table.routes())
        assert all(route.admission.in_flight == 0 for route in made.table.routes())
        assert all(v.holds == 0 for route in made.table.routes() for v in route.variants)
    finally:
        made.table.close()
        await settled()


async def settled():
    """Lets callbacks of tasks that have ended run."""
    for _ in range(5):
        await asyncio.sleep(0)


async def until(claim, within_s=30.0):
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - many kinds of claims
            await asyncio.sleep(0.005)
