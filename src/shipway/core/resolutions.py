"""How finely the past is kept, and which windows make up a period.

Whatever is counted goes into one window of each resolution at once, so a period is the sum of its hours,
of the minutes around them and of the ten seconds around those: exact, from few rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import msgspec


class Resolution(msgspec.Struct, frozen=True, kw_only=True):
    """Windows of `step_s`, begun at whole multiples of it since 1970, kept for `keep_s`."""

    step_s: int
    keep_s: int

    def start_of(self, at: datetime) -> datetime:
        """The beginning of the window that a moment is in."""
        return floor(at, self.step_s)


FINE = Resolution(step_s=10, keep_s=2 * 3600)
MINUTES = Resolution(step_s=60, keep_s=2 * 86400)
HOURS = Resolution(step_s=3600, keep_s=400 * 86400)

RESOLUTIONS = (FINE, MINUTES, HOURS)
"""From the finest; each step divides the next one."""


class Stretch(msgspec.Struct, frozen=True, kw_only=True):
    """The windows of `step_s` that begin at `since` or later, and before `until`."""

    step_s: int
    since: datetime
    until: datetime


def floor(at: datetime, step_s: int) -> datetime:
    """The last whole multiple of the step, since 1970, that is not after the moment."""
    seconds = int(at.timestamp() // step_s) * step_s
    return datetime.fromtimestamp(seconds, UTC)


def ceiling(at: datetime, step_s: int) -> datetime:
    """The first whole multiple of the step, since 1970, that is not before the moment."""
    start = floor(at, step_s)
    return start if start == at else start + timedelta(seconds=step_s)


def kept(at: datetime, now: datetime) -> Resolution:
    """The finest resolution whose window of that moment is still kept."""
    for one in RESOLUTIONS:
        if now - one.start_of(at) < timedelta(seconds=one.keep_s):
            return one
    return HOURS


def aligned(at: datetime, now: datetime) -> datetime:
    """The moment, moved back to where a window begins that is still kept."""
    return kept(at, now).start_of(at)


def stretches(since: datetime, until: datetime, now: datetime) -> tuple[Stretch, ...]:
    """The windows of a period, each moment in one of them; from the oldest. Empty without a period.

    The ends are moved back to where windows begin that are still kept: by up to 10 s of the last 2
    hours, up to a minute of the last 2 days, and up to an hour before that. A period inside one window is
    that window.
    """
    start, end = aligned(since, now), aligned(until, now)
    if since < until and start == end:
        end = start + timedelta(seconds=kept(since, now).step_s)
    return tuple(_split(start, end, len(RESOLUTIONS) - 1))


def _split(since: datetime, until: datetime, level: int) -> Iterator[Stretch]:
    """The period in windows of that resolution and finer ones."""
    if not since < until:
        return
    step_s = RESOLUTIONS[level].step_s
    if level == 0:
        yield Stretch(step_s=step_s, since=since, until=until)
        return
    first, last = ceiling(since, step_s), floor(until, step_s)
    if first >= last:
        yield from _split(since, until, level - 1)
        return
    yield from _split(since, first, level - 1)
    yield Stretch(step_s=step_s, since=first, until=last)
    yield from _split(last, until, level - 1)


def step_for(wanted_s: float, since: datetime, now: datetime) -> int:
    """The step (seconds) of a series: at least the wanted one, a multiple of windows kept since then."""
    age_s = (now - since).total_seconds()
    kept = next((one for one in RESOLUTIONS if age_s < one.keep_s), HOURS)
    return max(1, -(-int(wanted_s) // kept.step_s)) * kept.step_s
