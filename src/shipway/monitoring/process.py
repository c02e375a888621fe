"""Starts the process of a run, and reads what came of it."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from threading import Lock
from typing import IO

import msgspec

from shipway.monitoring.order import Answer, Order
from shipway.monitoring.processes import said_last

TIMEOUT_S = 900.0
_ANSWER_BYTES = 16 * 1024 * 1024
_LAST_WORDS = 4096
_ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
"""Each thread of theirs takes addresses, of which the process has so many."""

_log = logging.getLogger(__name__)


class RunProcess:
    """Does runs, one at a time, each in a process of its own that ends with this one. Thread-safe; blocks.

    `cache_dir` is where libraries keep what they find out about this machine (fonts).
    """

    def __init__(self, cache_dir: Path, *, timeout_s: float = TIMEOUT_S) -> None:
        self._cache_dir = cache_dir
        self._timeout_s = timeout_s
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._is_closed = False

    def run(self, order: Order) -> Answer | None:
        """What came of an order; None when the process was ended by `close`."""
        with tempfile.TemporaryFile() as answer, tempfile.TemporaryFile() as words:
            code = self._carried_out(order, answer.fileno(), words.fileno())
            if self._is_closed:
                return None
            answer.seek(0)
            text = answer.read(_ANSWER_BYTES)
            last_words = _last_words(words)
        try:
            if code == 0:
                return msgspec.json.decode(text, type=Answer)
        except msgspec.MsgspecError:
            pass
        _log.warning("The process of `%s` ended with %s: %s", order.title, code, last_words)
        return Answer(message=_message(code, last_words, self._timeout_s))

    def close(self) -> None:
        """Ends the process that runs, and starts no other. Idempotent."""
        with self._lock:
            self._is_closed = True
            if self._process is not None:
                self._process.kill()

    def _carried_out(self, order: Order, answer: int, words: int) -> int | str:
        """The exit code, or what went wrong."""
        with self._lock:
            if self._is_closed:
                return "a closed server"
            try:
                process = self._process = self._started(answer, words)
            except OSError as exc:
                return f"nothing, it could not be started: {exc.strerror}"
        try:
            assert process.stdin is not None
            process.stdin.write(msgspec.json.encode(order) + b"\n")
            process.stdin.flush()
            return process.wait(self._timeout_s)
        except subprocess.TimeoutExpired:
            return "a timeout"
        except BrokenPipeError:
            return process.wait(self._timeout_s)
        finally:
            with self._lock:
                self._process = None
            process.kill()
            process.wait()
            _closed(process)

    def _started(self, answer: int, words: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-I", "-m", "shipway.monitoring"],
            stdin=subprocess.PIPE,
            stdout=answer,
            stderr=words,
            env={**_ONE_THREAD, "MPLCONFIGDIR": str(self._cache_dir)},
            cwd="/",
        )


def _closed(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None
    try:
        process.stdin.close()
    except BrokenPipeError:
        return


def _last_words(stream: IO[bytes]) -> str:
    size = stream.seek(0, os.SEEK_END)
    stream.seek(max(0, size - _LAST_WORDS))
    return said_last(stream.read().decode(errors="replace"))


def _message(code: int | str, last_words: str, timeout_s: float) -> str:
    if code == "a timeout":
        return (
            f"It was not done after {timeout_s:g} seconds. Give the monitor fewer `features`, or a shorter"
            " `window`."
        )
    if "MemoryError" in last_words or "OutOfMemory" in last_words:
        return (
            "It needs more memory than a run may have. Give the monitor fewer `features`, or a"
            " shorter `window`."
        )
    return (
        f"Its process ended with {code}: {last_words or 'it said nothing'}. Control's log has more."
    )
