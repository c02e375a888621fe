"""The loops of alerts: one looks at the rules, one sends what is due. Killed at any instruction, they go on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime

from shipway.control.alerting.measuring import Evaluation
from shipway.control.alerting.sending import Sender
from shipway.control.alerts import Alerts
from shipway.core.errors import ShipwayError

LOOK_EVERY_S = 10.0
SEND_EVERY_S = 1.0
TIDY_EVERY_S = 600.0

_log = logging.getLogger(__name__)


class AlertLoop:
    """Looks, tells and tidies until it is cancelled. Lives in one event loop."""

    def __init__(
        self,
        alerts: Alerts,
        evaluation: Evaluation,
        sender: Sender,
        *,
        clock: Callable[[], datetime],
    ) -> None:
        self._alerts = alerts
        self._evaluation = evaluation
        self._sender = sender
        self._clock = clock

    async def run(self) -> None:
        """Runs until cancelled."""
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._repeat(self._tidy, TIDY_EVERY_S), name="alerts: tidy")
                tasks.create_task(self._repeat(self._look, LOOK_EVERY_S), name="alerts: look")
                tasks.create_task(self._repeat(self._send, SEND_EVERY_S), name="alerts: send")
        finally:
            # Threads cannot be cancelled; control would wait for the slowest receiver.
            self._sender.close()

    def _tidy(self) -> None:
        self._alerts.recover(self._clock())

    def _look(self) -> None:
        now = self._clock()
        self._alerts.observe(self._evaluation.signals(now), now)

    def _send(self) -> None:
        while self._sender.deliver():
            pass

    async def _repeat(self, work: Callable[[], None], every_s: float) -> None:
        while True:
            try:
                await asyncio.to_thread(work)
            except ShipwayError as exc:
                _log.warning("Alerts cannot be looked after now: %s", exc)
            except Exception:  # noqa: BLE001 - the outermost frame of the loop
                _log.exception("Alerts cannot be looked after now")
            await asyncio.sleep(every_s)
