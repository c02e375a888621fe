"""Rollouts as people read them: a picture for a terminal, and a line for everything else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import typer
from rich.console import Group, RenderableType
from rich.text import Text

from shipway.cli.output import age_of, show_json, show_table, table_of
from shipway.client.answers import Rollout, RolloutStep, Side
from shipway.client.releasing import words_of
from shipway.core.evidence import Pair
from shipway.core.guards import Finding, Verdict
from shipway.core.rollouts import Moment, RolloutPhase

_MOMENTS = 5
_BAR = 40
_STYLES = {
    Verdict.PASS: "green",
    Verdict.RUNNING: "cyan",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.ERROR: "magenta",
    Verdict.FAIL: "bold red",
}
_PHASE_STYLES = {
    RolloutPhase.PROMOTED: "bold green",
    RolloutPhase.PAUSED: "bold yellow",
    RolloutPhase.ROLLED_BACK: "bold red",
    RolloutPhase.FAILED: "bold red",
}
_MARKS = {
    "done": ("●", "green"),
    "now": ("◉", "bold cyan"),
    "ahead": ("○", "dim"),
    "left": ("✗", "bold red"),
}


def picture_of(rollout: Rollout, *, note: str = "") -> RenderableType:
    """Everything about a rollout, the most telling first; `note` is of the one who shows it."""
    parts: list[RenderableType] = [_head(rollout)]
    if rollout.message:
        parts.append(Text(rollout.message))
    if note:
        parts.append(Text(note, style="yellow"))
    parts += [Text(), _steps(rollout), _shares(rollout), Text(), _sides(rollout)]
    parts += _answers(rollout)
    if rollout.findings:
        parts += [Text(), _verdicts(rollout.findings)]
    if rollout.pairs is not None or rollout.outcomes:
        parts += [Text(), *_pairs_and_outcomes(rollout)]
    if rollout.history:
        parts += [Text(), *(Text(line_of(one), style="dim") for one in _last(rollout.history))]
    return Group(*parts)


def headline_of(rollout: Rollout) -> str:
    """Which rollout it is and where it stands, in a line."""
    phase = words_of(rollout.phase)
    versions = f"{rollout.candidate.version} in place of {rollout.primary.version}"
    where = f" at `{rollout.step}`" if rollout.is_under_way else ""
    return f"{rollout.endpoint}: {versions}, {phase}{where} ({rollout.candidate.weight_pct} %)"


def line_of(moment: Moment) -> str:
    """Something that happened, in a line; times are UTC."""
    event = moment.event.value.replace("_", " ")
    return f"{moment.at:%H:%M:%S}  {event:12} {moment.weight_pct:>3} %  {moment.message}"


def verdict_line(finding: Finding) -> str:
    """A guard's verdict, in a line."""
    return f"guard {finding.guard}: {finding.verdict.value}. {finding.message}"


def show_word(rollout: Rollout, *, dry_run: bool, as_json: bool) -> None:
    """What a person's word made of a rollout, or would make of it."""
    if as_json:
        show_json(rollout)
        return
    typer.echo(f"{'would: ' if dry_run else ''}{headline_of(rollout)}. {rollout.message}")


def show_history(rollouts: Sequence[Rollout], endpoint: str) -> None:
    """One line per rollout."""
    rows = [
        (
            one.id,
            one.candidate.version,
            one.primary.version,
            words_of(one.phase),
            one.step,
            age_of(one.started_at),
            one.started_by,
            one.message,
        )
        for one in rollouts
    ]
    columns = ["rollout", "candidate", "primary", "phase", "step", "#began", "by", "message"]
    show_table(columns, rows, empty=f"Endpoint `{endpoint}` has had no rollout.")


def show_pairs(pairs: Sequence[Pair], endpoint: str) -> None:
    """One line per request that both versions answered, worst first."""
    rows = [
        (
            pair.distance,
            pair.request_id,
            _values(pair.primary),
            _values(pair.candidate),
            _values(pair.inputs),
        )
        for pair in pairs
    ]
    columns = ["#distance", "request", "primary", "candidate", "inputs"]
    empty = f"`{endpoint}` has no pair that differs. Pairs come from strategy `shadow`."
    show_table(columns, rows, empty=empty)


def _values(values: dict[str, Any]) -> str:
    return msgspec.json.encode(values).decode()


