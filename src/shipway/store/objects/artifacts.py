"""Bundles as objects: `bundles/<hex digest>/<path>`, the manifest written last."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping
from datetime import datetime
from hashlib import sha256
from pathlib import Path

import msgspec
import obstore

from shipway.core.bundles import MANIFEST_NAME, BundleFile, Manifest
from shipway.core.errors import BundleCorrupt
from shipway.core.masking import masked
from shipway.engines.bundle import read_manifest, verified_manifest
from shipway.store.objects.faults import translated_faults
from shipway.store.objects.leases import Leases
from shipway.store.objects.locations import opened
from shipway.store.objects.reports import ReportObjects
from shipway.store.predictions.objects import LogObjects
from shipway.store.staging import Staging

_ROOT = "bundles"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ArtifactStore:
    """Where the bytes of bundles live. Thread-safe; all methods block.

    Every method raises StoreUnavailable when the store is away, refuses, or is full.
    """

    def __init__(self, url: str, *, environment: Mapping[str, str] | None = None) -> None:
        """Opens `s3://bucket/prefix`, `file:///path`, a plain path, and what else obstore knows.

        `environment` holds provider variables such as `AWS_ENDPOINT_URL`; None reads none.
        """
        self._location = masked(url)
        self._store, self._directory = opened(url, environment=environment or {})
        self.leases = Leases(self._store, url)
        self.reports = ReportObjects(self._store, self._location)
        self.log = LogObjects(self._store, self._directory, self._location)

    @property
    def directory(self) -> Path | None:
        """The root directory of a local store; None for a remote one."""
        return self._directory

    def put_bundle(self, directory: Path, manifest: Manifest) -> None:
        """Stores every file, then the manifest. Idempotent, and heals damaged bytes."""
        with translated_faults(self._location):
            for file in manifest.content.files:
                self._put(manifest.digest, file.path, directory / file.path)
            self._put(manifest.digest, MANIFEST_NAME, directory / MANIFEST_NAME)

    def _put(self, digest: str, path: str, source: Path) -> None:
        key = f"{_prefix(digest)}/{path}"
        obstore.put(self._store, key, source)
        if self._directory is not None:
            _sync(self._directory / key)

    def has(self, digest: str) -> bool:
        """Whether a bundle's manifest is stored, and therefore all of its files."""
        if _DIGEST.fullmatch(digest) is None:
            return False
        with translated_faults(self._location):
            try:
                obstore.head(self._store, f"{_prefix(digest)}/{MANIFEST_NAME}")
            except FileNotFoundError:
                return False
            return True

    def holds(self, manifest: Manifest) -> bool:
        """Whether the manifest and every file, each of its size, are stored."""
        prefix = _prefix(manifest.digest)
        with translated_faults(self._location):
            sizes = {path: size for path, size, _ in self._objects(prefix)}
        files = {f"{prefix}/{file.path}": file.size_bytes for file in manifest.content.files}
        return f"{prefix}/{MANIFEST_NAME}" in sizes and files.items() <= sizes.items()

    def materialise(self, digest: str, cache_dir: Path) -> Path:
        """A directory with the bundle: its own place in a local store, else a copy in the cache.

        The copy is checked byte by byte before it gets its name. Idempotent; several processes may
        share a cache.

        Raises:
            BundleCorrupt: the bundle is not stored, or a file (named) does not match the digest.
        """
        if self._directory is not None:
            return self._in_place(self._directory / _prefix(digest), digest)
        target = cache_dir / _prefix(digest)
        if not _is_whole(target):
            with Staging(cache_dir / "partial").new() as partial:
                self._download(digest, partial, target)
        return target

    def _in_place(self, directory: Path, digest: str) -> Path:
        if not (directory / MANIFEST_NAME).is_file():
            raise _missing(digest)
        return directory

    def _download(self, digest: str, partial: Path, target: Path) -> None:
        with translated_faults(self._location):
            self._fetch(digest, partial)
        verified_manifest(partial, digest)
        with translated_faults(str(target)):
            _take_name(partial, target)

    def _fetch(self, digest: str, directory: Path) -> None:
        try:
            text = self._get(digest, MANIFEST_NAME, directory)
            manifest = msgspec.json.decode(text.read_bytes(), type=Manifest)
            for file in manifest.content.files:
                self._get(digest, file.path, directory)
        except FileNotFoundError as exc:
            raise _missing(digest) from exc
        except msgspec.MsgspecError as exc:
            raise _missing(digest) from exc

    def _get(self, digest: str, path: str, directory: Path) -> Path:
        target = directory / path
        target.parent.mkdir(parents=True, exist_ok=True)
        result = obstore.get(self._store, f"{_prefix(digest)}/{path}")
        with target.open("wb") as stream:
            for chunk in result.stream():
                stream.write(chunk)
        return target

    def read(self, digest: str, file: BundleFile) -> bytes:
        """The bytes of one file of a bundle, once they match their hash.

        Raises:
            BundleCorrupt: the file is missing or was changed.
        """
        with translated_faults(self._location):
            try:
                result = obstore.get(self._store, f"{_prefix(digest)}/{file.path}")
            except FileNotFoundError as exc:
                raise _missing(digest) from exc
            content = bytes(result.bytes())
        if sha256(content).hexdigest() != file.sha256:
            raise BundleCorrupt(
                f"`{file.path}` of bundle `{digest}` was changed: its bytes do not match the digest.",
                next_step="Restore the file, or register the model again from its source.",
                file=file.path,
                digest=digest,
            )
        return content

    def put_object(self, digest: str, path: str, source: Path) -> None:
        """Stores one more object beside a bundle's files. Idempotent."""
        with translated_faults(self._location):
            self._put(digest, path, source)

    def objects(self, digest: str) -> dict[str, int]:
        """The size of everything stored for a bundle, by its path in it; empty when there is nothing."""
        prefix = _prefix(digest)
        with translated_faults(self._location):
            found = {path: size for path, size, _ in self._objects(prefix)}
        return {path.removeprefix(f"{prefix}/"): size for path, size in sorted(found.items())}

    def chunks(self, digest: str, path: str) -> Iterator[bytes]:
        """The bytes of one object of a bundle, as they come and unchecked.

        Raises:
            BundleCorrupt: there is no such object.
        """
        with translated_faults(self._location):
            try:
                yield from map(
                    bytes, obstore.get(self._store, f"{_prefix(digest)}/{path}").stream()
                )
            except FileNotFoundError as exc:
                raise _missing(digest) from exc

    def delete(self, digest: str) -> None:
        """Removes a bundle, its manifest first; nothing when there is none."""
        prefix = _prefix(digest)
        with translated_faults(self._location):
            paths = sorted(path for path, _, _ in self._objects(prefix))
            manifest = f"{prefix}/{MANIFEST_NAME}"
            for path in [manifest, *(path for path in paths if path != manifest)]:
                self._delete(path)
        if self._directory is not None:
            shutil.rmtree(self._directory / prefix, ignore_errors=True)

    def _delete(self, path: str) -> None:
        try:
            obstore.delete(self._store, path)
        except FileNotFoundError:
            return

    def digests(self) -> dict[str, datetime]:
        """Every bundle of which anything is stored, with when its newest object was written.

        Bundles without a manifest, left by a process that died, are among them.
        """
        newest: dict[str, datetime] = {}
        with translated_faults(self._location):
            for path, _, written_at in self._objects(_ROOT):
                digest = f"sha256:{path.split('/')[1]}"
                if _DIGEST.fullmatch(digest) is not None:
                    newest[digest] = max(written_at, newest.get(digest, written_at))
        return newest

    def _objects(self, prefix: str) -> Iterator[tuple[str, int, datetime]]:
        for page in obstore.list(self._store, prefix=prefix):
            for item in page:
                yield item["path"], item["size"], item["last_modified"]


def _prefix(digest: str) -> str:
    if _DIGEST.fullmatch(digest) is None:
        raise _missing(digest)
    return f"{_ROOT}/{digest.removeprefix('sha256:')}"


def _missing(digest: str) -> BundleCorrupt:
    return BundleCorrupt(
        f"Bundle `{digest}` is not in the artifact store, or only in part.",
        next_step="Restore it, or register the model again from its source.",
        file=MANIFEST_NAME,
        digest=digest,
    )


def _is_whole(directory: Path) -> bool:
    """Whether every file is there in its size, which a machine that lost power may not have kept."""
    try:
        files = read_manifest(directory).content.files
        return all((directory / file.path).stat().st_size == file.size_bytes for file in files)
    except (BundleCorrupt, OSError):
        return False


def _take_name(partial: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        partial.rename(target)
    except OSError:
        # Another process was faster, or what stands there is damaged.
        if not _is_whole(target):
            shutil.rmtree(target, ignore_errors=True)
            partial.rename(target)


def _sync(path: Path) -> None:
    # A row must not outlive its bytes when the power fails.
    for part in (path, path.parent):
        handle = os.open(part, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
