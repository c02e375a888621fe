"""What a guard says, and how its numbers are put into words."""

from __future__ import annotations

from enum import StrEnum
from math import exp, log, sqrt

import msgspec

from shipway.core.evidence import Account, TrialReport
from shipway.core.strategies import Ab


class Verdict(StrEnum):
    """What a guard says."""

    PASS = "pass"
    """There is evidence enough, and none of harm."""

    RUNNING = "running"
    """There is not evidence enough yet."""

    INCONCLUSIVE = "inconclusive"
    """The time is up, and there was not evidence enough."""

    ERROR = "error"
    """It could not be measured."""

    FAIL = "fail"
    """The candidate does harm."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """A verdict of one guard. `message` says it in words, `numbers` what it was made from."""

    guard: str
    verdict: Verdict
    message: str
    numbers: dict[str, float] = {}


class Setting(msgspec.Struct, frozen=True, kw_only=True):
    """Under what a step runs: the candidate's share, whether it is mirrored, its A/B test if it is one.

    `steps` is in how many steps of the whole plan the guards look. `is_last`: the candidate is promoted
    after this step.
    """

    weight_pct: int
    mirror_pct: float = 0.0
    test: Ab | None = None
    steps: int = 1
    is_last: bool = False

    @property
    def has_primary(self) -> bool:
        """Whether the primary answers beside the candidate."""
        return self.weight_pct < 100

    @property
    def is_observed(self) -> bool:
        """Whether the candidate gets requests."""
        return self.weight_pct > 0 or self.mirror_pct > 0


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """What a guard looks at. `alpha` is its part of the error budget, in this step.

    `before` is what was seen of the primary in the step before, None where that was none. `elapsed_s` is
    how long the step has lasted.
    """

    step: TrialReport
    setting: Setting
    alpha: float
    min_requests: int
    before: Account | None = None
    elapsed_s: float = 0.0

    @property
    def primary(self) -> Account | None:
        """What the candidate is measured by: the primary beside it, or that of the step before.

        None without a primary beside it, where too little was seen before.
        """
        if self.setting.has_primary:
            return self.step.primary
        before = self.before
        return None if before is None or before.answered < self.min_requests else before

    def of(self, step: TrialReport, parts: int) -> Look:
        """A look at other counts, with one of so many parts of the budget."""
        return msgspec.structs.replace(self, step=step, alpha=self.alpha / parts)

    def halved(self) -> Look:
        """One of two looks that share the budget."""
        return self.of(self.step, 2)


_ROUNDING = 1e-9
_ORDER = (Verdict.PASS, Verdict.INCONCLUSIVE, Verdict.RUNNING, Verdict.ERROR, Verdict.FAIL)


def worst(findings: list[Finding]) -> tuple[Finding, ...]:
    """The one that is furthest from a pass, of those of one guard; the first of equals."""
    by_harm = sorted(findings, key=lambda one: _ORDER.index(one.verdict), reverse=True)
    return tuple(by_harm[:1])


def verdict_of(
    beyond: float, *, noise: float = 0.0, log_e: float, alpha: float, is_enough: bool
) -> Verdict:
    """What follows from how far an effect is `beyond` what is let pass, and from the evidence for it.

    To fail takes significance, and an effect that is beyond by more than `noise`, what chance may have
    added to it. One that is beyond, with evidence that leans that way, waits.
    """
    if beyond > noise + _ROUNDING and log_e >= log(1 / alpha):
        return Verdict.FAIL
    if not is_enough or (beyond > _ROUNDING and log_e > 0):
        return Verdict.RUNNING
    return Verdict.PASS


def noise_of(rate: float, count: int) -> float:
    """Two standard errors of a share; 0 of nothing. Of 0.1 of 900 it is 0.02."""
    return 2 * sqrt(rate * (1 - rate) / count) if count else 0.0


def seen_of(account: Account) -> int:
    """The requests that say something of a version."""
    return account.answered + account.failed + account.rejected


def share_of(part: int, whole: int) -> float:
    """The part; 0 of nothing."""
    return part / whole if whole else 0.0


def e_value(log_e: float) -> float:
    """The e-value itself, as far as it is worth writing down."""
    return exp(min(log_e, 50.0))


def pct(share: float) -> str:
    """A share in words."""
    return f"{round(100 * share, 2):g} %"


def ms(seconds: float) -> str:
    """A time in words."""
    value = 1000 * seconds
    return f"{value:,.0f} ms" if value >= 100 else f"{round(value, 1):g} ms"


def waiting(verdict: Verdict, message: str, look: Look, *seen: tuple[str, int]) -> str:
    """The message, or what is waited for. `seen`: how many there are of what."""
    if verdict is not Verdict.RUNNING:
        return message
    for what, count in seen:
        if count < look.min_requests:
            return f"Only {count:,} of {look.min_requests:,} {what} yet."
    return f"It may be chance yet. {message}"
