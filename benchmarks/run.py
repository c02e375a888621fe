"""Shipway beside other model servers: one machine, the same models, the same load, one at a time.

    python benchmarks/run.py                                    all that is installed
    python benchmarks/run.py --peers floor,by-hand,shipway,mosec --models iris --rounds 1
    python benchmarks/run.py --json results.json --write-docs

Each round starts every server in turn, asks it for two answers that it must get right, loads it,
counts its CPU time and memory, and ends it. Ratios are taken within a round, figures are medians
over the rounds: absolute figures belong to the machine. Peers live in environments of their own:
see environments.py.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

import catalogue
import environments
import load
import machine
import models
import report
from claims import BATCHING_CONNECTIONS, Judge, Results
from measure import GRPC, REST, DidNotStart, Run, Scenario, WrongAnswer, runs_of
from models import Model
from report import Benchmark
from servers import SHIPWAY, Server
from shipway_state import NotPrepared, serving

WORK = Path(__file__).resolve().parent / ".work"
CONNECTIONS = {"iris": (1, 32, 256), "iris-onnx": (1, 32, 256), "forest": (32,), "mlp": (1, 32)}
GRPC_MODELS = frozenset({"iris", "mlp"})
GRPC_IN_FLIGHT = 32
MEASURES = (REST, GRPC, "batching")
_FAILURES = (DidNotStart, WrongAnswer, NotPrepared, load.LoadFailed, subprocess.CalledProcessError)


def options_of(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line; lists are separated by commas."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    names = " ".join(server.name for server in catalogue.ALL)
    parser.add_argument("--peers", type=_list, help=f"of: {names}")
    parser.add_argument("--models", type=_list, default=["iris", "forest", "mlp"])
    parser.add_argument("--connections", type=_list, help="over REST, for every model")
    parser.add_argument("--measures", type=_list, default=list(MEASURES), help=", ".join(MEASURES))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2, help="of load for each figure")
    parser.add_argument("--json", type=Path, help="write every run to this file")
    parser.add_argument("--from-json", type=Path, help="report an earlier run; measure nothing")
    parser.add_argument("--write-docs", action="store_true", help="update docs/benchmarks.*")
    options = parser.parse_args(arguments)
    _refuse_unknown(parser, options.models, models.NAMES)
    _refuse_unknown(parser, options.measures, MEASURES)
    _refuse_unknown(parser, options.peers or [], catalogue.BY_NAME)
    return options


def chosen(names: Sequence[str] | None) -> list[Server]:
    """The servers of these names with their batching settings; all but the extra ones if None."""
    if names is None:
        return [server for server in catalogue.ALL if server.name not in catalogue.EXTRA]
    wanted = {*names, *(f"{name}-batching" for name in names)}
    return [server for server in catalogue.ALL if server.name in wanted]


def scenarios_of(server: Server, model: Model, options: argparse.Namespace) -> list[Scenario]:
    """What this server is measured in with this model; may be nothing."""
    batching = Scenario(protocol=REST, connections=BATCHING_CONNECTIONS)
    batches = "batching" in options.measures and model.name == "mlp"
    if server.batching:
        return [batching] if batches else []
    found = []
    if REST in options.measures:
        counts = map(int, options.connections or CONNECTIONS[model.name])
        found += [Scenario(protocol=REST, connections=count) for count in counts]
    if batches and (server.is_ours() or server.name == catalogue.FLOOR) and batching not in found:
        found.append(batching)
    if GRPC in options.measures and server.has_grpc and model.name in GRPC_MODELS:
        found.append(Scenario(protocol=GRPC, connections=GRPC_IN_FLIGHT))
    return found


def measure(
    wanted: Sequence[Server], options: argparse.Namespace, problems: list[str]
) -> Iterator[Run]:
    """All rounds. A server that fails is told of in `problems`, and the others go on."""
    built = models.build(WORK / "models", tuple(options.models))
    for number in range(options.rounds):
        for model in built.values():
            for server in wanted:
                scenarios = scenarios_of(server, model, options)
                if not scenarios or not server.runs_with(model) or _is_default(server, model):
                    continue
                _say(f"round {number + 1} of {options.rounds}: {model.name}, {server.title}")
                try:
                    yield from runs_of(
                        server, model, scenarios,
                        directory=WORK, number=number, seconds=options.seconds,
                    )  # fmt: skip
                except _FAILURES as failure:
                    problems.append(f"{model.name}, {server.title}: {failure}")
                    _say(problems[-1])


def default_placement(model: str) -> str | None:
    """Where Shipway has placed a model by itself; None when it was not asked yet."""
    state = WORK / SHIPWAY / model / "state"
    return serving(state) if (state / "deploy.json").exists() else None


def _is_default(server: Server, model: Model) -> bool:
    """Whether a placed setting is what Shipway does by itself, and so was measured already."""
    return server.placement is not None and server.placement == default_placement(model.name)


def direct_p50_ms() -> float:
    """The middle time of one call of the iris model in this process, without any server."""
    model = models.build(WORK / "models", ("iris",))["iris"]
    session = models.session_of(model.onnx)
    row = {"X": np.array([model.rows[0]], np.float32)}
    took = []
    for _ in range(5000):
        begin = time.perf_counter()
        session.run(None, row)
        took.append(time.perf_counter() - begin)
    return statistics.median(took) * 1e3


def benchmark(options: argparse.Namespace) -> Benchmark:
    """Measures all that was asked for."""
    is_alone = machine.enter_loopback_only()
    if missing := load.missing_tools():
        raise SystemExit(f"Load generators are missing: apt-get install {' '.join(missing)}")
    wanted = _runnable(chosen(options.peers), is_alone=is_alone)
    shutil.rmtree(WORK, ignore_errors=True)
    WORK.mkdir(parents=True)
    problems: list[str] = []
    runs = list(measure(wanted, options, problems))
    used = {server.environment: None for server in wanted if server.environment}
    return Benchmark(
        date=time.strftime("%Y-%m-%d"),
        machine=machine.described(),
        versions=machine.versions(list(used)),
        rounds=options.rounds,
        seconds=options.seconds,
        direct_p50_ms=direct_p50_ms(),
        placements={name: found for name in options.models if (found := default_placement(name))},
        problems=problems,
        runs=runs,
    )


def main() -> int:
    options = options_of()
    if options.from_json:
        done = Benchmark.from_json(json.loads(options.from_json.read_text()))
    else:
        done = benchmark(options)
    if options.json:
        options.json.write_text(json.dumps(done.as_json(), indent=1))
    results = Results(done.runs)
    claims = Judge(results=results, direct_p50_ms=done.direct_p50_ms).claims()
    print(report.markdown(done, results, claims))
    if options.write_docs:
        report.write_docs(done, results, claims)
    return 1 if done.problems else 0


def _runnable(wanted: Sequence[Server], *, is_alone: bool) -> list[Server]:
    """Without those that are not installed, or would listen beyond loopback."""
    names = {server.environment for server in wanted if server.environment}
    absent = {name for name in names if not environments.is_installed(name)}
    if absent:
        listed = " ".join(sorted(absent))
        _say(f"Not installed, left out: {listed}")
        _say(f"To install them: python benchmarks/environments.py install {listed}")
    if not is_alone:
        _say("No network namespace of its own may be made here: Ray Serve is left out, as it would")
        _say("listen on the machine's own address.")
        absent.add("ray")
    return [server for server in wanted if server.environment not in absent]


def _list(text: str) -> list[str]:
    return [item for item in text.split(",") if item]


def _refuse_unknown(
    parser: argparse.ArgumentParser, given: Sequence[str], known: Sequence[str]
) -> None:
    if unknown := [name for name in given if name not in known]:
        parser.error(f"unknown: {', '.join(unknown)}; known: {', '.join(known)}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
