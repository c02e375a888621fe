"""How long to wait before something that ended is started again."""

from __future__ import annotations

BASE_S = 0.5
"""The first pause."""

CAP_S = 30.0
"""The longest pause."""


def pause_s(failures: int) -> float:
    """Seconds to wait after that many failures in a row: 0, then 0.5, 1, 2, 4 … at most 30."""
    if failures <= 0:
        return 0.0
    return min(CAP_S, BASE_S * 2.0 ** min(failures - 1, 16))
