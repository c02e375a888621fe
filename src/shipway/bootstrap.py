"""The only module that knows everything: builds each process from settings.

`python -m shipway.bootstrap control` runs control alone.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from types import FrameType

import msgspec
import uvicorn
from fastapi import FastAPI

from shipway.api.app import create_app
from shipway.api.connections import BoundedConnection
from shipway.api.services import Services
from shipway.api.uploads import UploadLimits
from shipway.backends.logs import bound_logs
from shipway.backends.process import ProcessBackend
from shipway.control.audit import AuditLog
from shipway.control.capacity import Capacity
from shipway.control.endpoints import Endpoints
from shipway.control.environments import Environments
from shipway.control.evaluations import Evaluations
from shipway.control.local_versions import LocalVersions
from shipway.control.promotions import Promotions
from shipway.control.reconciler import Reconciler
from shipway.control.registry import Registry
from shipway.control.rollouts import Rollouts
from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.engines.logs import log_to_stderr
from shipway.gateway.crowd import most_connections
from shipway.settings import Settings, provider_variables, read_settings
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.staging import Staging
from shipway.store.state import usable_directory
from shipway.supervisor.ports import Place, bound
from shipway.supervisor.records import exclusive

SWEEP_AFTER_S = 60.0
SWEEP_EVERY_S = 24 * 3600.0
BOUND_LOGS_EVERY_S = 5.0
SWEEP_OLDER_THAN = timedelta(days=1)
"""Younger files may belong to a registration under way."""

_log = logging.getLogger(__name__)

EXIT_FAILED = 3
"""Control could not start; the reason is one JSON line on stderr."""


def clock() -> datetime:
    """Now, aware, in UTC: the one clock of the control process."""
    return datetime.now(UTC)  # noqa: TID251 - the bootstrap owns the clock


def run_control(settings: Settings, *, shared_port: bool = False) -> None:
    """Runs control until SIGTERM. Blocks; call it in the main thread.

    `shared_port`: the port is reserved for us by a supervisor, so that it may be bound beside.

    Raises:
        StateUnusable, SchemaTooNew, StoreUnavailable: what control stands on cannot be used.
        AlreadyRunning: another control has the state directory.
        PortTaken: the port is taken.
    """
    state_dir = usable_directory(settings.state_dir)
    settings = settings.model_copy(update={"state_dir": state_dir})
    place = Place(host=settings.host, port=settings.control_port, flag="--control-port")
    with (
        exclusive(state_dir, "control"),
        bound(place, shared=shared_port) as listening,
        _database(settings) as database,
        _recorded(state_dir, listening),
    ):
        asyncio.run(_serve(settings, database, listening))


async def _serve(settings: Settings, database: Database, listening: socket.socket) -> None:
    state_dir = settings.state_dir
    reconciler, backend, registry = _reconciler(settings, database)
    app = create_app(_services(settings, database, reconciler, backend, registry))
    server = ControlServer(app, on_exit=reconciler.release_waiters)
    # uvicorn raises the signal once more when it has ended; our own clean-up comes after that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    tasks = [
        asyncio.create_task(reconciler.run(), name="reconciler"),
        asyncio.create_task(_sweep_for_ever(registry, state_dir), name="sweep"),
        asyncio.create_task(_bound_logs_for_ever(state_dir / "logs"), name="logs"),
    ]
    for task in tasks:
        # Control without its reconciler looks well and does nothing: it ends, and is started again.
        task.add_done_callback(lambda _: server.stop())
    try:
        await server.serve(sockets=[listening])
    finally:
        ended = [task for task in tasks if task.done()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    for task in ended:
        task.result()


async def _sweep_for_ever(registry: Registry, state_dir: Path) -> None:
    """Removes what registrations that died left behind, once a day."""
    while True:
        await asyncio.sleep(SWEEP_AFTER_S)
        try:
            await asyncio.to_thread(_sweep, registry, state_dir, clock() - SWEEP_OLDER_THAN)
        except ShipwayError as exc:
            _log.warning("Unused bundles cannot be removed now: %s", exc)
        await asyncio.sleep(SWEEP_EVERY_S)


async def _bound_logs_for_ever(logs: Path) -> None:
    """Keeps what models and processes print from filling the disk."""
    while True:
        await asyncio.to_thread(bound_logs, logs)
        await asyncio.sleep(BOUND_LOGS_EVERY_S)


def _sweep(registry: Registry, state_dir: Path, unused_since: datetime) -> None:
    Staging(state_dir / "staging").sweep(unused_since=unused_since)
    for digest in registry.sweep(unused_since=unused_since):
        _log.info("Removed bundle %s, which no version names", digest)


def _reconciler(
    settings: Settings, database: Database
) -> tuple[Reconciler, ProcessBackend, Registry]:
    state_dir = settings.state_dir
    url = settings.artifacts_url or str(state_dir / "artifacts")
    artifacts = ArtifactStore(url, environment=provider_variables())
    registry = Registry(database, artifacts)
    backend = ProcessBackend(state_dir, clock=clock)
    reconciler = Reconciler(
        database,
        backend,
        local=partial(
            LocalVersions,
            version=registry.version,
            materialise=partial(_materialised, artifacts, state_dir / "cache"),
        ),
        environment=settings.environment,
        clock=clock,
        memory=state_dir / "run" / "published.json",
        capacity=Capacity(budget_mb=settings.memory_budget_mb),
    )
    backend.on_change = reconciler.poke
    return reconciler, backend, registry


def _materialised(artifacts: ArtifactStore, cache: Path, digest: str) -> Path:
    return artifacts.materialise(digest, cache)


def _services(
    settings: Settings,
    database: Database,
    reconciler: Reconciler,
    backend: ProcessBackend,
    registry: Registry,
) -> Services:
    loop = asyncio.get_running_loop()

    def poke() -> None:
        # Use cases run in worker threads.
        loop.call_soon_threadsafe(reconciler.poke)

    endpoints = Endpoints(
        database,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        poke=poke,
        read_log=backend.read_log,
        memory_budget_mb=settings.memory_budget_mb,
    )
    rollouts = Rollouts(
        database,
        environment=settings.environment,
        seen=lambda: reconciler.seen,
        poke=poke,
    )
    return Services(
        registry=registry,
        rollouts=rollouts,
        evaluations=Evaluations(database),
        audit=AuditLog(database),
        staging=Staging(settings.state_dir / "staging"),
        now=clock,
        endpoints=endpoints,
        reconciler=reconciler,
        environments=Environments(database),
        promotions=Promotions(database),
        replicas_of=endpoints.replicas_of,
        upload_limits=UploadLimits(max_bytes=settings.max_bundle_bytes),
    )


class ControlServer(uvicorn.Server):
    """The control API's server. Before it waits for open requests it lets waiting gateways go."""

    def __init__(self, app: FastAPI, *, on_exit: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                http=BoundedConnection,
                limit_concurrency=most_connections(),
                ws="none",
                lifespan="off",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_graceful_shutdown=3,
            )
        )
        self._on_exit = on_exit

    def stop(self) -> None:
        """Ends it as SIGTERM would."""
        self._on_exit()
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Called by uvicorn on SIGTERM and SIGINT."""
        asyncio.get_running_loop().call_soon_threadsafe(self._on_exit)
        super().handle_exit(sig, frame)


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database.open(settings.database_url or sqlite_url(settings.state_dir))
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _recorded(state_dir: Path, listening: socket.socket) -> Iterator[None]:
    """Keeps `run/control.json` (pid and URL) while control runs."""
    host, port = listening.getsockname()[:2]
    url = Place(host=host, port=port, flag="").url
    path = state_dir / "run" / "control.json"
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode({"pid": os.getpid(), "url": url}))
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one process from the environment's settings; gives the exit code."""
    parser = argparse.ArgumentParser(prog="shipway.bootstrap", description=__doc__)
    parser.add_argument("role", choices=["control"])
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--shared-port", action="store_true", help="the port is reserved for us")
    options = parser.parse_args(arguments)
    log_to_stderr("%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = read_settings(
            state_dir=options.state_dir, host=options.host, control_port=options.port
        )
        run_control(settings, shared_port=options.shared_port)
    except ShipwayError as exc:
        sys.stderr.write(msgspec.json.encode(LastWord.of(exc)).decode() + "\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
