"""What `deploy`, `apply`, `delete` and `rollback` say."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import msgspec
import typer

from shipway.cli.output import show_json
from shipway.client.answers import Change, Endpoint
from shipway.client.flows import SpecFields
from shipway.client.synchronous import Client
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
    capture: bool,
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
    if capture:
        fields["capture"] = {}
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


def carried_out(
    client: Client, change: Change, *, label: str, timeout_s: float | None, as_json: bool
) -> Change:
    """Shows what an accepted change does, then waits for it; the change with how it ended.

    So a plan is read before its first step. `timeout_s` is None not to wait.
    """
    if not as_json:
        _show_steps(change)
    endpoint = change.endpoint
    if endpoint is None or change.dry_run:
        return change
    if timeout_s is not None:
        with waiting(label):
            endpoint = client.wait(endpoint.name, version=endpoint.aim, timeout_s=timeout_s)
    if not as_json:
        _show_state(endpoint)
    return msgspec.structs.replace(change, endpoint=endpoint)


def show_change(change: Change, *, as_json: bool) -> None:
    """Prints a change that is done."""
    if as_json:
        show_json(change)
        return
    _show_steps(change)
    if change.endpoint is not None and not change.dry_run:
        _show_state(change.endpoint)


def _show_steps(change: Change) -> None:
    prefix = "would: " if change.dry_run else ""
    for line in change.changes:
        typer.echo(f"{prefix}{line}")
    if not change.changes:
        typer.echo("Nothing changes." if change.dry_run else "Nothing changed.")


def _show_state(endpoint: Endpoint) -> None:
    serves = f", serves {endpoint.active}" if endpoint.active else ""
    where = f", {endpoint.url}" if endpoint.url else ""
    typer.echo(f"Endpoint `{endpoint.name}` is {endpoint.phase.value}{serves}{where}.")
    if endpoint.rollout is not None:
        typer.echo(f"Watch the rollout: shipway rollout watch {endpoint.name}")
