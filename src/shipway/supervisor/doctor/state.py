"""What the database and the artifact store hold."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from hashlib import sha256

import msgspec

from shipway.core.bundles import MANIFEST_NAME, Manifest
from shipway.core.errors import BundleCorrupt
from shipway.core.health import (
    BundleFault,
    ClockFacts,
    Diagnosis,
    bundles_diagnoses,
    chain_diagnosis,
    clock_diagnoses,
    rollout_diagnosis,
    rollout_facts,
)
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.examination import Examination

QUICK_BYTES = 64 * 1024 * 1024
"""So much of the bundles is read, the smallest first, when not all of it is."""


def state_diagnoses(
    examination: Examination, artifacts: ArtifactStore, *, deep: bool, now: datetime
) -> Iterator[Diagnosis]:
    """Whether what is kept is whole; of a database with this release's schema."""
    yield chain_diagnosis(examination.chain(deep=deep))
    ahead_s = examination.ahead_s(now=now)
    clocks = ClockFacts(
        ahead_s={} if ahead_s is None else {"the database": ahead_s},
        newest_event_at=examination.newest_event_at(),
    )
    yield from clock_diagnoses(clocks, now=now)
    for state in examination.endpoints():
        rollout = state.under_way
        if rollout is not None:
            yield rollout_diagnosis(rollout_facts(rollout), now=now)
    yield from _Bundles(artifacts, examination.bundles(), deep=deep).diagnoses()


class _Bundles:
    """Looks at every bundle, and reads all of some."""

    def __init__(
        self, artifacts: ArtifactStore, needed: dict[str, tuple[str, ...]], *, deep: bool
    ) -> None:
        self._artifacts = artifacts
        self._needed = needed
        self._deep = deep
        self._faults: list[BundleFault] = []

    def diagnoses(self) -> list[Diagnosis]:
        """What was found; blocks until all is read."""
        manifests = [manifest for digest in self._needed if (manifest := self._seen(digest))]
        left, read = QUICK_BYTES, 0
        for manifest in sorted(manifests, key=_size):
            left -= _size(manifest)
            if self._deep or left >= 0:
                self._read(manifest)
                read += 1
        return bundles_diagnoses(self._faults, read=read, looked_at=len(self._needed))

    def _seen(self, digest: str) -> Manifest | None:
        """The manifest of a bundle whose files are there in their sizes; else notes the fault."""
        found = self._looked_at(digest)
        if isinstance(found, Manifest):
            return found
        self._note(digest, found)
        return None

    def _looked_at(self, digest: str) -> Manifest | str:
        """The manifest, or what is wrong."""
        try:
            text = b"".join(self._artifacts.chunks(digest, MANIFEST_NAME))
            manifest = msgspec.json.decode(text, type=Manifest)
        except BundleCorrupt:
            return "it is not in the artifact store."
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return f"its `{MANIFEST_NAME}` cannot be read."
        if manifest.content.digest != digest:
            return f"its `{MANIFEST_NAME}` was changed."
        sizes = self._artifacts.objects(digest)
        for file in manifest.content.files:
            if sizes.get(file.path) != file.size_bytes:
                word = "is missing" if file.path not in sizes else "has another size"
                return f"`{file.path}` {word}."
        return manifest

    def _read(self, manifest: Manifest) -> None:
        for file in manifest.content.files:
            found = sha256()
            for chunk in self._artifacts.chunks(manifest.digest, file.path):
                found.update(chunk)
            if found.hexdigest() != file.sha256:
                self._note(manifest.digest, f"`{file.path}` was changed.")
                return

    def _note(self, digest: str, reason: str) -> None:
        versions = self._needed[digest]
        self._faults.append(BundleFault(digest=digest, versions=versions, reason=reason))


def _size(manifest: Manifest) -> int:
    return sum(file.size_bytes for file in manifest.content.files)
