"""The ids that a gateway makes for predictions whose callers sent none."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from itertools import count

_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"
_TRIPLES = [a + b + c for a in _DIGITS for b in _DIGITS for c in _DIGITS]


def made_ids() -> Iterator[str]:
    """Ids that no other process makes: ten random characters, and a count (`k3j9x2ab0c-00000f`)."""
    number = secrets.randbelow(36**10)
    prefix = "".join(_DIGITS[number // 36**place % 36] for place in range(10))
    for high in count():
        # After two thousand million of them, they get longer.
        more, middle = divmod(high, len(_TRIPLES))
        start = f"{prefix}-{more or ''}{_TRIPLES[middle]}"
        for low in _TRIPLES:
            yield start + low
