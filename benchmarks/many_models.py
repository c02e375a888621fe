"""Many models behind one server whose memory holds a few: do all answer, and does it stay within?

    python benchmarks/many_models.py --models 100 --budget-models 10

Registers and deploys the models over the API, asks them in random order from several callers, and
reads the memory of all replica processes from /proc meanwhile. One more model is busy all the time:
it must never be ended. Prints the times of cold and warm answers; exits with 1 when a claim fails.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median, quantiles

import httpx
import msgspec

from shipway.backends.identity import arguments_of
from shipway.backends.memory import memory_of
from shipway.testing.live import LiveServer, live_server, onnx_bundle, python_bundle

SLOW = """
import time

class Model:
    def predict(self, inputs):
        time.sleep(0.7)
        return {"y": inputs["x"] * 5}
"""
SAMPLE_EVERY_S = 0.03


class Options(argparse.Namespace):
    models: int
    budget_models: int
    model_mb: int
    requests: int
    callers: int
    cold_limit_s: float
    seed: int


class Memory:
    """Reads what the replica processes of a server hold, until it is told to end."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = str(state_dir)
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._sample)
        self.resident: dict[str, int] = {}
        self.peak_mb = 0.0
        self.peak_processes = 0
        self.samples = 0

    def __enter__(self) -> Memory:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._ending.wait(SAMPLE_EVERY_S):
            found = dict(self._replicas())
            held = [memory_of(pid) for pid in found.values()]
            total = sum(one.now_mb for one in held if one is not None)
            self.resident = found
            self.peak_mb = max(self.peak_mb, total)
            self.peak_processes = max(self.peak_processes, len(found))
            self.samples += 1

    def _replicas(self):
        for entry in os.listdir("/proc"):
            if not entry.isdigit():
                continue
            arguments = arguments_of(int(entry))
            if "--bundle" in arguments and "--digest" in arguments:
                place = arguments[arguments.index("--bundle") + 1]
                if place.startswith(self._state_dir):
                    yield arguments[arguments.index("--digest") + 1], int(entry)


