"""Work that takes several calls: register, deploy and wait, predict. No I/O of its own."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, TypedDict

import msgspec

from shipway.client import calls
from shipway.client.answers import Alias, Change, Diff, Endpoint, Prediction
from shipway.client.exchange import Call, Flow, Pause, one
from shipway.client.session import Session
from shipway.client.tables import inputs_of
from shipway.core.capturing import Capture
from shipway.core.endpoints import Limits, Phase, Placement, Residency, Scaling
from shipway.core.errors import (
    DeadlineExceeded,
    DeployFailed,
    InvalidInput,
    InvalidRequest,
    InvalidSpec,
    NotPromoted,
)
from shipway.core.isolation import Sandbox
from shipway.core.profile import Profile
from shipway.core.strategies import RolloutPlan
from shipway.core.versions import VersionQuery, VersionRef, parse_version

_POLL_S = 0.05
_SLOWEST_POLL_S = 0.5
DEPLOY_TIMEOUT_S = 300.0


class SpecFields(TypedDict, total=False):
    """The fields of `EndpointSpec` that a deploy may set."""

    environment: str
    replicas: int
    placement: Placement | str
    limits: Limits | dict[str, int]
    sandbox: Sandbox | dict[str, Any]
    scaling: Scaling | dict[str, float]
    residency: Residency | str
    warm_s: float
    rollout: RolloutPlan | dict[str, Any]
    capture: Capture | dict[str, Any]


class Waiting(msgspec.Struct, frozen=True, kw_only=True):
    """Whether to wait until a change is live or its rollout has begun, and for how long at most."""

    wait: bool = True
    timeout_s: float = DEPLOY_TIMEOUT_S


def changed(session: Session, call: Call[Change], waiting: Waiting) -> Flow[Change]:
    """Makes a change, and waits until it is live or its rollout has begun."""
    change = yield from one(call)
    asked = change.endpoint
    if asked is None or change.dry_run or not waiting.wait:
        return change
    endpoint = yield from live(session, asked.name, timeout_s=waiting.timeout_s, version=asked.aim)
    return msgspec.structs.replace(change, endpoint=endpoint)


def live(
    session: Session, name: str, *, timeout_s: float, version: str | None = None
) -> Flow[Endpoint]:
    """The endpoint, once its version is started: live on all gateways, or in a rollout.

    Raises:
        DeployFailed: the version could not be started.
        NotPromoted: `version` was given up, or another one took its place.
        DeadlineExceeded: `timeout_s` passed first.
    """
    deadline = time.monotonic() + timeout_s
    pause_s = _POLL_S
    while (endpoint := (yield from one(calls.endpoint(name)))).phase is Phase.STARTING:
        if time.monotonic() >= deadline:
            raise DeadlineExceeded(
                f"Endpoint `{name}` was not live after {timeout_s:g} s. {endpoint.message}".strip(),
                next_step=f"It is still starting: see `shipway get {name}` and `shipway logs {name}`.",
            )
        yield Pause(pause_s)
        pause_s = min(pause_s * 1.5, _SLOWEST_POLL_S)
    session.forget(name)
    if endpoint.phase is Phase.FAILED:
        raise _failure(endpoint)
    if version is not None and version not in (endpoint.active, endpoint.target):
        raise NotPromoted(
            f"Endpoint `{name}` serves {endpoint.active}, not {version}. {endpoint.message}".strip(),
            next_step=f"See `shipway rollout history {name}`.",
            endpoint=name,
            active=endpoint.active,
        )
    return endpoint


def _failure(endpoint: Endpoint) -> DeployFailed:
    serves = f" `{endpoint.active}` still serves." if endpoint.active else ""
    return DeployFailed(
        f"Endpoint `{endpoint.name}` could not start its version: "
        f"{endpoint.message or 'no reason was given'}.{serves}".replace("..", "."),
        next_step=f"See `shipway logs {endpoint.name}`, then deploy again.",
        endpoint=endpoint.name,
        active=endpoint.active,
    )


def profile(query: VersionQuery) -> Flow[Profile | None]:
    """The baseline profile of a version's sample; None when there is none."""
    version = yield from one(calls.version(query))
    path = version.manifest.content.profile if version.manifest else None
    if path is None:
        return None
    raw = yield from one(calls.bundle_file(query, path))
    return msgspec.json.decode(raw, type=Profile)


def example(text: str) -> Flow[bytes | None]:
    """An example request of a version: an Open Inference body; None when there is none."""
    query = parse_version(text)
    version = yield from one(calls.version(query))
    path = version.manifest.content.examples if version.manifest else None
    return None if path is None else (yield from one(calls.bundle_file(query, path)))


def delete_version(text: str) -> Flow[None]:
    """Forgets a version, given as `churn:2`.

    Raises:
        InvalidSpec: the text does not name one version by number.
    """
    query = parse_version(text)
    if query.number is None:
        raise InvalidSpec(
            f"`{text}` does not say which version to delete.",
            next_step=f"Write its number: `{query.model}:2`.",
        )
    yield from one(calls.delete_version(VersionRef(query.model, query.number)))


def diff_call(before: str, after: str) -> Call[Diff]:
    """The call that compares two versions, given as `churn:1` and `churn:2`.

    Raises:
        InvalidSpec: they are of different models.
    """
    old, new = parse_version(before), parse_version(after)
    if old.model != new.model:
        raise InvalidSpec(
            f"`{before}` and `{after}` are versions of different models.",
            next_step="Compare two versions of one model, such as `churn:1 churn:2`.",
        )
    return calls.diff(old.model, calls.selector(old), calls.selector(new))


def set_alias(version: str, alias: str, *, reason: str) -> Flow[Alias]:
    """Points an alias at a version, given by number, by another alias, or as the newest."""
    query = parse_version(version)
    number = query.number
    if number is None:
        number = (yield from one(calls.version(query))).number
    call = calls.set_alias(query.model, alias, version=number, reason=reason)
    return (yield from one(call))


def predict(
    session: Session,
    endpoint: str,
    data: Any,
    *,
    outputs: Sequence[str] | None,
    request_id: str,
    timeout_s: float,
) -> Flow[Prediction]:
    """One prediction. A refusal is tried once more if the endpoint's signature changed meanwhile."""
    yield from session.located()

    def attempt() -> Flow[Prediction]:
        metadata = yield from session.metadata(endpoint)
        arrays = inputs_of(data, metadata.inputs)
        call = calls.infer(
            endpoint, arrays, outputs=outputs, request_id=request_id, timeout_s=timeout_s
        )
        return (yield from one(call))

    try:
        return (yield from attempt())
    except (InvalidInput, InvalidRequest):
        believed = session.forget(endpoint)
        if (yield from session.metadata(endpoint)) == believed:
            raise
        return (yield from attempt())
