"""A rollout followed until it ends: as a live picture on a terminal, as a line per change elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import monotonic, sleep

import typer

from shipway.cli.output import show_json_line
from shipway.cli.rollouts import headline_of, line_of, picture_of, verdict_line
from shipway.client.answers import Rollout
from shipway.client.releasing import AWAY
from shipway.client.synchronous import Client

_POLL_S = 0.5
_PATIENCE_S = 300.0
_AWAY = "Control does not answer; this is what it said last."

Show = Callable[[Rollout, str], None]
"""Shows a rollout, and a note of the one who shows it."""


def watched(client: Client, endpoint: str, *, rollout_id: str | None, as_json: bool) -> Rollout:
    """The rollout once it has ended, shown meanwhile. Control may be away for five minutes.

    Raises:
        RolloutNotFound: the endpoint has had no such rollout.
        ServerUnreachable, StoreUnavailable: control was away for longer, or at the start.
    """
    with _shown(as_json=as_json) as show:
        for rollout, note in _news(client, endpoint, rollout_id):
            show(rollout, note)
    return rollout


def _news(client: Client, endpoint: str, rollout_id: str | None) -> Iterator[tuple[Rollout, str]]:
    """The rollout again and again, until it has ended."""
    rollout = client.rollout(endpoint, rollout_id)
    heard_at = monotonic()
    yield rollout, ""
    while rollout.is_under_way:
        sleep(_POLL_S)
        try:
            rollout = client.rollout(endpoint, rollout.id)
        except AWAY:
            if monotonic() - heard_at > _PATIENCE_S:
                raise
            yield rollout, _AWAY
            continue
        heard_at = monotonic()
        yield rollout, ""


@contextmanager
def _shown(*, as_json: bool) -> Iterator[Show]:
    if as_json:
        yield Changes(show_json_line).show
        return
    if not sys.stdout.isatty():
        yield Changes(None).show
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(highlight=False), refresh_per_second=4) as live:
        yield lambda rollout, note: live.update(picture_of(rollout, note=note))


class Changes:
    """Prints a rollout whenever it changed: by `whole`, or a line for each thing that is new."""

    def __init__(self, whole: Callable[[Rollout], None] | None) -> None:
        self._whole = whole
        self._told: set[str] = set()
        self._verdicts: dict[str, str] = {}
        self._note = ""
        self._is_first = True

    def show(self, rollout: Rollout, note: str) -> None:
        """Prints what is new since the last time."""
        news = list(self._news(rollout))
        if self._whole is None:
            for line in (*news, *self._noted(note)):
                typer.echo(line)
        elif news:
            self._whole(rollout)
        sys.stdout.flush()

    def _news(self, rollout: Rollout) -> Iterator[str]:
        is_first, self._is_first = self._is_first, False
        if is_first:
            yield headline_of(rollout)
        for moment in rollout.history:
            line = line_of(moment)
            if line not in self._told:
                self._told.add(line)
                yield line
        for finding in rollout.findings:
            if self._verdicts.get(finding.guard) != finding.verdict:
                self._verdicts[finding.guard] = finding.verdict
                yield verdict_line(finding)
        if not is_first and not rollout.is_under_way:
            yield headline_of(rollout)

    def _noted(self, note: str) -> Iterator[str]:
        if note != self._note:
            self._note = note
            yield note or "Control answers again."