class Answers(msgspec.Struct):
    """What callers saw: seconds until a right answer, and what was no right answer."""

    cold_s: list[float] = []
    warm_s: list[float] = []
    wrong: list[str] = []


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--models", type=int, default=100)
    parser.add_argument("--budget-models", type=int, default=10)
    parser.add_argument(
        "--model-mb", type=int, default=45, help="what one replica is taken to need"
    )
    parser.add_argument("--requests", type=int, default=600)
    parser.add_argument("--callers", type=int, default=4)
    parser.add_argument("--cold-limit-s", type=float, default=5.0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(namespace=Options())
    with tempfile.TemporaryDirectory(prefix="shipway-many-") as name:
        return 0 if measured(options, Path(name)) else 1


def measured(options: Options, directory: Path) -> bool:
    """Runs it all and prints what was found; whether every claim holds."""
    budget_mb = options.budget_models * options.model_mb
    state_dir = directory / "state"
    with live_server(state_dir, memory_budget_mb=budget_mb) as server, Memory(state_dir) as memory:
        began = time.monotonic()
        digests = deployed(server, directory, options.models)
        print(f"{options.models} models deployed in {time.monotonic() - began:.1f} s")
        alone(server, digests, memory)
        with Busy(server) as busy:
            answers = asked(server, options, digests, memory)
    return report(options, budget_mb, memory, answers, busy)


def deployed(server: LiveServer, directory: Path, models: int) -> list[str]:
    """Registers and deploys the models, and the busy one; the digests of the former."""
    digests = []
    for number in range(models):
        bundle = directory / f"m{number}"
        digests.append(onnx_bundle(bundle, factor(number)).digest)
        server.register(name_of(number), bundle)
        server.deploy(name_of(number), f"{name_of(number)}:1")
        view = server.settled(name_of(number))
        assert view["phase"] == "live", view
        assert view["variants"][0]["placement"] == "process", view
    python_bundle(directory / "busy", SLOW)
    server.register("busy", directory / "busy")
    server.deploy("busy", "busy:1")
    assert server.settled("busy")["phase"] == "live"
    return digests


def alone(server: LiveServer, digests: list[str], memory: Memory) -> None:
    """Prints what a cold answer takes when nobody else asks: held request to answer."""
    times = []
    for number in [n for n, digest in enumerate(digests) if digest not in memory.resident][:5]:
        began = time.monotonic()
        predicted(server.gateway, name_of(number), 1.0)
        times.append(time.monotonic() - began)
        time.sleep(1)
    if times:
        print(f"cold, one at a time: median {median(times):.3f} s, longest {max(times):.3f} s")


def name_of(number: int) -> str:
    return f"model-{number:03}"


def factor(number: int) -> float:
    return float(number + 2)


class Busy:
    """Has a request inside the slow model all the time; notes failures, and every process it has."""

    def __init__(self, server: LiveServer) -> None:
        self._server = server
        self._ending = threading.Event()
        self._threads = [threading.Thread(target=self._ask) for _ in range(2)]
        self.failures: list[str] = []
        self.answers = 0
        self.pids: set[int] = set()

    def __enter__(self) -> Busy:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ending.set()
        for thread in self._threads:
            thread.join()

    def _ask(self) -> None:
        with httpx.Client(
            base_url=self._server.running.gateway_url, timeout=40, headers=self._server.headers
        ) as client:
            while not self._ending.is_set():
                status, value = predicted(client, "busy", 1.0)
                if (status, value) == (200, 5.0):
                    self.answers += 1
                else:
                    self.failures.append(f"busy: {status} {value}")
                self.pids |= {r["pid"] for r in self._server.replicas("busy", "busy:1")}


def predicted(client: httpx.Client, endpoint: str, value: float) -> tuple[int, float | str]:
    tensor = {"name": "x", "shape": [1], "datatype": "FP64", "data": [value]}
    try:
        answer = client.post(f"/v2/models/{endpoint}/infer", json={"inputs": [tensor]})
    except httpx.HTTPError as exc:
        return 0, repr(exc)
    if answer.status_code != 200:
        return answer.status_code, answer.text
    return 200, float(answer.json()["outputs"][0]["data"][0])


def asked(server: LiveServer, options: Options, digests: list[str], memory: Memory) -> Answers:
    """Every model at least once, the rest at random, from several callers at once."""
    dice = random.Random(options.seed)
    order = list(range(options.models))
    dice.shuffle(order)
    order += [dice.randrange(options.models) for _ in range(options.requests - len(order))]
    answers = Answers(cold_s=[], warm_s=[], wrong=[])
    client = httpx.Client(base_url=server.running.gateway_url, timeout=40, headers=server.headers)

    def ask(number: int) -> None:
        times = answers.warm_s if digests[number] in memory.resident else answers.cold_s
        began = time.monotonic()
        status, value = predicted(client, name_of(number), 3.0)
        if (status, value) == (200, 3.0 * factor(number)):
            times.append(time.monotonic() - began)
        else:
            answers.wrong.append(f"{name_of(number)}: {status} {value}")

    began = time.monotonic()
    with client, ThreadPoolExecutor(options.callers) as callers:
        list(callers.map(ask, order))
    print(f"{len(order)} requests by {options.callers} callers in {time.monotonic() - began:.1f} s")
    return answers


def report(options: Options, budget_mb: int, memory: Memory, answers: Answers, busy: Busy) -> bool:
    """Prints times and claims; whether all claims hold."""
    for label, times in (("cold", answers.cold_s), ("warm", answers.warm_s)):
        if len(times) > 1:
            cuts = quantiles(times, n=100)
            print(
                f"{label}: {len(times)} answers, p50 {cuts[49]:.3f} s, p95 {cuts[94]:.3f} s,"
                f" p99 {cuts[98]:.3f} s, longest {max(times):.3f} s"
            )
    slowest = quantiles(answers.cold_s, n=100)[98]
    claims = {
        f"every one of {options.models} models answers, and right": not answers.wrong,
        f"memory stays within {budget_mb} MB (peak {memory.peak_mb:.0f} MB in"
        f" {memory.peak_processes} processes, {memory.samples} samples)": memory.peak_mb
        <= budget_mb,
        f"99 of 100 cold answers come within {options.cold_limit_s:g} s": slowest
        <= options.cold_limit_s,
        f"a model with requests inside is not ended ({busy.answers} answers of the busy one,"
        f" {len(busy.pids)} process)": len(busy.pids) == 1 and not busy.failures,
    }
    for claim, holds in claims.items():
        print(f"{'holds' if holds else 'FAILS'}: {claim}")
    for failure in (answers.wrong + busy.failures)[:10]:
        print(f"  {failure}")
    return all(claims.values())


if __name__ == "__main__":
    sys.exit(main())
