"""Every route of the server as a function that returns the `Call` to make. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from shipway.client.answers import (
    Alias,
    Change,
    Counted,
    Diff,
    Endpoint,
    EndpointMetadata,
    Logs,
    Model,
    Place,
    Prediction,
    Rollout,
    Status,
    Version,
)
from shipway.client.exchange import Answer, Call, Plane, reading
from shipway.client.openinference import infer_body, read_prediction
from shipway.core.endpoints import EndpointSpec
from shipway.core.evaluations import Evaluation, Findings
from shipway.core.evidence import Pair
from shipway.core.rollouts import Event
from shipway.core.tensors import Array
from shipway.core.versions import VersionQuery, VersionRef, parse_version

_API = "/api/v1"
_UPLOAD_TIMEOUT_S = 600.0


def _path(*parts: str) -> str:
    return "/".join((_API, *(quote(part, safe="@") for part in parts)))


def _json(value: Any) -> dict[str, Any]:
    return {
        "body": msgspec.json.encode(value),
        "headers": {"content-type": "application/json"},
    }


def status() -> Call[Status]:
    """Server, gateways and endpoints."""
    return Call(method="GET", path=_path("status"), read=reading(Status))


def models() -> Call[tuple[Model, ...]]:
    """Every model."""
    return Call(method="GET", path=_path("models"), read=reading(tuple[Model, ...]))


def model(name: str) -> Call[Model]:
    """One model."""
    return Call(method="GET", path=_path("models", name), read=reading(Model))


def version(query: VersionQuery) -> Call[Version]:
    """One version, with its manifest."""
    path = _path("models", query.model, "versions", selector(query))
    return Call(method="GET", path=path, read=reading(Version))


def selector(query: VersionQuery) -> str:
    """The last part of a version's path: a number, `@alias` or `latest`."""
    if query.alias is not None:
        return f"@{query.alias}"
    return "latest" if query.number is None else str(query.number)


def bundle_file(query: VersionQuery, path: str) -> Call[bytes]:
    """The bytes of one file of a version's bundle."""
    route = _path("models", query.model, "versions", selector(query), "files")
    return Call(method="GET", path=f"{route}/{quote(path)}", read=_bytes)


def _bytes(answer: Answer) -> bytes:
    return answer.body


def delete_version(ref: VersionRef) -> Call[None]:
    """Forgets a version that serves nowhere and carries no alias."""
    path = _path("models", ref.model, "versions", str(ref.number))
    return Call(method="DELETE", path=path, read=_nothing)


def _nothing(answer: Answer) -> None:
    del answer


def upload(name: str, chunks: Callable[[], Iterator[bytes]]) -> Call[Version]:
    """Registers the bundle whose tar `chunks` starts to stream."""
    return Call(
        method="POST",
        path=_path("models", name, "versions"),
        headers={"content-type": "application/x-tar"},
        body=chunks,
        read=_registered,
        timeout_s=_UPLOAD_TIMEOUT_S,
    )


def _registered(answer: Answer) -> Version:
    version: Version = reading(Version)(answer)
    return msgspec.structs.replace(version, created=answer.status == 201)


def set_alias(name: str, alias: str, *, version: int, reason: str) -> Call[Alias]:
    """Points an alias at a version."""
    return Call(
        method="PUT",
        path=_path("models", name, "aliases", alias),
        read=reading(Alias),
        **_json({"version": version, "reason": reason}),
    )


def delete_alias(name: str, alias: str) -> Call[Alias]:
    """Forgets an alias."""
    path = _path("models", name, "aliases", alias)
    return Call(method="DELETE", path=path, read=reading(Alias))


def diff(name: str, before: str, after: str) -> Call[Diff]:
    """What differs between two versions (selectors)."""
    return Call(
        method="GET",
        path=_path("models", name, "diff"),
        query={"from": before, "to": after},
        read=reading(Diff),
    )


def where(name: str) -> Call[tuple[Place, ...]]:
    """Where a model serves."""
    return Call(method="GET", path=_path("models", name, "where"), read=reading(tuple[Place, ...]))


def endpoints() -> Call[tuple[Endpoint, ...]]:
    """Every endpoint."""
    return Call(method="GET", path=_path("endpoints"), read=reading(tuple[Endpoint, ...]))


def endpoint(name: str) -> Call[Endpoint]:
    """One endpoint."""
    return Call(method="GET", path=_path("endpoints", name), read=reading(Endpoint))


def apply(spec: EndpointSpec, *, dry_run: bool, supersede: bool, reason: str) -> Call[Change]:
    """Makes an endpoint what its spec says."""
    return Call(
        method="PUT",
        path=_path("endpoints", spec.name),
        query={
            **_asked(dry_run=dry_run, reason=reason),
            **({"supersede": "true"} if supersede else {}),
        },
        read=reading(Change),
        **_json(spec),
    )


