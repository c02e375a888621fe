"""Every error as an answer: problem+json, and no traceback to the caller."""

from __future__ import annotations

import logging
from uuid import uuid4

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shipway.core.errors import Bug, InvalidRequest, NotFound, ShipwayError
from shipway.wire.problems import CONTENT_TYPE, problem_of

_log = logging.getLogger(__name__)
_NOT_ALLOWED = 405
_ROUTES = "`/api/v1/docs` lists the routes."


def problem_response(error: ShipwayError, status: int | None = None) -> Response:
    """The answer for an error; `status` where it is not that of the error's code."""
    problem = problem_of(error, status)
    return Response(problem.body, problem.status, headers=problem.headers, media_type=CONTENT_TYPE)


def add_fault_handlers(app: FastAPI) -> None:
    """Makes the app answer every error as problem+json."""
    app.add_exception_handler(ShipwayError, _answer_known)
    app.add_exception_handler(RequestValidationError, _answer_malformed)
    app.add_exception_handler(HTTPException, _answer_unrouted)
    app.add_middleware(Incidents)


class Incidents:
    """The outermost frame: an unexpected exception is logged with an id, and the id is answered."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Runs the app; answers 500 when it raised before it began to answer."""
        started = False

        async def watched(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, watched)
        except Exception:
            if scope["type"] != "http" or started:
                raise
            await _incident()(scope, receive, send)


def _incident() -> Response:
    incident = uuid4().hex
    _log.exception("incident %s", incident)
    return problem_response(
        Bug(
            f"The server failed unexpectedly; the log has the cause under `{incident}`.",
            next_step="Report it with the log's lines of this incident.",
            incident=incident,
        )
    )


async def _answer_known(request: Request, exc: Exception) -> Response:
    del request
    assert isinstance(exc, ShipwayError)
    return problem_response(exc)


async def _answer_malformed(request: Request, exc: Exception) -> Response:
    del request
    assert isinstance(exc, RequestValidationError)
    first = exc.errors()[0]
    path = ".".join(str(part) for part in first["loc"])
    return problem_response(
        InvalidRequest(f"`{path}` is not valid: {first['msg']}.", next_step=_ROUTES, path=path)
    )


async def _answer_unrouted(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    route = f"{request.method} {request.url.path}"
    if exc.status_code == 404:
        return problem_response(NotFound(f"There is no route `{route}`.", next_step=_ROUTES))
    error = InvalidRequest(f"`{route}`: {exc.detail}.", next_step=_ROUTES)
    response = problem_response(error, exc.status_code)
    response.headers.update(exc.headers or {})
    if exc.status_code == _NOT_ALLOWED:
        response.headers["allow"] = ", ".join(_methods(request))
    return response


def _methods(request: Request) -> list[str]:
    """What the path takes, over all its routes: the router names those of the first alone."""
    paths = request.app.openapi()["paths"]
    path = request.url.path
    found = {
        method.upper()
        for template, operations in paths.items()
        if compile_path(template)[0].match(path)
        for method in operations
    }
    return sorted(found)
