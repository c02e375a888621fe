"""What the evidence says of a candidate: a verdict of each guard, with the numbers behind it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from shipway.core.evidence import Evidence
from shipway.core.strategies import Ab, Guards


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

    `steps` is in how many steps of the whole plan the guards look.
    """

    weight_pct: int
    mirror_pct: float = 0.0
    test: Ab | None = None
    steps: int = 1


def judged(guards: Guards, setting: Setting, evidence: Evidence) -> tuple[Finding, ...]:
    """The findings of all guards that say something at this step."""
    findings = []
    if guards.crashes is not None:
        is_bad = evidence.exits > guards.crashes.max_exits
        findings.append(
            Finding(
                guard="crashes",
                verdict=Verdict.FAIL if is_bad else Verdict.PASS,
                message=f"Its processes ended {evidence.exits} times.",
                numbers={"exits": float(evidence.exits)},
            )
        )
    del setting
    return tuple(findings)
