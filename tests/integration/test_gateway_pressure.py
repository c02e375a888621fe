"""What callers meet when the gateway itself has more to do than it can."""

import asyncio
import resource
import socket
import time

from shipway.core.bundles import ModelConfig, Served
from shipway.core.endpoints import Limits
from shipway.gateway.accepting import Acceptor
from shipway.gateway.pulse import BEAT_S, Pulse
from shipway.gateway.routes import RouteTable
from shipway.gateway.serving import Serving
from shipway.testing.live import SIGNATURE, onnx_bundle
from shipway.wire.open_inference import OpenInference
from shipway.wire.snapshot import OPEN, Route, Snapshot, Variant


class Posted:
    query, headers = b"", {}
    body = b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP64","data":[1.0]}]}'


class Taken(asyncio.Protocol):
    """Counts connections, and closes each when its caller does."""

    made = 0

    def connection_made(self, transport):
        type(self).made += 1


def bound():
    listening = socket.socket()
    listening.bind(("127.0.0.1", 0))
    return listening


def callers(listening, number):
    made = [socket.socket() for _ in range(number)]
    for one in made:
        one.connect(listening.getsockname())
    return made


def ended(sockets):
    for one in sockets:
        one.close()


async def until(claim, within_s=20.0):
    async with asyncio.timeout(within_s):
        while not claim():  # noqa: ASYNC110 - other tasks move on meanwhile
            await asyncio.sleep(0.005)


async def test_all_callers_that_wait_are_taken_in_a_few_turns_of_the_loop():
    Taken.made, listening = 0, bound()
    acceptor = Acceptor(listening, Taken)
    waiting = callers(listening, 200)
    for _ in range(6):
        await asyncio.sleep(0)
    assert Taken.made == 200
    ended(waiting)
    await acceptor.close()
    await asyncio.sleep(0.01)


async def test_callers_that_wait_when_the_gateway_closes_are_taken():
    Taken.made, listening = 0, bound()
    acceptor = Acceptor(listening, Taken)
    waiting = callers(listening, 20)
    await acceptor.close()
    assert Taken.made == 20
    ended(waiting)
    await asyncio.sleep(0.01)


async def test_callers_that_come_when_no_descriptor_is_left_are_taken_once_there_is():
    Taken.made, listening = 0, bound()
    acceptor = Acceptor(listening, Taken)
    waiting = [socket.socket() for _ in range(3)]
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.socket() as probe:
        lowest = probe.fileno()
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
    try:
        for one in waiting:
            one.connect(listening.getsockname())
        await asyncio.sleep(0.05)
        assert Taken.made == 0
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    await until(lambda: Taken.made == 3)
    ended(waiting)
    await acceptor.close()
    await asyncio.sleep(0.01)


async def test_pulse_says_when_the_loop_last_came_round():
    pulse = Pulse()
    assert time.monotonic() - pulse.at < 0
    pulse.start()
    before = pulse.at
    await until(lambda: pulse.at > before)
    time.sleep(0.1)  # noqa: ASYNC251 - as a model does that runs on the loop
    assert time.monotonic() - pulse.at > 0.1 - BEAT_S
    pulse.stop()
    assert time.monotonic() - pulse.at < 0


async def test_requests_that_waited_in_the_sockets_while_models_ran_are_refused_at_once(tmp_path):
    manifest = onnx_bundle(tmp_path / "bundle", 2)
    variant = Variant(
        model="m", version=1, digest=manifest.digest, inline=True, weight_pct=100,
        bundle_dir=str(tmp_path / "bundle"), served=Served.ONNX, signature=SIGNATURE,
        config=ModelConfig(),
    )  # fmt: skip
    table = RouteTable(lambda: None)
    limits = Limits(deadline_ms=200)
    table.apply(Snapshot.of((Route(name="m", limits=limits, variants=(variant,)),), OPEN))
    await table.loaded()
    serving = Serving(table)
    table.pulse.start()
    assert serving.answer(OpenInference(), Posted(), "m").status == 200
    table.pulse.at -= 1
    refused = serving.answer(OpenInference(), Posted(), "m")
    assert refused.status == 429
    assert dict(refused.headers)[b"retry-after"] == b"1"
    assert table.route("m").gate.in_flight == 0
    table.close()
