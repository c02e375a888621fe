"""Costs, budgets and advice as people read them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from math import fsum

import typer

from shipway.cli.output import show_table
from shipway.core.budgets import BudgetStanding
from shipway.core.costs import CostReport, CostRow
from shipway.core.thrift import AdviceReport

_BAR = 20


def show_costs(report: CostReport) -> None:
    """A table with a bar for each part, and the sum below it."""
    most = max((row.total for row in report.rows), default=0.0)
    rows = [
        (
            *(_named(part) for part in row.group),
            f"{row.requests:,}",
            _money(row.own),
            _money(row.shared),
            f"{_money(row.total)} {row.currency}",
            "-" if row.per_1000 is None else _money(row.per_1000),
            "█" * round(_BAR * row.total / most) if most else "",
        )
        for row in report.rows
    ]
    columns = [*report.by, "#requests", "#own", "#shared", "#total", "#per 1,000", ""]
    show_table(columns, rows, empty="Nothing has cost anything yet.")
    for currency in sorted({row.currency for row in report.rows}):
        total = fsum(row.total for row in report.rows if row.currency == currency)
        since, until = f"{report.since:%Y-%m-%d %H:%M}", f"{report.until:%Y-%m-%d %H:%M}"
        typer.echo(f"\n{_money(total)} {currency} from {since} to {until} UTC.")
    prices = report.prices
    typer.echo(
        f"Prices: {prices.cpu_hour:g} a core and hour, {prices.memory_gb_hour:g} a GB and hour,"
        f" {prices.gpu_hour:g} a GPU and hour ({prices.currency}). `own` is what replicas used;"
        " `shared` the part of gateways and control."
    )


def show_csv(report: CostReport) -> None:
    """The same for a spreadsheet."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow([*report.by, "requests", "own", "shared", "total", "currency", "per_1000"])
    for row in report.rows:
        lines.writerow(_cells(row))
    typer.echo(text.getvalue(), nl=False)


def show_budgets(standing: Sequence[BudgetStanding]) -> None:
    """Where each budget stands."""
    rows = [
        (
            one.endpoint,
            one.per,
            f"{_money(one.standing.spent)} of {one.standing.amount:g} {one.currency}",
            "-" if one.standing.forecast is None else _money(one.standing.forecast),
            one.standing.severity or "ok",
        )
        for one in standing
    ]
    empty = "No endpoint has a budget. Add `budget: {amount: 50}` to one's YAML."
    show_table(["endpoint", "per", "spent", "#forecast", "state"], rows, empty=empty)


def show_advice(found: AdviceReport) -> None:
    """What would make it cheaper, the largest saving first, and what could not be found out."""
    if not found.advice:
        typer.echo("Nothing would save a cent a month, or too little was seen to say so.")
    for one in found.advice:
        typer.echo(f"{one.endpoint} ({one.version}): {one.what}")
        typer.echo(f"  saves about {_money(one.saving)} {one.currency} a month")
        typer.echo(f"  because   {one.evidence}")
        typer.echo(f"  do        {one.command}\n")
    for missing in found.unknown:
        typer.echo(
            f"{missing.endpoint} ({missing.version}): whether a {missing.kind} would pay is not known."
        )
        typer.echo(f"  because   {missing.why}\n")


def _cells(row: CostRow) -> list[object]:
    # A spreadsheet takes these for the beginning of a formula.
    names = [f"'{part}" if part[:1] in ("=", "+", "-", "@") else part for part in row.group]
    return [*names, row.requests, row.own, row.shared, row.total, row.currency, row.per_1000]


def _named(part: str) -> str:
    return part or "(nobody)"


def _money(amount: float) -> str:
    return f"{amount:,.2f}" if amount >= 1 else f"{amount:.4f}"
