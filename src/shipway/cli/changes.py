"""What `deploy`, `apply`, `delete` and `rollback` say."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import typer

from shipway.cli.output import show_json
from shipway.client.answers import Change
from shipway.client.flows import SpecFields
from shipway.core.endpoints import Placement
from shipway.core.errors import InvalidRequest, InvalidSpec


def spec_fields(
    *,
    replicas: int | None,
    min_replicas: int | None,
    max_replicas: int | None,
    residency: str | None,
    placement: str | None,
    warm_s: float | None,
    environment: str | None,
) -> SpecFields:
    """The options that were given, as fields of a spec."""
    fields: SpecFields = {}
    if replicas is not None:
        fields["replicas"] = replicas
    scaling = {"min_replicas": min_replicas, "max_replicas": max_replicas}
    if given := {name: float(value) for name, value in scaling.items() if value is not None}:
        fields["scaling"] = given
    if residency is not None:
        fields["residency"] = residency
    if placement is not None:
        fields["placement"] = _placement(placement)
    if warm_s is not None:
        fields["warm_s"] = warm_s
    if environment is not None:
        fields["environment"] = environment
    return fields


def _placement(text: str) -> Placement:
    try:
        return Placement(text)
    except ValueError as exc:
        raise InvalidSpec(
            f"`{text}` is not a placement.", next_step="Use `auto`, `inline` or `process`."
        ) from exc


@contextmanager
def waiting(label: str) -> Iterator[None]:
    """A spinner on stderr when that is a terminal; nothing otherwise."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{label} …"):
        yield


def confirmed(question: str) -> bool:
    """Whether the person said yes.

    Raises:
        InvalidRequest: there is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise InvalidRequest(
            f"{question} There is no terminal to ask on.", next_step="Say so with `--yes`."
        )
    return typer.confirm(question)


def show_change(change: Change, *, as_json: bool) -> None:
    """Prints one change."""
    if as_json:
        show_json(change)
        return
    prefix = "would: " if change.dry_run else ""
    for line in change.changes:
        typer.echo(f"{prefix}{line}")
    if not change.changes:
        typer.echo("Nothing changes." if change.dry_run else "Nothing changed.")
    if change.endpoint is not None and not change.dry_run:
        typer.echo(_state(change))


def _state(change: Change) -> str:
    endpoint = change.endpoint
    if endpoint is None:
        return ""
    serves = f", serves {endpoint.active}" if endpoint.active else ""
    where = f", {endpoint.url}" if endpoint.url else ""
    return f"Endpoint `{endpoint.name}` is {endpoint.phase.value}{serves}{where}."


def show_changes(changes: Sequence[Change], *, as_json: bool) -> None:
    """Prints several changes."""
    if as_json:
        show_json(changes)
        return
    for change in changes:
        show_change(change, as_json=False)
