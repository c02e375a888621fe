"""What the OpenAPI document says of errors: the same of every operation, as every one answers them."""

from __future__ import annotations

from typing import Any

import msgspec

from shipway.wire.problems import CONTENT_TYPE

_VERBS = frozenset({"get", "put", "post", "delete", "patch"})


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An error (RFC 9457). An error's facts are further members; `code` is stable."""

    type: str
    title: str
    status: int
    detail: str
    code: str
    next_step: str = ""


def with_problems(schema: dict[str, Any]) -> dict[str, Any]:
    """The document, each operation of it with the answer `default`: a problem.

    FastAPI's own answers of 422 are left out, for no route gives them.
    """
    answer = {
        "description": "An error, with the status of its `code`.",
        "content": {CONTENT_TYPE: {"schema": {"$ref": "#/components/schemas/Problem"}}},
    }
    for path in schema["paths"].values():
        for verb in _VERBS & path.keys():
            responses = path[verb]["responses"]
            if "HTTPValidationError" in str(responses.get("422", "")):
                del responses["422"]
            responses["default"] = answer
    for unused in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(unused, None)
    return schema
