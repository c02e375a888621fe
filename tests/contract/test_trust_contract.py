"""Scans and signatures with the version, and what an environment's policy makes of them."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from pickle_shapes import calls

from shipway.bundles.signing import key_id_of, pem_of, private_key, signed
from shipway.control.audit import AuditLog
from shipway.control.changes import Request
from shipway.control.endpoints import Endpoints
from shipway.control.environments import Environments
from shipway.control.promotions import PromotionRequest, Promotions
from shipway.control.registry import Registry
from shipway.control.trust import SignatureRequest, Trust
from shipway.control.views import Seen
from shipway.core.bundles import Format, OnnxForm, Served
from shipway.core.errors import (
    BundleCorrupt,
    DangerousArtifact,
    InvalidRequest,
    InvalidSpec,
    PolicyUnmet,
    ShipwayError,
)
from shipway.core.observed import Observed
from shipway.core.scans import Substance
from shipway.core.versions import parse_version
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, tzinfo=UTC)
GRAPH = b"\x08\x09\x3a\x00"
CHURN = parse_version("churn:1")


class World:
    def __init__(self, database: Database, artifacts: ArtifactStore, tmp_path: Path) -> None:
        self.directory = tmp_path
        self.registry = Registry(database, artifacts)
        self.trust = Trust(
            database, lambda digest: artifacts.materialise(digest, tmp_path / "cache")
        )
        self.environments = Environments(database)
        self.promotions = Promotions(database)
        self.audit = AuditLog(database)
        seen = Seen(
            observed=Observed(replicas=(), gateways=(), revision="", settled=False),
            gateways=(), local={}, at=NOW,
        )  # fmt: skip
        self.endpoints = Endpoints(
            database, environment="production", seen=lambda: seen, poke=lambda: None,
            read_log=lambda *_: [],
        )  # fmt: skip

    def register(self, *, files: dict[str, bytes] | None = None, **content: Any) -> str:
        directory = self.directory / f"bundle-{len(list(self.directory.iterdir()))}"
        write_bundle(directory, **({} if files is None else {"files": files}), **content)
        record, _ = self.registry.register("churn", directory, actor="ada", now=NOW)
        return str(record.ref)

    def register_served_from_onnx(self) -> str:
        form = OnnxForm(path="onnx/model.onnx", feeds=(), outputs={})
        files = {"model/m.joblib": b"\x80\x04N.", "onnx/model.onnx": GRAPH}
        return self.register(files=files, onnx=form, served=Served.ONNX)

    def policy(self, **checks: Any) -> tuple[str, ...]:
        data = {"name": "production", "checks": checks}
        change = self.environments.apply("production", data, actor="eve", now=NOW, dry_run=False)
        return change.changes

    def promote(self, version: str) -> None:
        wanted = PromotionRequest(environment="production")
        self.promotions.promote(parse_version(version), wanted, actor="ada", now=NOW)

    def deploy(self, version: str, name: str = "churn") -> None:
        self.endpoints.deploy(name, {"model": version}, Request(actor="ada", now=NOW))

    def sign(self, version: str, key: Any, *, of: str | None = None) -> None:
        manifest = self.registry.version(parse_version(of or version)).manifest
        given = SignatureRequest(
            envelope=signed(manifest, key), public_key=pem_of(key.public_key())
        )
        self.trust.sign(parse_version(version), given, actor="ada", now=NOW)

    def load(self, version: str, environment: str = "production") -> Path:
        digest = self.registry.version(parse_version(version)).digest
        return self.trust.materialised(digest, environment)


@pytest.fixture
def world(database: Database, artifacts: ArtifactStore, tmp_path: Path) -> World:
    return World(database, artifacts, tmp_path)


KEY = ed25519.Ed25519PrivateKey.generate()
OTHER = ec.generate_private_key(ec.SECP256R1())


def signer(key: Any = KEY, name: str = "release") -> dict[str, str]:
    return {"name": name, "key": pem_of(key.public_key())}


def test_dangerous_bundle_leaves_nothing_behind(world: World) -> None:
    with pytest.raises(DangerousArtifact) as caught:
        world.register(files={"model/m.joblib": calls("os", "system")})
    error = caught.value
    assert "model/m.joblib" in error.message
    assert "os.system" in error.message
    assert error.details["file"] == "model/m.joblib"
    assert error.details["name"] == "os.system"
    assert error.details["offset"] > 0
    assert "SHIPWAY_ALLOWED_IMPORTS" in error.next_step
    assert world.registry.models() == []
    assert world.audit.newest() == []


def test_what_the_scan_found_is_kept_with_the_version(world: World) -> None:
    world.register()
    view = world.trust.of(CHURN)
    assert view.scan is not None
    assert (view.scan.at, view.scan.is_clean, view.substance) == (NOW, True, Substance.PICKLE)
    assert view.scan.digest == view.digest


def test_findings_in_python_code_are_remarks(world: World) -> None:
    files = {"model/model.py": b"import os", "model/w.pkl": calls("os", "system")}
    world.register(files=files, format=Format.PYTHON, artifact="model")
    view = world.trust.of(CHURN)
    assert view.scan is not None
    assert [one.name for one in view.scan.findings] == ["os.system"]
    assert (view.substance, view.scan.is_clean) == (Substance.CODE, False)


@pytest.mark.parametrize(
    ("level", "kind", "is_in"),
    [
        ("any", "pickle", True),
        ("any", "code", True),
        ("scanned", "pickle", True),
        ("scanned", "code", False),
        ("scanned", "onnx", True),
        ("safe-formats-only", "pickle", False),
        ("safe-formats-only", "code", False),
        ("safe-formats-only", "onnx", True),
    ],
)
def test_level_decides_what_comes_in_by_any_door(
    world: World, level: str, kind: str, *, is_in: bool
) -> None:
    code = {"model/model.py": b""}
    version = {
        "pickle": world.register,
        "code": lambda: world.register(files=code, format=Format.PYTHON, artifact="model"),
        "onnx": world.register_served_from_onnx,
    }[kind]()
    world.policy()
    world.promote(version)
    world.policy(artifacts=level)
    doors = (
        lambda: world.promote(version),
        lambda: world.deploy(version),
        lambda: world.registry.set_alias(
            parse_version(version), "production", actor="ada", now=NOW
        ),
    )
    for door in doors[: 3 if is_in else 2]:
        if is_in:
            door()
        else:
            with pytest.raises(PolicyUnmet):
                door()


def test_version_without_a_scan_is_not_scanned_until_it_is_registered_again(
    world: World, database: Database
) -> None:
    import sqlalchemy as sa

    from shipway.store.sql.tables import scans

    version = world.register()
    with database.transaction() as tx:
        tx.scans._connection.execute(sa.delete(scans))
    world.policy(artifacts="scanned")
    with pytest.raises(PolicyUnmet, match="not scanned"):
        world.promote(version)
    assert world.register() == version
    world.promote(version)


@pytest.mark.parametrize("key", [KEY, OTHER], ids=["Ed25519", "P-256"])
def test_signature_lets_in_exactly_the_bytes_that_were_signed(world: World, key: Any) -> None:
    version, changed = world.register(), world.register(files={"model/model.bin": b"!"})
    world.policy(artifacts="signed", signers=[signer(key)])
    with pytest.raises(PolicyUnmet, match="not signed"):
        world.promote(version)
    with pytest.raises(PolicyUnmet, match="no such signature"):
        world.load(version)
    world.sign(version, key)
    world.promote(version)
    world.deploy(version)
    assert world.load(version).is_dir()
    for attempt in (world.promote, world.load):
        with pytest.raises(PolicyUnmet):
            attempt(changed)
    with pytest.raises(InvalidRequest):
        world.sign(changed, key, of=version)


def test_signature_by_another_key_does_not_count(world: World) -> None:
    version = world.register()
    world.sign(version, OTHER)
    world.policy(artifacts="signed", signers=[signer(KEY)])
    for attempt in (world.promote, world.load):
        with pytest.raises(PolicyUnmet):
            attempt(version)


def test_signers_are_asked_for_beside_any_level(world: World) -> None:
    version = world.register_served_from_onnx()
    world.policy(artifacts="safe-formats-only", signers=[signer()])
    with pytest.raises(PolicyUnmet, match="not signed"):
        world.promote(version)
    world.sign(version, KEY)
    world.promote(version)


def test_key_that_is_taken_out_lets_nothing_in_any_more(world: World) -> None:
    version = world.register()
    world.policy(artifacts="signed", signers=[signer()])
    world.sign(version, KEY)
    world.promote(version)
    world.deploy(version)
    notes = world.policy(artifacts="signed", signers=[signer(OTHER, "new")])
    assert any("note: churn:1 serves behind `churn`" in line for line in notes)
    with pytest.raises(PolicyUnmet):
        world.deploy(version, "second")
    with pytest.raises(PolicyUnmet):
        world.load(version)


def test_environment_without_signers_loads_what_nobody_signed(world: World) -> None:
    version = world.register()
    world.policy(artifacts="scanned")
    assert world.load(version).is_dir()
    assert world.load(version, "elsewhere").is_dir()


def test_signature_is_put_on_record_once_for_each_key(world: World) -> None:
    version = world.register()
    for key in (KEY, OTHER, KEY):
        world.sign(version, key)
    view = world.trust.of(CHURN)
    assert {one.key_id for one in view.signatures} == {
        key_id_of(KEY.public_key()), key_id_of(OTHER.public_key())
    }  # fmt: skip
    events = [one for one in world.audit.newest() if one.action == "version.sign"]
    assert [one.subject for one in events] == ["churn:1"] * 3
    assert events[0].details["key_id"] == key_id_of(KEY.public_key())
    assert world.audit.first_broken_link() is None


def tampered(envelope: Any, **changes: Any) -> Any:
    return msgspec.structs.replace(envelope, **changes)


def test_envelope_must_say_what_is_registered_and_nothing_else(world: World) -> None:
    version = world.register()
    manifest = world.registry.version(parse_version(version)).manifest
    good = signed(manifest, KEY)
    (one,) = good.signatures
    pem = pem_of(KEY.public_key())
    bad = [
        tampered(good, payload=good.payload[:-8] + "AAAAAAA="),
        tampered(good, payload="no base64!"),
        tampered(good, payload_type="text/plain"),
        tampered(good, signatures=()),
        tampered(good, signatures=(msgspec.structs.replace(one, sig="AAAA"),)),
        tampered(good, signatures=(msgspec.structs.replace(one, sig="é"),)),
        signed(manifest, OTHER),
    ]
    for envelope in bad:
        with pytest.raises(InvalidRequest):
            world.trust.sign(
                CHURN, SignatureRequest(envelope=envelope, public_key=pem), actor="ada", now=NOW
            )
    with pytest.raises(InvalidSpec):
        world.trust.sign(
            CHURN, SignatureRequest(envelope=good, public_key="no key"), actor="ada", now=NOW
        )
    assert world.trust.of(CHURN).signatures == ()


def test_changed_byte_is_refused_at_the_next_load(world: World, place: Any) -> None:
    version = world.register()
    world.policy(artifacts="signed", signers=[signer()])
    world.sign(version, KEY)
    directory = world.load(version)
    if place.kind == "sqlite+directory":
        (directory / "model/model.bin").write_bytes(b"not a model, but other")
        with pytest.raises(BundleCorrupt):
            world.load(version)
        with pytest.raises(BundleCorrupt):
            world.trust.verified(CHURN)


def test_verification_reads_what_is_stored(world: World) -> None:
    world.register()
    found = world.trust.verified(CHURN)
    assert (found.files, found.version) == (2, "churn:1")


@pytest.mark.parametrize(
    "checks",
    [
        {"artifacts": "signed"},
        {"artifacts": "trusted"},
        {"signers": [{"name": "a", "key": "no key"}]},
        {"signers": [{"name": "a"}]},
        {"signers": [signer(), signer(OTHER)]},
        {"signers": [signer(ec.generate_private_key(ec.SECP384R1()))]},
        {"signers": [{**signer(), "kye": ""}]},
    ],
)
def test_policy_that_could_trust_nobody_is_refused(world: World, checks: dict[str, Any]) -> None:
    with pytest.raises(InvalidSpec):
        world.policy(**checks)


def test_key_files_are_read_or_refused_in_words(tmp_path: Path) -> None:
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key.pem").write_bytes(pem)
    assert key_id_of(private_key(tmp_path / "key.pem").public_key()) == key_id_of(KEY.public_key())
    locked = KEY.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "locked.pem").write_bytes(locked)
    (tmp_path / "text.pem").write_text("nothing")
    for name in ("locked.pem", "text.pem", "missing.pem"):
        with pytest.raises(ShipwayError) as caught:
            private_key(tmp_path / name)
        assert "secret" not in str(caught.value)
