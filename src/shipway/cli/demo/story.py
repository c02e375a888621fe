"""What the demo does, in order, with the Python SDK as a user would."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic, sleep
from types import FrameType

import typer

from shipway.cli.demo import models
from shipway.cli.demo.models import Lesson
from shipway.cli.demo.server import Server
from shipway.cli.demo.silence import fail_silently
from shipway.cli.demo.timeline import Timeline
from shipway.cli.demo.traffic import Totals, Traffic
from shipway.cli.manifests import parity_line
from shipway.client.answers import Endpoint
from shipway.client.synchronous import Client
from shipway.core.errors import NotPromoted, ShipwayError

LIMIT_S = 90.0
LEAST_RATE = 200
_WARM_UP_S = 2.0
_RECOVERY_S = 30.0
_SETTLE_S = 1.0
_ROLLOUT_S = 40.0
_CANARY = {"stages": [{"strategy": "canary", "steps": [20, 50], "hold_s": 1}]}


def tell(*, stay: bool | None, rate: int) -> int:
    """Runs the demo; 0 when every claim was met, 1 otherwise. Leaves no process behind."""
    timeline = Timeline()
    signal.signal(signal.SIGTERM, _leave)
    with TemporaryDirectory(prefix="shipway-demo-") as scratch:
        server = Server(Path(scratch))
        try:
            _run(timeline, server, Path(scratch), rate=rate)
            if _stays(stay):
                _stay(server)
        except ShipwayError as error:
            timeline.claim("the demo ran to its end", error.message, met=False)
        finally:
            server.end()
    left = server.left_behind()
    timeline.event("server down", f"{server.process_count} processes ended")
    timeline.claim("no process is left behind", f"{len(left)} left {left or ''}", met=not left)
    typer.echo("")
    timeline.show()
    return 0 if timeline.is_kept else 1


def _leave(number: int, frame: FrameType | None) -> None:
    del frame
    sys.exit(128 + number)


def _run(timeline: Timeline, server: Server, directory: Path, *, rate: int) -> None:
    with ExitStack() as stack:
        client = stack.enter_context(server.start())
        timeline.event("server up", f"control {client.control_url}, gateway {client.gateway_url}")
        lessons = [models.tumours(directory), models.progression(directory)]
        for lesson in lessons:
            _register(timeline, client, lesson)
        _deploy(timeline, client, lessons)
        targets = [_target(lesson, rate=rate) for lesson in lessons]
        traffic = Traffic(client.gateway_url, server.key, targets)
        stack.callback(traffic.end)
        _under_load(timeline, client, traffic, rate=rate)
        traffic.end()
        _add_up(timeline, traffic, lessons)
        fail_silently(timeline, client, server.key, models.unit_change())
    timeline.claim(
        f"all within {LIMIT_S:.0f} s",
        f"{timeline.elapsed_s:.1f} s",
        met=timeline.elapsed_s < LIMIT_S,
    )


def _register(timeline: Timeline, client: Client, lesson: Lesson) -> None:
    for number, trained in enumerate(lesson.versions, start=1):
        version = client.register(
            trained.artifact,
            name=lesson.name,
            sample=lesson.sample,
            config={"metrics": {trained.metric: round(trained.score, 4)}},
        )
        manifest = client.show(str(version)).manifest
        parity = manifest.provenance.parity if manifest else None
        timeline.event(
            f"registered {version}",
            f"{lesson.family}, {trained.metric} {trained.score:.3f}",
        )
        typer.echo(f"         parity {parity_line(parity)}")
        timeline.claim(
            f"{version} answers from ONNX as the original does",
            f"{parity.sample_rows + parity.edge_rows} rows compared" if parity else "no report",
            met=version.number == number and parity is not None and parity.holds,
        )


def _deploy(timeline: Timeline, client: Client, lessons: list[Lesson]) -> None:
    inline, isolated = lessons
    started = monotonic()
    client.deploy(f"{inline.name}:1")
    timeline.event(f"{inline.name}:1 live", f"{monotonic() - started:.2f} s, in the gateway")
    started = monotonic()
    client.deploy(f"{isolated.name}:1", placement="process", replicas=2)
    timeline.event(f"{isolated.name}:1 live", f"{monotonic() - started:.2f} s, in 2 processes")


def _target(lesson: Lesson, *, rate: int) -> dict[str, object]:
    return {
        "name": lesson.name,
        "rate": rate,
        "output": lesson.output,
        "bodies": lesson.bodies,
        "expected": {
            str(number): trained.answers for number, trained in enumerate(lesson.versions, start=1)
        },
    }


def _under_load(timeline: Timeline, client: Client, traffic: Traffic, *, rate: int) -> None:
    traffic.wait_until_sent("tumours", int(rate * _WARM_UP_S), timeout_s=20.0)
    timeline.event("load from another process", _figure(traffic.totals("tumours")))
    _swap(timeline, client, traffic)
    _break(timeline, client, traffic)
    _roll_back(timeline, client, traffic)
    _release(timeline, client, traffic)
    _release_badly(timeline, client, traffic)


def _swap(timeline: Timeline, client: Client, traffic: Traffic) -> None:
    since = monotonic()
    client.deploy("tumours:2")
    took_s = monotonic() - since
    alone = traffic.wait_for_version("tumours", "2", timeout_s=10.0)
    sleep(_SETTLE_S)
    totals = traffic.totals("tumours", since=since)
    timeline.event("swapped to tumours:2 under load", f"{took_s:.2f} s, {_figure(totals)}")
    timeline.claim(
        f"swap at {LEAST_RATE} requests/s or more, 0 failed",
        f"{totals.rate:.0f}/s, {totals.failed} failed",
        met=alone and totals.rate >= LEAST_RATE and totals.failed == 0,
    )


def _break(timeline: Timeline, client: Client, traffic: Traffic) -> None:
    before = _ready_pids(client.endpoint("progression"))
    victim = before[0]
    since = monotonic()
    os.kill(victim, signal.SIGKILL)
    timeline.event(f"kill -9 {victim}", f"one of {len(before)} replicas of progression")
    recovered = _recovers(client, victim, count=len(before))
    took_s = monotonic() - since
    sleep(_SETTLE_S)
    totals = traffic.totals("progression", since=since)
    timeline.event(
        "replica recovered" if recovered else "replica did not recover",
        f"{took_s:.2f} s, {_figure(totals)}",
    )
    timeline.claim(
        "a killed replica comes back, 0 failed meanwhile",
        f"{took_s:.2f} s, {totals.failed} failed",
        met=recovered and totals.failed == 0 and totals.sent > 0,
    )


def _ready_pids(endpoint: Endpoint) -> list[int]:
    return [
        replica.pid for replica in endpoint.replicas if replica.pid and replica.state == "ready"
    ]


def _recovers(client: Client, victim: int, *, count: int) -> bool:
    deadline = monotonic() + _RECOVERY_S
    while monotonic() < deadline:
        pids = _ready_pids(client.endpoint("progression"))
        if len(pids) >= count and victim not in pids:
            return True
        sleep(0.05)
    return False


def _roll_back(timeline: Timeline, client: Client, traffic: Traffic) -> None:
    since = monotonic()
    client.rollback("tumours")
    took_s = monotonic() - since
    alone = traffic.wait_for_version("tumours", "1", timeout_s=10.0)
    sleep(_SETTLE_S)
    totals = traffic.totals("tumours", since=since)
    timeline.event("rolled back to tumours:1", f"{took_s:.2f} s, {_figure(totals)}")
    timeline.claim(
        "rollback within a second, 0 failed",
        f"{took_s:.2f} s, {totals.failed} failed",
        met=alone and took_s < 1.0 and totals.failed == 0,
    )


def _release(timeline: Timeline, client: Client, traffic: Traffic) -> None:
    """A good version comes in step by step."""
    since = monotonic()
    client.deploy("tumours:2", rollout=_CANARY)
    rollout = client.wait_rollout("tumours", timeout_s=_ROLLOUT_S)
    alone = traffic.wait_for_version("tumours", "2", timeout_s=10.0)
    totals = traffic.totals("tumours", since=since)
    steps = " → ".join(f"{step.weight_pct} %" for step in rollout.steps)
    timeline.event("tumours:2 released as a canary", f"{steps} → 100 %, {_figure(totals)}")
    timeline.claim(
        "a good candidate is promoted step by step, 0 failed",
        f"{rollout.phase}, {totals.failed} failed, {totals.wrong} wrong",
        met=alone and rollout.phase == "promoted" and totals.failed == 0 and totals.wrong == 0,
    )


def _release_badly(timeline: Timeline, client: Client, traffic: Traffic) -> None:
    """A version that answers quickly, without errors, and wrongly."""
    since = monotonic()
    client.deploy("tumours:3", rollout=_CANARY)
    try:
        client.wait_rollout("tumours", timeout_s=_ROLLOUT_S)
    except NotPromoted as error:
        typer.echo(f"         {error.message}")
    rollout = client.rollout("tumours")
    alone = traffic.wait_for_version("tumours", "2", timeout_s=10.0)
    totals = traffic.totals("tumours", since=since)
    exposed = totals.versions["3"]
    took_s = monotonic() - since
    timeline.event("tumours:3 rolled back by itself", f"{took_s:.1f} s, {exposed} requests saw it")
    timeline.claim(
        "a candidate whose predictions shift is rolled back by itself, 0 failed",
        f"{rollout.phase}, {totals.failed} failed",
        met=alone and rollout.phase == "rolled_back" and totals.failed == 0,
    )


def _add_up(timeline: Timeline, traffic: Traffic, lessons: list[Lesson]) -> None:
    for lesson in lessons:
        totals = traffic.totals(lesson.name)
        shares = ", ".join(f"version {key}: {n}" for key, n in sorted(totals.versions.items()))
        timeline.event(f"load on {lesson.name} ended", f"{_figure(totals)}; {shares}")
        for error in totals.errors:
            typer.echo(f"         {error}")
        timeline.claim(
            f"every answer of {lesson.name} is right for its version",
            f"{totals.sent} sent, {totals.failed} failed, {totals.wrong} wrong",
            met=totals.sent > 0 and totals.failed == 0 and totals.wrong == 0,
        )


def _figure(totals: Totals) -> str:
    return (
        f"{totals.rate:.0f} requests/s, {totals.failed} failed, "
        f"p50 {totals.p50_ms:.1f} ms, p99 {totals.p99_ms:.1f} ms"
    )


def _stays(stay: bool | None) -> bool:
    if stay is not None:
        return stay
    on_terminal = sys.stdin.isatty() and sys.stdout.isatty()
    return on_terminal and typer.confirm("Keep it running to try it yourself?", default=False)


def _stay(server: Server) -> None:
    typer.echo(f"Try `shipway status --dir {server.state_dir}`. Ctrl-C ends it.")
    try:
        server.wait()
    except KeyboardInterrupt:
        typer.echo("Ending.")
