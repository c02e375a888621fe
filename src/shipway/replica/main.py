"""A replica that listens: verify the bundle, load the model, warm it, then answer."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import traceback
from collections.abc import Coroutine
from socket import socket
from typing import Any

from shipway.core.batching import Bounds
from shipway.core.bundles import Content, Served
from shipway.core.errors import ModelFailed, ShipwayError
from shipway.engines.bundle import verified_manifest
from shipway.engines.load import load_engine
from shipway.engines.port import Engine
from shipway.engines.warmup import warm
from shipway.replica.door import remove
from shipway.replica.options import Options
from shipway.replica.server import serve
from shipway.replica.worker import Worker

EXIT_LOAD_FAILED = 3
"""The bundle is corrupt or the model does not load; the reason is one JSON line on stderr."""


_ENDING = (signal.SIGTERM, signal.SIGINT)


def main(options: Options, listener: socket) -> int:
    """Runs one replica, which listens already, until SIGTERM; gives the exit code."""
    try:
        engine, content = _loaded(options)
    except ShipwayError as exc:
        failure = {"error": exc.code, "message": exc.message, "next_step": exc.next_step}
        print(json.dumps(failure), file=sys.stderr, flush=True)  # noqa: T201 - the documented answer
        return EXIT_LOAD_FAILED
    worker = Worker(
        engine,
        replica_id=options.id,
        bounds=Bounds(
            max_rows=options.max_batch_rows, max_delay_s=options.max_batch_delay_ms / 1000
        ),
        stackable=content.signature.batchable,
        on_loop=content.served is Served.ONNX,
    )
    _run_loop(_run(worker, listener))
    remove(options.address)
    return 0


def _run_loop(work: Coroutine[Any, Any, None]) -> None:
    """Runs it on uvloop where the model's environment has that, on asyncio's own loop otherwise."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


def _loaded(options: Options) -> tuple[Engine, Content]:
    content = verified_manifest(options.bundle, options.digest).content
    try:
        engine = load_engine(options.bundle, content)
        warm(engine, options.bundle, content)
    except ShipwayError:
        raise
    except Exception as exc:
        traceback.print_exc()
        raise ModelFailed(
            f"The model does not load: {type(exc).__name__}: {exc}.",
            next_step="The replica's log has the traceback: `shipway logs`.",
        ) from exc
    return engine, content


async def _run(worker: Worker, listener: socket) -> None:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in _ENDING:
        loop.add_signal_handler(number, stopping.set)
    os.register_at_fork(after_in_child=_forget_signals)
    await serve(worker, listener, stopping)


def _forget_signals() -> None:
    """In a process that the model forks: a signal to it (a pool ends its own so) is not one to us."""
    signal.set_wakeup_fd(-1)
    for number in _ENDING:
        signal.signal(number, signal.SIG_DFL)
