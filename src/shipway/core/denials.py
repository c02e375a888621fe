"""Which denials are put on record singly, and which as sums: a flood of them must not become one of events."""

from __future__ import annotations

import unicodedata
from datetime import datetime, timedelta

import msgspec

from shipway.core.audit import Change

SINGLES = 30
"""So many denials of one actor, right and subject are events of their own, each minute."""

SINGLES_IN_ALL = 300
"""So many of all actors together, each minute."""

MOST_SUMS = 1000
"""So many sums are kept apart, each minute; what more comes is summed as one."""

_MINUTE = timedelta(minutes=1)
_LONGEST = 200
_SEVERAL = "(several)"


class Denial(msgspec.Struct, frozen=True, kw_only=True):
    """That somebody was refused, `count` times: the right that was missing, on what, by which route."""

    actor: str
    right: str
    subject: str = ""
    route: str = ""
    origin: str = ""
    count: int = 1


class Denials:
    """The denials of the current minute. `take` and `due` give what to put on record now.

    Time is that of the calls; a minute that has ended is summed up by the next of them.
    """

    def __init__(self) -> None:
        self._minute: datetime | None = None
        self._singles: dict[tuple[str, str, str], int] = {}
        self._sums: dict[tuple[str, str, str], Denial] = {}

    def take(self, denial: Denial, *, now: datetime) -> list[Change]:
        """The events that a denial calls for: the sums of a minute that has ended, and its own."""
        changes = self.due(now=now)
        denial = _printable(denial)
        key = (denial.actor, denial.right, denial.subject)
        known = self._singles.get(key, 0)
        if known < SINGLES and sum(self._singles.values()) < SINGLES_IN_ALL:
            self._singles[key] = known + 1
            return [*changes, _change(denial, now)]
        self._add(key, denial)
        return changes

    def due(self, *, now: datetime) -> list[Change]:
        """The sums of the last minute, once it has ended; nothing before."""
        minute = now.replace(second=0, microsecond=0)
        if self._minute is not None and minute <= self._minute:
            return []
        changes = self.rest(now=now)
        self._minute = minute
        self._singles.clear()
        return changes

    def rest(self, *, now: datetime) -> list[Change]:
        """The sums so far: for the end of the process."""
        sums, self._sums = self._sums, {}
        return [_change(denial, now) for denial in sums.values()]

    def _add(self, key: tuple[str, str, str], denial: Denial) -> None:
        if key not in self._sums and len(self._sums) >= MOST_SUMS:
            key = (_SEVERAL, _SEVERAL, _SEVERAL)
        known = self._sums.get(key)
        actor, right, subject = key
        self._sums[key] = Denial(
            actor=actor,
            right=right,
            subject=subject,
            route=denial.route if known is None else _one(known.route, denial.route),
            origin=denial.origin if known is None else _one(known.origin, denial.origin),
            count=denial.count if known is None else known.count + denial.count,
        )


def _one(known: str, new: str) -> str:
    return new if known == new else _SEVERAL


def _change(denial: Denial, now: datetime) -> Change:
    return Change(
        at=now,
        actor=denial.actor,
        action="access.deny",
        subject=denial.subject,
        details={"right": denial.right, "route": denial.route, "count": denial.count},
        origin=denial.origin,
    )


def _printable(denial: Denial) -> Denial:
    """The denial as text that every database keeps: who was refused wrote parts of it."""
    texts = {
        name: _clean(value)
        for name, value in msgspec.structs.asdict(denial).items()
        if isinstance(value, str)
    }
    return msgspec.structs.replace(denial, **texts)


def _clean(text: str) -> str:
    kept = text[:_LONGEST]
    return "".join(
        "\N{REPLACEMENT CHARACTER}" if unicodedata.category(c)[0] == "C" else c for c in kept
    )
