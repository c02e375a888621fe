"""Sends feedback from the command line, a request at a time, and shows how far it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shipway.cli.output import progress
from shipway.client.feedback import batches, truths
from shipway.core.errors import InvalidRequest, ShipwayError

if TYPE_CHECKING:
    from shipway.client.synchronous import Client


def one_item(
    given: Mapping[str, Any], outcomes: Sequence[str], *, file: Path | None
) -> list[dict[str, Any]]:
    """The item that the options describe; none of them may be there beside a file.

    Raises:
        InvalidRequest: there are both, or neither, or an outcome is no `NAME=NUMBER`.
    """
    item = {name: value for name, value in given.items() if value is not None}
    if outcomes:
        item["outcomes"] = dict(_outcome(text) for text in outcomes)
    if bool(item) == (file is not None):
        found = "feedback from two places" if item else "no feedback"
        raise InvalidRequest(
            f"The command line names {found}.",
            next_step="Give `--request-id` or `--key` with `--label`, `--score` or `--outcome`; or `--file`.",
        )
    return [item]


def _outcome(text: str) -> tuple[str, float]:
    name, _, number = text.partition("=")
    try:
        return name, float(number)
    except ValueError as exc:
        raise InvalidRequest(
            f"`{text}` is no outcome.", next_step="Write it as `--outcome revenue=9.5`."
        ) from exc


def sent(
    client: Client, endpoint: str, items: Iterable[Mapping[str, Any]], *, dry_run: bool
) -> int:
    """How many items were sent and kept; with `dry_run`, how many are sound.

    Raises:
        ShipwayError: an item is not sound, or sending failed; how many were kept is in `details`.
    """
    count = 0
    with progress("feedback") as on_progress:
        try:
            for batch in batches(truths(items)):
                count += len(batch) if dry_run else client.post_feedback(endpoint, batch)
                on_progress("checked" if dry_run else "sent", count, 0)
        except ShipwayError as error:
            raise _broken_off(error, count, dry_run=dry_run) from error
    return count


def _broken_off(error: ShipwayError, count: int, *, dry_run: bool) -> ShipwayError:
    if dry_run or not count:
        return error
    kept = f" {count:,} items before it are kept; the same command sends all of it again, and they count once."
    return type(error)(
        f"{error.message}{kept}", next_step=error.next_step, **{**error.details, "kept": count}
    )
