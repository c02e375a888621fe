"""Evaluations as people read them."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from shipway.cli.output import age_of, show_note, show_table
from shipway.client.answers import Endpoint
from shipway.client.evaluating.question import PREFIX
from shipway.core.evaluations import Difference, Evaluation, Measure, Slice

_HEADLINES = ("accuracy", "f1", "roc_auc", "log_loss", "rmse", "mae", "r2")


def show_evaluation(evaluation: Evaluation) -> None:
    """One evaluation, whole."""
    typer.echo(
        f"{evaluation.model}:{evaluation.number} on {evaluation.data}: {evaluation.rows:,} rows,"
        f" {evaluation.task.value} of `{evaluation.label}`, sha256 {evaluation.data_sha256[:12]}"
    )
    against = evaluation.against
    compared = {one.name: one for one in against.differences} if against is not None else {}
    columns = ["metric", "#value", "#95 % interval"]
    if against is not None:
        columns += [f"#less {against.version}", "#95 % interval", "#p", "verdict"]
    rows = [
        (*_measured(one), *(_difference(compared.get(one.name)) if compared else ()))
        for one in evaluation.measures
    ]
    show_table(columns, rows)
    _show_slices(evaluation.slices)
    if (latency := evaluation.latency) is not None:
        typer.echo(
            f"\nLatency of one row, {latency.callers} callers: p50 {latency.p50_ms:.2f} ms,"
            f" p95 {latency.p95_ms:.2f} ms, p99 {latency.p99_ms:.2f} ms;"
            f" {latency.per_s:,.0f} a second, {latency.requests:,} requests"
        )
    typer.echo(f"\nIntervals from {evaluation.resamples:,} draws of the rows.")
    for note in evaluation.notes:
        typer.echo(f"note: {note}")


def _measured(measure: Measure) -> tuple[object, ...]:
    arrow = "↑" if measure.better == "higher" else "↓"
    return f"{measure.name} {arrow}", _short(measure.value), _interval(measure)


def _difference(difference: Difference | None) -> tuple[object, ...]:
    if difference is None:
        return ("", "", "", "")
    return (
        f"{difference.value:+.4g}",
        _interval(difference),
        f"{difference.p_value:.3f}" if difference.p_value >= 0.001 else "<0.001",
        difference.verdict,
    )


def _interval(found: Measure | Difference) -> str:
    return f"{_short(found.low)} … {_short(found.high)}"


def _short(number: float) -> str:
    return f"{number:.4g}"


def _show_slices(slices: Sequence[Slice]) -> None:
    names = [name for name in _HEADLINES if any(_of(one, name) for one in slices)]
    rows = [
        (one.column, one.value, one.rows, *(_sliced(_of(one, name)) for name in names))
        for one in slices
    ]
    if rows:
        columns = ["slice", "value", "#rows", *(f"#{name}" for name in names)]
        show_table(columns, rows, title="\nBy slice")


def _of(one: Slice, name: str) -> Measure | None:
    return next((measure for measure in one.measures if measure.name == name), None)


def _sliced(measure: Measure | None) -> str:
    return "" if measure is None else f"{_short(measure.value)} ({_interval(measure)})"


def show_evaluations(version: str, found: Sequence[Evaluation]) -> None:
    """The evaluations of a version, a line each."""
    rows = [
        (
            one.data,
            one.data_sha256[:12],
            one.rows,
            headline(one),
            "" if one.against is None else one.against.version,
            "" if one.against is None else ", ".join(_verdicts(one.against.differences)),
            age_of(one.at),
            one.by,
        )
        for one in found
    ]
    show_table(
        ["data", "sha256", "#rows", "metrics", "against", "verdict", "#age", "by"],
        rows,
        empty=f"`{version}` was not evaluated. Do it with"
        f" `shipway evaluate {version} --data FILE --label COLUMN`.",
    )


def headline(evaluation: Evaluation) -> str:
    """The metrics that people ask for first, in one line."""
    values = {one.name: one.value for one in evaluation.measures}
    return ", ".join(f"{name} {_short(values[name])}" for name in _HEADLINES if name in values)


def _verdicts(differences: Sequence[Difference]) -> list[str]:
    counts = {
        verdict: sum(one.verdict == verdict for one in differences)
        for verdict in ("better", "worse", "same")
    }
    return [f"{count} {verdict}" for verdict, count in counts.items() if count]


def show_left(endpoints: Sequence[Endpoint]) -> None:
    """Says how to remove temporary endpoints whose evaluation is not known to be over."""
    for endpoint in endpoints:
        if endpoint.name.startswith(PREFIX):
            show_note(
                f"`{endpoint.name}` belongs to another evaluation. If none is under way, remove it:"
                f" `shipway delete {endpoint.name}`."
            )
