"""The model-repository and statistics extensions of Open Inference, as bodies.

Sources: triton-inference-server `extension_model_repository.md`, `extension_statistics.md`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from shipway.core.errors import InvalidRequest
from shipway.core.telemetry import Totals


class VersionState(msgspec.Struct, frozen=True, kw_only=True):
    """One version behind an endpoint. `reason` says why it is not ready; empty when it is."""

    name: str
    version: str
    ready: bool
    reason: str = ""


class VersionCounts(msgspec.Struct, frozen=True, kw_only=True):
    """What was counted of a version over all gateways of the machine. `cache_hits` are among `ok`."""

    name: str
    version: str
    totals: Totals
    cache_hits: int = 0


class _IndexIn(msgspec.Struct):
    ready: bool = False


class _LoadIn(msgspec.Struct):
    parameters: dict[str, Any] = {}


def wants_ready_only(body: bytes) -> bool:
    """Whether an index request asks for ready models alone.

    Raises:
        InvalidRequest: the body is not of the extension's form.
    """
    return bool(_read(body, _IndexIn).ready)


def require_plain_load(body: bytes) -> None:
    """Refuses a load request that brings a config or files.

    Raises:
        InvalidRequest: it does, or is not of the extension's form.
    """
    brought = [name for name in _read(body, _LoadIn).parameters if name != "unload_dependents"]
    if brought:
        raise InvalidRequest(
            f"`{brought[0]}` cannot be brought with a load: a version's files never change.",
            next_step="Register a version with `shipway register`, and `shipway deploy` it.",
            path=f"parameters.{brought[0]}",
        )


def _read(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body or b"{}", type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as exc:
        raise InvalidRequest(f"The body is not of the extension's form: {exc}.") from exc


def encode_index(states: Iterable[VersionState], *, ready_only: bool) -> bytes:
    """The answer of `POST /v2/repository/index`."""
    return msgspec.json.encode(
        [
            {
                "name": state.name,
                "version": state.version,
                "state": "READY" if state.ready else "UNAVAILABLE" if state.reason else "LOADING",
                "reason": state.reason,
            }
            for state in states
            if state.ready or not ready_only
        ]
    )


def encode_statistics(counts: Iterable[VersionCounts]) -> bytes:
    """The answer of `GET /v2/models[/{m}[/versions/{v}]]/stats`.

    Durations are whole requests', in nanoseconds, from complete request to answer; what a model took
    of that is not measured apart, and the parts of a request are 0.
    """
    return msgspec.json.encode({"model_stats": [_statistics(entry) for entry in counts]})


def _statistics(counts: VersionCounts) -> dict[str, Any]:
    totals = counts.totals
    none = _duration(0, 0.0)
    return {
        "name": counts.name,
        "version": counts.version,
        "last_inference": 0,
        "inference_count": totals.ok,
        "execution_count": totals.ok - counts.cache_hits,
        "inference_stats": {
            "success": _duration(totals.ok, totals.ok_s),
            "fail": _duration(totals.other, totals.other_s),
            "queue": none,
            "compute_input": none,
            "compute_infer": none,
            "compute_output": none,
            "cache_hit": _duration(counts.cache_hits, 0.0),
        },
        "batch_stats": [],
    }


def _duration(count: int, seconds: float) -> dict[str, int]:
    return {"count": count, "ns": round(seconds * 1e9)}
