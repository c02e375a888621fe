"""One start of one server: bring it up, check its answers, load it, look at its cost, end it."""

from __future__ import annotations

import http.client
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import load
import messages
import servers
from load import Figures
from models import Model
from processes import Processes, busy_s, children_s
from servers import Place, Server

REST, GRPC = "rest", "grpc"
_START_S = 120.0
_WARM_S = 1
_POLL_S = 0.02
_SETTLES_S = 20.0
_IDLE_CORES = 0.2


class WrongAnswer(Exception):
    """A server answered something else than the model says."""


class DidNotStart(Exception):
    """A server gave no right answer in time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """A protocol, and how many requests are in flight."""

    protocol: str
    connections: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What one load on one server gave.

    `cpu_us` is user and system time of all the server's processes per request; `ready_s` from its
    start to its first right answer; `pss_mb` its memory after the load; `others` the cores that
    were neither idle nor used by server and load generator: other programs, and the machine's host.
    """

    server: str
    model: str
    round: int
    protocol: str
    connections: int
    rps: float
    p50_ms: float
    p99_ms: float
    requests: int
    failures: int
    cpu_us: float
    pss_mb: float
    ready_s: float
    others: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """A server that answers right, and how long that took."""

    server: Server
    place: Place
    processes: Processes
    ready_s: float


def runs_of(
    server: Server, model: Model, scenarios: Sequence[Scenario], *,
    directory: Path, number: int, seconds: int,
) -> Iterator[Run]:  # fmt: skip
    """Starts the server, measures it in each scenario, and ends it.

    Raises:
        DidNotStart, WrongAnswer: before or after a load.
        load.LoadFailed: no request was answered.
    """
    with started(server, model, directory) as up:
        for protocol, connections in _widest(scenarios).items():
            if protocol == GRPC and not _answers_grpc(up):
                continue
            warm = Scenario(protocol=protocol, connections=connections)
            _load(up, warm, seconds=_WARM_S)
            _settle(up)
            for scenario in scenarios:
                if scenario.protocol == protocol:
                    yield _measured(up, scenario, number=number, seconds=seconds)
        check(up)


@contextmanager
def started(server: Server, model: Model, directory: Path) -> Iterator[Started]:
    """A server that has given both right answers; ended afterwards."""
    place = servers.place_for(server, model, directory)
    server.prepare(place)
    begin = time.perf_counter()
    processes = Processes(
        servers.command_of(server, place),
        variables=servers.variables_of(server, place),
        cwd=place.directory,
        log=place.directory / f"{server.name}.log",
    )
    try:
        _wait_until_right(server, place, processes)
        up = Started(
            server=server, place=place, processes=processes, ready_s=time.perf_counter() - begin
        )
        check(up)
        yield up
    finally:
        processes.stop()


def _settle(up: Started) -> None:
    """Waits until the server is done with its start: on a slow day that goes on behind the first answers."""
    until, before = time.perf_counter() + _SETTLES_S, up.processes.cpu_s()
    while time.perf_counter() < until:
        time.sleep(1)
        now = up.processes.cpu_s()
        if now - before < _IDLE_CORES:
            return
        before = now


def check(up: Started) -> None:
    """Asks for both rows.

    Raises:
        WrongAnswer: an answer is not the model's.
    """
    for at in range(2):
        status, body = load.post(
            servers.url_of(up.server, up.place), _body(up, at), proof=_proof(up)
        )
        if status != 200 or messages.decided(body) != up.place.model.answers[at]:
            raise WrongAnswer(f"{up.server.name} on row {at}: {status} {body[:300]!r}")


def _widest(scenarios: Sequence[Scenario]) -> dict[str, int]:
    """The most connections of each protocol."""
    widest: dict[str, int] = {}
    for scenario in scenarios:
        before = widest.get(scenario.protocol, 0)
        widest[scenario.protocol] = max(before, scenario.connections)
    return widest


def _answers_grpc(up: Started) -> bool:
    """Whether it speaks gRPC at all; a gateway's port may come later than its HTTP.

    Raises:
        WrongAnswer: it does, and the answer is not the model's.
    """
    for at in range(2):
        frame = load.call(up.place.grpc_port, _grpc_file(up, at), proof=_proof(up))
        if not frame:
            return False
        if messages.grpc_decided(frame) != up.place.model.answers[at]:
            raise WrongAnswer(f"{up.server.name} over gRPC on row {at}: {frame[:300]!r}")
    return True


def _measured(up: Started, scenario: Scenario, *, number: int, seconds: int) -> Run:
    cpu, busy = up.processes.cpu_s(), busy_s()
    loading, begin = children_s(), time.perf_counter()
    figures = _load(up, scenario, seconds=seconds)
    took, loading = time.perf_counter() - begin, children_s() - loading
    cpu, busy = up.processes.cpu_s() - cpu, busy_s() - busy
    return Run(
        server=up.server.name,
        model=up.place.model.name,
        round=number,
        protocol=scenario.protocol,
        connections=scenario.connections,
        cpu_us=cpu / max(figures.requests, 1) * 1e6,
        pss_mb=up.processes.pss_mb(),
        ready_s=up.ready_s,
        others=max(0.0, busy - cpu - loading) / took,
        **asdict(figures),
    )


def _load(up: Started, scenario: Scenario, *, seconds: int) -> Figures:
    if scenario.protocol == GRPC:
        file = _grpc_file(up, 0)
        return load.grpc(
            up.place.grpc_port,
            file,
            in_flight=scenario.connections,
            seconds=seconds,
            proof=_proof(up),
        )
    file = up.place.directory / "body.json"
    file.write_bytes(_body(up, 0))
    url = servers.url_of(up.server, up.place)
    count = scenario.connections
    return load.rest(url, file, connections=count, seconds=seconds, proof=_proof(up))


def _proof(up: Started) -> str:
    return servers.proof_of(up.server, up.place)


def _wait_until_right(server: Server, place: Place, processes: Processes) -> None:
    url, last = servers.url_of(server, place), ""
    body, answer = messages.rest_body(server.body, place.model.rows[0]), place.model.answers[0]
    until = time.monotonic() + _START_S
    while time.monotonic() < until and not processes.has_ended():
        try:
            status, said = load.post(url, body, proof=servers.proof_of(server, place))
            if status == 200 and messages.decided(said) == answer:
                return
            last = f"{status} {said[:300]!r}"
        except (OSError, ValueError, http.client.HTTPException) as failure:
            last = last or repr(failure)
        time.sleep(_POLL_S)
    raise DidNotStart(f"{server.name} gives no right answer ({last}); see {processes.log}")


def _body(up: Started, at: int) -> bytes:
    return messages.rest_body(up.server.body, up.place.model.rows[at])


def _grpc_file(up: Started, at: int) -> Path:
    file = up.place.directory / f"body{at}.bin"
    name = servers.grpc_model_of(up.server, up.place)
    file.write_bytes(messages.grpc_body(name, up.place.model.rows[at]))
    return file
