"""Routes of the prediction log."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Query, Response
from starlette.responses import StreamingResponse

from shipway.api.guard import Caller
from shipway.api.messages import answer, answers
from shipway.api.services import UsesServices
from shipway.api.sight import may_read_endpoint
from shipway.api.times import Moment, moment
from shipway.control.queries import Wanted
from shipway.core.errors import InvalidRequest
from shipway.core.logged import Explanation, LoggedRows, LogStats
from shipway.monitoring.questions import Format

MOST_ROWS = 10_000
MOST_EXPORTED = 1_000_000
_CHUNK_BYTES = 256 * 1024
_MEDIA = {
    Format.JSON: "application/json",
    Format.CSV: "text/csv",
    Format.PARQUET: "application/vnd.apache.parquet",
}


router = APIRouter(tags=["predictions"])
ANSWERS = [LoggedRows, LogStats, Explanation]


@router.get("/predictions", responses={200: answers(list[LogStats], "In name order.")})
def list_logs(services: UsesServices, caller: Caller) -> Response:
    """How much is stored of each endpoint that the caller may see, deleted ones too."""
    found = services.queries.all_stats()
    return answer([one for one in found if may_read_endpoint(services, caller, one.endpoint)])


@router.get(
    "/endpoints/{name}/predictions", responses={200: answers(LoggedRows, "The rows, newest first.")}
)
def query(
    name: str,
    services: UsesServices,
    where: Annotated[str, Query(description="A condition over the columns, as in SQL.")] = "",
    columns: Annotated[
        str, Query(description="Columns, separated by commas; all by default.")
    ] = "",
    version: Annotated[int | None, Query(ge=1)] = None,
    since: Moment = "",
    until: Moment = "",
    limit: Annotated[int, Query(ge=1, le=MOST_EXPORTED)] = 100,
    format: Annotated[Format, Query()] = Format.JSON,  # noqa: A002 - the parameter's name
) -> Response:
    """Rows of the prediction log; at most 10,000 of them as JSON, a million as CSV or Parquet."""
    if format is Format.JSON and limit > MOST_ROWS:
        raise InvalidRequest(
            f"A JSON answer has {MOST_ROWS:,} rows at most.",
            next_step="Ask for `csv` or `parquet`, or a smaller `limit`.",
            path="limit",
        )
    wanted = Wanted(
        where=where,
        columns=tuple(part for part in columns.split(",") if part),
        version=version,
        since=moment("since", since),
        until=moment("until", until),
        limit=limit,
    )
    with ExitStack() as stack:
        path = stack.enter_context(services.queries.rows(name, wanted, format))
        chunks = _chunks(path, stack.pop_all())
    # The first step opens the file, so that it is closed and removed however the answer ends.
    next(chunks)
    return StreamingResponse(chunks, media_type=_MEDIA[format], headers=_headers(name, format))


@router.get(
    "/endpoints/{name}/predictions/stats", responses={200: answers(LogStats, "What is stored.")}
)
def stats(name: str, services: UsesServices) -> Response:
    """How much of the endpoint's log is stored, of which versions and times."""
    return answer(services.queries.stats(name))


@router.get(
    "/endpoints/{name}/predictions/{request_id:path}",
    responses={200: answers(Explanation, "The request.")},
)
def explain(name: str, request_id: str, services: UsesServices) -> Response:
    """One request: what was asked, which versions answered what, and the feedback that came."""
    return answer(services.queries.explain(name, request_id))


def _chunks(path: Path, stack: ExitStack) -> Iterator[bytes]:
    with stack, path.open("rb") as stream:
        yield b""
        while chunk := stream.read(_CHUNK_BYTES):
            yield chunk


def _headers(name: str, format: Format) -> dict[str, str]:  # noqa: A002
    if format is Format.JSON:
        return {}
    return {"content-disposition": f'attachment; filename="{name}.{format.value}"'}
