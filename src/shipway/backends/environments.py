"""Python environments of replicas: the running one when it fits, else one built per lock."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import IO

import uv
from packaging.version import InvalidVersion, Version

from shipway.backends.bytecode import compile_missing
from shipway.core.bundles import EnvironmentLock
from shipway.core.environment import pins_of, public_version
from shipway.core.errors import EnvironmentFailed

BUILD_TIMEOUT_S = 1800.0
_MARKER = "shipway-ready"
_TAIL_LINES = 12
_PASSED = frozenset(
    [
        "PATH",
        "HOME",
        "LANG",
        "TMPDIR",
        "NETRC",
        "CC",
        "CXX",
        "CFLAGS",
        "CXXFLAGS",
        "LDFLAGS",
        "LD_LIBRARY_PATH",
        "CUDA_HOME",
        "HTTP_PROXY",
        "HTTPS_PROXY",
        "ALL_PROXY",
        "NO_PROXY",
        "REQUESTS_CA_BUNDLE",
        "CURL_CA_BUNDLE",
    ]
)
_PASSED_PREFIXES = ("UV_", "PIP_", "SSL_CERT_", "XDG_", "LC_")
_NEXT_STEP = (
    "Check that the locked versions are on your package index and that it can be reached, "
    "then deploy again."
)


def satisfied_by_running(lock: EnvironmentLock) -> bool:
    """Whether this interpreter has the locked Python and exactly the locked versions."""
    if lock.python != _running_python():
        return False
    return all(_is_installed(name, wanted) for name, wanted in pins_of(lock).items())


def interpreter_for(
    lock: EnvironmentLock, envs_dir: Path, *, on_progress: Callable[[str], None] = lambda _: None
) -> Path:
    """The Python executable for a model: the running one when it fits, else a built one.

    May block for minutes, see `build_environment`.

    Raises:
        EnvironmentFailed: the environment does not fit and cannot be built.
    """
    if satisfied_by_running(lock):
        compile_missing(pins_of(lock))
        return Path(sys.executable)
    return build_environment(lock, envs_dir, on_progress=on_progress)


def build_environment(
    lock: EnvironmentLock, envs_dir: Path, *, on_progress: Callable[[str], None] = lambda _: None
) -> Path:
    """The Python executable of the environment with exactly this lock, built when it is not there.

    Idempotent, and safe for several processes at once: one builds, the others wait. A build that was
    killed is begun anew by the next call. Shipway itself is not in it. Blocks for minutes;
    `on_progress` gets uv's lines.

    Raises:
        EnvironmentFailed: uv cannot build it; the message ends with uv's own words.
    """
    directory = envs_dir.absolute() / lock.digest
    python = directory / "bin" / "python"
    if _is_ready(directory):
        return python
    try:
        envs_dir.mkdir(parents=True, exist_ok=True)
        with _exclusive(envs_dir / f"{lock.digest}.lock") as guard:
            if not _is_ready(directory):
                _build(lock, directory, guard=guard, on_progress=on_progress)
    except OSError as exc:
        raise EnvironmentFailed(
            f"The environment in `{directory}` cannot be written: {exc.strerror or exc}.",
            next_step="Free space or fix the permissions of that directory, then deploy again.",
        ) from exc
    return python


def _running_python() -> str:
    return f"{sys.version_info.major}.{sys.version_info.minor}"


def _is_installed(name: str, wanted: str) -> bool:
    try:
        found = version(name)
        # A lock has no local labels (`+cpu`): what runs here may be any build of the version.
        return Version(public_version(found)) == Version(public_version(wanted))
    except (PackageNotFoundError, InvalidVersion):
        return False


def _is_ready(directory: Path) -> bool:
    # `exists` follows the link: the interpreter that the environment was made from may be gone.
    return (directory / _MARKER).exists() and (directory / "bin" / "python").exists()


@contextmanager
def _exclusive(path: Path) -> Iterator[IO[bytes]]:
    with path.open("ab") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _build(
    lock: EnvironmentLock, directory: Path, *, guard: IO[bytes], on_progress: Callable[[str], None]
) -> None:
    if directory.exists():
        shutil.rmtree(directory)
    binary = uv.find_uv_bin()
    base = sys.executable if lock.python == _running_python() else lock.python
    on_progress(f"Making a Python {lock.python} environment for {len(lock.requirements)} packages")
    _run([binary, "venv", "--python", base, str(directory)], guard=guard, on_progress=on_progress)
    listing = directory / "environment.lock"
    listing.write_text("\n".join(lock.requirements) + "\n")
    python = str(directory / "bin" / "python")
    # The lock is complete, and may leave out what an index lists (GPU libraries): nothing is added.
    # Replicas cannot write byte code there: they are confined.
    options = ["--no-deps", "--compile-bytecode"]
    install = [binary, "pip", "install", *options, "--python", python, "-r", str(listing)]
    _run(install, guard=guard, on_progress=on_progress)
    _run([python, "-c", "import msgspec, numpy"], guard=guard, on_progress=on_progress)
    (directory / _MARKER).write_text(lock.digest + "\n")


def _run(command: list[str], *, guard: IO[bytes], on_progress: Callable[[str], None]) -> None:
    """Runs one step. It inherits the lock file: a step orphaned by a kill keeps the lock until it ends."""
    tail: deque[str] = deque(maxlen=_TAIL_LINES)
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=_clean_environment(),
        pass_fds=(guard.fileno(),),
        text=True,
        errors="replace",
    ) as process:
        timer = threading.Timer(BUILD_TIMEOUT_S, process.kill)
        timer.start()
        try:
            for line in process.stdout or ():
                tail.append(line.rstrip())
                on_progress(line.rstrip())
        finally:
            timer.cancel()
    if process.returncode != 0:
        words = "\n".join(tail) or f"exit code {process.returncode}"
        raise EnvironmentFailed(
            f"The model's environment cannot be built:\n{words}\n", next_step=_NEXT_STEP
        )


def _clean_environment() -> dict[str, str]:
    """What uv, a compiler and the way to an index need of this process's environment.

    Packages that are built run code of their own: it must see neither our credentials nor models'
    secrets. And uv must not find our own packages.
    """
    return {
        name: value
        for name, value in os.environ.items()
        if name.upper() in _PASSED or name.startswith(_PASSED_PREFIXES)
    }
