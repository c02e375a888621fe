"""The registry's use cases: each public method is one transaction, its audit record included."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from shipway.bundles.scanning.process import Scanner
from shipway.bundles.screening import accepted, check_manifest_size
from shipway.control.admission import require_alias_admitted
from shipway.core.access import siblings
from shipway.core.audit import Change
from shipway.core.bundles import Manifest
from shipway.core.diff import Difference, differences
from shipway.core.errors import (
    AliasNotFound,
    BodyTooLarge,
    BundleCorrupt,
    InvalidArtifact,
    InvalidSpec,
    ModelNotFound,
    NotFound,
    StoreUnavailable,
    VersionNotFound,
)
from shipway.core.registry import (
    ModelRecord,
    Usage,
    VersionRecord,
    check_deletable,
    check_paths,
    picked_number,
    usages,
)
from shipway.core.versions import VersionQuery, VersionRef, checked_name
from shipway.engines.bundle import read_manifest, verified_manifest
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, Transaction

_MOST_FILE_BYTES = 64 * 1024 * 1024
_PUT_ATTEMPTS = 3


class AliasChange(msgspec.Struct, frozen=True, kw_only=True):
    """An alias after a change: the version it points at now, and the one before."""

    model: str
    alias: str
    version: int | None
    previous: int | None


class VersionDiff(msgspec.Struct, frozen=True, kw_only=True):
    """What differs between two versions of a model."""

    model: str
    before: int
    after: int
    changes: tuple[Difference, ...]


class Registry:
    """Models, versions and aliases over a database and an artifact store.

    Thread-safe; all methods block and may raise StoreUnavailable.
    """

    def __init__(
        self, database: Database, artifacts: ArtifactStore, *, scanner: Scanner | None = None
    ) -> None:
        self._database = database
        self._artifacts = artifacts
        self._scanner = scanner or Scanner()

    def register(
        self, model: str, bundle: Path, *, actor: str, now: datetime
    ) -> tuple[VersionRecord, bool]:
        """The version of a bundle directory, and whether it is new.

        The bytes are stored before the row, so that a version always has them; a bundle that the
        model has already gives the existing version, its stored bytes healed.

        Raises:
            InvalidSpec: the model's name is malformed.
            InvalidArtifact: a file (named) is missing or does not match the manifest.
            DangerousArtifact: the scan found something that is not let in.
        """
        checked_name(model, kind="model")
        manifest = _offered(bundle)
        report = accepted(manifest, self._scanner.scanned(bundle))
        for _ in range(_PUT_ATTEMPTS):
            self._artifacts.put_bundle(bundle, manifest)
            with self._database.transaction() as tx:
                # Asked under the writers' lock, which a sweep of unused bytes holds too.
                if self._artifacts.holds(manifest):
                    tx.scans.put(report, at=now)
                    return _recorded(tx, model, manifest, actor=actor, now=now)
        raise StoreUnavailable(
            f"The artifact store does not keep the files of bundle `{manifest.digest}`.",
            next_step="Check that nothing else deletes files in it, then try again.",
        )

    def has_bundle(self, digest: str) -> bool:
        """Whether the bytes of a bundle are stored."""
        return self._artifacts.has(digest)

    def models(self) -> list[ModelRecord]:
        """All models, in name order."""
        with self._database.reading() as tx:
            found = [tx.models.get(name) for name in tx.models.names()]
        return [model for model in found if model is not None]

    def model(self, name: str) -> ModelRecord:
        """One model.

        Raises:
            ModelNotFound: there is none of that name.
        """
        with self._database.reading() as tx:
            return _model(tx, name)

    def version(self, query: VersionQuery) -> VersionRecord:
        """The version that a number, an alias or neither (the newest) means.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: with the nearest name.
        """
        with self._database.reading() as tx:
            return resolved(tx, query)

    def file(self, query: VersionQuery, path: str) -> bytes:
        """The bytes of one file of a version's bundle, at most 64 MiB.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is no such version.
            NotFound: the bundle has no such file.
            BodyTooLarge: the file is larger.
            BundleCorrupt: its bytes do not match the manifest.
        """
        version = self.version(query)
        files = {file.path: file for file in version.manifest.content.files}
        if path not in files:
            raise NotFound.named(path, files, next_step=f"`{version.ref}` has other files.")
        if files[path].size_bytes > _MOST_FILE_BYTES:
            raise BodyTooLarge(
                f"`{path}` has {files[path].size_bytes} bytes, more than one answer may have.",
                next_step="Read it from the artifact store.",
                limit_bytes=_MOST_FILE_BYTES,
            )
        return self._artifacts.read(version.digest, files[path])

    def set_alias(
        self, query: VersionQuery, alias: str, *, actor: str, now: datetime, reason: str = ""
    ) -> AliasChange:
        """Points an alias at a version; nothing is recorded when it points there already.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: the version does not exist.
            InvalidSpec: the alias is malformed, or is the reserved word `latest`.
            PolicyUnmet: an endpoint follows it in an environment that does not admit the version, or
                it has the name of such an environment.
        """
        checked_alias(alias)
        with self._database.transaction() as tx:
            record = resolved(tx, query)
            ref = record.ref
            previous = tx.aliases.all_of(ref.model).get(alias)
            if previous != ref.number:
                require_alias_admitted(tx, record, alias, now=now)
                tx.aliases.point(alias, ref)
                details = {"before": previous, "after": ref.number, "reason": reason}
                subject = f"{ref.model}@{alias}"
                _record(tx, "alias.set", subject, details, actor=actor, now=now)
        return AliasChange(model=ref.model, alias=alias, version=ref.number, previous=previous)

    def delete_alias(
        self, model: str, alias: str, *, actor: str, now: datetime, reason: str = ""
    ) -> AliasChange:
        """Forgets an alias.

        Raises:
            ModelNotFound, AliasNotFound: there is none.
        """
        with self._database.transaction() as tx:
            known = _model(tx, model).aliases
            if alias not in known:
                names = [f"{model}@{name}" for name in known]
                raise AliasNotFound.named(f"{model}@{alias}", names)
            tx.aliases.remove(model, alias)
            details = {"before": known[alias], "after": None, "reason": reason}
            _record(tx, "alias.delete", f"{model}@{alias}", details, actor=actor, now=now)
        return AliasChange(model=model, alias=alias, version=None, previous=known[alias])

    def delete_version(self, query: VersionQuery, *, actor: str, now: datetime) -> VersionRecord:
        """Forgets a version; its number is not given out again, its bytes go at the next sweep.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: there is none.
            VersionInUse: an alias points at it, or an endpoint uses it.
        """
        with self._database.transaction() as tx:
            version = resolved(tx, query)
            check_deletable(version, tx.endpoints.list())
            tx.versions.remove(version.ref)
            details = {"before": {"digest": version.digest}, "after": None}
            _record(tx, "version.delete", str(version.ref), details, actor=actor, now=now)
        return version

    def diff(self, before: VersionQuery, after: VersionQuery) -> VersionDiff:
        """What changed from one version to another.

        Raises:
            ModelNotFound, VersionNotFound, AliasNotFound: one of them does not exist.
        """
        with self._database.reading() as tx:
            old, new = resolved(tx, before), resolved(tx, after)
        return VersionDiff(
            model=new.model,
            before=old.number,
            after=new.number,
            changes=differences(old.manifest, new.manifest),
        )

    def where(self, model: str) -> tuple[Usage, ...]:
        """The endpoints that use a model's versions, without their replicas.

        Raises:
            ModelNotFound: there is none of that name.
        """
        with self._database.reading() as tx:
            _check_model(tx, model)
            return usages(model, tx.endpoints.list())

    def sweep(self, *, unused_since: datetime) -> list[str]:
        """Deletes the bytes that no version points at, and gives their digests.

        Bytes written after `unused_since` are kept: they may belong to a register under way. So are
        all while a backup has a lease: it may want the bytes of a version that was just deleted.
        """
        swept = []
        for digest, written_at in self._artifacts.digests().items():
            if written_at >= unused_since:
                continue
            # One bundle per transaction: others may write between two deletions.
            with self._database.transaction() as tx:
                if digest in tx.versions.digests():
                    continue
                if self._artifacts.leases.any_since(unused_since):
                    break
                self._artifacts.delete(digest)
                swept.append(digest)
        return swept


def checked_alias(alias: str) -> str:
    """The alias itself, once it is known to be well formed.

    Raises:
        InvalidSpec: it is not a name, or is the reserved word `latest`.
    """
    if alias == "latest":
        raise InvalidSpec(
            "`latest` always means the newest version and cannot be an alias.",
            next_step="Choose another alias.",
        )
    return checked_name(alias, kind="alias")


def resolved(tx: Transaction, query: VersionQuery) -> VersionRecord:
    """The version that a query means, inside a transaction.

    Raises:
        ModelNotFound, VersionNotFound, AliasNotFound: with the nearest name.
    """
    _check_model(tx, query.model)
    numbers, aliases = tx.versions.numbers(query.model), tx.aliases.all_of(query.model)
    ref = VersionRef(query.model, picked_number(query, numbers, aliases))
    record = tx.versions.get(ref)
    if record is None:
        # PostgreSQL may let a deletion in between two reads.
        raise VersionNotFound.named(str(ref), ())
    return record


def _model(tx: Transaction, name: str) -> ModelRecord:
    _check_model(tx, name)
    model = tx.models.get(name)
    if model is None:
        raise ModelNotFound.named(name, ())
    return model


def _check_model(tx: Transaction, name: str) -> None:
    known = tx.models.names()
    if name not in known:
        raise ModelNotFound.named(
            name, siblings(name, known), next_step="`shipway models` lists the models."
        )


def _offered(bundle: Path) -> Manifest:
    check_manifest_size(bundle)
    try:
        check_paths(read_manifest(bundle))
        return verified_manifest(bundle)
    except BundleCorrupt as exc:
        # At load a corrupt bundle is the store's fault; here it is that of who offers it.
        file = exc.details.get("file", "")
        raise InvalidArtifact(
            f"The bundle is not whole: `{file}` is missing, or its bytes do not match the manifest.",
            next_step="Package the model again, then repeat the registration.",
            file=file,
        ) from exc


def _recorded(
    tx: Transaction, model: str, manifest: Manifest, *, actor: str, now: datetime
) -> tuple[VersionRecord, bool]:
    existing = tx.versions.with_digest(model, manifest.digest)
    if existing is not None:
        return existing, False
    ref = VersionRef(model, tx.models.take_number(model, at=now, by=actor))
    record = tx.versions.add(ref, manifest, at=now, by=actor)
    details = {"before": None, "after": {"digest": record.digest}}
    _record(tx, "version.register", str(ref), details, actor=actor, now=now)
    return record, True


def _record(
    tx: Transaction,
    action: str,
    subject: str,
    details: Mapping[str, Any],
    *,
    actor: str,
    now: datetime,
) -> None:
    tx.audit.append(
        Change(at=now, actor=actor, action=action, subject=subject, details=dict(details))
    )
