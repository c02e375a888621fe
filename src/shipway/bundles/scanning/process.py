"""Starts the scanning process, and reads its report."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from shipway.bundles.scanning.bundle import Rules
from shipway.core.errors import DangerousArtifact, StateUnusable
from shipway.core.scans import ScanReport

_REPORT_BYTES = 4 * 1024 * 1024
_LEAST_S = 60
_BYTES_PER_S = 10 * 1024 * 1024
_MOST_S = 3600
_WALL_PER_CPU = 4
"""A machine that is busy takes longer than the processor time that is allowed."""


class Scanner:
    """Scans bundles by the server's rules, each in a process of its own. Thread-safe; blocks."""

    def __init__(self, rules: Rules | None = None) -> None:
        self._rules = rules or Rules()

    def scanned(self, directory: Path) -> ScanReport:
        """What the scan says of a bundle directory.

        Raises:
            DangerousArtifact: it could not be scanned within the bounds of memory and time.
            StateUnusable: the scanning process cannot be started.
        """
        cpu_s = _seconds_for(directory)
        order = {"directory": str(directory.absolute()), "rules": self._rules, "cpu_s": cpu_s}
        with tempfile.TemporaryFile() as answer:
            code = _run(
                msgspec.json.encode(order), answer.fileno(), timeout_s=_WALL_PER_CPU * cpu_s
            )
            answer.seek(0)
            text = answer.read(_REPORT_BYTES)
        try:
            if code == 0:
                return msgspec.json.decode(text, type=ScanReport)
        except msgspec.MsgspecError:
            pass
        raise DangerousArtifact(
            f"The bundle cannot be scanned within {cpu_s} seconds and 2 GiB of memory"
            f" (the scan ended with {code}).",
            next_step="Package the model again; if it is sound and this large, split it.",
        )


def _seconds_for(directory: Path) -> int:
    size = sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())
    return min(_MOST_S, _LEAST_S + size // _BYTES_PER_S)


def _run(order: bytes, answer: int, *, timeout_s: float) -> int | str:
    """The exit code; what the process prints goes to the file `answer`."""
    command = [sys.executable, "-I", "-m", "shipway.bundles.scanning"]
    try:
        done = subprocess.run(
            command,
            input=order,
            stdout=answer,
            stderr=subprocess.DEVNULL,
            timeout=timeout_s,
            env={},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "a timeout"
    except OSError as exc:
        raise StateUnusable(
            f"The process that scans bundles cannot be started: {exc.strerror}.",
            next_step="Free memory or processes on this machine, then try again.",
        ) from exc
    return done.returncode
