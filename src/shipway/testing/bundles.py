"""Small valid bundles, made without any framework."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec

from shipway.core.bundles import (
    MANIFEST_NAME,
    BundleFile,
    Content,
    EnvironmentLock,
    Format,
    Lineage,
    Manifest,
    Provenance,
    Served,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType

CREATED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
"""When factory-made bundles were packaged."""

SIGNATURE = Signature(
    layout=Layout.COLUMNS,
    inputs=(Field(name="age", dtype=DataType.FP64), Field(name="city", dtype=DataType.STRING)),
    outputs=(Field(name="label", dtype=DataType.INT64),),
)
"""The signature of factory-made bundles."""

FILES = {"model/model.bin": b"not a model, but bytes", "examples.json": b"{}"}
"""The files of factory-made bundles."""


def write_bundle(
    directory: Path,
    *,
    files: Mapping[str, bytes] = FILES,
    metrics: Mapping[str, float] | None = None,
    **content: Any,
) -> Manifest:
    """Writes a bundle of these files and gives its manifest; `content` overrides fields of `Content`.

    Other bytes make another digest. Nothing can load the model in it. `files_in_manifest` replaces
    what the manifest says of the files, for bundles that lie.
    """
    for path, data in files.items():
        (directory / path).parent.mkdir(parents=True, exist_ok=True)
        (directory / path).write_bytes(data)
    manifest = manifest_of(files, metrics=metrics, **content)
    (directory / MANIFEST_NAME).write_bytes(msgspec.json.encode(manifest))
    return manifest


def manifest_of(
    files: Mapping[str, bytes] = FILES,
    *,
    metrics: Mapping[str, float] | None = None,
    **content: Any,
) -> Manifest:
    """The manifest of a bundle of these files; `content` overrides fields of its content."""
    values: dict[str, Any] = {
        "format": Format.SKLEARN,
        "artifact": next(iter(files)),
        "served": Served.ORIGINAL,
        "signature": SIGNATURE,
        "environment": EnvironmentLock(python="3.11", requirements=("numpy==2.1.0",)),
        "files": tuple(_file(path, data) for path, data in sorted(files.items())),
    }
    if "files_in_manifest" in content:
        content["files"] = content.pop("files_in_manifest")
    made = Content(**(values | content))
    lineage = Lineage(
        source="model.bin", source_sha256="0" * 64, created_at=CREATED_AT, created_by="factory"
    )
    provenance = Provenance(lineage=lineage, metrics=dict(metrics or {}))
    return Manifest(digest=made.digest, content=made, provenance=provenance)


def _file(path: str, data: bytes) -> BundleFile:
    return BundleFile(path=path, sha256=sha256(data).hexdigest(), size_bytes=len(data))
