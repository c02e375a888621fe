"""Models, their numbered versions and aliases, and the decisions about them."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator
from datetime import datetime
from enum import StrEnum
from pathlib import PurePosixPath
from typing import Any

import msgspec

from shipway.core.bundles import MANIFEST_NAME, Content, Format, Manifest, Served
from shipway.core.endpoints import EndpointState
from shipway.core.errors import AliasNotFound, InvalidArtifact, VersionInUse, VersionNotFound
from shipway.core.versions import VersionQuery, VersionRef

MOST_PATH_BYTES = 1000
"""The longest path of a file in a bundle."""


class VersionSummary(msgspec.Struct, frozen=True, kw_only=True):
    """A registered version without its manifest. `size_bytes` is the sum of its files."""

    model: str
    number: int
    digest: str
    format: Format
    served: Served
    size_bytes: int
    created_at: datetime
    created_by: str
    metrics: dict[str, float] = {}
    aliases: tuple[str, ...] = ()

    @property
    def ref(self) -> VersionRef:
        """Its model and number."""
        return VersionRef(self.model, self.number)


class VersionRecord(VersionSummary, frozen=True, kw_only=True):
    """A registered version.

    `manifest_sha256` is the hash of the manifest as it was registered, provenance included.
    """

    manifest: Manifest
    manifest_sha256: str

    def summary(self) -> VersionSummary:
        """The record without its manifest."""
        names = VersionSummary.__struct_fields__
        return VersionSummary(**{name: getattr(self, name) for name in names})


class ModelRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A model with its versions, oldest first, and the version number behind each alias."""

    name: str
    created_at: datetime
    created_by: str
    versions: tuple[VersionSummary, ...] = ()
    aliases: dict[str, int] = {}


class Role(StrEnum):
    """What a version does behind an endpoint."""

    PRIMARY = "primary"
    """It answers callers."""

    CANDIDATE = "candidate"
    """It is being brought up to replace the primary."""

    PREVIOUS = "previous"
    """It was replaced last and is what a rollback returns to."""


class Usage(msgspec.Struct, frozen=True, kw_only=True):
    """One version (`churn:2`) behind one endpoint. `replicas` describe its running copies."""

    endpoint: str
    environment: str
    version: str
    role: Role
    replicas: tuple[Any, ...] = ()


def picked_number(query: VersionQuery, numbers: Iterable[int], aliases: dict[str, int]) -> int:
    """The version number that a person's words mean.

    Raises:
        AliasNotFound: the alias does not exist.
        VersionNotFound: the number does not exist, or there is no version at all.
    """
    known = sorted(numbers)
    if query.alias is not None:
        if query.alias not in aliases:
            raise AliasNotFound.named(
                str(query),
                [f"{query.model}@{alias}" for alias in aliases],
                next_step=f"Set it with `shipway alias {query.model}:NUMBER {query.alias}`.",
            )
        return aliases[query.alias]
    if query.number is None and known:
        return known[-1]
    if query.number is None or query.number not in known:
        raise VersionNotFound.named(
            str(query),
            [f"{query.model}:{number}" for number in known],
            next_step=f"`shipway show {query.model}` lists the versions.",
        )
    return query.number


def usages(model: str, states: Iterable[EndpointState]) -> tuple[Usage, ...]:
    """Where a model's versions stand, in the endpoints' order; replicas are left empty."""
    return tuple(
        Usage(
            endpoint=state.spec.name,
            environment=state.spec.environment,
            version=str(ref),
            role=role,
        )
        for state in states
        for role, ref in _roles(state)
        if ref.model == model
    )


def _roles(state: EndpointState) -> Iterator[tuple[Role, VersionRef]]:
    named = ((Role.PRIMARY, state.active), (Role.CANDIDATE, state.target))
    for role, ref in (*named, (Role.PREVIOUS, state.previous)):
        if ref is not None:
            yield role, ref


def check_deletable(version: VersionSummary, states: Iterable[EndpointState]) -> None:
    """Passes when nothing refers to the version.

    Raises:
        VersionInUse: an alias points at it, or an endpoint uses it; the message names all of them.
    """
    aliases = [f"alias `{alias}`" for alias in version.aliases]
    endpoints = [
        f"endpoint `{usage.endpoint}` ({usage.role.value})"
        for usage in usages(version.model, states)
        if usage.version == str(version.ref)
    ]
    if aliases or endpoints:
        raise VersionInUse(
            f"`{version.ref}` is used by {', '.join(aliases + endpoints)}.",
            next_step="Move the aliases and deploy another version first.",
            version=str(version.ref),
            used_by=aliases + endpoints,
        )


def check_paths(manifest: Manifest) -> None:
    """Passes when every file of a bundle lies inside it.

    Raises:
        InvalidArtifact: a path is absolute, leaves the directory, is named twice, or is the
            manifest's own; or what is loaded is none of the files.
    """
    seen = {MANIFEST_NAME}
    for file in manifest.content.files:
        if not is_plain_name(file.path) or not is_inside(file.path) or file.path in seen:
            raise _no_file_for(file.path)
        seen.add(file.path)
    for path in _loaded_paths(manifest.content):
        # A directory is there when a file lies below it.
        if path not in seen and not any(known.startswith(f"{path}/") for known in seen):
            raise _no_file_for(path)


def _loaded_paths(content: Content) -> Iterator[str]:
    """Every path by which an engine finds something in the bundle."""
    options, parent = content.options, PurePosixPath(content.artifact).parent
    graph = None if content.onnx is None else content.onnx.path
    named = (content.artifact, content.examples, content.profile, graph)
    yield from (path for path in named if path is not None)
    if (inner := options.get("inner")) is not None:
        yield f"{content.artifact}/{inner}"
        parent = PurePosixPath(f"{content.artifact}/{inner}").parent
    if (code := options.get("code")) is not None:
        yield posixpath.normpath(f"{parent}/{code}")


def _no_file_for(path: str) -> InvalidArtifact:
    return InvalidArtifact(
        f"The bundle's manifest names the file `{path}`, which no bundle may hold, or which is not in it.",
        next_step="Package the model again with `shipway package`.",
        file=path,
    )


def is_plain_name(path: str) -> bool:
    """Whether it is printable text that UTF-8 can hold, of at most a thousand bytes."""
    try:
        return path.isprintable() and len(path.encode()) <= MOST_PATH_BYTES
    except UnicodeEncodeError:
        return False


def is_inside(path: str) -> bool:
    """Whether a relative path with forward slashes stays below its directory."""
    parts = path.split("/")
    return "\\" not in path and "\0" not in path and not {"", ".", ".."} & set(parts)
