"""New lines of a growing log, asked for again and again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from time import sleep

from shipway.client.synchronous import Client

_POLL_S = 0.5
_TAIL = 1000


def new_lines(client: Client, endpoint: str, *, seen: Sequence[str]) -> Iterator[str]:
    """Lines that appear after those `seen`, for ever; ends with an interrupt."""
    while True:
        sleep(_POLL_S)
        now = client.logs(endpoint, tail=_TAIL).lines
        yield from lines_after(seen, now)
        seen = now or seen


def lines_after(seen: Sequence[str], now: Sequence[str]) -> Sequence[str]:
    """The lines of `now` that follow those `seen`: both are tails of one growing log.

    `lines_after(["a", "b"], ["b", "c"])` is `["c"]`; with nothing in common, all of `now`.
    """
    for overlap in range(min(len(seen), len(now)), 0, -1):
        if list(seen[-overlap:]) == list(now[:overlap]):
            return now[overlap:]
    return now
