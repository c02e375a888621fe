"""Answers that are our failure, in the log: under the request's id, and only so many a second."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

MOST_PER_S = 10
"""An outage fails thousands of requests a second; their lines would fill the disk and say nothing new."""

MOST_CHARACTERS = 500

_log = logging.getLogger(__name__)


class FailureLog:
    """Writes a line for each failed request, as far as there is room in the second."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self._clock = clock
        self._second = -1
        self._written = self._left_out = 0

    def note(
        self, asked: str, why: str, *, request_id: str, status: int, trace_id: str = ""
    ) -> None:
        """Writes what was asked, and the reason that its caller was told; `trace_id` is empty for none."""
        second = int(self._clock())
        if second != self._second:
            if self._left_out:
                _log.error("%s more requests failed, which have no line", self._left_out)
            self._second, self._written, self._left_out = second, 0, 0
        if self._written >= MOST_PER_S:
            self._left_out += 1
            return
        self._written += 1
        _log.error(
            "%s failed (%s): %s", asked, status, why[:MOST_CHARACTERS],
            extra={"request_id": request_id, "status": status, "trace_id": trace_id},
        )  # fmt: skip
