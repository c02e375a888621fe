"""Spans of time as people write them."""

from __future__ import annotations

import re
from datetime import timedelta

from shipway.core.errors import InvalidRequest

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_SPAN = re.compile(r"(\d{1,6})([smhd])")


def span_of(text: str) -> timedelta:
    """The span of `90s`, `30m`, `6h` or `7d`.

    Raises:
        InvalidRequest: it is written otherwise, or empty.
    """
    found = _SPAN.fullmatch(text.strip())
    if found is None or not int(found[1]):
        raise InvalidRequest(
            f"`{text}` is no span of time.",
            next_step="Write one such as `90s`, `30m`, `6h` or `7d`.",
        )
    return timedelta(seconds=int(found[1]) * _UNITS[found[2]])
