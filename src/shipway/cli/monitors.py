"""Monitors and their runs as people read them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import typer

from shipway.cli.output import age_of, show_table
from shipway.core.monitor_runs import (
    Bars,
    MonitorFinding,
    MonitorReport,
    MonitorRun,
    MonitorStand,
    MonitorVerdict,
    Point,
    RunState,
)
from shipway.core.monitors import Against, MonitorSpec

if TYPE_CHECKING:
    from rich.text import Text

_STYLES = {"firing": "bold red", "error": "bold red", "steady": "green", "inconclusive": "yellow"}
_STEPS = "▁▂▃▄▅▆▇█"
_WIDTH = 24
_LABEL = 22
_NUMBERS = 5
"""Numbers of a finding in one line; `--json` has all of them."""


def show_stands(endpoint: str, stands: Sequence[MonitorStand]) -> None:
    """The monitors of an endpoint, a line each."""
    rows = [
        (
            one.monitor.label,
            one.monitor.kind.value,
            one.monitor.cron or f"every {one.monitor.every or '1h'}",
            one.monitor.window,
            _against(one.monitor),
            _ahead(one.next_at),
            _coloured(_word(one.last)),
            "" if one.last is None else age_of(one.last.ended_at),
            "" if one.last is None else one.last.summary or one.last.message,
        )
        for one in stands
    ]
    columns = ["monitor", "kind", "runs", "window", "against", "#next", "last", "#age", "it says"]
    show_table(
        columns,
        rows,
        empty=f"`{endpoint}` has no monitors. They need predictions: add `capture: {{}}` to its spec.",
    )


def show_runs(endpoint: str, monitor: str, runs: Sequence[MonitorRun]) -> None:
    """Runs, a line each."""
    rows = [
        (
            one.id,
            f"{one.window.until:%Y-%m-%d %H:%M}",
            one.by or "schedule",
            _coloured(_word(one)),
            one.summary or one.message,
        )
        for one in runs
    ]
    show_table(
        ["run", "up to (UTC)", "by", "verdict", "it says"],
        rows,
        empty=f"`{monitor}` of `{endpoint}` has not run yet: `shipway monitors run {endpoint} {monitor}`.",
    )


def show_run(run: MonitorRun) -> None:
    """One run, with what it found."""
    typer.echo(f"{run.monitor.label} of {run.endpoint}: {_word(run)}")
    typer.echo(run.summary or run.message or "It has not ended yet.")
    if run.report is not None:
        _show_report(run.report)
    if run.artifacts:
        typer.echo(f"\nAs a page: shipway monitors show {run.endpoint} {run.id} --html report.html")


def _show_report(report: MonitorReport) -> None:
    typer.echo(
        f"\n{_time(report.start)} to {_time(report.end)}, {report.rows:,} rows; compared with"
        f" {report.reference}, {report.reference_rows:,} rows; {report.checked} checks"
    )
    for note in report.notes:
        typer.echo(f"note: {note}")
    for finding in report.firing:
        _show_finding(finding)
    steady = [one for one in report.findings if one.verdict is not MonitorVerdict.FIRING]
    rows = [(one.feature or one.what, one.words, course_of(one.series)) for one in steady]
    if rows:
        show_table(["steady", "", "over time"], rows, title="\nNearest to moving")


def _show_finding(finding: MonitorFinding) -> None:
    since = "" if finding.since is None else f" Since {_time(finding.since)}."
    typer.echo(f"\n{finding.feature or 'all rows'} ({finding.what}): {finding.words}{since}")
    numbers = list(finding.numbers.items())[:_NUMBERS]
    typer.echo("  " + ", ".join(f"{name} {value:.4g}" for name, value in numbers))
    if course := course_of(finding.series):
        typer.echo(f"  {finding.statistic.replace('_', ' ')} over time  {course}")
    if finding.bars is not None:
        _show_bars(finding.bars)


def _show_bars(bars: Bars) -> None:
    most = max((*bars.reference, *bars.current, 0.0)) or 1.0
    rows = [
        (label[:_LABEL], bar_of(before / most), bar_of(now / most), f"{before:.1%}", f"{now:.1%}")
        for label, before, now in zip(bars.labels, bars.reference, bars.current, strict=True)
        if before or now
    ]
    show_table(["values", "reference", "current", "#reference", "#current"], rows)


def bar_of(share: float) -> str:
    """A bar of so much of the full width; what is above nothing shows."""
    filled = round(share * _WIDTH)
    return "█" * filled if filled or not share else "▏"


def course_of(points: Sequence[Point]) -> str:
    """The values over time, a character each; a space where there were too few rows.

    The full height is the largest value, or what matters where that is more.
    """
    values = [point.value for point in points]
    held = [value for value in values if value is not None]
    if not held:
        return ""
    most = max(*held, *(point.limit or 0.0 for point in points), 1e-300)
    top = len(_STEPS) - 1
    return "".join(" " if value is None else _STEPS[round(value / most * top)] for value in values)


def _word(run: MonitorRun | None) -> str:
    if run is None:
        return ""
    if run.state is RunState.DONE and run.verdict is not None:
        return run.verdict.value
    return run.state.value


def _coloured(word: str) -> Text:
    from rich.text import Text

    return Text(word or "-", style=_STYLES.get(word, ""))


def _against(monitor: MonitorSpec) -> str:
    against = monitor.against
    if isinstance(against, Against):
        return f"version {against.version}" if against.version else f"{against.trailing} before"
    return against or "baseline or before"


def _ahead(at: datetime | None) -> str:
    if at is None:
        return "-"
    # The command line owns its clock.
    seconds = max(0.0, (at - datetime.now(UTC)).total_seconds())  # noqa: TID251
    if seconds >= 2 * 3600:
        return f"in {seconds / 3600:.0f}h"
    return f"in {seconds / 60:.0f}m" if seconds >= 60 else f"in {seconds:.0f}s"


def _time(at: datetime) -> str:
    return f"{at:%Y-%m-%d %H:%M} UTC"
