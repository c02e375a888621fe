"""Kills at random under load: is every answer right, does nothing hang, does memory stay flat?

    python benchmarks/soak.py [--seconds 300] [--load 0.7] [--kill-every 10]

Two gateways, three process replicas of one model and an inline model, at 70 % of the measured
capacity. Every ten seconds one replica is killed (SIGKILL) at random; half-way, one gateway. Every
answer is compared with the value that its own input must give. A failure is allowed for what was
inside the killed gateway only: nobody but the caller could ask again. Exits with 1 when a claim does
not hold.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from overload import CODE, HERE, load
from shipway.settings import Settings
from shipway.supervisor.down import down
from shipway.supervisor.up import start
from shipway.testing.live import LiveServer, onnx_bundle, python_bundle

REPLICAS = 3
ENDPOINTS = ("slow=2", "quick=3")
GATEWAY_WINDOW_S = 2.0
"""After a gateway was killed, connections that it had accepted are found broken for so long."""


class Fleet:
    """The server's processes, by their records."""

    def __init__(self, server: LiveServer) -> None:
        self.server = server
        self.run_dir = server.state_dir / "run"

    def gateways(self) -> list[int]:
        return [json.loads(f.read_text())["pid"] for f in sorted(self.run_dir.glob("gateway-*.json"))
                if _alive(json.loads(f.read_text())["pid"])]  # fmt: skip

    def control(self) -> int:
        return int(json.loads((self.run_dir / "control.json").read_text())["pid"])

    def replicas(self) -> list[int]:
        active = self.server.endpoint("slow")["active"]
        return [r["pid"] for r in self.server.replicas("slow", active) if r["state"] == "ready"]

    def memory_mb(self) -> dict[str, float]:
        """PSS of control, and of a gateway on average."""
        named = {"control": [self.control()], "gateway": self.gateways()}
        return {role: sum(pss_mb(pid) for pid in pids) / len(pids) for role, pids in named.items()}


def pss_mb(pid: int) -> float:
    """Proportional set size, 0 for a process that has just ended."""
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def soaked(fleet: Fleet, port: int, options: argparse.Namespace) -> dict[str, Any]:
    """The load's tally, what was killed when, and memory early and late."""
    dice = random.Random(options.seed)
    rate = options.rate or options.load * capacity(port, options)
    print(f"{rate:.0f} requests/s for {options.seconds:.0f} s", flush=True)
    process = begun(port, rate, options)
    began, kills = time.monotonic(), []
    memory: list[tuple[float, dict[str, float]]] = []
    replica_at, gateway_at = began + options.kill_every, began + options.seconds / 2
    memory_at = began
    while process.poll() is None:
        now = time.monotonic()
        if now >= replica_at:
            replica_at += options.kill_every
            if now < began + options.seconds - 2:
                kills.append(kill("replica", fleet.replicas(), dice))
        if now >= gateway_at:
            gateway_at = float("inf")
            kills.append(kill("gateway", fleet.gateways(), dice))
        if memory_at <= now < began + options.seconds:
            memory_at += options.seconds / 40
            memory.append(((now - began) / options.seconds, fleet.memory_mb()))
        time.sleep(0.05)
    assert process.stdout is not None
    process.stdout.seek(0)
    return {
        "seen": json.loads(process.stdout.read()),
        "kills": kills,
        "memory": memory,
        "rate": rate,
    }


def begun(port: int, rate: float, options: argparse.Namespace) -> subprocess.Popen[bytes]:
    """The load generator, under way. Its output is small enough for the pipe until the end."""
    command = [
        *(sys.executable, str(HERE / "openloop.py"), "--port", str(port), "--mode", "open"),
        *("--rate", str(rate), "--seconds", str(options.seconds), "--connections", "2000"),
        *("--deadline-s", str(options.deadline_ms / 1000)),
        *(part for endpoint in ENDPOINTS for part in ("--endpoint", endpoint)),
    ]
    out = tempfile.TemporaryFile()  # noqa: SIM115 - read by the caller when the process has ended
    process = subprocess.Popen(command, stdout=out)
    process.stdout = out  # type: ignore[assignment]
    return process


def capacity(port: int, options: argparse.Namespace) -> float:
    """Answers per second over both endpoints, by a closed loop."""
    seconds = min(5.0, options.seconds / 4)
    seen = load(port, ENDPOINTS, "closed", seconds=seconds, connections=32)
    return float(seen["statuses"].get("200", 0) / seen["seconds"])


def kill(role: str, pids: list[int], dice: random.Random) -> tuple[str, float, int]:
    """Kills one of the processes."""
    at = time.monotonic()
    if not pids:
        return role, at, 0
    pid = dice.choice(pids)
    os.kill(pid, signal.SIGKILL)
    print(f"  killed {role} {pid}, one of {len(pids)} that were ready", flush=True)
    return role, at, pid


