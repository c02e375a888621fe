"""The registry's laws, the same on SQLite with a directory and on PostgreSQL with S3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from shipway.control.audit import AuditLog
from shipway.control.registry import Registry
from shipway.core.bundles import BundleFile, Manifest
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.errors import (
    AliasNotFound,
    InvalidArtifact,
    InvalidSpec,
    ModelNotFound,
    VersionInUse,
    VersionNotFound,
)
from shipway.core.registry import VersionRecord
from shipway.core.versions import VersionRef, parse_version
from shipway.engines.bundle import verified_manifest
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database
from shipway.store.sql.tables import audit as table
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)


def bundle(tmp_path: Path, data: bytes = b"one", **options: Any) -> Path:
    directory = tmp_path / f"bundle-{data.decode()}"
    write_bundle(directory, files={"model/model.bin": data, "examples.json": b"{}"}, **options)
    return directory


def add(registry: Registry, directory: Path, model: str = "churn") -> tuple[VersionRecord, bool]:
    return registry.register(model, directory, actor="ada", now=NOW)


def test_registered_version_has_its_bytes_its_manifest_and_its_record(
    registry: Registry, artifacts: ArtifactStore, audit: AuditLog, tmp_path: Path
) -> None:
    manifest = write_bundle(tmp_path / "bundle", metrics={"auc": 0.9})
    record, created = add(registry, tmp_path / "bundle")
    assert created
    assert (record.number, record.created_by, record.created_at) == (1, "ada", NOW)
    assert record.metrics == {"auc": 0.9}
    assert artifacts.holds(manifest)
    assert registry.has_bundle(record.digest)
    assert registry.version(parse_version("churn:1")) == record
    assert record.manifest == manifest
    (event,) = audit.newest()
    assert (event.action, event.subject, event.actor) == ("version.register", "churn:1", "ada")
    assert event.details["after"] == {"digest": manifest.digest}


def test_same_bundle_again_gives_the_version_that_is_there(
    registry: Registry, audit: AuditLog, tmp_path: Path
) -> None:
    first, _ = add(registry, bundle(tmp_path))
    second, created = add(registry, bundle(tmp_path))
    assert (second, created) == (first, False)
    assert len(audit.newest()) == 1
    other, created = add(registry, bundle(tmp_path), model="other")
    assert (other.model, other.number, created) == ("other", 1, True)


def test_version_is_found_by_number_alias_and_as_newest(registry: Registry, tmp_path: Path) -> None:
    add(registry, bundle(tmp_path, b"one"))
    add(registry, bundle(tmp_path, b"two"))
    registry.set_alias(parse_version("churn:1"), "champion", actor="ada", now=NOW)
    assert registry.version(parse_version("churn")).number == 2
    assert registry.version(parse_version("churn@champion")).number == 1
    model = registry.model("churn")
    assert model.aliases == {"champion": 1}
    assert [version.aliases for version in model.versions] == [("champion",), ()]
    assert registry.models() == [model]


@pytest.mark.parametrize(
    ("text", "error", "nearest"),
    [
        ("chrun:1", ModelNotFound, "`churn`"),
        ("churn:7", VersionNotFound, "`churn:1`"),
        ("churn@champoin", AliasNotFound, "`churn@champion`"),
    ],
)
def test_unknown_name_is_answered_with_the_nearest_one(
    registry: Registry, tmp_path: Path, text: str, error: type[Exception], nearest: str
) -> None:
    add(registry, bundle(tmp_path))
    registry.set_alias(parse_version("churn:1"), "champion", actor="ada", now=NOW)
    with pytest.raises(error, match=nearest):
        registry.version(parse_version(text))


def test_alias_moves_with_a_record_of_before_after_and_reason(
    registry: Registry, audit: AuditLog, tmp_path: Path
) -> None:
    add(registry, bundle(tmp_path, b"one"))
    add(registry, bundle(tmp_path, b"two"))
    registry.set_alias(parse_version("churn:1"), "champion", actor="ada", now=NOW)
    change = registry.set_alias(
        parse_version("churn:2"), "champion", actor="bob", now=NOW, reason="better"
    )
    assert (change.previous, change.version) == (1, 2)
    registry.delete_alias("churn", "champion", actor="bob", now=NOW, reason="done")
    deleted, moved, *_ = audit.newest(subject="churn@champion")
    assert moved.details == {"before": 1, "after": 2, "reason": "better"}
    assert deleted.details == {"before": 2, "after": None, "reason": "done"}
    with pytest.raises(AliasNotFound):
        registry.delete_alias("churn", "champion", actor="bob", now=NOW)


def test_alias_set_where_it_points_already_leaves_no_record(
    registry: Registry, audit: AuditLog, tmp_path: Path
) -> None:
    add(registry, bundle(tmp_path))
    for _ in range(2):
        registry.set_alias(parse_version("churn:1"), "champion", actor="ada", now=NOW)
    assert len(audit.newest(subject="churn@champion")) == 1


@pytest.mark.parametrize("alias", ["latest", "Not Good", ""])
def test_alias_must_be_a_name_and_not_latest(
    registry: Registry, tmp_path: Path, alias: str
) -> None:
    add(registry, bundle(tmp_path))
    with pytest.raises(InvalidSpec):
        registry.set_alias(parse_version("churn:1"), alias, actor="ada", now=NOW)


def serving(ref: VersionRef) -> EndpointState:
    spec = EndpointSpec(name="live", model=str(ref))
    return EndpointState(spec=spec, generation=1, phase=Phase.LIVE, active=ref)


def test_version_in_use_is_not_deleted_and_its_users_are_named(
    registry: Registry, database: Database, tmp_path: Path
) -> None:
    record, _ = add(registry, bundle(tmp_path))
    registry.set_alias(parse_version("churn:1"), "champion", actor="ada", now=NOW)
    with database.transaction() as tx:
        tx.endpoints.put(serving(record.ref), expected_generation=None)
    with pytest.raises(VersionInUse, match=r"alias `champion`, endpoint `live` \(primary\)"):
        registry.delete_version(parse_version("churn:1"), actor="ada", now=NOW)
    (usage,) = registry.where("churn")
    assert (usage.endpoint, usage.version, usage.role.value) == ("live", "churn:1", "primary")


def test_number_of_a_deleted_version_is_never_given_out_again(
    registry: Registry, tmp_path: Path
) -> None:
    add(registry, bundle(tmp_path))
    registry.delete_version(parse_version("churn:1"), actor="ada", now=NOW)
    with pytest.raises(VersionNotFound):
        registry.version(parse_version("churn"))
    record, created = add(registry, bundle(tmp_path))
    assert (record.number, created) == (2, True)


def test_sweep_takes_only_old_bytes_that_no_version_points_at(
    registry: Registry, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    kept, _ = add(registry, bundle(tmp_path, b"kept"))
    gone, _ = add(registry, bundle(tmp_path, b"gone"))
    registry.delete_version(parse_version("churn:2"), actor="ada", now=NOW)
    newest = max(artifacts.digests().values())
    assert registry.sweep(unused_since=newest - timedelta(hours=1)) == []
    assert registry.sweep(unused_since=newest + timedelta(seconds=2)) == [gone.digest]
    assert registry.has_bundle(kept.digest)
    assert not registry.has_bundle(gone.digest)
    assert set(artifacts.digests()) == {kept.digest}


def test_bytes_swept_between_upload_and_row_are_uploaded_again(
    database: Database, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    class SweptOnce(ArtifactStore):
        swept = False

        def put_bundle(self, directory: Path, manifest: Manifest) -> None:
            artifacts.put_bundle(directory, manifest)
            if not self.swept:
                artifacts.delete(manifest.digest)
                self.swept = True

        def holds(self, manifest: Manifest) -> bool:
            return artifacts.holds(manifest)

    racing = SweptOnce(str(tmp_path / "unused"))
    record, created = add(Registry(database, racing), bundle(tmp_path))
    assert created
    assert artifacts.holds(record.manifest)


def test_corrupted_byte_is_refused_naming_the_file_and_nothing_is_kept(
    registry: Registry, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    directory = bundle(tmp_path)
    (directory / "model/model.bin").write_bytes(b"onE")
    with pytest.raises(InvalidArtifact, match=r"`model/model\.bin`"):
        add(registry, directory)
    assert registry.models() == []
    assert artifacts.digests() == {}


@pytest.mark.parametrize("path", ["../escape", "/etc/passwd", "a/../../b", "shipway.json", "a//b"])
def test_manifest_that_names_a_file_outside_its_bundle_is_refused(
    registry: Registry, artifacts: ArtifactStore, tmp_path: Path, path: str
) -> None:
    file = BundleFile(path=path, sha256="0" * 64, size_bytes=0)
    write_bundle(tmp_path / "bundle", files_in_manifest=(file,))
    with pytest.raises(InvalidArtifact, match="no bundle may hold"):
        add(registry, tmp_path / "bundle")
    assert artifacts.digests() == {}


def test_registering_again_heals_damaged_bytes(
    registry: Registry, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    record, _ = add(registry, bundle(tmp_path))
    broken = tmp_path / "broken"
    write_bundle(broken, files={"model/model.bin": b"one", "examples.json": b"{}"})
    (broken / "model/model.bin").write_bytes(b"onE")
    artifacts.put_bundle(broken, record.manifest)
    add(registry, bundle(tmp_path))
    materialised = artifacts.materialise(record.digest, tmp_path / "cache")
    assert verified_manifest(materialised, record.digest) == record.manifest


def test_many_registers_at_once_give_each_bundle_one_version(
    database: Database, artifacts: ArtifactStore, audit: AuditLog, tmp_path: Path
) -> None:
    directories = [bundle(tmp_path, f"b{n % 4}".encode()) for n in range(4)] * 4
    registry = Registry(database, artifacts)
    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(lambda directory: add(registry, directory), directories))
    assert sum(created for _, created in results) == 4
    assert {record.number for record, _ in results} == {1, 2, 3, 4}
    assert len({(record.number, record.digest) for record, _ in results}) == 4
    assert audit.first_broken_link() is None
    assert len(audit.newest()) == 4


def test_diff_says_what_changed_between_two_versions(registry: Registry, tmp_path: Path) -> None:
    add(registry, bundle(tmp_path, b"one", metrics={"auc": 0.8}))
    add(registry, bundle(tmp_path, b"two", metrics={"auc": 0.9}))
    found = registry.diff(parse_version("churn:1"), parse_version("churn"))
    assert (found.before, found.after) == (1, 2)
    names = [(change.section.value, change.name) for change in found.changes]
    assert names == [("metrics", "auc"), ("files", "model/model.bin")]


def test_tampered_audit_record_is_found(
    registry: Registry, database: Database, audit: AuditLog, tmp_path: Path
) -> None:
    for data in (b"one", b"two", b"three"):
        add(registry, bundle(tmp_path, data))
    assert audit.first_broken_link() is None
    with database._engine.begin() as connection:
        connection.execute(
            sa.update(table).where(table.c.sequence == 2).values(actor="somebody else")
        )
    broken = audit.first_broken_link()
    assert broken is not None
    assert broken.sequence == 2
