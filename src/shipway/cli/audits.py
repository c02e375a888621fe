"""The audit record as people and other programs read it."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import msgspec
import typer

from shipway.cli.output import show_table
from shipway.core.audit import AuditEvent
from shipway.core.retention import Pruned
from shipway.core.verification import ChainVerdict, Link, position
from shipway.wire.audit import line_of

if TYPE_CHECKING:
    from shipway.client.synchronous import Client

_PAGE = 1000
_COLUMNS = ("sequence", "at", "actor", "action", "subject", "origin", "reason", "details", "hash")
_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


def show_events(events: Iterable[AuditEvent]) -> None:
    """Events, a line each."""
    rows = [
        (one.sequence, f"{one.at:%Y-%m-%d %H:%M:%S}", *map(_printable, _who_and_what(one)))
        for one in events
    ]
    columns = ["#event", "at (UTC)", "actor", "action", "subject", "from", "reason"]
    show_table(columns, rows, empty="No audit event fits.")


def show_event(event: AuditEvent) -> None:
    """One event, with what was before and after."""
    lines = [("event", str(event.sequence)), ("at", event.at.isoformat())]
    lines += zip(
        ("actor", "action", "subject", "from", "reason"), _who_and_what(event), strict=True
    )
    lines += [("hash", event.hash), ("previous", event.previous_hash)]
    for name, text in lines:
        if text:
            typer.echo(f"{name:<9}{_printable(text)}")
    details = msgspec.json.format(msgspec.json.encode(event.details), indent=2).decode()
    typer.echo(f"details  {details}")


def show_verdict(verdict: ChainVerdict) -> None:
    """Whether the chain holds, and where it breaks first when it does not."""
    if verdict.broken is not None:
        typer.echo(f"BROKEN at event {verdict.broken.sequence}: {verdict.broken.reason}.")
        return
    typer.echo(
        f"holds: events {verdict.first} to {verdict.last}, {verdict.heads} signed heads, proven"
        f" through event {verdict.signed_through}"
    )
    if verdict.last > verdict.signed_through:
        typer.echo("Later events hold together, but no signature proves them yet.")


def show_pruned(pruned: Pruned) -> None:
    """What went into an archive."""
    if not pruned.events:
        typer.echo("Nothing is old enough to be archived.")
        return
    would = "would archive" if pruned.dry_run else "archived"
    typer.echo(f"{would} {pruned.events} events, {pruned.first} to {pruned.last}: {pruned.archive}")


def links_of(client: Client) -> Iterator[Link]:
    """The server's whole chain with its signed heads, a page at a time."""
    after, heads_after = None, 0
    while True:
        page = client.audit_page(after=after, heads_after=heads_after, limit=_PAGE)
        if page.cut is not None:
            yield page.cut
        links: list[Link] = [*page.events, *page.heads]
        yield from sorted(links, key=position)
        if len(page.events) < _PAGE:
            return
        after = page.events[-1].sequence
        heads_after = max((head.number for head in page.heads), default=heads_after)


def jsonl_of(links: Iterable[Link]) -> Iterator[bytes]:
    """The lines of an export that can be verified anywhere."""
    return map(line_of, links)


def csv_of(links: Iterable[Link]) -> Iterator[bytes]:
    """The lines of a table of the events, for spreadsheets; it cannot be verified."""
    yield _csv_line(_COLUMNS)
    for link in links:
        if isinstance(link, AuditEvent):
            actor, action, subject, origin, reason = _who_and_what(link)
            details = msgspec.json.encode(link.details).decode()
            cells = (actor, action, subject, origin, reason, details)
            yield _csv_line(
                (str(link.sequence), link.at.isoformat(), *map(_cell, cells), link.hash)
            )


def _csv_line(cells: Iterable[str]) -> bytes:
    line = io.StringIO()
    csv.writer(line, lineterminator="\n").writerow(cells)
    return line.getvalue().encode()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def _who_and_what(event: AuditEvent) -> tuple[str, str, str, str, str]:
    reason = event.details.get("reason")
    after = event.details.get("after")
    if not reason and isinstance(after, dict):
        reason = after.get("reason")  # reviews keep theirs with what was said
    return event.actor, event.action, event.subject, event.origin, str(reason or "")


def _printable(text: str) -> str:
    """Text whose control characters cannot talk to the terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
