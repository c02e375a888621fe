"""The one table from errors to HTTP: status, headers and a body after RFC 9457."""

from __future__ import annotations

import math
from typing import Any

import msgspec

from shipway.core.errors import ShipwayError, Unauthenticated

CONTENT_TYPE = "application/problem+json"
_INTERNAL = 500

STATUS_OF: dict[str, int] = {
    "error": _INTERNAL,
    "caller_error": 400,
    "invalid_request": 400,
    "invalid_input": 422,
    "invalid_spec": 422,
    "invalid_artifact": 422,
    "not_a_model": 422,
    "artifact_truncated": 422,
    "missing_dependency": 422,
    "missing_class": 422,
    "dangerous_artifact": 422,
    "not_found": 404,
    "model_not_found": 404,
    "version_not_found": 404,
    "alias_not_found": 404,
    "endpoint_not_found": 404,
    "rollout_not_found": 404,
    "environment_not_found": 404,
    "key_not_found": 404,
    "unauthenticated": 401,
    "forbidden": 403,
    "too_many_attempts": 429,
    "unsupported_media_type": 415,
    "body_too_large": 413,
    "head_too_large": 431,
    "target_too_long": 414,
    "queue_full": 429,
    "rate_limited": 429,
    "deadline_exceeded": 504,
    "conflict": 409,
    "nothing_to_roll_back": 409,
    "rollout_under_way": 409,
    "rollout_not_possible": 409,
    "policy_unmet": 409,
    "version_in_use": 409,
    "already_running": 409,
    "port_taken": 409,
    "target_taken": 409,
    "dependency_error": 503,
    "no_ready_replica": 503,
    "replica_lost": 503,
    "prediction_unrecorded": 503,
    "store_unavailable": 503,
    "server_unreachable": 502,
    "bundle_corrupt": 503,
    "backup_corrupt": 503,
    "environment_failed": 503,
    "secret_unavailable": 503,
    "isolation_failed": 503,
    "state_unusable": 503,
    "schema_too_new": 503,
    "certificate_unusable": 503,
    "deploy_failed": 503,
    "not_promoted": 503,
    "bug": _INTERNAL,
    "model_failed": _INTERNAL,
}
"""HTTP status of each stable error code."""


class Problem(msgspec.Struct, frozen=True, kw_only=True):
    """An answer that is an error. `headers` go beside the content type."""

    status: int
    headers: dict[str, str]
    body: bytes


def status_of(error: ShipwayError) -> int:
    """The HTTP status of an error; a class without its own has its parent's."""
    codes = (getattr(kind, "code", "") for kind in type(error).__mro__)
    return next((STATUS_OF[code] for code in codes if code in STATUS_OF), _INTERNAL)


def problem_of(error: ShipwayError, status: int | None = None) -> Problem:
    """The whole answer for an error. Its details are members of the body, beside RFC 9457's own.

    `status` where it is not that of the error's code.
    """
    status = status_of(error) if status is None else status
    members: dict[str, Any] = {
        **error.details,
        "type": f"urn:shipway:error:{error.code}",
        "title": error.code.replace("_", " ").capitalize(),
        "status": status,
        "detail": error.message,
        "code": error.code,
        "next_step": error.next_step,
    }
    body = msgspec.json.encode(members, enc_hook=str)
    return Problem(status=status, headers=_headers(error), body=body)


def _headers(error: ShipwayError) -> dict[str, str]:
    if isinstance(error, Unauthenticated):
        return {"www-authenticate": 'Bearer realm="shipway"'}  # RFC 9110, 11.6.1
    wait_s = error.details.get("retry_after_s")
    if not isinstance(wait_s, int | float):
        return {}
    return {"retry-after": str(max(1, math.ceil(wait_s)))}
