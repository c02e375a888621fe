"""Media types of requests, and refusals as JSON: what the HTTP dialects share below their forms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.inference import InferenceResponse
from shipway.wire.codec import JSON_ONLY, Answer, Headers, marked
from shipway.wire.problems import problem_of

JSON = "application/json"
CSV = "text/csv"


def media_type(headers: Mapping[bytes, bytes]) -> tuple[str, dict[str, str]]:
    """The request's media type in lower case, and its parameters; empty when none was sent."""
    name, *pairs = headers.get(b"content-type", b"").decode("latin-1").split(";")
    parameters: dict[str, str] = {}
    for pair in pairs:
        key, _, value = pair.partition("=")
        parameters[key.strip().lower()] = value.strip().strip('"')
    return name.strip().lower(), parameters


def accepted(headers: Mapping[bytes, bytes], offered: Sequence[str]) -> str | None:
    """The first of the caller's accepted media types that is offered; None when it left it open.

    Weights (`q=`) do not count, but for 0; callers name the one that they want.
    """
    for entry in headers.get(b"accept", b"").decode("latin-1").split(","):
        name, _, weight = entry.partition(";")
        if weight.replace(" ", "") not in ("q=0", "q=0.0") and name.strip().lower() in offered:
            return name.strip().lower()
    return None


def json_answer(value: Any, response: InferenceResponse) -> Answer:
    """The answer of a response as this JSON value."""
    return Answer(200, msgspec.json.encode(value), marked(JSON_ONLY, response))


def typed_answer(kind: str, body: bytes, response: InferenceResponse) -> Answer:
    """The answer of a response as a body of that media type."""
    return Answer(200, body, marked(((b"content-type", kind.encode()),), response))


def refusal(error: ShipwayError, members: Mapping[str, Any]) -> Answer:
    """The answer of an error's status and headers with these JSON members."""
    problem = problem_of(error)
    extra: Headers = tuple((k.encode(), v.encode()) for k, v in problem.headers.items())
    body = msgspec.json.encode(dict(members), enc_hook=str)
    return Answer(problem.status, body, (*JSON_ONLY, *extra))