def delete(name: str, *, dry_run: bool, reason: str) -> Call[Change]:
    """Stops and forgets an endpoint."""
    return Call(
        method="DELETE",
        path=_path("endpoints", name),
        query=_asked(dry_run=dry_run, reason=reason),
        read=reading(Change),
    )


def _asked(*, dry_run: bool, reason: str) -> dict[str, str]:
    return {**({"dry_run": "true"} if dry_run else {}), **({"reason": reason} if reason else {})}


def deploy(
    model: str, *, endpoint: str | None, dry_run: bool, supersede: bool, reason: str, **fields: Any
) -> Call[Change]:
    """Puts a version behind an endpoint, by default the one of the model's own name.

    `fields` are those of `EndpointSpec`, None to leave one.
    """
    wanted = {key: value for key, value in fields.items() if value is not None}
    return Call(
        method="POST",
        path=_path("endpoints", endpoint or parse_version(model).model, "deploy"),
        read=reading(Change),
        **_json(
            {"model": model, "dry_run": dry_run, "supersede": supersede, "reason": reason, **wanted}
        ),
    )


def rollback(name: str, *, dry_run: bool, reason: str) -> Call[Change]:
    """Brings back the version that served before."""
    return Call(
        method="POST",
        path=_path("endpoints", name, "rollback"),
        query=_asked(dry_run=dry_run, reason=reason),
        read=reading(Change),
    )


def rollout(name: str) -> Call[Rollout]:
    """The endpoint's rollout under way, or its last one."""
    path = _path("endpoints", name, "rollout")
    return Call(method="GET", path=path, read=reading(Rollout))


def rollouts(name: str, *, limit: int) -> Call[tuple[Rollout, ...]]:
    """The endpoint's rollouts, newest first."""
    return Call(
        method="GET",
        path=_path("endpoints", name, "rollouts"),
        query={"limit": str(limit)},
        read=reading(tuple[Rollout, ...]),
    )


def rollout_pairs(name: str) -> Call[tuple[Pair, ...]]:
    """The mirrored requests on which the two versions differed most."""
    path = _path("endpoints", name, "rollout", "pairs")
    return Call(method="GET", path=path, read=reading(tuple[Pair, ...]))


def act_on_rollout(name: str, event: Event, *, reason: str, dry_run: bool) -> Call[Rollout]:
    """A person's word on the rollout under way: pause, resume, promote or abort."""
    return Call(
        method="POST",
        path=_path("endpoints", name, "rollout", event.value),
        read=reading(Rollout),
        **_json({"reason": reason, "dry_run": dry_run}),
    )


def post_outcomes(name: str, outcomes: Sequence[dict[str, Any]]) -> Call[Counted]:
    """Counts what happened after predictions."""
    return Call(
        method="POST",
        path=_path("endpoints", name, "rollout", "outcomes"),
        read=reading(Counted),
        **_json(outcomes),
    )


def logs(name: str, *, tail: int) -> Call[Logs]:
    """The last lines of an endpoint's replicas."""
    return Call(
        method="GET",
        path=_path("endpoints", name, "logs"),
        query={"tail": str(tail)},
        read=reading(Logs),
    )


def metadata(name: str) -> Call[EndpointMetadata]:
    """What an endpoint takes and gives."""
    return Call(
        method="GET",
        path=f"/v2/models/{quote(name)}",
        plane=Plane.GATEWAY,
        read=reading(EndpointMetadata),
    )


def infer(
    name: str,
    inputs: dict[str, Array],
    *,
    outputs: Sequence[str] | None = None,
    request_id: str = "",
    timeout_s: float = 30.0,
) -> Call[Prediction]:
    """One prediction.

    Raises:
        TypeError: an array's dtype has no Open Inference data type.
    """
    body, headers = infer_body(inputs, outputs=outputs, request_id=request_id)
    return Call(
        method="POST",
        path=f"/v2/models/{quote(name)}/infer",
        plane=Plane.GATEWAY,
        read=read_prediction,
        body=body,
        headers=headers,
        timeout_s=timeout_s,
    )


def keep_evaluation(query: VersionQuery, findings: Findings) -> Call[Evaluation]:
    """Keeps what an evaluation found of a version."""
    return Call(
        method="POST",
        path=_path("models", query.model, "versions", selector(query), "evaluations"),
        read=reading(Evaluation),
        **_json(findings),
    )


def evaluations(query: VersionQuery) -> Call[tuple[Evaluation, ...]]:
    """The evaluations of a version, newest first."""
    return Call(
        method="GET",
        path=_path("models", query.model, "versions", selector(query), "evaluations"),
        read=reading(tuple[Evaluation, ...]),
    )
