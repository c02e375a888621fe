"""When something that repeats is due: at fixed points of UTC, so that no clock change moves them.

A schedule is a set of slots. Asking for the newest slot that has come, not for the next one after the last
run, is what makes missed runs be caught up once, and a clock that jumps harmless.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from itertools import takewhile

import msgspec

from shipway.core.errors import InvalidSpec

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INSTANT = timedelta(microseconds=1)
_RANDOM = re.compile(r"[RHrh](?![A-Za-z])")
_FIELDS = 5
_WEEK = timedelta(weeks=1)
_NEXT_STEP = "Write five fields (minute, hour, day, month, weekday) in UTC, such as `0 6 * * 1-5`."


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """Every so long, or at the times of a cron expression; exactly one of both is given.

    `offset` is how long after the round times the slots of an interval are; less than `every`.
    """

    every: timedelta | None = None
    offset: timedelta = timedelta()
    cron: str | None = None

    def newest(self, now: datetime) -> datetime | None:
        """The newest slot at or before `now`; None when a cron expression had none in 50 years."""
        if self.every is not None:
            past = now - _EPOCH - self.offset
            return _EPOCH + self.offset + (past // self.every) * self.every
        return _cron(self.cron or "", now.astimezone(UTC), is_forward=False)

    def following(self, now: datetime) -> datetime | None:
        """The first slot after `now`."""
        if self.every is not None:
            newest = self.newest(now)
            return None if newest is None else newest + self.every
        return _cron(self.cron or "", now.astimezone(UTC), is_forward=True)

    def runs_per_week(self, now: datetime) -> float:
        """How many slots a week has; of a cron expression, the week that begins now."""
        if self.every is not None:
            return _WEEK / self.every
        slots = _slots(self.cron or "", now.astimezone(UTC))
        return float(max(1, sum(1 for _ in takewhile(lambda slot: slot <= now + _WEEK, slots))))

    def due(self, last: datetime | None, now: datetime) -> datetime | None:
        """The slot to run now; None when there is nothing to run.

        `last` is the newest slot **at or before `now`** that was run, None for none: slots that a wrong clock
        ran in the future do not count, and come again. However many slots were missed, only the newest
        is run.
        """
        newest = self.newest(now)
        return newest if newest is not None and (last is None or newest > last) else None


def spread(name: str, every: timedelta) -> timedelta:
    """A part of an interval in whole seconds, the same for the same name, so that not all come at once."""
    place = int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "big")
    return timedelta(seconds=place % max(1, int(every.total_seconds())))


def require_cron(expression: str) -> None:
    """Refuses what is not a cron expression of five fields, or names no time that exists.

    Raises:
        InvalidSpec: it is not, or does not.
    """
    fields = expression.split()
    # Names such as `thu` and `mar` hold these letters, too; alone they stand for something random.
    is_plain = len(fields) == _FIELDS and not any(_RANDOM.match(field) for field in fields)
    if not is_plain or _cron(expression, _EPOCH, is_forward=True) is None:
        raise InvalidSpec(
            f"`cron` is `{expression}`, which is no time that comes.",
            next_step=_NEXT_STEP,
            path="cron",
        )


def _slots(expression: str, now: datetime) -> Iterator[datetime]:
    """The slots after `now`, in order."""
    from croniter import CroniterError, croniter

    with suppress(CroniterError, ValueError):
        times = croniter(expression, now)
        while True:
            yield times.get_next(datetime)


def _cron(expression: str, now: datetime, *, is_forward: bool) -> datetime | None:
    # 70 ms, which the gateways and most commands never need.
    from croniter import CroniterError, croniter

    # `get_prev` means strictly before, and a slot has come when it is now.
    moment = now if is_forward else now + _INSTANT
    try:
        times = croniter(expression, moment)
        found = times.get_next(datetime) if is_forward else times.get_prev(datetime)
    except (CroniterError, ValueError):
        return None
    assert isinstance(found, datetime)
    return found.replace(fold=0)
