"""The doctor on real states: sound ones, and each kind of damage."""

from __future__ import annotations

import shutil
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shipway.control.registry import Registry
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.health import Diagnosis, Level
from shipway.core.rollouts import RolloutPhase, begun
from shipway.core.strategies import Canary, RolloutPlan
from shipway.core.versions import VersionRef
from shipway.settings import Settings
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database, sqlite_url
from shipway.supervisor.doctor import state as doctor_state
from shipway.supervisor.doctor.visit import diagnoses
from shipway.supervisor.records import exclusive
from shipway.testing.bundles import write_bundle

NOW = datetime.now(UTC)  # noqa: TID251 - certificates and events are of today


def examined(state_dir: Path, *, deep: bool = False, **settings: Any) -> list[Diagnosis]:
    chosen = {"gateway_port": 0, "control_port": 0, "state_dir": state_dir} | settings
    return list(diagnoses(Settings(**chosen), deep=deep, now=NOW))


def wrong(found: list[Diagnosis]) -> dict[str, Level]:
    """What is not fine, by check."""
    return {one.check: one.level for one in found if one.level is not Level.OK}


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state directory with two versions, a key, and an endpoint."""
    place = tmp_path_factory.mktemp("sound")
    state_dir = place / "state"
    database = Database.open(sqlite_url(state_dir))
    registry = Registry(database, ArtifactStore(str(state_dir / "artifacts")))
    for number, size in ((1, 10), (2, 4000)):
        write_bundle(place / str(number), files={"model/model.bin": b"x" * size})
        registry.register("churn", place / str(number), actor="ada", now=NOW)
    database.close()
    (state_dir / "keys").mkdir(mode=0o700)
    (state_dir / "keys" / "admin").write_text("secret")
    (state_dir / "keys" / "admin").chmod(0o600)
    return state_dir


@pytest.fixture
def state_dir(sound: Path, tmp_path: Path) -> Path:
    """A copy of it, to be damaged."""
    return Path(shutil.copytree(sound, tmp_path / "state"))


def sql(state_dir: Path, *statements: str) -> None:
    with closing(sqlite3.connect(state_dir / "shipway.db")) as connection, connection:
        for statement in statements:
            connection.execute(statement)


def test_sound_state_has_nothing_wrong_and_every_part_is_looked_at(state_dir: Path) -> None:
    for deep in (False, True):
        found = examined(state_dir, deep=deep)
        assert wrong(found) == {}
        checks = {one.check for one in found}
        assert checks >= {"disk", "keys", "database", "audit", "clock", "artifacts", "server"}


def test_looking_makes_and_changes_nothing(state_dir: Path, tmp_path: Path) -> None:
    assert wrong(examined(tmp_path / "nowhere")) == {"database": Level.WARNING}
    assert not (tmp_path / "nowhere").exists()
    sql(state_dir, "UPDATE alembic_version SET version_num = '0001'")
    assert wrong(examined(state_dir)) == {"database": Level.WARNING}
    with closing(sqlite3.connect(state_dir / "shipway.db")) as connection:
        assert connection.execute("SELECT * FROM alembic_version").fetchall() == [("0001",)]


def test_port_of_another_program_is_found(state_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert wrong(examined(state_dir, gateway_port=port)) == {"ports": Level.PROBLEM}
    assert wrong(examined(state_dir, control_port=port)) == {}


def test_key_that_others_may_read_is_found(state_dir: Path) -> None:
    (state_dir / "keys" / "admin").chmod(0o644)
    assert wrong(examined(state_dir)) == {"keys": Level.PROBLEM}


def certificate(directory: Path, name: str, *, days: int, own_key: bool = True) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "shipway")])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(NOW - timedelta(days=100))
        .not_valid_after(NOW + timedelta(days=days))
        .sign(key, hashes.SHA256())
    )
    directory.mkdir(exist_ok=True)
    (directory / f"{name}.crt").write_bytes(made.public_bytes(Encoding.PEM))
    shown = key if own_key else ec.generate_private_key(ec.SECP256R1())
    path = directory / f"{name}.key"
    path.write_bytes(shown.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    path.chmod(0o600)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"days": 60}, {}),
        ({"days": 3}, {"certificates": Level.WARNING}),
        ({"days": -1}, {"certificates": Level.PROBLEM}),
        ({"days": 60, "own_key": False}, {"certificates": Level.PROBLEM}),
    ],
)
def test_certificates_are_read(
    state_dir: Path, options: dict[str, Any], expected: dict[str, Level]
) -> None:
    certificate(state_dir / "tls", "server", **options)
    found = examined(state_dir)
    assert wrong(found) == expected
    assert any(one.check == "certificates" for one in found)


def test_certificate_that_cannot_be_read_and_its_open_key_are_found(state_dir: Path) -> None:
    certificate(state_dir / "tls", "server", days=60)
    (state_dir / "tls" / "server.crt").write_text("-----BEGIN nothing-----")
    (state_dir / "tls" / "server.key").chmod(0o640)
    expected = {"certificates": Level.PROBLEM, "keys": Level.PROBLEM}
    assert wrong(examined(state_dir)) == expected


@pytest.mark.parametrize("part", ["header", "pages"])
def test_damaged_database_file_is_found(state_dir: Path, part: str) -> None:
    path = state_dir / "shipway.db"
    data = bytearray(path.read_bytes())
    where = slice(0, 50) if part == "header" else slice(4096, len(data) // 2)
    data[where] = b"\xa5" * len(data[where])
    path.write_bytes(data)
    assert wrong(examined(state_dir)) == {"database": Level.PROBLEM}


def test_row_that_refers_to_nothing_is_found(state_dir: Path) -> None:
    sql(state_dir, "INSERT INTO aliases (model, alias, number) VALUES ('churn', 'x', 9)")
    assert wrong(examined(state_dir)) == {"database": Level.PROBLEM}


def test_newer_schema_is_found(state_dir: Path) -> None:
    sql(state_dir, "UPDATE alembic_version SET version_num = '9999'")
    assert wrong(examined(state_dir)) == {"database": Level.PROBLEM}


def test_changed_audit_event_is_found(state_dir: Path) -> None:
    sql(state_dir, "UPDATE audit SET actor = 'mallory' WHERE sequence = 1")
    assert wrong(examined(state_dir)) == {"audit": Level.PROBLEM}


def test_event_of_tomorrow_is_found(state_dir: Path) -> None:
    database = Database.open(sqlite_url(state_dir))
    write_bundle(state_dir.parent / "late", files={"model/model.bin": b"late"})
    registry = Registry(database, ArtifactStore(str(state_dir / "artifacts")))
    registry.register("late", state_dir.parent / "late", actor="a", now=NOW + timedelta(days=1))
    database.close()
    assert wrong(examined(state_dir)) == {"clock": Level.PROBLEM}


@pytest.mark.parametrize(
    "damage", ["missing file", "shorter", "changed", "no manifest", "changed manifest", "no JSON"]
)
def test_damaged_bundle_is_found_and_its_version_named(state_dir: Path, damage: str) -> None:
    model = next(
        path for path in (state_dir / "artifacts").rglob("model.bin") if path.stat().st_size == 10
    )
    manifest = model.parents[1] / "shipway.json"
    match damage:
        case "missing file":
            model.unlink()
        case "shorter":
            model.write_bytes(b"x")
        case "changed":
            model.write_bytes(b"y" * 10)
        case "no manifest":
            manifest.unlink()
        case "changed manifest":
            manifest.write_bytes(manifest.read_bytes().replace(b"numpy==2.1.0", b"numpy==2.1.1"))
        case "no JSON":
            manifest.write_bytes(b"\xff")
    found = examined(state_dir)
    assert wrong(found) == {"artifacts": Level.PROBLEM}
    assert "churn:1" in next(one.message for one in found if one.check == "artifacts")


def test_large_bundles_are_read_only_when_asked(
    state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor_state, "QUICK_BYTES", 1000)
    large = next(
        path for path in (state_dir / "artifacts").rglob("model.bin") if path.stat().st_size == 4000
    )
    large.write_bytes(b"y" * 4000)
    assert wrong(examined(state_dir)) == {}
    assert wrong(examined(state_dir, deep=True)) == {"artifacts": Level.PROBLEM}


def test_stuck_rollout_is_found_from_the_database_alone(state_dir: Path) -> None:
    one, two = VersionRef("churn", 1), VersionRef("churn", 2)
    plan = RolloutPlan(stages=(Canary(),))
    rollout = begun(plan, one, two, id="r", place=("dev", "churn"), actor="a", now=NOW)
    database = Database.open(sqlite_url(state_dir))
    for age_s, expected in ((1.0, {}), (7 * 86400.0, {"rollouts": Level.PROBLEM})):
        running = msgspec.structs.replace(
            rollout, phase=RolloutPhase.RUNNING, since=NOW - timedelta(seconds=age_s)
        )
        state = EndpointState(
            spec=EndpointSpec(name="churn", model="churn:2", environment="dev"),
            generation=1, phase=Phase.RELEASING, active=one, target=two, rollout=running,
        )  # fmt: skip
        with database.transaction() as tx:
            tx.endpoints.delete("dev", "churn")
            tx.endpoints.put(state, expected_generation=None)
        assert wrong(examined(state_dir)) == expected
    database.close()


@pytest.fixture
def left_behind(state_dir: Path) -> Iterator[int]:
    """A process that looks like a gateway of this directory, whose server is gone."""
    (state_dir / "run").mkdir()
    code = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", code, "--state-dir", str(state_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        record = msgspec.json.encode({"pid": process.pid})
        (state_dir / "run" / "gateway-1.json").write_bytes(record)
        yield process.pid


def test_process_that_was_left_behind_is_found(state_dir: Path, left_behind: int) -> None:
    found = examined(state_dir)
    assert wrong(found) == {"processes": Level.WARNING}
    assert str(left_behind) in next(one.message for one in found if one.check == "processes")


def test_server_that_does_not_answer_is_found(state_dir: Path) -> None:
    with exclusive(state_dir, "control"):
        record = {"pid": 1, "url": "http://127.0.0.1:9"}
        (state_dir / "run" / "control.json").write_bytes(msgspec.json.encode(record))
        assert wrong(examined(state_dir)) == {"server": Level.PROBLEM}
    assert wrong(examined(state_dir)) == {}
