"""Routes of models, versions, aliases and bundles."""

from __future__ import annotations

from collections.abc import AsyncIterator
from functools import partial
from typing import Annotated

import anyio.from_thread
import anyio.to_thread
import msgspec
from fastapi import APIRouter, Query, Request, Response
from starlette.requests import ClientDisconnect

from shipway.api.guard import Actor, Caller
from shipway.api.messages import answer, answers, body_of, takes
from shipway.api.services import Services, UsesServices
from shipway.api.sight import may_read, may_read_endpoint, require_followers
from shipway.api.uploads import ChunkSource, unpack
from shipway.control.registry import AliasChange, VersionDiff
from shipway.core.denials import Denial
from shipway.core.errors import DangerousArtifact, InvalidRequest, NotFound, ShipwayError
from shipway.core.registry import ModelRecord, Usage, VersionRecord, VersionSummary
from shipway.core.versions import MOST_DIGITS, VersionQuery, checked_name


class Registered(VersionSummary, frozen=True, kw_only=True):
    """A version after registering; `created` is false when the digest was there already."""

    created: bool


class AliasTarget(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where an alias shall point, and why."""

    version: Annotated[int, msgspec.Meta(ge=1, lt=10**MOST_DIGITS)]
    reason: str = ""


class StoredBundle(msgspec.Struct, frozen=True, kw_only=True):
    """A bundle whose bytes are stored."""

    digest: str


SCAN = "scan"
"""What the audit record says was missing where a bundle was refused as dangerous."""

_DRAINED_BYTES = 1024**3
router = APIRouter(tags=["models"])
ANSWERS = [ModelRecord, VersionRecord, Registered, AliasChange, AliasTarget, StoredBundle]
ANSWERS += [VersionDiff, Usage]


@router.get("/models", responses={200: answers(list[ModelRecord], "In name order.")})
def list_models(services: UsesServices, caller: Caller) -> Response:
    """The models that the caller may see, with their versions and aliases."""
    return answer([found for found in services.registry.models() if may_read(caller, found.name)])


@router.get("/models/{model}", responses={200: answers(ModelRecord, "The model.")})
def show_model(model: str, services: UsesServices) -> Response:
    """One model with its versions and aliases."""
    return answer(services.registry.model(model))


@router.get(
    "/models/{model}/versions/{version}",
    responses={200: answers(VersionRecord, "The version with its manifest.")},
)
def show_version(model: str, version: str, services: UsesServices) -> Response:
    """One version; `version` is a number, `@alias` or `latest`."""
    return answer(services.registry.version(query_of(model, version)))


@router.get(
    "/models/{model}/versions/{version}/files/{path:path}",
    responses={200: {"content": {"application/octet-stream": {}}, "description": "Its bytes."}},
)
def show_file(model: str, version: str, path: str, services: UsesServices) -> Response:
    """One file of a version's bundle, such as `profile.json`."""
    content = services.registry.file(query_of(model, version), path)
    return Response(content, media_type="application/octet-stream")


@router.post(
    "/models/{model}/versions",
    status_code=201,
    responses={
        200: answers(Registered, "The model has this bundle already."),
        201: answers(Registered, "Registered as a new version."),
    },
    openapi_extra={"requestBody": {"required": True, "content": {"application/x-tar": {}}}},
)
async def register(model: str, request: Request, services: UsesServices, actor: Actor) -> Response:
    """Registers the bundle in the body, an uncompressed tar of its directory.

    Nothing is registered unless every byte matches the manifest.
    """
    chunks = request.stream()
    work = partial(_register, services, model, chunks, actor)
    try:
        version, created = await anyio.to_thread.run_sync(work)
    except ShipwayError as exc:
        if isinstance(exc, DangerousArtifact):
            denial = Denial(actor=actor, right=SCAN, subject=model)
            note = partial(services.audit.deny, denial, now=services.now())
            await anyio.to_thread.run_sync(note)
        # A client reads no answer while it still writes.
        await _drain(chunks, _DRAINED_BYTES)
        raise
    summary = msgspec.structs.asdict(version.summary())
    return answer(Registered(**summary, created=created), status=201 if created else 200)


@router.delete(
    "/models/{model}/versions/{version}",
    responses={200: answers(VersionSummary, "The version that was forgotten.")},
)
def delete_version(model: str, version: str, services: UsesServices, actor: Actor) -> Response:
    """Forgets a version; refused while it serves or carries an alias."""
    query = query_of(model, version)
    record = services.registry.delete_version(query, actor=actor, now=services.now())
    return answer(record.summary())


@router.get(
    "/bundles/{digest}",
    responses={200: answers(StoredBundle, "Stored."), 404: {"description": "Not stored."}},
)
def show_bundle(digest: str, services: UsesServices) -> Response:
    """Whether the bytes of a bundle are stored."""
    if not services.registry.has_bundle(digest):
        raise NotFound(
            f"The bytes of bundle `{digest}` are not stored.",
            next_step="Register it with `shipway register`.",
            name=digest,
        )
    return answer(StoredBundle(digest=digest))


@router.put(
    "/models/{model}/aliases/{alias}",
    responses={200: answers(AliasChange, "Where it points now, and pointed before.")},
    openapi_extra=takes(AliasTarget),
)
def set_alias(
    model: str,
    alias: str,
    services: UsesServices,
    caller: Caller,
    actor: Actor,
    target: Annotated[AliasTarget, body_of(AliasTarget)],
) -> Response:
    """Makes or moves an alias; who moves one that endpoints follow changes what they serve."""
    require_followers(services, caller, model, alias)
    query = VersionQuery(model, number=target.version)
    change = services.registry.set_alias(
        query, alias, actor=actor, now=services.now(), reason=target.reason
    )
    return answer(change)


@router.delete(
    "/models/{model}/aliases/{alias}",
    responses={200: answers(AliasChange, "Where it pointed.")},
)
def delete_alias(
    model: str, alias: str, services: UsesServices, actor: Actor, reason: str = ""
) -> Response:
    """Forgets an alias."""
    change = services.registry.delete_alias(
        model, alias, actor=actor, now=services.now(), reason=reason
    )
    return answer(change)


@router.get(
    "/models/{model}/diff", responses={200: answers(VersionDiff, "By section, then by name.")}
)
def diff(
    model: str,
    services: UsesServices,
    before: Annotated[str, Query(alias="from", description="A number, `@alias` or `latest`.")],
    after: Annotated[str, Query(alias="to", description="A number, `@alias` or `latest`.")],
) -> Response:
    """What changed from one version to another."""
    found = services.registry.diff(query_of(model, before), query_of(model, after))
    return answer(found)


@router.get("/models/{model}/where", responses={200: answers(list[Usage], "In endpoint order.")})
def where(model: str, services: UsesServices, caller: Caller) -> Response:
    """The endpoints that use the model, as far as the caller may see them, and their replicas."""
    return answer(
        [
            msgspec.structs.replace(
                usage, replicas=tuple(services.replicas_of(usage.endpoint, usage.version))
            )
            for usage in services.registry.where(model)
            if may_read_endpoint(services, caller, usage.endpoint)
        ]
    )


def query_of(model: str, version: str) -> VersionQuery:
    """The version that a path's last part means: a number, `@alias` or `latest`.

    Raises:
        InvalidRequest: it is none of these.
    """
    if version == "latest":
        return VersionQuery(model)
    if version.startswith("@"):
        return VersionQuery(model, alias=version[1:])
    if version.isascii() and version.isdigit() and len(version) <= MOST_DIGITS:
        return VersionQuery(model, number=int(version))
    raise InvalidRequest(
        f"`{version}` is not a version of a model.", next_step="Use a number, `@alias` or `latest`."
    )


def _register(
    services: Services, model: str, chunks: AsyncIterator[bytes], actor: str
) -> tuple[VersionRecord, bool]:
    """Runs in a worker thread, and gets the body's chunks from the event loop."""
    checked_name(model, kind="model")
    source = ChunkSource(partial(anyio.from_thread.run, _next_chunk, chunks))
    with services.staging.new() as directory:
        unpack(source, directory, services.upload_limits)
        return services.registry.register(model, directory, actor=actor, now=services.now())


async def _next_chunk(chunks: AsyncIterator[bytes]) -> bytes:
    try:
        # Chunks may be empty before the end; only the end itself is nothing.
        while not (chunk := await anext(chunks, None)):
            if chunk is None:
                return b""
    except ClientDisconnect as exc:
        raise InvalidRequest(
            "The upload ended before the archive did.", next_step="Repeat the registration."
        ) from exc
    return chunk


async def _drain(chunks: AsyncIterator[bytes], limit_bytes: int) -> None:
    while limit_bytes > 0 and (chunk := await _next_chunk(chunks)):
        limit_bytes -= len(chunk)
