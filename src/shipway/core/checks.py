"""What a policy's checks find of a version: each gives rules, met or not."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from shipway.core.candidacy import Candidate, LiveVersion, Rule
from shipway.core.compatibility import incompatibilities
from shipway.core.evaluations import Evaluation, Measure
from shipway.core.policy import Checks, EvaluationCheck, LatencyCheck

_WORSE = "worse"
_CALLERS = 8
"""Callers at once that are proposed for a latency profile."""


def checked(checks: Checks, candidate: Candidate, now: datetime) -> Iterator[Rule]:
    """Every check with what was found; one that nobody measured is not met."""
    for check in checks.evaluations:
        yield _evaluation(check, candidate, now)
    if checks.latency is not None:
        yield from _latency(checks.latency, candidate)
    if checks.parity:
        yield _parity(candidate)
    if checks.compatible_signature:
        yield from _compatible(candidate)
    if checks.not_worse_than_live:
        yield from _not_worse(candidate)


def _evaluation(check: EvaluationCheck, candidate: Candidate, now: datetime) -> Rule:
    """Only the newest evaluation that fits is looked at: nobody picks the best of several."""
    fitting = [e for e in candidate.evaluations if _is_on(e, check.data)]
    measured = [(e, m) for e in fitting if (m := _measure(check, e)) is not None]
    found, met = _not_measured(check, fitting), False
    if measured:
        evaluation, measure = measured[0]
        found, met = _judged(check, evaluation, measure, now)
    data = check.data if check.data and not _is_hash(check.data) else "FILE"
    by = f" --slice {check.slice.column}" if check.slice else ""
    next_step = _evaluate(candidate, by, data=data)
    return Rule(asks=_asked(check), found=found, met=met, next_step=next_step)


def _evaluate(candidate: Candidate, options: str, *, data: str = "FILE") -> str:
    return f"`shipway evaluate {candidate.version} --data {data} --label COLUMN{options}`"


def _judged(
    check: EvaluationCheck, evaluation: Evaluation, measure: Measure, now: datetime
) -> tuple[str, bool]:
    found = f"{measure.value:.6g}"
    if check.max_age_days is not None:
        age = now - evaluation.at
        if age > timedelta(days=check.max_age_days):
            return f"{found}, measured {age.total_seconds() / 86400:.1f} days ago", False
    # Written so that NaN meets no bound.
    met = (check.at_least is None or measure.value >= check.at_least) and (
        check.at_most is None or measure.value <= check.at_most
    )
    return found, met


def _measure(check: EvaluationCheck, evaluation: Evaluation) -> Measure | None:
    measures = evaluation.measures
    if check.slice is not None:
        wanted = (check.slice.column, check.slice.value)
        measures = next(
            (s.measures for s in evaluation.slices if (s.column, s.value) == wanted), ()
        )
    return next((m for m in measures if m.name == check.metric), None)


def _not_measured(check: EvaluationCheck, fitting: list[Evaluation]) -> str:
    if not fitting:
        return "not evaluated"
    if check.slice is not None and any(m.name == check.metric for m in fitting[0].measures):
        return "not evaluated over this slice"
    known = ", ".join(f"`{m.name}`" for m in fitting[0].measures)
    return f"not measured; its evaluation has {known or 'no metric'}"


def _asked(check: EvaluationCheck) -> str:
    bounds = [("at least", check.at_least), ("at most", check.at_most)]
    asked = " and ".join(f"{words} {bound:g}" for words, bound in bounds if bound is not None)
    data = f" on `{check.data}`" if check.data else ""
    rows = f" where `{check.slice.column}` is `{check.slice.value}`" if check.slice else ""
    age = "" if check.max_age_days is None else f", at most {check.max_age_days:g} days old"
    return f"`{check.metric}` {asked}{data}{rows}{age}"


def _is_on(evaluation: Evaluation, data: str | None) -> bool:
    if data is None:
        return True
    return _is_sha256_of(data, evaluation.data_sha256) or data == evaluation.data


def _is_sha256_of(data: str, sha256: str) -> bool:
    return _is_hash(data) and data.removeprefix("sha256:") == sha256.removeprefix("sha256:")


def _is_hash(data: str) -> bool:
    digits = data.removeprefix("sha256:")
    return len(digits) == 64 and set(digits) <= set("0123456789abcdef")


def _latency(check: LatencyCheck, candidate: Candidate) -> Iterator[Rule]:
    profiles = (e.latency for e in candidate.evaluations)
    profile = next((p for p in profiles if p is not None), None)
    for name, most in (("p95_ms", check.p95_ms), ("p99_ms", check.p99_ms)):
        if most is None:
            continue
        value = None if profile is None else getattr(profile, name)
        yield Rule(
            asks=f"latency `{name}` at most {most:g}",
            found="not measured" if value is None else f"{value:.6g}",
            met=value is not None and value <= most,
            next_step=_evaluate(candidate, f" --load {_CALLERS}"),
        )


def _parity(candidate: Candidate) -> Rule:
    report = candidate.parity
    if report is None:
        found = "not measured"
    else:
        found = "holds" if report.holds else f"does not hold: {report.reason}"
    return Rule(
        asks="parity of the ONNX form",
        found=found,
        met=report is not None and report.holds,
        next_step="Package the model again with `--sample`, and register it",
    )


def _compatible(candidate: Candidate) -> Iterator[Rule]:
    for live in _others(candidate):
        broken = incompatibilities(live.signature, candidate.signature)
        yield Rule(
            asks=f"a signature that callers of `{live.endpoint}` ({live.version}) can go on with",
            found="; ".join(broken) or "compatible",
            met=not broken,
            next_step=f"`shipway diff {live.version} {candidate.version}`",
        )


def _not_worse(candidate: Candidate) -> Iterator[Rule]:
    for version in dict.fromkeys(live.version for live in _others(candidate)):
        against = (e.against for e in candidate.evaluations)
        compared = next((a for a in against if a and a.version == str(version)), None)
        worse = [d.name for d in compared.differences if d.verdict == _WORSE] if compared else []
        found = "not compared"
        if compared is not None:
            found = f"worse in {', '.join(f'`{name}`' for name in worse)}" if worse else "not worse"
        yield Rule(
            asks=f"no metric worse than that of {version}, which is live",
            found=found,
            met=compared is not None and not worse,
            next_step=_evaluate(candidate, f" --against {version}"),
        )


def _others(candidate: Candidate) -> Iterator[LiveVersion]:
    """The live versions that are of other bytes: a version is compatible with itself."""
    return (live for live in candidate.live if live.digest != candidate.digest)
