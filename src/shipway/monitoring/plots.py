"""Plots of findings: both distributions, and the statistic over time. The one module that imports matplotlib."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import BytesIO, StringIO
from typing import Any

import matplotlib

from shipway.core.monitor_runs import Bars, MonitorFinding, MonitorReport

MOST_PLOTTED = 6
"""Findings in one picture; the report has a picture of each."""

REFERENCE, CURRENT, LIMIT = "#8a93a6", "#e4572e", "#b08900"
"""Colours that can be read on white and on black."""

_INK = "#808182"
"""What becomes the colour of the page's text in an SVG; a grey between black and white in a PNG."""

_WIDTH, _HEIGHT = 9.0, 2.6
_LEFT, _RIGHT, _ABOVE, _BELOW = 0.6, 0.15, 0.3, 0.8
"""Inches around each pair of axes: for labels, of which the longest stand askew below."""

_LONGEST_LABEL = 14
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_STYLE = {
    "svg.fonttype": "none",
    "svg.hashsalt": "shipway",
    "font.size": 8.5,
    "text.color": _INK,
    "axes.edgecolor": _INK,
    "axes.labelcolor": _INK,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "xtick.color": _INK,
    "ytick.color": _INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    # Names of columns are not formulas.
    "text.parse_math": False,
}


def pictures_of(report: MonitorReport) -> tuple[str, bytes]:
    """The report's first findings as an SVG, and as a PNG on white."""
    with matplotlib.rc_context(_STYLE):
        figure, stream = _figure(report.findings[:MOST_PLOTTED]), BytesIO()
        figure.savefig(stream, format="png", dpi=110, facecolor="white", metadata={"Software": ""})
        return _svg(figure), stream.getvalue()


def svg_of(finding: MonitorFinding) -> str:
    """A finding as an SVG whose text has the colour of the page around it."""
    with matplotlib.rc_context(_STYLE):
        return _svg(_figure([finding]))


def _svg(figure: Any) -> str:
    stream = StringIO()
    figure.savefig(stream, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    # Without what only a file of its own may have, and the makers' addresses.
    drawn = _METADATA.sub("", stream.getvalue()).replace(_INK, "currentColor")
    return drawn[drawn.index("<svg") :]


def _figure(findings: Sequence[MonitorFinding]) -> Any:
    # pyplot would keep every figure, and look for a display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = max(1, len(findings))
    height = _HEIGHT * rows
    figure = Figure(figsize=(_WIDTH, height))
    FigureCanvasAgg(figure)
    # Fixed: to let matplotlib look for the best places takes longer than all the rest.
    figure.subplots_adjust(
        left=_LEFT / _WIDTH,
        right=1 - _RIGHT / _WIDTH,
        top=1 - _ABOVE / height,
        bottom=_BELOW / height,
        wspace=0.16,
        hspace=(_ABOVE + _BELOW) / (_HEIGHT - _ABOVE - _BELOW),
    )
    places = figure.subplots(rows, 2, squeeze=False)
    for (left, right), finding in zip(places, findings, strict=False):
        _distributions(left, finding)
        _over_time(right, finding)
    return figure


def _distributions(axes: Any, finding: MonitorFinding) -> None:
    axes.set_title(finding.feature or "all rows", loc="left", fontweight="bold")
    bars = finding.bars
    if bars is None:
        axes.set_axis_off()
        return
    places = range(len(bars.labels))
    axes.bar([at - 0.2 for at in places], bars.reference, 0.4, color=REFERENCE, label="reference")
    axes.bar([at + 0.2 for at in places], bars.current, 0.4, color=CURRENT, label="current")
    axes.set_xticks(list(places), _ticks(bars), rotation=60, ha="right", fontsize=6.5)
    axes.set_ylabel("share of values")
    axes.legend(frameon=False, fontsize=7.5)


def _ticks(bars: Bars) -> list[str]:
    return [
        label if len(label) <= _LONGEST_LABEL else f"{label[: _LONGEST_LABEL - 1]}…"
        for label in bars.labels
    ]


def _over_time(axes: Any, finding: MonitorFinding) -> None:
    points = [point for point in finding.series if point.value is not None]
    if not points:
        axes.set_axis_off()
        return
    middles = [point.at + (point.until - point.at) / 2 for point in points]
    axes.plot(middles, [point.value for point in points], color=CURRENT, marker="o", markersize=3)
    limits = [finding.threshold if point.limit is None else point.limit for point in points]
    if None not in limits:
        axes.plot(middles, limits, color=LIMIT, linestyle="--", linewidth=1, label="matters")
        axes.legend(frameon=False, fontsize=7.5)
    if finding.since is not None:
        axes.axvspan(finding.since, points[-1].until, color=CURRENT, alpha=0.12, linewidth=0)
    axes.set_ylim(bottom=0)
    axes.set_ylabel(finding.statistic.replace("_", " "))
    axes.tick_params(axis="x", rotation=30, labelsize=6.5)
    axes.set_title("over time (UTC)", loc="left")
