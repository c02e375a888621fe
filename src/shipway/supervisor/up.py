"""Brings a server up and keeps it up."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from shipway.backends.identity import ProcessIdentity
from shipway.backends.launch import spawn
from shipway.core.errors import Bug, DependencyError, ShipwayError
from shipway.core.failures import last_line, last_word
from shipway.settings import Settings, gateway_variables, require_guarded, variables_with
from shipway.store.api_keys import ADMIN, kept_key, new_key_text
from shipway.store.state import usable_directory
from shipway.supervisor import records
from shipway.supervisor.children import Child, ChildSpec, log_text
from shipway.supervisor.down import end_leftovers
from shipway.supervisor.ports import Place, reserved
from shipway.supervisor.probes import until_ready
from shipway.supervisor.records import Running
from shipway.tls.files import TlsFiles, tls_files
from shipway.tls.serving import tls_of

START_LIMIT_S = 60.0
"""A server that is not ready so long after its start has failed."""

GATEWAY_GRACE_S = 15.0
CONTROL_GRACE_S = 5.0
_POLL_S = 0.02


def up(
    settings: Settings,
    *,
    gateways: int = 1,
    on_ready: Callable[[Running], None] = lambda _: None,
) -> None:
    """Runs the server until SIGTERM or SIGINT, then ends everything it started. Blocks.

    Call it in the main thread. `on_ready` is called once, when the server answers.

    Raises:
        StateUnusable, SchemaTooNew: the state directory cannot be used.
        InvalidSpec: it would be open to other machines without access control.
        AlreadyRunning: another server has the state directory.
        PortTaken: a port is taken.
    """
    require_guarded(settings)
    state_dir = usable_directory(settings.state_dir)
    settings = settings.model_copy(update={"state_dir": state_dir})
    # Control makes the same one; whoever comes first.
    key = kept_key(state_dir, ADMIN, new_key_text()) if settings.auth else ""
    tls = tls_files(settings)
    tls_of(tls, alpn=())  # says here, not in the log of a child, what cannot be used
    for directory in ("run", "logs"):
        (state_dir / directory).mkdir(exist_ok=True)
    with records.exclusive(state_dir, "up"):
        records.drop(state_dir)
        end_leftovers(state_dir, with_replicas=False)
        try:
            with _places(settings, scheme="http" if tls.server is None else "https") as places:
                children = _children(settings, places, tls, gateways=gateways)
                server = Running(
                    pid=os.getpid(),
                    start=_own_start(),
                    control_url=places.control.url,
                    gateway_url=places.gateway.url,
                    grpc_address=places.grpc.address,
                    state_dir=str(state_dir),
                    tls_cert=str(tls.cert or ""),
                )
                ready = until_ready(server, gateways=gateways, key=key)
                asyncio.run(_run(children, server, ready, on_ready=on_ready))
        finally:
            with _undisturbed():
                end_leftovers(state_dir, with_replicas=True)
                records.drop(state_dir)


def start(settings: Settings, *, gateways: int = 1, timeout_s: float = START_LIMIT_S) -> Running:
    """Starts a server that goes on without this process, and returns once it is ready. Blocks.

    Raises:
        ShipwayError: it did not come up; the same errors as `up`.
    """
    state_dir = usable_directory(settings.state_dir)
    log = state_dir / "logs" / "up.log"
    log.parent.mkdir(exist_ok=True)
    begin = log.stat().st_size if log.exists() else 0
    command = [sys.executable, "-m", "shipway.supervisor", "--gateways", str(gateways)]
    settings = settings.model_copy(update={"state_dir": state_dir})
    pid = spawn(command, log, variables_with(settings))
    process = ProcessIdentity.of(pid)
    deadline = time.monotonic() + timeout_s
    while process is not None and process.is_alive() and time.monotonic() < deadline:
        server = records.running(state_dir)
        if server is not None and server.pid == pid:
            return server
        time.sleep(_POLL_S)
    raise _not_up(log, begin, process)


def _not_up(log: Path, begin: int, process: ProcessIdentity | None) -> ShipwayError:
    if process is not None and process.is_alive():
        process.signal(signal.SIGTERM)
        return DependencyError(
            "The server was not ready in time and is being ended.", next_step=f"See `{log.parent}`."
        )
    text = log_text(log, begin)
    said = last_word(text)
    if said is not None:
        return said.as_error()
    return Bug(
        f"The server ended before it was ready: {last_line(text)}", next_step=f"See `{log.parent}`."
    )


@contextmanager
def _undisturbed() -> Iterator[None]:
    """A second Ctrl-C does not cut the ending of the replicas short."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, signal.SIG_IGN) for number in numbers]
    try:
        yield
    finally:
        for number, handler in zip(numbers, before, strict=True):
            signal.signal(number, handler)


