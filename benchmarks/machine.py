"""What was measured on, and with which releases."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import environments

_OWN = ("uvicorn", "fastapi", "onnxruntime", "scikit-learn", "numpy")
_ALONE = "BENCH_ALONE"


def described() -> str:
    """Cores, memory, system and interpreter, in one line."""
    memory_gb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    return (
        f"{os.cpu_count()} cores ({_processor()}), {memory_gb:.0f} GB, {platform.system()} "
        f"{platform.release().split('-')[0]}, Python {platform.python_version()}"
    )


def versions(names: Sequence[str]) -> dict[str, str]:
    """Releases of what all share, and of each of these environments' peers."""
    found = {name: importlib.metadata.version(name) for name in _OWN}
    for name in names:
        environment = environments.ENVIRONMENTS[name]
        found[environment.distribution] = environments.version_of(name) or "not installed"
    return found


def enter_loopback_only() -> bool:
    """Goes on in a network namespace that has nothing but loopback; False when that is refused.

    Some servers bind the machine's own address whatever they are told. This starts the program
    anew inside the namespace, so call it first.
    """
    if os.environ.get(_ALONE):
        return True
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--net", "--map-root-user"]
    if shutil.which("unshare") is None or shutil.which("ip") is None:
        return False
    up = ["ip", "link", "set", "lo", "up"]
    if subprocess.run([*unshare, *up], capture_output=True, check=False).returncode != 0:
        return False
    script = f'{" ".join(up)} && exec "$@"'
    again = [*unshare, "sh", "-c", script, "sh", sys.executable, *sys.argv]
    return os.execvpe(again[0], again, {**os.environ, _ALONE: "1"})


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
