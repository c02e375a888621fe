"""Writing a bundle directory: complete under its final name, or not there at all."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from shipway.bundles.lineage import sha256_of_file
from shipway.core.bundles import MANIFEST_NAME, BundleFile, Manifest
from shipway.core.errors import StateUnusable

_DRAFTS = ".packaging-"


class BundleFiles(msgspec.Struct, frozen=True, kw_only=True):
    """What goes into a bundle beside its manifest, by path: files to copy, and bytes to write."""

    copied: Mapping[str, Path]
    written: Mapping[str, bytes]


def write_bundle(
    out: Path,
    files: BundleFiles,
    *,
    manifest_of: Callable[[tuple[BundleFile, ...]], Manifest],
) -> tuple[Path, Manifest]:
    """The directory `out/<hex digest>` and its manifest, durably written.

    `manifest_of` makes the manifest from the files' hashes. A bundle of the same digest that is
    there already is replaced, because its provenance may be older.

    Raises:
        StateUnusable: `out` cannot be written (permissions, disk full); nothing remains of it.
    """
    try:
        with _draft(out) as draft:
            listed = _fill(draft, files)
            manifest = manifest_of(listed)
            _write(draft / MANIFEST_NAME, _manifest_json(manifest))
            _sync_directories(draft)
            directory = out / manifest.digest.removeprefix("sha256:")
            _move(draft, directory)
    except OSError as exc:
        raise StateUnusable(
            f"The bundle cannot be written to `{out}`: {exc.strerror or exc}.",
            next_step="Free space or choose another directory, and package again.",
        ) from exc
    return directory, manifest


def _manifest_json(manifest: Manifest) -> bytes:
    return msgspec.json.format(msgspec.json.encode(manifest, order="deterministic"), indent=2)


@contextmanager
def _draft(out: Path) -> Iterator[Path]:
    out.mkdir(parents=True, exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=_DRAFTS, dir=out))
    try:
        draft.chmod(0o755)
        yield draft
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _fill(draft: Path, files: BundleFiles) -> tuple[BundleFile, ...]:
    for name, source in files.copied.items():
        target = draft / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        _sync(target)
    for name, content in files.written.items():
        _write(draft / name, content)
    names = sorted([*files.copied, *files.written])
    return tuple(
        BundleFile(
            path=name,
            sha256=sha256_of_file(draft / name),
            size_bytes=(draft / name).stat().st_size,
        )
        for name in names
    )


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_directories(draft: Path) -> None:
    for directory in (draft, *(one for one in draft.rglob("*") if one.is_dir())):
        _sync(directory)


def _move(draft: Path, directory: Path) -> None:
    """Renames the draft to its final name. An older bundle there is moved aside and deleted."""
    with (
        _alone(directory.parent),
        tempfile.TemporaryDirectory(prefix=_DRAFTS, dir=directory.parent) as aside,
    ):
        if directory.exists():
            directory.rename(Path(aside, "older"))
        draft.rename(directory)
        _sync(directory.parent)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Keeps other packagings from renaming in this directory meanwhile."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
