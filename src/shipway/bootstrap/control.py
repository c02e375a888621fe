"""Runs control: everything built, served until SIGTERM, and ended in order."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shipway.api.app import create_app
from shipway.api.requests import SERVICE, Tracing
from shipway.bootstrap.building import built_of
from shipway.bootstrap.clock import clock
from shipway.bootstrap.server import ControlServer
from shipway.core.sampling import Sampler
from shipway.core.spans import Span
from shipway.otlp.options import sampler_of
from shipway.otlp.sending import Sending
from shipway.settings import (
    Settings,
    require_guarded,
)
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.state import usable_directory
from shipway.supervisor.ports import Place, bound
from shipway.supervisor.records import exclusive
from shipway.tls.files import tls_files
from shipway.tls.serving import ServerTls, tls_of


def run_control(settings: Settings, *, shared_port: bool = False) -> None:
    """Runs control until SIGTERM. Blocks; call it in the main thread.

    `shared_port`: the port is reserved for us by a supervisor, so that it may be bound beside.

    Raises:
        StateUnusable, SchemaTooNew, StoreUnavailable: what control stands on cannot be used.
        InvalidSpec: it would be open to other machines without access control.
        AlreadyRunning: another control has the state directory.
        PortTaken: the port is taken.
    """
    require_guarded(settings)
    state_dir = usable_directory(settings.state_dir)
    settings = settings.model_copy(update={"state_dir": state_dir})
    tls = tls_of(tls_files(settings), alpn=("http/1.1",))
    scheme = "http" if tls is None else "https"
    place = Place(
        host=settings.host, port=settings.control_port, flag="--control-port", scheme=scheme
    )
    with (
        exclusive(state_dir, "control"),
        bound(place, shared=shared_port) as listening,
        _database(settings) as database,
        _recorded(state_dir, listening, scheme=scheme),
    ):
        asyncio.run(_serve(settings, database, listening, tls=tls))


async def _serve(
    settings: Settings, database: Database, listening: socket.socket, *, tls: ServerTls | None
) -> None:
    sending = _sending()
    built = built_of(settings, database, unsent=lambda: sending.dropped)
    await asyncio.to_thread(built.services.seals.sign, now=clock())
    app = create_app(built.services, tracing=_tracing(settings, sending))
    server = ControlServer(app, on_exit=built.reconciler.release_waiters, tls=tls)
    # uvicorn raises the signal once more when it has ended; our own clean-up comes after that.
    signal.signal(signal.SIGTERM, lambda *_: None)
    signal.signal(signal.SIGINT, lambda *_: None)
    loops = [*built.loops, *(() if tls is None else (("tls", tls.watch),))]
    tasks = [asyncio.create_task(run(), name=name) for name, run in loops]
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
        for last in (*built.at_the_end, sending.close):
            await asyncio.to_thread(last)
    for task in ended:
        task.result()


def _sending() -> Sending[Span]:
    """What tells a collector of control's requests and log records, as the environment asks for it."""
    instance = f"control-{os.getpid()}"
    return Sending(os.environ, service=SERVICE, instance=instance, spans_of=lambda span: (span,))


def _tracing(settings: Settings, sending: Sending[Span]) -> Tracing | None:
    if sending.keep is None:
        return None
    share = settings.trace_share
    sampler = sampler_of(os.environ) if share is None else Sampler(share=share)
    return Tracing(
        keep=sending.keep, sampler=sampler, service=sending.service, instance=sending.instance
    )


@contextmanager
def _database(settings: Settings) -> Iterator[Database]:
    database = Database.open(settings.database_url or sqlite_url(settings.state_dir))
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _recorded(state_dir: Path, listening: socket.socket, *, scheme: str) -> Iterator[None]:
    """Keeps `run/control.json` (pid and URL) while control runs."""
    host, port = listening.getsockname()[:2]
    url = Place(host=host, port=port, flag="", scheme=scheme).url
    path = state_dir / "run" / "control.json"
    draft = path.with_suffix(".draft")
    draft.write_bytes(msgspec.json.encode({"pid": os.getpid(), "url": url}))
    draft.replace(path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)