def _head(rollout: Rollout) -> Text:
    head = Text(f"{rollout.endpoint}  ", style="bold")
    head.append(f"{rollout.primary.version} → {rollout.candidate.version}  ", style="default")
    head.append(words_of(rollout.phase), style=_PHASE_STYLES.get(rollout.phase, "bold cyan"))
    if rollout.phase is not RolloutPhase.PROMOTED:
        head.append(f" at {rollout.step}{_time_in(rollout)}", style="default")
    return head


def _time_in(rollout: Rollout) -> str:
    """How long the present step has lasted, of how long it is held at least."""
    if rollout.phase not in (RolloutPhase.RUNNING, RolloutPhase.PAUSED):
        return ""
    now = next((step for step in rollout.steps if step.state == "now"), None)
    of = f" of {now.hold_s:g} s" if now is not None and now.hold_s else ""
    return f", {rollout.elapsed_s:.0f} s{of}"


def _steps(rollout: Rollout) -> Text:
    line = Text()
    for step in rollout.steps:
        is_left = step.state == "now" and not rollout.is_under_way
        mark, style = _MARKS.get("left" if is_left else step.state, _MARKS["ahead"])
        line.append(f"{mark} {step.label}{_hold(step)}", style=style)
        line.append("  ─  ", style="dim")
    is_done = rollout.phase is RolloutPhase.PROMOTED
    mark, style = _MARKS["done" if is_done else "ahead"]
    line.append(f"{mark} promoted", style=style)
    return line


def _hold(step: RolloutStep) -> str:
    return " ⏸" if step.pause else ""


def _shares(rollout: Rollout) -> Text:
    """The candidate's share of requests as a bar."""
    filled = round(_BAR * rollout.candidate.weight_pct / 100)
    if rollout.candidate.weight_pct and not filled:
        filled = 1
    line = Text("█" * filled, style="cyan")
    line.append("░" * (_BAR - filled), style="dim")
    return line.append(f" {rollout.candidate.version} {rollout.candidate.weight_pct} %", "default")


def _sides(rollout: Rollout) -> RenderableType:
    columns = ["version", "#share", "#answered", "#errors", "#p50 ms", "#p95 ms", "#p99 ms"]
    rows = [_side(rollout.primary, "primary"), _side(rollout.candidate, "candidate")]
    return table_of(columns, rows)


def _side(side: Side, role: str) -> tuple[object, ...]:
    missed = side.failed + side.rejected
    return (
        f"{side.version} {role}",
        f"{side.weight_pct} %",
        side.answered,
        f"{missed} ({side.error_pct:g} %)",
        side.p50_ms,
        side.p95_ms,
        side.p99_ms,
    )


def _answers(rollout: Rollout) -> Iterator[Text]:
    """What each version says, and its last error."""
    for side in (rollout.primary, rollout.candidate):
        said = [f"{label} {100 * share:.1f} %" for label, share in side.labels.items()]
        said += [f"median {side.score:.4g}"] if side.score is not None else []
        if said:
            yield Text(f"{side.version} says {', '.join(said)}")
        if side.last_error:
            yield Text(f"{side.version} failed last with: {side.last_error}", style="red")


def _verdicts(findings: Sequence[Finding]) -> RenderableType:
    rows = [
        (one.guard, Text(one.verdict.value, style=_STYLES[one.verdict]), one.message)
        for one in findings
    ]
    return table_of(["guard", "verdict", "why"], rows)


def _pairs_and_outcomes(rollout: Rollout) -> Iterator[Text]:
    pairs = rollout.pairs
    if pairs is not None:
        line = f"Pairs: {pairs.compared} compared, {pairs.disagreement_pct:g} % differ"
        if pairs.median_delay_ms is not None:
            line += f", the candidate takes {pairs.median_delay_ms:+g} ms at the median"
        if pairs.dropped:
            line += f"; {pairs.dropped} not copied, as it was behind"
        yield Text(f"{line}.")
    for one in rollout.outcomes:
        yield Text(
            f"Outcome {one.metric}: {one.primary_mean:g} of {one.primary_n} for the primary,"
            f" {one.candidate_mean:g} of {one.candidate_n} for the candidate."
        )


def _last(history: Sequence[Moment]) -> Sequence[Moment]:
    return history[-_MOMENTS:]
