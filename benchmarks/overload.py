"""Twice as many requests as the model can answer: are the accepted ones in time, and the rest refused?

    python benchmarks/overload.py [--seconds 60] [--replicas 1 2 0] [--factor 2]

A model that takes 5 ms a call and one row at a time runs in process replicas of a real server; with
0 replicas, an ONNX model of about a millisecond runs inline. Its peak is measured by a closed loop
just before; then requests come at a constant rate of twice that, from a process of its own. Exits
with 1 when a claim does not hold.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from shipway.core.bundles import Feed, Format, OnnxForm, Served
from shipway.testing.bundles import write_bundle
from shipway.testing.live import INHERIT, SIGNATURE, LiveServer, live_server, python_bundle

HERE = Path(__file__).parent
CODE = '''
import time


class Model:
    """Doubles, in {work_ms} ms a call."""

    def predict(self, inputs):
        time.sleep({work_ms} / 1000)
        return {{"y": inputs["x"] * 2}}
'''
PEAK_CONNECTIONS = 32
OPEN_CONNECTIONS = 1000
REFUSALS = ("429", "503")


def load(port: int, endpoints: Sequence[str], mode: str, **options: float) -> dict[str, Any]:
    """What the load generator saw."""
    command = [sys.executable, str(HERE / "openloop.py"), "--port", str(port), "--mode", mode]
    for endpoint in endpoints:
        command += ["--endpoint", endpoint]
    for name, value in options.items():
        command += [f"--{name.replace('_', '-')}", str(value)]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def measured(server: LiveServer, port: int, replicas: int, options: argparse.Namespace) -> dict:
    """The peak, and what came of twice the peak."""
    limits = {"max_batch_rows": 1, "deadline_ms": options.deadline_ms}
    name = "slow" if replicas else "inline"
    where = {"placement": "process", "replicas": replicas} if replicas else {"placement": "inline"}
    server.deploy(name, name, limits=limits, **where)
    server.until(lambda: server.settled(name)["phase"] == "live")
    server.until(lambda: len(ready(server, name)) == replicas)
    load(port, [f"{name}=2"], "closed", seconds=1, connections=PEAK_CONNECTIONS)
    before = peak_of(port, name, options)
    seen = load(
        port, [f"{name}=2"], "open",
        rate=options.factor * before, seconds=options.seconds,
        connections=OPEN_CONNECTIONS, deadline_s=options.deadline_ms / 1000,
    )  # fmt: skip
    after = peak_of(port, name, options)
    return {"replicas": replicas, "before": before, "after": after, "seen": seen}


def peak_of(port: int, name: str, options: argparse.Namespace) -> float:
    """Answers per second of a closed loop."""
    seconds = min(5.0, options.seconds)
    seen = load(port, [f"{name}=2"], "closed", seconds=seconds, connections=PEAK_CONNECTIONS)
    return float(seen["statuses"].get("200", 0) / seen["seconds"])


def ready(server: LiveServer, name: str) -> list[dict[str, Any]]:
    """The replicas of the newest version that answer."""
    active = server.endpoint(name)["active"]
    return [r for r in server.replicas(name, active) if r["state"] == "ready"]


def inline_bundle(directory: Path) -> None:
    """An ONNX model that gives `y = 2 x` for one row, after a millisecond of other sums."""
    from onnx import TensorProto, helper

    size = 260
    constants = {
        "two": ([1], [2.0]), "zero": ([1], [0.0]),
        "weights": ([size, size], [1.0 / size] * size**2),
    }  # fmt: skip
    nodes = [
        helper.make_node("Expand", ["x", "shape"], ["wide"]),
        helper.make_node("MatMul", ["wide", "weights"], ["first"]),
        helper.make_node("MatMul", ["first", "weights"], ["second"]),
        helper.make_node("ReduceMax", ["second"], ["most"], keepdims=1),
        helper.make_node("Mul", ["most", "zero"], ["nothing"]),
        helper.make_node("Mul", ["x", "two"], ["double"]),
        helper.make_node("Add", ["double", "nothing"], ["y"]),
    ]
    values = [
        helper.make_tensor(name, TensorProto.DOUBLE, shape, data)
        for name, (shape, data) in constants.items()
    ]
    values.append(helper.make_tensor("shape", TensorProto.INT64, [2], [size, size]))
    graph = helper.make_graph(
        nodes, "double",
        [helper.make_tensor_value_info("x", TensorProto.DOUBLE, [None, 1])],
        [helper.make_tensor_value_info("y", TensorProto.DOUBLE, [None, 1])],
        values,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    write_bundle(
        directory,
        files={"model/model.onnx": bytes(model.SerializeToString())},
        format=Format.ONNX,
        served=Served.ONNX,
        signature=SIGNATURE,
        environment=INHERIT,
        onnx=OnnxForm(
            path="model/model.onnx",
            feeds=(Feed(graph_input="x", dtype="FP64", columns=("x",)),),
            outputs={"y": "y"},
        ),
    )


def claims(one: dict, options: argparse.Namespace) -> list[tuple[str, str, bool]]:
    """What is claimed, what was seen, and whether it holds."""
    seen, peak = one["seen"], (one["before"] + one["after"]) / 2
    statuses, latencies = seen["statuses"], seen["latencies"]
    answered, late = statuses.get("200", 0), statuses.get("504", 0)
    refused = sum(statuses.get(status, 0) for status in REFUSALS)
    others = sum(statuses.values()) - answered - late - refused
    p99_s = latencies.get("200", {}).get("p99", 0.0)
    late_share = late / max(1, answered + late)
    refused_s = max((latencies[s]["p99"] for s in REFUSALS if s in latencies), default=0.0)
    rate = answered / seen["seconds"]
    deadline_s = options.deadline_ms / 1000
    # Models that run on the gateway's own loop hold up its refusals, too.
    at_once_s = options.at_once_ms / 1000 if one["replicas"] else deadline_s
    return [
        ("accepted within the deadline, p99", f"{p99_s * 1000:.0f} ms of {options.deadline_ms}",
         p99_s <= deadline_s),
        ("accepted and late", f"{late} of {answered + late} ({late_share:.2%})", late_share <= 0.01),
        ("the rest refused at once, p99", f"{refused} in {refused_s * 1000:.0f} ms",
         refused > 0 and refused_s <= at_once_s),
        ("throughput of the peak", f"{rate:.0f}/s of {peak:.0f}/s ({rate / peak:.0%})",
         rate >= options.throughput * peak),
        ("other outcomes, wrong answers", f"{others}, {seen['wrong']}",
         others == 0 and seen["wrong"] == 0),
    ]  # fmt: skip


def report(one: dict, options: argparse.Namespace) -> bool:
    """Prints the claims; gives whether all hold."""
    seen = one["seen"]
    print(
        f"\n{one['replicas'] or 'inline, no'} replica(s), {options.factor:g}x the peak"
        f" of {one['before']:.0f}/s (afterwards {one['after']:.0f}/s) for {seen['seconds']:.0f} s: {seen['statuses']}"
    )
    outcome = True
    for claim, fact, holds in claims(one, options):
        print(f"  {'holds ' if holds else 'BROKEN'}  {claim:36} {fact}")
        outcome = outcome and holds
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--replicas", type=int, nargs="+", default=[1, 2, 0])
    parser.add_argument("--factor", type=float, default=2.0)
    parser.add_argument("--work-ms", type=float, default=5.0)
    parser.add_argument("--deadline-ms", type=int, default=500)
    parser.add_argument("--at-once-ms", type=float, default=200.0)
    parser.add_argument("--throughput", type=float, default=0.9)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shipway-over-") as name:
        directory = Path(name)
        code = CODE.format(work_ms=options.work_ms)
        python_bundle(directory / "bundle", code)
        with live_server(directory / "state", auth=False) as server:
            server.register("slow", directory / "bundle")
            inline_bundle(directory / "inline")
            server.register("inline", directory / "inline")
            port = int(server.running.gateway_url.rsplit(":", 1)[1])
            outcomes = [
                report(measured(server, port, replicas, options), options)
                for replicas in options.replicas
            ]
    return 0 if all(outcomes) else 1


if __name__ == "__main__":
    sys.exit(main())
