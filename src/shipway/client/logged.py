"""The calls of the prediction log. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import TypedDict
from urllib.parse import quote

from shipway.client.exchange import Answer, Call, Flow, one, reading
from shipway.client.times import text_of
from shipway.core.errors import Forbidden, NotFound
from shipway.core.logged import Explanation, LoggedRows, LogStats

_API = "/api/v1"
_TIMEOUT_S = 120.0
"""A query may take a minute, and wait for others before."""


class LogFilters(TypedDict, total=False):
    """Which rows of the prediction log to give, newest first. Times without a zone are UTC.

    where: a condition over the columns, as in SQL: `age > 40 AND label = 1`.
    columns: only these; all when left out.
    version: only rows that this version (a number) answered.
    since: from then on.
    until: before then.
    limit: at most so many; 100 when left out.
    """

    where: str
    columns: Sequence[str]
    version: int | None
    since: datetime | str | None
    until: datetime | str | None
    limit: int


def rows(endpoint: str, filters: LogFilters) -> Call[LoggedRows]:
    """The rows that the filters let through."""
    return Call(
        method="GET",
        path=_path(endpoint),
        query=_query(filters),
        read=reading(LoggedRows),
        timeout_s=_TIMEOUT_S,
    )


def export(endpoint: str, filters: LogFilters, *, form: str) -> Call[bytes]:
    """The same as a `csv` or `parquet` file."""
    return Call(
        method="GET",
        path=_path(endpoint),
        query={**_query(filters), "format": form},
        read=_body,
        timeout_s=_TIMEOUT_S,
    )


def stats(endpoint: str) -> Call[LogStats]:
    """How much of an endpoint's log is stored."""
    return Call(method="GET", path=f"{_path(endpoint)}/stats", read=reading(LogStats))


def all_stats() -> Call[tuple[LogStats, ...]]:
    """The same of every endpoint that has a log."""
    return Call(method="GET", path=f"{_API}/predictions", read=reading(tuple[LogStats, ...]))


def stats_of(endpoint: str | None) -> Flow[tuple[LogStats, ...]]:
    """How much is stored of one endpoint, or of all."""
    if endpoint is None:
        return (yield from one(all_stats()))
    return ((yield from one(stats(endpoint))),)


def explain(endpoint: str, request_id: str) -> Call[Explanation]:
    """All that is stored of one request."""
    return Call(
        method="GET",
        path=f"{_path(endpoint)}/{quote(request_id, safe='')}",
        read=reading(Explanation),
        timeout_s=_TIMEOUT_S,
    )


def explained(request_id: str, endpoint: str | None) -> Flow[Explanation]:
    """The same, looked for in every log that the caller may see when no endpoint is named.

    Raises:
        NotFound: it is in none.
    """
    if endpoint is not None:
        return (yield from one(explain(endpoint, request_id)))
    for log in (yield from one(all_stats())):
        try:
            return (yield from one(explain(log.endpoint, request_id)))
        except (NotFound, Forbidden):
            continue
    raise NotFound(
        f"No log that you may see has a request `{request_id}`.",
        next_step="A request is there a few seconds after its answer, if it was captured at all.",
    )


def _path(endpoint: str) -> str:
    return f"{_API}/endpoints/{quote(endpoint, safe='')}/predictions"


def _query(filters: LogFilters) -> dict[str, str]:
    given = {name: value for name, value in filters.items() if value is not None}
    return {name: text for name, value in given.items() if (text := _text(value))}


def _text(value: object) -> str:
    if isinstance(value, datetime):
        return text_of(value)
    if isinstance(value, str | int):
        return str(value)
    return ",".join(str(name) for name in value) if isinstance(value, Iterable) else ""


def _body(answer: Answer) -> bytes:
    return answer.body
