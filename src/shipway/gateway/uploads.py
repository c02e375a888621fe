"""Complete segments of the spool go to control, whichever gateway of the machine wrote them.

A segment is removed once control has taken it. While control is away, or has another fault, segments wait
on disk. Control knows a segment by its id: one that is sent twice, because a gateway died in between, is
the same bytes and counts once.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from pathlib import Path

from shipway.core.backoff import pause_s
from shipway.engines.incidents import log_unexpected
from shipway.engines.logs import say
from shipway.gateway.segments import complete, locked
from shipway.wire.spool import mended

LOOK_EVERY_S = 0.5
LAST_S = 3.0
"""A gateway that ends tries for so long to send what it has; others, or its next start, send the rest."""

REFUSED_SUFFIX = ".refused"


class Delivery(Enum):
    """What became of a segment that was sent."""

    TAKEN = "taken"
    LATER = "later"
    """Control is away, or cannot take any now."""

    FAULT = "fault"
    """Control fails at this one, now at least; it may take others."""

    REFUSED = "refused"
    """Control can make nothing of it, now or later."""


Deliver = Callable[[bytes], Awaitable[Delivery]]


class Uploads:
    """Sends the complete segments of a directory, one after the other, oldest first."""

    def __init__(self, directory: Path, deliver: Deliver) -> None:
        """`deliver` sends the bytes of one; it raises nothing."""
        self._directory = directory
        self._deliver = deliver
        self._told: set[Path] = set()
        self._is_faulty = False

    async def run(self) -> None:
        """Sends until cancelled; where control takes nothing, less and less often, down to twice a minute."""
        failures = 0
        while True:
            await asyncio.sleep(max(LOOK_EVERY_S, pause_s(failures)))
            failures = 0 if await self._could_send() else failures + 1

    async def send_last(self) -> None:
        """Sends what is there when the gateway ends, as far as a short time allows."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_S):
                await self._could_send()

    async def _could_send(self) -> bool:
        """Sends as `send` does; False too where that fails, of which the first of a run is told."""
        try:
            is_all = await self.send()
        except Exception as exc:  # noqa: BLE001 - the loop's outermost frame
            if not self._is_faulty:
                log_unexpected(exc, heading="Segments cannot be sent now. They are tried again.\n")
            self._is_faulty = True
            return False
        self._is_faulty = False
        return is_all

    async def send(self) -> bool:
        """Sends what is complete now; False when control did not take one."""
        paths = await asyncio.to_thread(complete, self._directory)
        self._told.intersection_update(paths)
        is_all = True
        for path in paths:
            with locked(path) as descriptor:
                delivery = Delivery.TAKEN
                if descriptor is not None:
                    delivery = await self._sent(path, descriptor)
            if delivery is Delivery.LATER:
                return False
            is_all = is_all and delivery is not Delivery.FAULT
        return is_all

    async def _sent(self, path: Path, descriptor: int) -> Delivery:
        try:
            data = await asyncio.to_thread(_content, descriptor)
        except OSError as exc:
            self._say_once(path, f"cannot be read: {exc}")
            return Delivery.TAKEN
        delivery = await self._deliver(data) if data else Delivery.TAKEN
        if delivery is Delivery.FAULT:
            self._say_once(path, "makes control fail")
        elif delivery is not Delivery.LATER:
            await asyncio.to_thread(_put_away, path, delivery)
        return delivery

    def _say_once(self, path: Path, why: str) -> None:
        if path not in self._told:
            self._told.add(path)
            say(f"Segment `{path}` {why}. It is tried again, and others are sent meanwhile.")


def _put_away(path: Path, delivery: Delivery) -> None:
    """Removes a segment that control has; keeps one that it refuses under another name."""
    with suppress(OSError):
        if delivery is Delivery.TAKEN:
            path.unlink()
            return
        path.rename(path.with_name(path.name + REFUSED_SUFFIX))
        say(f"Control refused segment `{path.name}`; it is kept with `{REFUSED_SUFFIX}`.")


def _content(descriptor: int) -> bytes:
    """What a segment holds, without the torn tail that a killed gateway left; empty for nothing."""
    with os.fdopen(os.dup(descriptor), "rb") as file:
        return mended(file.read())
