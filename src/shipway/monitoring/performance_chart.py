"""Live performance drawn: each version's measure with its interval, over time or by segment."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from shipway.core.errors import InvalidRequest
from shipway.core.intervals import Estimate
from shipway.core.performance import Performance, Slice

FORMATS = (".svg", ".png")


def draw(found: Performance, path: Path) -> None:
    """Writes the chart, as SVG or PNG by the end of the path's name.

    Raises:
        InvalidRequest: there is nothing to draw, or the name ends otherwise, or it cannot be written.
    """
    slices = [one for one in found.parts or found.slices if _measure(one) is not None]
    if path.suffix.lower() not in FORMATS:
        raise InvalidRequest(
            f"`{path}` does not say which kind of picture it is.",
            next_step="Let its name end with `.svg` or `.png`.",
        )
    if not slices:
        raise InvalidRequest(
            f"There is nothing to draw: no prediction of `{found.endpoint}` has its truth yet.",
            next_step=f"Send some with `shipway feedback {found.endpoint}`.",
        )
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    for label, group in _grouped(slices):
        _line(axes, label, group)
    axes.set_ylabel("RMSE" if slices[0].classification is None else "accuracy")
    axes.set_title(f"{found.endpoint}: live performance, with 95 % intervals")
    axes.grid(visible=True, alpha=0.3)
    axes.legend(loc="best")
    if any(one.at is None for one in slices):
        axes.tick_params(axis="x", rotation=30)
    else:
        figure.autofmt_xdate()
    try:
        # Without a date and with a fixed salt, equal numbers make equal files.
        with rc_context({"svg.hashsalt": "shipway"}):
            is_svg = path.suffix.lower() == ".svg"
            figure.savefig(path, metadata={"Date": None} if is_svg else None)
    except OSError as exc:
        raise InvalidRequest(
            f"`{path}` cannot be written: {exc.strerror}.", next_step="Name another file."
        ) from exc


def _measure(one: Slice) -> Estimate | None:
    if one.classification is not None:
        return one.classification.accuracy
    return None if one.regression is None else one.regression.rmse


def _grouped(slices: Iterable[Slice]) -> list[tuple[str, list[Slice]]]:
    groups: dict[str, list[Slice]] = {}
    for one in slices:
        groups.setdefault(f"version {one.version} ({one.role})", []).append(one)
    return list(groups.items())


def _line(axes: Any, label: str, group: list[Slice]) -> None:
    estimates = [_measure(one) for one in group]
    known = [(one, estimate) for one, estimate in zip(group, estimates, strict=True) if estimate]
    places = [one.at if one.at is not None else one.part or "all" for one, _ in known]
    values = [estimate.value for _, estimate in known]
    below = [e.value - (e.value if e.low is None else e.low) for _, e in known]
    above = [(e.value if e.high is None else e.high) - e.value for _, e in known]
    is_timed = group[0].at is not None
    axes.errorbar(
        places, values, yerr=[below, above], fmt="o-" if is_timed else "o", capsize=3, label=label
    )
