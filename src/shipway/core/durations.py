"""Lengths of time as people write them: `15m`, `24h`, `7d`."""

from __future__ import annotations

import re
from datetime import timedelta

from shipway.core.errors import InvalidSpec

_FORM = re.compile(r"([1-9][0-9]{0,6})([smhd])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def duration_of(text: str, *, name: str) -> timedelta:
    """The length of time that a text says; `name` is the key that holds it, for the message.

    >>> duration_of("15m", name="every")
    datetime.timedelta(seconds=900)

    Raises:
        InvalidSpec: it is not a whole number above zero with `s`, `m`, `h` or `d` after it.
    """
    found = _FORM.fullmatch(text)
    if found is None:
        raise InvalidSpec(
            f"`{name}` is `{text}`, which is no length of time.",
            next_step="Write a whole number and a unit: `30s`, `15m`, `24h` or `7d`.",
            path=name,
        )
    return timedelta(**{_UNITS[found[2]]: int(found[1])})
