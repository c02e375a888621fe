"""A real `shipway up` on free ports, in a process of its own, and the proof that it left nothing."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shipway.cli.demo.server import Server
from shipway.client.synchronous import Client


def pytest_configure() -> None:
    """A shell ignores Ctrl-C for what it runs in the background, and children inherit that."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass
class Running:
    """A server, a client of it, and a directory for files."""

    server: Server
    client: Client
    directory: Path

    @property
    def state_dir(self) -> Path:
        return self.server.state_dir


@contextmanager
def running() -> Iterator[Running]:
    with tempfile.TemporaryDirectory(prefix="shipway-sys-") as name:
        server = Server(Path(name))
        try:
            with server.start() as client:
                yield Running(server, client, Path(name))
        finally:
            server.end()
            assert server.left_behind() == []


@pytest.fixture
def own() -> Iterator[Running]:
    """A server for one test alone."""
    with running() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Iterator[Running]:
    """A server for the tests of one file."""
    with running() as made:
        yield made


def until(claim: Callable[[], bool], *, within_s: float = 30.0) -> float:
    """Seconds until the claim is true; fails when it does not become so."""
    started = time.monotonic()
    while not claim():
        assert time.monotonic() - started < within_s, f"not true within {within_s} s"
        time.sleep(0.02)
    return time.monotonic() - started


@pytest.fixture(name="until")
def until_fixture() -> Callable[..., float]:
    return until