def claims(run: dict[str, Any], options: argparse.Namespace) -> list[tuple[str, str, bool]]:
    """What is claimed, what was seen, and whether it holds."""
    seen, statuses = run["seen"], run["seen"]["statuses"]
    gateway_at = [at for role, at, _ in run["kills"] if role == "gateway"]
    unexplained = [failure for failure in seen["failures"] if not _explained(failure, gateway_at)]
    for due, ended, outcome, words in unexplained[:10]:
        print(f"    due {due - seen['started']:.2f} s, ended {ended - seen['started']:.2f} s:"
              f" {outcome} {words[:200]}")  # fmt: skip
    early, late = median_mb(run["memory"], 0.2, 0.3), median_mb(run["memory"], 0.9, 1.0)
    grown = {role: late[role] - early[role] for role in early}
    total, answered = sum(statuses.values()), statuses.get("200", 0)
    replicas = sum(role == "replica" and pid > 0 for role, _, pid in run["kills"])
    return [
        ("right answers", f"{answered} of {total}, {seen['wrong']} wrong",
         seen["wrong"] == 0 and answered > 0),
        ("nothing hangs", f"{statuses.get('hang', 0)}", statuses.get("hang", 0) == 0),
        ("failures: inside the killed gateway alone",
         f"{total - answered}, {len(unexplained)} of them elsewhere", not unexplained),
        ("killed as planned", f"{replicas} replicas, {len(gateway_at)} gateway",
         replicas > 0 and bool(gateway_at)),
        ("memory flat, MB since 20 % of the time",
         ", ".join(f"{role} {early[role]:.0f} {mb:+.1f}" for role, mb in grown.items()),
         bool(grown) and all(mb <= max(options.growth_mb, 0.1 * early[r]) for r, mb in grown.items())),
    ]  # fmt: skip


def median_mb(
    samples: Sequence[tuple[float, dict[str, float]]], begin: float, end: float
) -> dict[str, float]:
    """Each role's median over a part of the time: a kill changes who shares pages with whom."""
    within = [sample for at, sample in samples if begin <= at < end]
    roles = within[0].keys() if within else ()
    return {role: statistics.median(sample[role] for sample in within) for role in roles}


def _explained(failure: Sequence[Any], gateway_at: list[float]) -> bool:
    """Whether the request was on a connection of the killed gateway when it was killed."""
    _, ended, outcome, _ = failure
    return outcome in ("reset", "refused") and any(
        -0.1 <= ended - at <= GATEWAY_WINDOW_S for at in gateway_at
    )


def report(run: dict[str, Any], options: argparse.Namespace) -> bool:
    """Prints the claims; gives whether all hold."""
    seen = run["seen"]
    print(f"\n{seen['statuses']}; kinds of failures:")
    for kind, number in Counter(f"{o} {w[:160]}" for _, _, o, w in seen["failures"]).most_common(8):
        print(f"  {number:5} {kind}")
    print(f"latency of answers: {seen['latencies'].get('200')}")
    print(_slow_seconds(run))
    for role in ("control", "gateway"):
        print(f"MB of {role}:", *(f"{sample[role]:.0f}" for _, sample in run["memory"]))
    outcome = True
    for claim, fact, holds in claims(run, options):
        print(f"  {'holds ' if holds else 'BROKEN'}  {claim:42} {fact}")
        outcome = outcome and holds
    return outcome


def _slow_seconds(run: dict[str, Any]) -> str:
    """When answers took longest, and how long after which kill that was."""
    began = run["seen"]["started"]
    slowest = sorted(run["seen"]["slowest"].items(), key=lambda item: -item[1])[:5]
    kills = ", ".join(f"{role} {at - began:.1f}" for role, at, _ in run["kills"])
    slow = ", ".join(f"{int(s) - began:.0f} s: {worst:.2f} s" for s, worst in slowest)
    return f"slowest seconds: {slow}\nkills at: {kills}"


def prepared(server: LiveServer, directory: Path, options: argparse.Namespace) -> None:
    """Both endpoints, live, every replica ready."""
    python_bundle(directory / "slow", CODE.format(work_ms=5))
    onnx_bundle(directory / "quick", 3)
    limits = {"max_batch_rows": 1, "deadline_ms": options.deadline_ms, "max_queue": 2000}
    server.register("slow", directory / "slow")
    server.register("quick", directory / "quick")
    server.deploy("slow", "slow", placement="process", replicas=REPLICAS, limits=limits)
    server.deploy("quick", "quick", placement="inline", limits=limits)
    for name in ("slow", "quick"):
        assert server.settled(name)["phase"] == "live", server.endpoint(name)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--load", type=float, default=0.7)
    parser.add_argument("--rate", type=float, default=0.0, help="instead of a measured one")
    parser.add_argument("--kill-every", type=float, default=10.0)
    parser.add_argument("--deadline-ms", type=int, default=5000)
    parser.add_argument("--growth-mb", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="shipway-soak-") as name:
        directory = Path(name)
        settings = Settings(
            state_dir=directory / "state", gateway_port=0, control_port=0, auth=False
        )
        server = LiveServer(start(settings, gateways=2))
        try:
            prepared(server, directory, options)
            port = int(server.running.gateway_url.rsplit(":", 1)[1])
            holds = report(soaked(Fleet(server), port, options), options)
        finally:
            server.close()
            down(directory / "state")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