class _Places(NamedTuple):
    control: Place
    gateway: Place
    grpc: Place


@contextmanager
def _places(settings: Settings, *, scheme: str) -> Iterator[_Places]:
    place = partial(Place, host=settings.host, scheme=scheme)
    gateway = place(port=settings.gateway_port, flag="--port")
    control = place(port=settings.control_port, flag="--control-port")
    grpc = place(port=settings.chosen_grpc_port, flag="--grpc-port")
    with reserved(gateway) as gateway, reserved(control) as control, reserved(grpc) as grpc:
        yield _Places(control, gateway, grpc)


def _children(
    settings: Settings, places: _Places, tls: TlsFiles, *, gateways: int
) -> tuple[Child, list[Child]]:
    logs = settings.state_dir / "logs"
    secured = tls.as_arguments()
    if tls.cert is not None:
        secured += ["--control-cert", str(tls.cert)]
    common = ["--state-dir", str(settings.state_dir), "--host", settings.host, "--port"]
    first = Child(
        ChildSpec(
            name="control",
            command=[
                *(sys.executable, "-m", "shipway.bootstrap", "control"),
                *(*common, str(places.control.port), "--shared-port"),
            ],
            environment=variables_with(settings),
            log=logs / "control.log",
            grace_s=CONTROL_GRACE_S,
        )
    )
    others = [
        Child(
            ChildSpec(
                name="gateway" if number == 0 else f"gateway-{number}",
                command=[
                    *(sys.executable, "-m", "shipway.gateway", *common, str(places.gateway.port)),
                    *("--grpc-port", str(places.grpc.port)),
                    *("--control-url", places.control.url, "--environment", settings.environment),
                    *secured,
                ],
                environment=gateway_variables(settings),
                log=logs / ("gateway.log" if number == 0 else f"gateway-{number}.log"),
                grace_s=GATEWAY_GRACE_S,
            )
        )
        for number in range(gateways)
    ]
    return first, others


async def _run(
    children: tuple[Child, list[Child]],
    server: Running,
    readiness: Coroutine[Any, Any, None],
    *,
    on_ready: Callable[[Running], None],
) -> None:
    control, others = children
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    tasks = [asyncio.create_task(child.keep_running()) for child in (control, *others)]
    stopped = asyncio.create_task(stopping.wait())
    ready = asyncio.create_task(readiness)
    try:
        await _first_of([stopped, ready, *tasks], timeout_s=START_LIMIT_S)
        if ready.done():
            for child in (control, *others):
                child.note_ready()
            records.write(server)
            on_ready(server)
            await _first_of([stopped, *tasks], timeout_s=None)
    finally:
        ready.cancel()
        stopped.cancel()
        # Gateways first: they answer what they have accepted while replicas and control still run.
        await _cancelled(tasks[1:])
        await _cancelled(tasks[:1])


async def _first_of(tasks: Sequence[asyncio.Task[Any]], *, timeout_s: float | None) -> None:
    """Returns when one has ended, and raises what it raised."""
    done, _ = await asyncio.wait(tasks, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    if not done:
        raise DependencyError(
            f"The server was not ready within {timeout_s:g} s.",
            next_step="The logs below the state directory say what it waits for.",
        )
    for task in done:
        task.result()


async def _cancelled(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _own_start() -> str:
    own = ProcessIdentity.of(os.getpid())
    return own.start if own is not None else ""
