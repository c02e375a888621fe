"""JSON in and out of the routes: msgspec structs both ways, described in the OpenAPI."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import msgspec
from fastapi import Depends, Request, Response
from starlette.requests import ClientDisconnect

from shipway.core.errors import BodyTooLarge, InvalidRequest

_MAX_BODY_BYTES = 1024 * 1024
_REF = "#/components/schemas/{name}"
T = TypeVar("T")


def answer(value: Any, *, status: int = 200) -> Response:
    """A JSON response of anything that msgspec encodes."""
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, media_type="application/json")


def answers(kind: Any, description: str) -> dict[str, Any]:
    """The OpenAPI entry of a response; `kind` is a struct, or a list of one."""
    (schema,), _ = msgspec.json.schema_components([kind], ref_template=_REF)
    return {"description": description, "content": {"application/json": {"schema": schema}}}


def takes(kind: Any) -> dict[str, Any]:
    """The `openapi_extra` of a route whose body is that struct."""
    content = answers(kind, "")["content"]
    return {"requestBody": {"required": True, "content": content}}


def components(kinds: list[Any]) -> dict[str, Any]:
    """The OpenAPI schemas of structs, and of those inside them."""
    return msgspec.json.schema_components(kinds, ref_template=_REF)[1]


def body_of(kind: type[T], *, most_bytes: int = _MAX_BODY_BYTES) -> Any:
    """A dependency that gives the request's JSON body as that struct.

    It raises BodyTooLarge over `most_bytes`, and InvalidRequest, naming the path, for anything else.
    """

    async def read(request: Request) -> T:
        return _decoded(await bounded_body(request, most_bytes), kind)

    dependency: Callable[[Request], Awaitable[T]] = read
    return Depends(dependency)


async def bounded_body(request: Request, most_bytes: int) -> bytes:
    """The whole body.

    Raises:
        BodyTooLarge: it has more bytes.
        InvalidRequest: the caller has left before its end.
    """
    body = bytearray()
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > most_bytes:
                raise _too_large(most_bytes)
    except ClientDisconnect as exc:
        raise InvalidRequest("The body ended too early.") from exc
    return bytes(body)


def _too_large(most_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(
        f"The body is over the limit of {most_bytes} bytes.",
        next_step="Send a smaller one.",
        limit_bytes=most_bytes,
    )


def _decoded(body: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(
            f"The body cannot be read: {exc}.", next_step="Correct it, then repeat the request."
        ) from exc
