"""What the evidence says of a candidate: a verdict of each guard, with the numbers behind it.

Guards are asked several times a second about all that was seen in a step, so their tests hold however
often they are asked (see `shipway.core.sequential`).
"""

from __future__ import annotations

import msgspec

from shipway.core.evidence import Evidence, Outcomes
from shipway.core.findings import Finding, Look, Setting, Verdict
from shipway.core.outcomes import ab, metric
from shipway.core.predictions import disagreement, shift
from shipway.core.strategies import Crashes, Guards
from shipway.core.traffic import error_rate, latency, rejections

__all__ = ["Finding", "Setting", "Verdict", "judged"]

REPORTS_DUE_S = 10.0
"""Gateways that say nothing of a step for so long have lost it."""

READY_AGAIN_S = 30.0
"""A candidate that cannot answer for so long does harm."""


def judged(guards: Guards, setting: Setting, evidence: Evidence) -> tuple[Finding, ...]:
    """The findings of all guards that say something at this step.

    A guard fails where harm is both beyond what it lets pass and more than chance. The budget of false
    alarms, `guards.alpha`, is split evenly over the guards that are on and the steps in which they look.
    """
    return (
        *_ready(evidence),
        *_crashes(guards.crashes, evidence),
        *_traffic(guards, setting, evidence),
        *_outcomes(guards, setting, evidence),
        *(() if setting.test is None else (ab(setting.test, evidence),)),
    )


def _ready(evidence: Evidence) -> tuple[Finding, ...]:
    if not evidence.problem:
        return ()
    is_over = evidence.problem_s > READY_AGAIN_S
    message = f"The candidate cannot answer, for {evidence.problem_s:.0f} s now: {evidence.problem}"
    verdict = Verdict.FAIL if is_over else Verdict.ERROR
    numbers = {"problem_s": evidence.problem_s}
    return (Finding(guard="ready", verdict=verdict, message=message, numbers=numbers),)


def _crashes(guard: Crashes | None, evidence: Evidence) -> tuple[Finding, ...]:
    if guard is None:
        return ()
    is_bad = evidence.exits > guard.max_exits
    finding = Finding(
        guard="crashes",
        verdict=Verdict.FAIL if is_bad else Verdict.PASS,
        message=f"Its processes ended {evidence.exits} times; up to {guard.max_exits} times are let pass.",
        numbers={"exits": float(evidence.exits)},
    )
    return (finding,)


def _traffic(guards: Guards, setting: Setting, evidence: Evidence) -> tuple[Finding, ...]:
    """The guards on what gateways report."""
    if not setting.is_observed:
        return ()
    look = Look(
        step=evidence.step,
        setting=setting,
        alpha=_alpha(guards) / max(setting.steps, 1),
        min_requests=guards.min_requests,
        before=None if evidence.before is None else evidence.before.primary,
        elapsed_s=evidence.elapsed_s,
    )
    findings = _endings(guards, look, evidence)
    if guards.latency is not None:
        findings += latency(guards.latency, look)
    if guards.shift is not None and look.primary is not None:
        findings += shift(guards.shift, look)
    if guards.disagreement is not None and setting.mirror_pct > 0:
        findings += disagreement(guards.disagreement, look)
    return tuple(findings) if evidence.gateways > 0 else _unheard(findings, evidence)


def _endings(guards: Guards, look: Look, evidence: Evidence) -> list[Finding]:
    """Failures and refusals, in the whole step and in its present window.

    Of their budget the step has half, and the k-th window 1 / (k * (k + 1)), so that all have it together.
    """
    looks = [look.of(look.step, 2)]
    if evidence.recent is not None and look.setting.has_primary:
        looks.append(look.of(evidence.recent, evidence.window * (evidence.window + 1)))
    found: list[Finding] = []
    if guards.error_rate is not None:
        whole, *lately = (error_rate(guards.error_rate, one) for one in looks)
        found += _or_failed(whole, *lately)
    if guards.rejections is not None:
        whole, *lately = (rejections(guards.rejections, one) for one in looks)
        found += _or_failed(whole, *lately)
    return found


def _or_failed(whole: Finding, *lately: Finding) -> list[Finding]:
    """What is said of the step, unless only its present window shows harm."""
    failed = [one for one in lately if one.verdict is Verdict.FAIL]
    if whole.verdict is Verdict.FAIL or not failed:
        return [whole]
    return [msgspec.structs.replace(failed[0], message=f"In the last minute: {failed[0].message}")]


def _unheard(findings: list[Finding], evidence: Evidence) -> tuple[Finding, ...]:
    """Without a gateway that reports on the step, only harm that was seen before stands."""
    is_due = evidence.elapsed_s > REPORTS_DUE_S
    message = f"None of {evidence.expected} gateways reports on this step, {evidence.elapsed_s:.0f} s old."
    return tuple(
        finding
        if finding.verdict is Verdict.FAIL
        else msgspec.structs.replace(
            finding, verdict=Verdict.ERROR if is_due else Verdict.RUNNING, message=message
        )
        for finding in findings
    )


def _outcomes(guards: Guards, setting: Setting, evidence: Evidence) -> tuple[Finding, ...]:
    alpha = _alpha(guards)
    return tuple(
        finding
        for guard in guards.metrics
        for finding in metric(
            guard, setting, evidence.outcomes.get(guard.metric, Outcomes()), alpha
        )
    )


def _alpha(guards: Guards) -> float:
    """The part of the error budget that one guard has for the whole rollout."""
    tested = (
        guards.error_rate,
        guards.rejections,
        guards.latency,
        guards.shift,
        guards.disagreement,
    )
    return guards.alpha / max(1, sum(one is not None for one in tested) + len(guards.metrics))
