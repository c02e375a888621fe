"""The one table from errors to gRPC: code, message, and the facts beside them as google.rpc.Status."""

from __future__ import annotations

from base64 import b64encode
from enum import IntEnum
from functools import cache
from typing import Any
from urllib.parse import quote

from shipway.core.errors import ShipwayError

MESSAGE_BYTES = 2048
"""Longer messages are cut: clients take 8 KiB of trailers in all."""

_FACT_BYTES = 512
_DOMAIN = "shipway"


class Code(IntEnum):
    """The status codes of gRPC (grpc/grpc `statuscodes.md`)."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    INVALID_ARGUMENT = 3
    DEADLINE_EXCEEDED = 4
    NOT_FOUND = 5
    ALREADY_EXISTS = 6
    PERMISSION_DENIED = 7
    RESOURCE_EXHAUSTED = 8
    FAILED_PRECONDITION = 9
    ABORTED = 10
    OUT_OF_RANGE = 11
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14
    DATA_LOSS = 15
    UNAUTHENTICATED = 16


CODE_OF: dict[str, Code] = {
    "error": Code.UNKNOWN,
    "caller_error": Code.INVALID_ARGUMENT,
    "invalid_request": Code.INVALID_ARGUMENT,
    "invalid_input": Code.INVALID_ARGUMENT,
    "invalid_spec": Code.INVALID_ARGUMENT,
    "invalid_artifact": Code.INVALID_ARGUMENT,
    "not_a_model": Code.INVALID_ARGUMENT,
    "artifact_truncated": Code.INVALID_ARGUMENT,
    "missing_dependency": Code.INVALID_ARGUMENT,
    "missing_class": Code.INVALID_ARGUMENT,
    "dangerous_artifact": Code.INVALID_ARGUMENT,
    "not_found": Code.NOT_FOUND,
    "model_not_found": Code.NOT_FOUND,
    "version_not_found": Code.NOT_FOUND,
    "alias_not_found": Code.NOT_FOUND,
    "endpoint_not_found": Code.NOT_FOUND,
    "rollout_not_found": Code.NOT_FOUND,
    "environment_not_found": Code.NOT_FOUND,
    "key_not_found": Code.NOT_FOUND,
    "unauthenticated": Code.UNAUTHENTICATED,
    "forbidden": Code.PERMISSION_DENIED,
    "too_many_attempts": Code.RESOURCE_EXHAUSTED,
    "unsupported_media_type": Code.UNIMPLEMENTED,
    "body_too_large": Code.RESOURCE_EXHAUSTED,
    "head_too_large": Code.RESOURCE_EXHAUSTED,
    "target_too_long": Code.RESOURCE_EXHAUSTED,
    "queue_full": Code.RESOURCE_EXHAUSTED,
    "rate_limited": Code.RESOURCE_EXHAUSTED,
    "deadline_exceeded": Code.DEADLINE_EXCEEDED,
    "conflict": Code.FAILED_PRECONDITION,
    "nothing_to_roll_back": Code.FAILED_PRECONDITION,
    "rollout_under_way": Code.FAILED_PRECONDITION,
    "rollout_not_possible": Code.FAILED_PRECONDITION,
    "policy_unmet": Code.FAILED_PRECONDITION,
    "version_in_use": Code.FAILED_PRECONDITION,
    "already_running": Code.ALREADY_EXISTS,
    "port_taken": Code.ALREADY_EXISTS,
    "target_taken": Code.ALREADY_EXISTS,
    "dependency_error": Code.UNAVAILABLE,
    "no_ready_replica": Code.UNAVAILABLE,
    "replica_lost": Code.UNAVAILABLE,
    "prediction_unrecorded": Code.UNAVAILABLE,
    "store_unavailable": Code.UNAVAILABLE,
    "server_unreachable": Code.UNAVAILABLE,
    "bundle_corrupt": Code.DATA_LOSS,
    "backup_corrupt": Code.DATA_LOSS,
    "environment_failed": Code.UNAVAILABLE,
    "secret_unavailable": Code.UNAVAILABLE,
    "isolation_failed": Code.UNAVAILABLE,
    "state_unusable": Code.UNAVAILABLE,
    "schema_too_new": Code.UNAVAILABLE,
    "certificate_unusable": Code.UNAVAILABLE,
    "deploy_failed": Code.UNAVAILABLE,
    "not_promoted": Code.UNAVAILABLE,
    "bug": Code.INTERNAL,
    "model_failed": Code.INTERNAL,
}
"""The gRPC status code of each stable error code."""


def code_of(error: ShipwayError) -> Code:
    """The status code of an error; a class without its own has its parent's."""
    codes = (getattr(kind, "code", "") for kind in type(error).__mro__)
    return next((CODE_OF[code] for code in codes if code in CODE_OF), Code.UNKNOWN)


def percent_encoded(message: str) -> bytes:
    """A message as `grpc-message` carries it: printable ASCII, everything else as %XX of UTF-8."""
    cut = message.encode()[:MESSAGE_BYTES].decode(errors="ignore")
    return quote(cut, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}").encode()


def trailers_of(error: ShipwayError) -> tuple[tuple[bytes, bytes], ...]:
    """The trailers of a failed call.

    `grpc-status-details-bin` holds a google.rpc.Status with an ErrorInfo (our code and facts), and a
    RetryInfo where a repetition after some time makes sense; `grpc-retry-pushback-ms` tells clients
    that repeat on their own to wait for so long (gRPC proposal A6).
    """
    code = code_of(error)
    wait_s = error.details.get("retry_after_s")
    trailers = [
        (b"grpc-status", b"%d" % code),
        (b"grpc-message", percent_encoded(str(error))),
        (b"grpc-status-details-bin", _details(code, error, wait_s)),
    ]
    if isinstance(wait_s, int | float):
        trailers.append((b"grpc-retry-pushback-ms", b"%d" % max(1, wait_s * 1000)))
    return tuple(trailers)


def _details(code: Code, error: ShipwayError, wait_s: Any) -> bytes:
    status_class, info_class, retry_class = _classes()
    facts = {
        name: str(value)[:_FACT_BYTES]
        for name, value in error.details.items()
        if value is not None and len(name) < _FACT_BYTES
    }
    message = str(error)[:_FACT_BYTES]
    status = status_class(code=code, message=message)
    status.details.add().Pack(
        info_class(reason=error.code, domain=_DOMAIN, metadata=dict(list(facts.items())[:8]))
    )
    if isinstance(wait_s, int | float):
        retry = retry_class()
        retry.retry_delay.FromMilliseconds(max(1, int(wait_s * 1000)))
        status.details.add().Pack(retry)
    return b64encode(status.SerializeToString()).rstrip(b"=")


@cache
def _classes() -> tuple[Any, Any, Any]:
    from shipway.gateway.grpc.messages import message_class

    return (
        message_class("google.rpc.Status"),
        message_class("google.rpc.ErrorInfo"),
        message_class("google.rpc.RetryInfo"),
    )
