"""Live performance as tables."""

from __future__ import annotations

from collections.abc import Iterator

import typer

from shipway.cli.output import show_table
from shipway.core.intervals import Estimate
from shipway.core.performance import Delay, Performance, Slice


def show_performance(found: Performance) -> None:
    """Prints what was found: one line for each version, role and part."""
    slices = found.parts or found.slices
    if not slices:
        typer.echo(f"No predictions of `{found.endpoint}` are kept of that time.")
        return
    _show_measures(found, slices)
    _show_outcomes(slices)
    _show_bias(found)
    for note in found.notes:
        typer.echo(note)


def _show_measures(found: Performance, slices: tuple[Slice, ...]) -> None:
    columns = ["version", "role", "#rows", "#unlabelled", "#label after"]
    columns[2:2] = [] if found.by is None else [found.by.value]
    classified = any(one.classification for one in slices)
    regressed = any(one.regression for one in slices)
    columns += ["accuracy", "#f1", "#log loss", "#auc", "#cal. error"] if classified else []
    columns += ["rmse", "mae", "#bias", "#r2"] if regressed else []
    rows = [
        [
            *_place(found, one),
            f"{one.predictions:,}",
            f"{100 * one.unlabelled_share:.1f} %",
            _age(one.delay),
            *(_classified(one) if classified else ()),
            *(_regressed(one) if regressed else ()),
        ]
        for one in slices
    ]
    show_table(columns, rows)


def _place(found: Performance, one: Slice) -> list[object]:
    if found.by is None:
        return [one.version, one.role]
    at = one.at.strftime("%Y-%m-%d %H:%M") if one.at is not None else one.part
    return [one.version, one.role, at]


def _classified(one: Slice) -> Iterator[object]:
    scores = one.classification
    if scores is None:
        yield from [None] * 5
        return
    calibration = scores.calibration
    yield _with_interval(scores.accuracy)
    yield scores.macro.f1
    yield calibration and calibration.log_loss.value
    yield calibration and calibration.roc_auc and calibration.roc_auc.value
    yield calibration and calibration.calibration_error


def _regressed(one: Slice) -> Iterator[object]:
    errors = one.regression
    if errors is None:
        yield from [None] * 4
        return
    yield _with_interval(errors.rmse)
    yield _with_interval(errors.mae)
    yield errors.bias.value
    yield errors.r2


def _with_interval(estimate: Estimate) -> str:
    if estimate.low is None or estimate.high is None:
        return f"{estimate.value:.4g}"
    return f"{estimate.value:.4g} ({estimate.low:.4g} to {estimate.high:.4g})"


def _age(delay: Delay | None) -> str | None:
    if delay is None:
        return None
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if delay.p50_s >= size:
            return f"{delay.p50_s / size:.1f}{unit}"
    return f"{delay.p50_s:.1f}s"


def _show_outcomes(slices: tuple[Slice, ...]) -> None:
    rows = [
        [
            one.version,
            one.role,
            one.part or one.at,
            each.metric,
            each.n,
            _with_interval(each.mean),
            each.total,
        ]
        for one in slices
        for each in one.outcomes
    ]
    if rows:
        typer.echo("")
        show_table(["version", "role", "part", "outcome", "#n", "mean", "#sum"], rows)


def _show_bias(found: Performance) -> None:
    rows = [
        [one.version, one.role, rate.segment, rate.measure.value, rate.n, _with_interval(rate.rate),
         rate.ratio, rate.p_value, "UNFAIR" if rate.is_unfair else None]
        for one in found.bias
        for rate in one.rates
    ]  # fmt: skip
    if rows:
        typer.echo("")
        columns = [
            "version",
            "role",
            "segment",
            "rate",
            "#n",
            "value",
            "#ratio to best",
            "#p",
            "finding",
        ]
        show_table(columns, rows)
