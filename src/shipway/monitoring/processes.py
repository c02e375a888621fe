"""Starts a process of this package, and waits for its end."""

from __future__ import annotations

import re
import subprocess
import sys

from shipway.core.errors import DeadlineExceeded, StateUnusable
from shipway.core.failures import last_word

LONGER_S = 10.0
"""A process ends itself in time; one that does not is killed so much later."""


def run(module: str, order: bytes, *, timeout_s: float) -> bytes:
    """What `python -m shipway.monitoring.<module>` says on stdout, with the order on its stdin. Blocks.

    Raises:
        ShipwayError: whatever the process said that is wrong.
        DeadlineExceeded: it has not ended in time.
        StateUnusable: it cannot be started, or ended without a word: killed for its memory, mostly.
    """
    command = [sys.executable, "-I", "-m", f"shipway.monitoring.{module}"]
    try:
        done = subprocess.run(
            command,
            input=order,
            capture_output=True,
            timeout=timeout_s + LONGER_S,
            env={},
            cwd="/",
            check=False,
        )
    except subprocess.TimeoutExpired as exc:
        raise DeadlineExceeded(
            f"The process `{module}` has not ended within {timeout_s + LONGER_S:g} s.",
            next_step="Ask for less at once.",
        ) from exc
    except OSError as exc:
        raise StateUnusable(
            f"The process `{module}` cannot be started: {exc.strerror}.",
            next_step="Free memory or processes on this machine, then try again.",
        ) from exc
    if done.returncode == 0:
        return done.stdout
    word = last_word(done.stdout.decode(errors="replace"))
    if word is not None:
        raise word.as_error()
    last = said_last(done.stderr.decode(errors="replace"))
    raise StateUnusable(
        f"The process `{module}` ended with {done.returncode}: {last or 'it said nothing'}",
        next_step="Ask for less at once; if that is of no help, report it.",
    )


_RAISED = re.compile(r"[\w.]*(Error|Exception)\b[^:]*:")
"""The line of a traceback that says what was raised."""


def said_last(words: str) -> str:
    """What was raised last of what a process wrote to stderr; else its last line with a word in it."""
    # A database's error goes on after its first line, with the place in the statement.
    said = [line.strip() for line in words.splitlines() if any(map(str.isalnum, line))]
    raised = [line for line in said if _RAISED.match(line)]
    return (raised or said or [""])[-1]
