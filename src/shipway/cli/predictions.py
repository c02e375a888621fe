"""The prediction log as people read it."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import typer

from shipway.cli.output import show_note, show_table
from shipway.core.logged import Answered, Explanation, FeedbackSaid, LoggedRows, LogStats
from shipway.core.text import printable

_HIDDEN = ("_row", "_principal", "_segment", "_key")
"""Columns that are shown only where something is in them."""


def show_rows(found: LoggedRows) -> None:
    """Rows as a table, without the columns that are empty."""
    names = [
        name
        for name in (found.rows[0] if found.rows else ())
        if name not in _HIDDEN or any(row.get(name) for row in found.rows)
    ]
    rows = [[_cell(row.get(name)) for name in names] for row in found.rows]
    show_table(names, rows, empty="No prediction fits.")
    if found.is_cut:
        show_note("There are more: see `--limit`, `--since` and `--until`.")


def show_csv(content: bytes) -> None:
    """The file as it came; on a terminal, without what that would obey."""
    if sys.stdout.isatty():
        typer.echo(printable(content.decode(errors="replace")), nl=False)
    else:
        typer.echo(content, nl=False)


def show_stats(found: Sequence[LogStats]) -> None:
    """How much is stored: a line for each version."""
    rows = [
        (
            log.endpoint,
            f"{one.model}:{one.version}",
            f"{one.rows:,}",
            f"{one.size_bytes / max(one.rows, 1):.0f}",
            f"{one.size_bytes / 1e6:.1f}",
            f"{one.since:%Y-%m-%d %H:%M:%S}",
            f"{one.until:%Y-%m-%d %H:%M:%S}",
        )
        for log in found
        for one in log.versions
    ]
    columns = ["endpoint", "version", "#rows", "#bytes/row", "#MB", "first (UTC)", "last (UTC)"]
    show_table(columns, rows, empty="Nothing is stored. `capture` of an endpoint switches it on.")
    for log in found:
        if log.feedback_rows:
            typer.echo(f"{log.endpoint}: {log.feedback_rows:,} messages of feedback")


def show_explanation(found: Explanation) -> None:
    """One request, whole."""
    typer.echo(f"request {found.request_id} of endpoint {found.endpoint}")
    for answered in found.answers:
        _show_answered(answered)
    for said in found.feedback:
        _show_said(said)
    if not found.feedback:
        typer.echo("\nno feedback so far")


def _show_answered(answered: Answered) -> None:
    who = f" to {answered.principal}" if answered.principal else ""
    typer.echo(
        f"\n{answered.model}:{answered.version} ({answered.role}) answered{who}"
        f" at {answered.at:%Y-%m-%d %H:%M:%S.%f} UTC, after {answered.latency_ms:.3g} ms"
    )
    for name, value in (("segment", answered.segment), ("key", answered.key)):
        if value:
            typer.echo(f"{name}: {value}")
    for number, row in enumerate(answered.rows):
        if len(answered.rows) > 1:
            typer.echo(f"row {number}")
        show_table(
            ["field", "in or out", "value"],
            [*_fields("in", row.inputs), *_fields("out", row.outputs)],
        )


def _fields(side: str, values: dict[str, Any]) -> Iterable[tuple[str, str, object]]:
    return ((name, side, _cell(value)) for name, value in values.items())


def _show_said(said: FeedbackSaid) -> None:
    parts = [("label", said.label), ("score", said.score), *said.outcomes.items()]
    what = ", ".join(f"{name} {value}" for name, value in parts if value is not None)
    where = "" if said.row is None else f" of row {said.row}"
    typer.echo(f"\nfeedback{where} at {said.at:%Y-%m-%d %H:%M:%S} UTC: {what or 'nothing'}")


def _cell(value: object) -> object:
    """A value short enough for a table."""
    if isinstance(value, list) and len(value) > 6:
        return [*value[:6], f"… ({len(value)})"]
    return f"{value[:60]}…" if isinstance(value, str) and len(value) > 60 else value
