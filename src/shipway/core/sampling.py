"""Which traces are kept: a share of all by chance, and all that failed or were slow for their endpoint."""

from __future__ import annotations

import msgspec

SLOW_SHARE = 0.01
"""What counts as slow: about this share of an endpoint's answers."""

_STEP = 0.05
_FIRST_S = 0.001


class Sampler(msgspec.Struct, frozen=True, kw_only=True):
    """Keeps a share of the traces by chance, and those that their callers record.

    One that does not heed callers takes its share of all traces, whatever their callers do.
    """

    share: float
    heeds_callers: bool = True

    def is_sampled(self, *, callers: bool | None, chance: float) -> bool:
        """Whether a trace is kept. `callers`: its caller's decision, None without one; `chance` in [0, 1)."""
        if callers is not None and self.heeds_callers:
            return callers
        return chance < self.share


class SlowLine:
    """Learns over which time an endpoint's slowest hundredth of answers begins.

    A stochastic estimate of a quantile (Robbins and Monro 1951; in steps of a share, as in Ma,
    Muthukrishnan and Sandler, "Frugal Streaming", 2013): each answer over the line raises it by 5 %, each
    other one lowers it by so much less that it stands still when 1 % are over it. It follows an endpoint
    that becomes slower or faster, and costs one comparison and one product.

    While it has seen few answers nothing is slow.
    """

    __slots__ = ("_left", "_up_s", "line_s")

    def __init__(self, *, learns_from: int = 200) -> None:
        """`learns_from`: the first answers, of which none is slow."""
        self.line_s = _FIRST_S
        self._left = learns_from

    def is_slow(self, seconds: float) -> bool:
        """Whether an answer that took so long is one of the slow ones; the line learns from it."""
        is_over = seconds > self.line_s
        if is_over:
            self.line_s *= 1.0 + _STEP
        else:
            self.line_s *= _DOWN
        if self._left:
            self._left -= 1
            if seconds > self.line_s:
                self.line_s = seconds
            return False
        return is_over


_DOWN = float((1.0 + _STEP) ** (-SLOW_SHARE / (1.0 - SLOW_SHARE)))
"""Balanced: (1 + s)^p · d^(1 - p) = 1, so that the line drifts nowhere when the share p is over it."""
