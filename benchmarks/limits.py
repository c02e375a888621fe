"""What does a request pay for its limits? Processor time at the gateway's door, without sockets.

    python benchmarks/limits.py [--requests 5000]

One small ONNX model in the gateway, asked without limits, with those of its endpoint, and with those of a key
and a project as well: counted in the file of the machine, and in a Valkey that 64 requests ask at once.
Informational: it never fails.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from pathlib import Path
from time import process_time

from shipway.core.access import ANYBODY
from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.core.rates import CallerLimits, RateLimit, Whose
from shipway.gateway.doorkeeper import Caller, Doorkeeper
from shipway.gateway.http import Request
from shipway.gateway.ledger import Bounds, Ledger, MachineLedger
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.gateway.valkey_ledger import ValkeyLedger
from shipway.testing.live import SIGNATURE, onnx_bundle
from shipway.testing.servers import valkey
from shipway.wire.open_inference import OpenInference
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant

BODY = b'{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}]}'
WIDE = CallerLimits(rate=RateLimit(per_s=1e6, burst=1_000_000), daily_requests=10**12)
AT_ONCE = 64


class Everybody(Doorkeeper):
    """Lets everybody in, by these bounds."""

    bounds: Bounds = ()

    def admit(self, sent, endpoint):  # type: ignore[no-untyped-def]
        return Caller(ANYBODY, self.bounds)


class Door:
    """A gateway's way of a request from the parsed request to the answer."""

    def __init__(self, table: RouteTable) -> None:
        self.table = table
        self.serving = Serving(table)

    async def answers(self, requests: int, bounds: Bounds) -> float:
        """Microseconds of processor time for each request."""
        begun = process_time()
        for _ in range(requests // AT_ONCE):
            answers = [self._asked(bounds) for _ in range(AT_ONCE)]
            late = [answer for answer in answers if isinstance(answer, asyncio.Task)]
            done = [answer for answer in answers if not isinstance(answer, asyncio.Task)]
            done += await asyncio.gather(*late)
            assert {answer.status for answer in done} == {200}
        return (process_time() - begun) / (requests // AT_ONCE * AT_ONCE) * 1e6

    def _asked(self, bounds: Bounds):  # type: ignore[no-untyped-def]
        self.table.door.bounds = bounds
        request = Request("POST", b"/v2/models/e/infer", {b"content-type": b"application/json"})
        request.body = BODY
        return self.serving.answer(OpenInference(), request, "e")


async def door(variant: Variant, ledger: Ledger, limits: Limits) -> Door:
    """One that has loaded the model."""
    table = RouteTable(lambda: None, ledger=ledger, door=Everybody())
    table.apply(Snapshot.of((Route(name="e", limits=limits, variants=(variant,)),), OPEN))
    await table.loaded()
    return Door(table)


def model(bundle: Path) -> Variant:
    """A small ONNX model, in the gateway."""
    digest = onnx_bundle(bundle, 2.0).digest
    return Variant(
        model="m", version=1, digest=digest, weight_pct=100, inline=True, bundle_dir=str(bundle),
        served=Served.ONNX, signature=SIGNATURE, config=ModelConfig(),
    )  # fmt: skip


async def measure(requests: int, directory: Path, url: str) -> None:
    """Prints a line for each way to be limited."""
    variant = model(directory / "bundle")
    own = MachineLedger(directory / "limits")
    shared = ValkeyLedger(url, MachineLedger(directory / "other"), environment="bench")
    await shared.start()
    rate = Limits(rate=WIDE.rate, daily_requests=WIDE.daily_requests)
    callers = ((Whose.KEY, "k"), (Whose.PROJECT, "p"))
    ways = (
        ("no limits", own, Limits(), ()),
        ("endpoint, counted on the machine", own, rate, ()),
        ("key, project and endpoint, counted on the machine", own, rate, callers),
        ("endpoint, counted in Valkey", shared, rate, ()),
        ("key, project and endpoint, counted in Valkey", shared, rate, callers),
    )
    for words, ledger, limits, named in ways:
        one = await door(variant, ledger, limits)
        bounds = sum((ledger.bound(whose, name, WIDE) for whose, name in named), ())
        await one.answers(requests // 5, bounds)
        took = min([await one.answers(requests, bounds) for _ in range(3)])
        sys.stdout.write(f"{took:8.1f} µs  {words}\n")
        one.table.close()
    assert shared.is_shared
    await shared.close()
    await own.close()


def main() -> int:
    """Measures, and gives the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=5000, help="in each of three rounds")
    options = parser.parse_args()
    with valkey() as server, tempfile.TemporaryDirectory() as name:
        asyncio.run(measure(options.requests, Path(name), server.url))
    return 0


if __name__ == "__main__":
    sys.exit(main())
