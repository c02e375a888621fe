"""Reading a bundle directory: its manifest, and whether its bytes still are what it says."""

from __future__ import annotations

from hashlib import file_digest
from pathlib import Path

import msgspec

from shipway.core.bundles import MANIFEST_NAME, BundleFile, Manifest
from shipway.core.errors import BundleCorrupt

_NEXT_STEP = "Restore the file, or register the model again from its source."


def read_manifest(directory: Path) -> Manifest:
    """The manifest in a bundle directory; the files are not read.

    Raises:
        BundleCorrupt: there is no readable manifest, or its content does not hash to its digest.
    """
    path = directory / MANIFEST_NAME
    try:
        manifest = msgspec.json.decode(path.read_bytes(), type=Manifest)
    except OSError as exc:
        raise BundleCorrupt(
            f"`{path}` cannot be read: {exc.strerror}.", next_step=_NEXT_STEP, file=MANIFEST_NAME
        ) from exc
    except msgspec.MsgspecError as exc:
        raise BundleCorrupt(
            f"`{path}` is not a bundle manifest: {exc}.", next_step=_NEXT_STEP, file=MANIFEST_NAME
        ) from exc
    if manifest.content.digest != manifest.digest:
        raise BundleCorrupt(
            f"`{path}` was changed: its content does not hash to `{manifest.digest}`.",
            next_step=_NEXT_STEP,
            file=MANIFEST_NAME,
        )
    return manifest


def verified_manifest(directory: Path, digest: str | None = None) -> Manifest:
    """The manifest, once every file's bytes were hashed and match; reads the whole bundle.

    Raises:
        BundleCorrupt: a file is missing or differs (named), or the bundle is not that `digest`.
    """
    manifest = read_manifest(directory)
    if digest is not None and manifest.digest != digest:
        raise BundleCorrupt(
            f"`{directory}` holds bundle `{manifest.digest}`, not `{digest}`.",
            next_step=_NEXT_STEP,
            file=MANIFEST_NAME,
        )
    for file in manifest.content.files:
        _check(directory, file)
    return manifest


def _check(directory: Path, file: BundleFile) -> None:
    path = directory / file.path
    try:
        with path.open("rb") as stream:
            actual = file_digest(stream, "sha256").hexdigest()
    except OSError as exc:
        raise BundleCorrupt(
            f"`{file.path}` of the bundle in `{directory}` cannot be read: {exc.strerror}.",
            next_step=_NEXT_STEP,
            file=file.path,
        ) from exc
    if actual != file.sha256:
        raise BundleCorrupt(
            f"`{file.path}` of the bundle in `{directory}` was changed: its bytes do not match"
            " the digest.",
            next_step=_NEXT_STEP,
            file=file.path,
        )
