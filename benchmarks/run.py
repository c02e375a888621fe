"""Shipway beside a hand-written service and the bare floor: one machine, one model, one client.

    python benchmarks/run.py [--seconds 6] [--rounds 3] [--json FILE]

Each round measures every server once, one after the other, so that a slow minute of the machine
hits all of them; figures are medians over the rounds. Every server answers the same row with label
and probabilities, is checked for the right answer, and failures are counted. Ratios are printed,
because the absolute figures belong to the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import joblib
import numpy as np
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
CONNECTIONS = (1, 32)
WARM_S = 2
START_S = 60.0
ROW = [6.7, 3.1, 5.6, 2.4]
OPEN_INFERENCE = {"inputs": [{"name": "X", "shape": [1, 4], "datatype": "FP32", "data": ROW}]}
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class Target:
    """A running server: where, with what body, and whose CPU time counts."""

    def __init__(self, name: str, url: str, body: object, pids: list[int]) -> None:
        self.name, self.url, self.body, self.pids = name, url, body, pids
        self.runs: dict[int, list[dict[str, float]]] = {count: [] for count in CONNECTIONS}


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def process(command: list[str], **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    running = subprocess.Popen(
        command, env={**ENVIRONMENT, **environment}, stdout=subprocess.DEVNULL, cwd=HERE / "peers"
    )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        running.wait(20)


def uvicorn(app: str, port: int, *extra: str) -> list[str]:
    options = f"--host 127.0.0.1 --port {port} --no-access-log --log-level warning".split()
    return [sys.executable, "-m", "uvicorn", *options, *extra, app]


@contextmanager
def peer(name: str, app: str, path: str, body: object, *extra: str, **env: str) -> Iterator[Target]:
    port = free_port()
    with process(uvicorn(app, port, *extra), **env) as running:
        target = Target(name, f"http://127.0.0.1:{port}{path}", body, [running.pid])
        wait_until_right(target)
        yield target


@contextmanager
def shipway(directory: Path, model: Path, sample: Path) -> Iterator[list[Target]]:
    """A real `shipway up`, with the model registered and deployed as a user would, twice."""
    state, program = directory / "state", [sys.executable, "-m", "shipway.cli"]
    ports = {"gateway": free_port(), "control": free_port()}
    up = ["up", "--dir", str(state), "--port", str(ports["gateway"])]
    up += ["--control-port", str(ports["control"])]
    server = {"SHIPWAY_CONTROL_URL": f"http://127.0.0.1:{ports['control']}"}

    def command(*arguments: str) -> None:
        subprocess.run(
            [*program, *arguments], check=True, env={**ENVIRONMENT, **server}, stdout=sys.stderr
        )

    with process([*program, *up]):
        wait_for(lambda: httpx.get(f"{server['SHIPWAY_CONTROL_URL']}/api/v1/health"))
        command("register", str(model), "--name", "iris", "--sample", str(sample))
        targets = []
        for placement in ("inline", "process"):
            name = f"iris-{placement}"
            command("deploy", "iris:1", "--endpoint", name, "--placement", placement)
            url = f"http://127.0.0.1:{ports['gateway']}/v2/models/{name}/infer"
            targets.append(Target(f"shipway, {placement}", url, OPEN_INFERENCE, serving(state)))
        for target in targets:
            wait_until_right(target)
        yield targets


def serving(state: Path) -> list[int]:
    """Gateways and replicas: the processes on a request's way."""
    records = [*state.glob("run/gateway*.json"), *state.glob("run/replicas/*.json")]
    return [pid for record in records if (pid := json.loads(record.read_text()).get("pid"))]


def wait_for(attempt) -> None:
    until = time.monotonic() + START_S
    while True:
        try:
            if attempt().is_success:
                return
        except httpx.HTTPError:
            pass
        if time.monotonic() > until:
            raise SystemExit("a server did not start in time")
        time.sleep(0.05)


