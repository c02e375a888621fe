"""Runs a program that the machine's administrator put into the state directory, with a message on its standard input."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from tempfile import TemporaryFile

TIMEOUT_S = 25.0
"""A program that takes longer is ended: less than its courier has."""

_LAST_BYTES = 2000
_OF_OTHERS = 0o022


def ran(program: Path, body: bytes) -> str:
    """Why a program did not take a message; empty when it ended well. It blocks while it runs."""
    program = program.absolute()
    try:
        return _fault(program, body)
    except OSError as exc:
        return f"`{program}` cannot be run: {exc.strerror or exc}."


def _fault(program: Path, body: bytes) -> str:
    _require_own(program)
    # Files in place of pipes: what it leaves in the background may hold them open, or fill them.
    with TemporaryFile() as given, TemporaryFile() as said:
        given.write(body)
        given.seek(0)
        process = subprocess.Popen(
            [program],
            stdin=given,
            stdout=subprocess.DEVNULL,
            stderr=said,
            cwd=program.parent,
            start_new_session=True,
        )
        try:
            code = process.wait(TIMEOUT_S)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            return f"`{program.name}` did not end within {TIMEOUT_S:g} s."
        return f"`{program.name}` ended with {code}: {_last_line(said.fileno())}." if code else ""


def _require_own(program: Path) -> None:
    """Raises PermissionError for what somebody else than root and the user of control may have written."""
    for path in (program.parent, program):
        found = path.stat()
        if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OF_OTHERS:
            raise PermissionError(f"others may write to `{path}`")


def _last_line(descriptor: int) -> str:
    size = os.fstat(descriptor).st_size
    text = os.pread(descriptor, _LAST_BYTES, max(0, size - _LAST_BYTES)).decode(errors="replace")
    lines = text.strip().splitlines()
    return lines[-1].strip(" .")[:200] if lines else "it said nothing"
