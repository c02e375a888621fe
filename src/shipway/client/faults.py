"""Answers that are errors, and networks that fail, as the typed errors of `core.errors`."""

from __future__ import annotations

from typing import Any

import msgspec

from shipway.client.exchange import Answer, Plane
from shipway.core.errors import (
    BodyTooLarge,
    Bug,
    CallerError,
    ConflictError,
    DeadlineExceeded,
    DependencyError,
    InvalidInput,
    InvalidRequest,
    ModelFailed,
    NoReadyReplica,
    NotFound,
    QueueFull,
    ServerUnreachable,
    ShipwayError,
    StoreUnavailable,
    UnsupportedMediaType,
    error_of,
)

_BY_STATUS: dict[int, type[ShipwayError]] = {
    400: InvalidRequest,
    404: NotFound,
    409: ConflictError,
    413: BodyTooLarge,
    415: UnsupportedMediaType,
    422: InvalidInput,
    429: QueueFull,
    504: DeadlineExceeded,
}
_PROBLEM_MEMBERS = {"type", "title", "status", "detail", "code", "next_step", "error"}


def error_from(answer: Answer, plane: Plane) -> ShipwayError:
    """The typed error that an answer outside 2xx stands for.

    Reads problem+json (control) and Open Inference `{"error": …}` (gateway). The class comes from
    the answer's `code`, or from its status when something else answered.
    """
    facts = _facts(answer.body)
    code = facts.get("code")
    kind = error_of(code) if isinstance(code, str) else _kind_of(answer.status, plane)
    message = facts.get("detail") or facts.get("error") or facts.get("title")
    details = {key: value for key, value in facts.items() if key not in _PROBLEM_MEMBERS}
    details |= _nested_details(details.pop("details", None))
    retry_after = answer.headers.get("retry-after", "")
    if retry_after.isdigit():
        details.setdefault("retry_after_s", int(retry_after))
    error = kind(
        str(message or f"The server answered with status {answer.status}."),
        next_step=str(facts.get("next_step") or ""),
    )
    error.details = details
    return error


def _facts(body: bytes) -> dict[str, Any]:
    try:
        facts = msgspec.json.decode(body)
    except msgspec.MsgspecError:
        return {}
    return facts if isinstance(facts, dict) else {}


def _nested_details(details: Any) -> dict[str, Any]:
    return details if isinstance(details, dict) else {}


def _kind_of(status: int, plane: Plane) -> type[ShipwayError]:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if status == 503:
        return NoReadyReplica if plane is Plane.GATEWAY else StoreUnavailable
    if status >= 500:
        return ModelFailed if plane is Plane.GATEWAY else Bug
    return CallerError if status >= 400 else DependencyError


_HINTS = (
    (
        "https:",
        "CERTIFICATE_VERIFY_FAILED",
        "Name the file of its CA with `SHIPWAY_TLS_CA`, and call it by a name in its certificate.",
    ),
    (
        "https:",
        "WRONG_VERSION_NUMBER",
        "It speaks without TLS: begin its address with `http://`.",
    ),
    (
        "https:",
        "ALERT",
        "It does not accept `tls/client.crt` of the state directory: issue that again.",
    ),
    (
        "https:",
        "disconnected without sending",
        "It may not trust who issued `tls/client.crt` of the state directory: issue that again.",
    ),
    (
        "http:",
        "disconnected without sending",
        "If it speaks TLS, begin its address with `https://`.",
    ),
)
"""What to do about a reason that names TLS, by the scheme of the address."""


def network_reason(error: Exception) -> str:
    """Why the network failed, in a few words."""
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        return "no answer in time"
    return str(error) or type(error).__name__


def unreachable(url: str, reason: str) -> ServerUnreachable:
    """The error for a server that does not answer at `url`."""
    return ServerUnreachable(
        f"No Shipway server answers at `{url}` ({reason}).",
        next_step=next(
            (hint for scheme, word, hint in _HINTS if url.startswith(scheme) and word in reason),
            "Start one with `shipway up`, or name another with `SHIPWAY_CONTROL_URL`.",
        ),
        url=url,
    )
