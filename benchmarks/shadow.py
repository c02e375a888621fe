"""What do callers pay for a shadow? Latency of the primary with and without every request mirrored.

    python benchmarks/shadow.py [--rounds 20] [--seconds 5] [--rate 300]

One server with four endpoints in front of equal models: two of them plain, to see what chance alone makes of
the comparison; one whose candidate gets a copy of each request; one whose candidate hangs. All four take
the same load in turns, in an order that changes from round to round. Exits with 1 when mirroring costs
more than 5 % of the primary's p99, or a request fails.
"""

from __future__ import annotations

import argparse
import random
import statistics
import sys
import tempfile
from pathlib import Path

from shipway.cli.demo.traffic import Traffic
from shipway.testing.live import LiveServer, live_server, python_bundle

MOST_ADDED = 0.05
CODE = '''
import threading, time


class Model:
    """Doubles, in a few tenths of a millisecond of computing."""

    def predict(self, inputs):
        {work}
        total = 0.0
        for number in range(3000):
            total += number
        return {{"y": inputs["x"] * 2 + 0 * total}}
'''
TENSOR = '{"inputs": [{"name": "x", "shape": [1], "datatype": "FP64", "data": [1.5]}]}'
ENDPOINTS = ("plain", "plain-again", "mirrored", "mirrored-to-a-hanging-one")


def target(endpoint: str, rate: float) -> dict:
    right = {str(number): [[3.0]] for number in (1, 2, 3)}
    return {"name": endpoint, "rate": rate, "output": "y", "bodies": [TENSOR], "expected": right}


def prepared(server: LiveServer, directory: Path) -> None:
    """The models, the endpoints, and the two shadows, which last as long as the measurement."""
    for number, work in ((1, "pass"), (2, "pass # 2"), (3, "threading.Event().wait()")):
        python_bundle(directory / f"v{number}", CODE.format(work=work))
        server.register("double", directory / f"v{number}")
    for name in ENDPOINTS:
        server.deploy(name, "double:1")
        server.settled(name)
    stage = {"strategy": "shadow", "hold_s": 86_400}
    off = dict.fromkeys(("error_rate", "latency", "shift", "rejections", "disagreement", "crashes"))
    for name, number in ((ENDPOINTS[2], 2), (ENDPOINTS[3], 3)):
        server.deploy(name, f"double:{number}", rollout={"stages": [stage], "guards": off})
        server.until(lambda name=name: server.endpoint(name)["phase"] == "releasing")


def measured(server: LiveServer, endpoint: str, options: argparse.Namespace) -> dict:
    """One turn of one endpoint."""
    traffic = Traffic(server.running.gateway_url, server.key, [target(endpoint, options.rate)])
    try:
        traffic.wait_until_sent(endpoint, int(options.rate * options.seconds), timeout_s=60)
    finally:
        traffic.end()
    totals = traffic.totals(endpoint)
    return {"p50": totals.p50_ms, "p99": totals.p99_ms, "failed": totals.failed + totals.wrong}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--rate", type=float, default=300.0)
    options = parser.parse_args()
    seen: dict[str, list[dict]] = {name: [] for name in ENDPOINTS}
    order = random.Random(5)
    with tempfile.TemporaryDirectory() as name, live_server(Path(name) / "state") as server:
        prepared(server, Path(name))
        for _ in range(options.rounds):
            for endpoint in order.sample(ENDPOINTS, len(ENDPOINTS)):
                seen[endpoint].append(measured(server, endpoint, options))
        rollout = server.control.get(f"/endpoints/{ENDPOINTS[2]}/rollout").json()
    return told(seen, rollout)


def told(seen: dict[str, list[dict]], rollout: dict) -> int:
    """Prints the table and the verdict.

    Turns are compared within their round, with the mean of the two plain endpoints: what disturbs the machine
    for a minute disturbs a whole round. The interval is a bootstrap over rounds.
    """
    rounds = range(len(seen[ENDPOINTS[0]]))
    usual = [statistics.mean(seen[name][at]["p99"] for name in ENDPOINTS[:2]) for at in rounds]
    failed = sum(turn["failed"] for turns in seen.values() for turn in turns)
    print("| endpoint | p50, ms | p99, ms | p99 beside the plain ones | 95 % interval |")
    print("| --- | --- | --- | --- | --- |")
    added = 0.0
    for name, turns in seen.items():
        ratios = [turns[at]["p99"] / usual[at] for at in rounds]
        middle, low, high = statistics.median(ratios), *interval(ratios)
        p50, p99 = (statistics.median(turn[key] for turn in turns) for key in ("p50", "p99"))
        print(f"| {name} | {p50:.2f} | {p99:.2f} | {middle:.3f} | {low:.3f} to {high:.3f} |")
        if name not in ENDPOINTS[:2]:
            added = max(added, middle - 1)
    pairs = rollout["pairs"]
    print(
        f"\n{pairs['compared']} pairs compared, {pairs['dropped']} dropped, {failed} requests failed."
    )
    is_kept = failed == 0 and added < MOST_ADDED and pairs["compared"] > 0
    word = "kept" if is_kept else "FAIL"
    print(f"Added to p99: {100 * added:.1f} %; at most {100 * MOST_ADDED:.0f} %: {word}")
    return 0 if is_kept else 1


def interval(values: list[float]) -> tuple[float, float]:
    """Where the median of the values lies, by 2,000 resamples."""
    draws = random.Random(9)
    medians = sorted(statistics.median(draws.choices(values, k=len(values))) for _ in range(2000))
    return medians[50], medians[1949]


if __name__ == "__main__":
    sys.exit(main())