def wait_until_right(target: Target) -> None:
    wait_for(lambda: httpx.post(target.url, json=target.body))
    answer = httpx.post(target.url, json=target.body).json()
    label = answer["label"] if "label" in answer else answer["outputs"][0]["data"]
    if label != [2]:
        raise SystemExit(f"{target.name} answers {answer}")


def cpu_s(pids: list[int]) -> float:
    total = 0
    for pid in pids:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / os.sysconf("SC_CLK_TCK")


def load(target: Target, body: Path, *, connections: int, seconds: int) -> dict[str, float]:
    body.write_text(json.dumps(target.body))
    before = cpu_s(target.pids)
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s"]
    done = subprocess.run(
        [*command, "-s", str(HERE / "wrk.lua"), target.url],
        env={**ENVIRONMENT, "BENCH_BODY": str(body)}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    line = next(line for line in done.stdout.splitlines() if line.startswith("JSON "))
    result = json.loads(line[5:])
    result["cpu_us"] = (cpu_s(target.pids) - before) / max(result["requests"], 1) * 1e6
    return result


def median(target: Target, connections: int, figure: str) -> float:
    return statistics.median(run[figure] for run in target.runs[connections])


def table(targets: list[Target]) -> str:
    floor, by_hand = targets[0], targets[1]
    lines = [
        "| server | connections | req/s | of the floor | x by hand | p50 ms | p99 ms | CPU µs/req | failures |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for connections in CONNECTIONS:
        for target in targets:
            rps = median(target, connections, "rps")
            failures = sum(run["failures"] for run in target.runs[connections])
            lines.append(
                f"| {target.name} | {connections} | {rps:,.0f}"
                f" | {rps / median(floor, connections, 'rps'):.2f}"
                f" | {rps / median(by_hand, connections, 'rps'):.1f}"
                f" | {median(target, connections, 'p50_ms'):.3f}"
                f" | {median(target, connections, 'p99_ms'):.3f}"
                f" | {median(target, connections, 'cpu_us'):.0f} | {failures:.0f} |"
            )
    return "\n".join(lines)


def make_model(directory: Path) -> tuple[Path, Path, Path]:
    from skl2onnx import to_onnx

    rows, labels = load_iris(return_X_y=True)
    rows = rows.astype(np.float32)
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(rows, labels)
    paths = directory / "iris.joblib", directory / "iris.onnx", directory / "iris.npy"
    joblib.dump(model, paths[0])
    graph = to_onnx(model, rows[:1], options={"zipmap": False})
    paths[1].write_bytes(graph.SerializeToString())
    np.save(paths[2], rows)
    return paths


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--seconds", type=int, default=6, help="of load per measurement")
    parser.add_argument("--rounds", type=int, default=3, help="medians are taken over these")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    options = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("The load generator `wrk` is missing: apt-get install wrk")
    with ExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="shipway-bench-")))
        model, graph, sample = make_model(directory)
        environment = {"BENCH_ONNX": str(graph), "BENCH_JOBLIB": str(model)}
        by_hand = {"inputs": [ROW]}
        targets = [
            stack.enter_context(peer("floor", "floor:app", "/", OPEN_INFERENCE, **environment)),
            stack.enter_context(
                peer("FastAPI + joblib by hand", "by_hand:app", "/predict", by_hand, **environment)
            ),
            *stack.enter_context(shipway(directory, model, sample)),
        ]
        body = directory / "body.json"
        for number in range(options.rounds):
            for target in targets:
                load(target, body, connections=max(CONNECTIONS), seconds=WARM_S)
                for connections in CONNECTIONS:
                    print(f"round {number + 1}: {target.name}, {connections}", file=sys.stderr)
                    run = load(target, body, connections=connections, seconds=options.seconds)
                    target.runs[connections].append(run)
        print(f"\niris pipeline (scikit-learn), one row of JSON, on {machine()}\n")
        print(table(targets))
        if options.json:
            options.json.write_text(json.dumps({t.name: t.runs for t in targets}, indent=1))


def machine() -> str:
    return f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"


if __name__ == "__main__":
    main()
