"""The loop that looks at replicas and processes, and writes the metric history."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from time import monotonic

from shipway.control.gauges import LOOK_EVERY_S, Gauges
from shipway.control.history import History
from shipway.control.telemetry import Telemetry
from shipway.control.views import Seen
from shipway.core.errors import ShipwayError
from shipway.core.resolutions import FINE

PRUNE_EVERY_S = 60.0
_STEP = timedelta(seconds=FINE.step_s)

_log = logging.getLogger(__name__)


class Keeping:
    """Keeps the history of one control process."""

    def __init__(
        self,
        history: History,
        telemetry: Telemetry,
        *,
        seen: Callable[[], Seen],
        gauges: Gauges,
        clock: Callable[[], datetime],
    ) -> None:
        self._history = history
        self._telemetry = telemetry
        self._seen = seen
        self._clock = clock
        self._gauges = gauges
        self._pruned_s = monotonic()

    async def run(self) -> None:
        """Looks each 2 s and writes when a window ends, until cancelled."""
        ends_at = _end_after(self._clock())
        while True:
            left_s = (ends_at - self._clock()).total_seconds()
            # Not longer than a look, whatever the clock was set to.
            await asyncio.sleep(min(LOOK_EVERY_S, max(0.0, left_s)))
            try:
                await asyncio.to_thread(self._look)
                if not timedelta(0) < ends_at - self._clock() <= _STEP:
                    await asyncio.to_thread(self.write)
                    ends_at = _end_after(self._clock())
            except Exception:  # noqa: BLE001 - the loop's outermost frame
                _log.exception("The metric history cannot be kept now")
                await asyncio.sleep(LOOK_EVERY_S)

    def write(self) -> None:
        """Writes what is new, into the window that ends about now; what cannot be is, the next time."""
        now = self._clock()
        try:
            self._history.write(self._gauges.taken(), at=now - _STEP / 2)
            self._gauges.drop()
            if monotonic() - self._pruned_s > PRUNE_EVERY_S:
                self._history.prune(now)
                self._pruned_s = monotonic()
        except ShipwayError as exc:
            _log.warning("The metric history cannot be written now: %s", exc)
        self._telemetry.forget_silent(monotonic())

    def _look(self) -> None:
        self._gauges.look(self._seen(), self._telemetry.uses(), steady_s=monotonic())


def _end_after(now: datetime) -> datetime:
    """When the window ends that a moment is in."""
    return FINE.start_of(now) + _STEP
