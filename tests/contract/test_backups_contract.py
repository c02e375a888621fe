"""Backup and restore: the same on SQLite with a directory and on PostgreSQL with S3, and from one to the other."""

from __future__ import annotations

import gzip
import json
import os
import signal
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import timedelta
from hashlib import sha256
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import pytest
import sqlalchemy as sa

from shipway.control.registry import Registry
from shipway.core.backups import BackupManifest, KeptFile
from shipway.core.errors import (
    BackupCorrupt,
    BundleCorrupt,
    InvalidSpec,
    SchemaTooNew,
    StateUnusable,
    StoreUnavailable,
    TargetTaken,
)
from shipway.core.versions import VersionQuery, parse_version
from shipway.store.backups import places
from shipway.store.backups.archive import archived, entry_of, members, sealed_manifest
from shipway.store.backups.places import _ObjectPlace, place_of
from shipway.store.backups.restoring import _reset_sequences, _Restore
from shipway.store.backups.writing import _Contents
from shipway.store.sql import migration
from shipway.store.sql.database import Database, sqlite_url
from shipway.store.sql.engine import create_engine
from shipway.store.sql.tables import metadata
from shipway.testing.bundles import CREATED_AT, write_bundle

HERE = Path(__file__).parent
SCRIPT = HERE / "backing_up.py"


def _module(name: str) -> Any:
    spec = spec_from_file_location(name, HERE / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


world = _module("backup_world")
NOW = world.NOW
EMBEDDED, AT_SCALE = "sqlite+directory", "postgresql+s3"


@pytest.fixture
def new_home(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[str], Any]:
    """Makes an empty home of a kind."""
    Place = _module("conftest").Place

    def make(kind: str) -> Any:
        state = tmp_path / f"home-{uuid4().hex[:8]}"
        if kind == EMBEDDED:
            place = Place(
                kind=kind, database_url=sqlite_url(state), artifacts_url=str(state / "artifacts")
            )
            return world.Home(place=place, state_dir=state)
        server = request.getfixturevalue("s3_server")
        place = Place(
            kind=kind,
            database_url=request.getfixturevalue("new_postgresql_database")(),
            artifacts_url=f"{server.url}/{uuid4().hex}",
            environment=server.environment,
        )
        return world.Home(place=place, state_dir=state)

    return make


@pytest.fixture
def home(place: Any, tmp_path: Path) -> Any:
    return world.Home(place=place, state_dir=tmp_path / "state")


@pytest.fixture
def embedded(new_home: Callable[[str], Any]) -> Any:
    """A small state of one model, with keys."""
    home = new_home(EMBEDDED)
    furnish(home)
    return home


def furnish(home: Any) -> None:
    with opened(home) as database:
        bundle = home.state_dir.parent / f"bundle-{uuid4().hex}"
        write_bundle(bundle)
        Registry(database, home.place.artifacts()).register(
            "churn", bundle, actor="ada", now=CREATED_AT
        )
    for name, mode in (("keys/admin", 0o600), ("tls/server.pem", 0o644)):
        path = home.state_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(mode)


@contextmanager
def opened(home: Any) -> Iterator[Database]:
    database = home.place.database()
    try:
        yield database
    finally:
        database.close()


@pytest.mark.parametrize("away", [EMBEDDED, AT_SCALE])
def test_backup_under_write_load_restores_as_one_moment_with_nothing_lost(
    home: Any, away: str, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    target, backup = new_home(away), str(tmp_path / "backup.tar")
    with opened(home) as database:
        for number in range(3):
            world.one_round(database, home, tmp_path / "first" / str(number), "model-0")
        with world.writers(home, tmp_path / "bundles"):
            while len(names(database)) < 3:
                pass
            before = head(database)
            made = home.back_up(backup).manifest
        after = head(database)
        chain = chain_of(database)
    assert before <= made.audit.sequence < after, "nobody wrote while the backup ran"
    assert target.restore(backup) == made
    with opened(target) as database:
        world.require_one_moment(database)
        assert chain_of(database) == chain[: made.audit.sequence]
        assert {t.name: t.rows for t in made.tables} == {
            name: len(rows) for name, rows in world.contents(database).items()
        }
        require_bundles(database, target, tmp_path / "cache")


def names(database: Database) -> list[str]:
    with database.reading() as tx:
        return list(tx.models.names())


def head(database: Database) -> int:
    with database.reading() as tx:
        return int(tx.audit.newest(limit=1)[0].sequence)


def chain_of(database: Database) -> list[Any]:
    with database.reading() as tx:
        return list(tx.audit.chain())


def require_bundles(database: Database, home: Any, cache: Path) -> None:
    """Passes when each version's bytes are there and match their digests."""
    artifacts = home.place.artifacts()
    registry = Registry(database, artifacts)
    for model in registry.models():
        for version in model.versions:
            record = registry.version(VersionQuery(model.name, version.number))
            for file in record.manifest.content.files:
                artifacts.read(record.digest, file)
            artifacts.materialise(record.digest, cache)


@pytest.mark.parametrize("away", [EMBEDDED, AT_SCALE])
def test_every_value_of_every_table_comes_back_from_one_database_to_the_other(
    home: Any, away: str, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    furnish(home)
    with opened(home) as database:
        world.fill(database)
        wanted = world.contents(database)
    assert all(wanted.values()), "a table without rows shows nothing"
    target = new_home(away)
    first = home.back_up(str(tmp_path / "backup.tar")).manifest
    assert {t.name: [c.name for c in t.columns] for t in first.tables} == {
        t.name: [c.name for c in t.columns] for t in metadata.sorted_tables
    }
    target.restore(str(tmp_path / "backup.tar"))
    with opened(target) as database:
        assert repr(world.contents(database)) == repr(wanted)
    # A backup of what was restored says the same of every table, whatever the database.
    second = target.back_up(str(tmp_path / "second.tar")).manifest
    assert (second.tables, second.audit) == (first.tables, first.audit)


@pytest.mark.parametrize("place", [AT_SCALE], indirect=True)
def test_backup_in_an_object_store_is_made_checked_and_restored(
    home: Any, s3_server: Any, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    furnish(home)
    url = f"{s3_server.url}/backups-{uuid4().hex}/"
    made = home.back_up(url)
    assert made.place == f"{url}shipway-{NOW:%Y%m%dT%H%M%SZ}.tar"
    with pytest.raises(TargetTaken):
        home.back_up(made.place)
    target = new_home(EMBEDDED)
    assert target.restore(made.place, s3_server.environment) == made.manifest
    with opened(target) as database:
        require_bundles(database, target, tmp_path / "cache")


def test_keys_come_back_with_their_modes_or_stay_away_on_request(
    embedded: Any, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    embedded.back_up(str(tmp_path / "with.tar"))
    embedded.back_up(str(tmp_path / "without.tar"), with_keys=False)
    assert (tmp_path / "with.tar").stat().st_mode & 0o777 == 0o600
    target = new_home(EMBEDDED)
    target.restore(str(tmp_path / "with.tar"))
    for name, mode in (("keys/admin", 0o600), ("tls/server.pem", 0o644)):
        path = target.state_dir / name
        assert (path.read_text(), path.stat().st_mode & 0o777) == (name, mode)
    bare = new_home(EMBEDDED)
    assert bare.restore(str(tmp_path / "without.tar")).files == ()
    assert not (bare.state_dir / "keys").exists()


def test_witness_of_the_audit_knows_no_more_than_the_database_and_archives_no_less(
    embedded: Any,
    new_home: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    audit = embedded.state_dir / "audit"
    (audit / "archive").mkdir(parents=True)
    (audit / "heads.jsonl").write_text("1\n")
    copied = _Contents._bundle

    def sign_and_prune(self: Any, digest: str) -> Any:
        (audit / "heads.jsonl").write_text("1\n2\n")
        (audit / "archive" / "1-7").write_text("events")
        return copied(self, digest)

    monkeypatch.setattr(_Contents, "_bundle", sign_and_prune)
    embedded.back_up(str(tmp_path / "backup.tar"), with_keys=False)
    target = new_home(EMBEDDED)
    target.restore(str(tmp_path / "backup.tar"))
    assert (target.state_dir / "audit" / "heads.jsonl").read_text() == "1\n"
    assert (target.state_dir / "audit" / "archive" / "1-7").read_text() == "events"


def test_file_that_is_cut_while_it_is_read_makes_no_backup(
    embedded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry_of_file = _Contents._file

    def cut(self: Any, path: Path) -> Any:
        entry = entry_of_file(self, path)
        path.write_text("")
        return entry

    monkeypatch.setattr(_Contents, "_file", cut)
    with pytest.raises(StateUnusable, match="was cut"):
        embedded.back_up(str(tmp_path / "backup.tar"))
    assert not (tmp_path / "backup.tar").exists()


def test_what_else_is_stored_beside_a_bundle_comes_back_too(
    embedded: Any, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    artifacts = embedded.place.artifacts()
    (digest,) = artifacts.digests()
    (tmp_path / "signature").write_bytes(b"signed")
    artifacts.put_object(digest, "model.sig", tmp_path / "signature")
    embedded.back_up(str(tmp_path / "backup.tar"))
    target = new_home(EMBEDDED)
    target.restore(str(tmp_path / "backup.tar"))
    assert b"".join(target.place.artifacts().chunks(digest, "model.sig")) == b"signed"


# What is wrong with a backup is found.


@pytest.fixture
def small(embedded: Any, tmp_path: Path) -> bytes:
    """A whole backup."""
    embedded.back_up(str(tmp_path / "small.tar"))
    return (tmp_path / "small.tar").read_bytes()


def seal_holds(data: bytes, *, size: int = 1 << 16) -> BackupManifest:
    chunks = (data[at : at + size] for at in range(0, len(data), size))
    return sealed_manifest(chunks, place="backup.tar")


def test_any_byte_that_changes_anywhere_is_found(small: bytes) -> None:
    assert seal_holds(small) == seal_holds(small, size=7)
    damaged = bytearray(small)
    for position in range(len(small)):
        damaged[position] ^= 1 << position % 8
        with pytest.raises(BackupCorrupt):
            seal_holds(bytes(damaged))
        damaged[position] = small[position]


def test_backup_that_ends_early_or_late_is_found(small: bytes) -> None:
    for length in range(0, len(small), 97):
        with pytest.raises(BackupCorrupt):
            seal_holds(small[:length])
    for more in (b"\0", b"\0" * 512, small):
        with pytest.raises(BackupCorrupt):
            seal_holds(small + more)


def resealed(small: bytes, change: Callable[[str, bytes], bytes]) -> bytes:
    """The backup with other members and a seal that fits, as somebody who means harm makes it."""
    found = [(m.name, m.stream.read()) for m in members([small], place="small")]
    entries = [entry_of(name, change(name, data)) for name, data in found if name != "seal.json"]
    return b"".join(archived(entries))


def without_last_row(data: bytes) -> bytes:
    return gzip.compress(b"".join(gzip.decompress(data).splitlines(keepends=True)[:-1]))


@pytest.mark.parametrize(
    ("meant", "exchange"),
    [
        ("tables/audit/000001.jsonl.gz", without_last_row),
        ("tables/models/000001.jsonl.gz", without_last_row),  # versions refer to it
        ("tables/versions/000001.jsonl.gz", without_last_row),  # nothing refers to it
        ("tables/versions/000001.jsonl.gz", lambda data: data[:-9]),
        ("tables/versions/000001.jsonl.gz", lambda _: gzip.compress(b"[1]\n")),
        ("model/model.bin", lambda data: data[:-1] + b"!"),
        ("shipway.json", lambda data: data.replace(b"numpy==2.1.0", b"numpy==2.1.1")),
        ("files/keys/admin", lambda _: b"another"),
        ("manifest.json", lambda data: data.replace(b'"count":1', b'"count":2')),
        ("manifest.json", lambda data: data.replace(b'"sequence":1', b'"sequence":2')),
        ("manifest.json", lambda data: data.replace(b'"name":"audit"', b'"name":"other"')),
    ],
)
def test_member_that_was_exchanged_under_a_new_seal_is_found_and_nothing_is_restored(
    small: bytes,
    meant: str,
    exchange: Callable[[bytes], bytes],
    new_home: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    forged = resealed(small, lambda name, data: exchange(data) if name.endswith(meant) else data)
    assert forged != small
    path = tmp_path / "forged.tar"
    path.write_bytes(forged)
    target = new_home(EMBEDDED)
    with pytest.raises(BackupCorrupt):
        target.restore(str(path))
    assert tables_of(target) == []


@pytest.mark.parametrize("name", ["bundles/{hex}/../../../../escaped", "files/../escaped"])
def test_member_that_would_leave_its_directory_is_refused(
    small: bytes, name: str, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    found = [(m.name, m.stream.read()) for m in members([small], place="small")]
    inside = next(i for i, (n, _) in enumerate(found) if n.split("/")[0] == name.split("/")[0])
    name = name.replace("{hex}", found[inside][0].split("/")[1])
    found.insert(inside + 1, (name, b"escaped"))
    manifest = msgspec.json.decode(found[-2][1], type=BackupManifest)
    kept = KeptFile(path="../escaped", mode=0o600, sha256=sha256(b"escaped").hexdigest())
    manifest = msgspec.structs.replace(manifest, files=(*manifest.files, kept))
    found[-2] = (found[-2][0], msgspec.json.encode(manifest))
    entries = [entry_of(n, data) for n, data in found if n != "seal.json"]
    (tmp_path / "hostile.tar").write_bytes(b"".join(archived(entries)))
    with pytest.raises(BackupCorrupt):
        new_home(EMBEDDED).restore(str(tmp_path / "hostile.tar"))
    assert not list(tmp_path.rglob("escaped"))


def test_chain_that_was_broken_before_the_backup_is_restored_as_it_was_and_told(
    embedded: Any, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    with opened(embedded) as database, database._engine.begin() as connection:
        connection.execute(sa.text("UPDATE audit SET actor = 'mallory'"))
    embedded.back_up(str(tmp_path / "backup.tar"))
    target = new_home(EMBEDDED)
    broken = target.restored(str(tmp_path / "backup.tar"))
    assert (broken.sequence, broken.reason) == (1, "event 1 was changed")
    with opened(target) as database:
        assert [event.actor for event in chain_of(database)] == ["mallory"]


def tables_of(home: Any) -> list[str]:
    engine = create_engine(home.place.database_url)
    try:
        return list(sa.inspect(engine).get_table_names())
    finally:
        engine.dispose()


def test_backup_is_a_tar_that_other_programs_read(small: bytes, tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "small.tar") as tar:
        names = tar.getnames()
    assert names[-2:] == ["manifest.json", "seal.json"]
    assert "files/keys/admin" in names


# What ends in the middle leaves nothing that looks whole.


@contextmanager
def child(home: Any, backup: str, **options: Any) -> Iterator[subprocess.Popen[str]]:
    order = {
        "database_url": home.place.database_url,
        "artifacts_url": home.place.artifacts_url,
        "environment": home.place.environment,
        "state_dir": str(home.state_dir),
        "backup": backup,
        "die_at": "",
        "file_limit": 0,
        "restore": False,
    } | options
    pipe = subprocess.PIPE
    command = [sys.executable, str(SCRIPT), json.dumps(order)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate("go\n", timeout=120)
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def dies(home: Any, backup: str, **options: Any) -> None:
    with child(home, backup, **options) as process:
        process.communicate("go\n", timeout=120)
        assert process.returncode == -signal.SIGKILL


@pytest.mark.parametrize(
    "moment", ["rows written", "bundles written", "nothing read back", "no name taken"]
)
def test_kill_9_in_the_middle_of_a_backup_leaves_no_file_that_looks_whole(
    embedded: Any, tmp_path: Path, moment: str
) -> None:
    backup = tmp_path / "backups" / "night.tar"
    dies(embedded, str(backup), die_at=moment)
    left = list(backup.parent.iterdir())
    assert [path.suffix for path in left] == [".partial"]
    assert left[0].name.startswith(".night.tar.")
    embedded.back_up(str(backup))
    assert seal_holds(backup.read_bytes()).bundles.count == 1


@pytest.mark.parametrize("moment", ["rows written", "bundles written"])
@pytest.mark.parametrize("place", [AT_SCALE], indirect=True)
def test_kill_9_in_the_middle_of_an_upload_leaves_no_object(
    home: Any, s3_server: Any, moment: str
) -> None:
    furnish(home)
    url = f"{s3_server.url}/backups-{uuid4().hex}/night.tar"
    dies(home, url, die_at=moment)
    place = place_of(url, now=NOW, environment=s3_server.environment)
    place.require_free()
    assert home.back_up(url).manifest.bundles.count == 1


@pytest.mark.parametrize("moment", ["rows restored", "bundles restored", "all restored"])
@pytest.mark.parametrize("away", [EMBEDDED, AT_SCALE])
def test_restore_that_was_killed_is_begun_again_and_gives_the_same(
    embedded: Any, moment: str, away: str, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    with opened(embedded) as database:
        world.fill(database)
        wanted = world.contents(database)
    backup = str(tmp_path / "backup.tar")
    embedded.back_up(backup)
    target = new_home(away)
    dies(target, backup, die_at=moment, restore=True)
    assert tables_of(target) == []
    target.restore(backup)
    with opened(target) as database:
        assert world.contents(database) == wanted


def test_full_disk_is_told_and_leaves_no_file(embedded: Any, tmp_path: Path) -> None:
    backup = tmp_path / "backups" / "night.tar"
    write_bundle(tmp_path / "large", files={"model/model.bin": b"\0" + os.urandom(200_000)})
    with opened(embedded) as database:
        registry = Registry(database, embedded.place.artifacts())
        registry.register("large", tmp_path / "large", actor="ada", now=NOW)
    with child(embedded, str(backup), file_limit=100_000) as process:
        answer = told(process)
    assert answer["code"] == "store_unavailable"
    assert str(backup) in answer["message"]
    assert "Free some space" in answer["next_step"]
    assert list(backup.parent.iterdir()) == []


def test_two_backups_at_once_to_one_name_give_one_whole_backup(
    embedded: Any, tmp_path: Path
) -> None:
    backup = str(tmp_path / "night.tar")
    with (
        child(embedded, backup) as one,
        child(embedded, backup) as two,
        ThreadPoolExecutor(2) as pool,
    ):
        answers = list(pool.map(told, (one, two)))
    assert sum(answer.get("code") == "target_taken" for answer in answers) == 1
    assert seal_holds(Path(backup).read_bytes()).bundles.count == 1
    assert list(tmp_path.glob(".night*")) == []


@pytest.mark.parametrize("remote", [False, True])
def test_backup_that_does_not_read_back_as_it_was_written_is_not_kept(
    embedded: Any,
    *,
    remote: bool,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target, environment, read = str(tmp_path / "b" / "night.tar"), {}, places._chunks_of
    if remote:
        server = request.getfixturevalue("s3_server")
        target, environment = f"{server.url}/backups-{uuid4().hex}/night.tar", server.environment
        read = _ObjectPlace.read
    owner, name = (_ObjectPlace, "read") if remote else (places, "_chunks_of")
    monkeypatch.setattr(owner, name, lambda place: [b"".join(read(place))[:-1]])
    place = place_of(target, now=NOW, environment=environment)
    with pytest.raises(BackupCorrupt):
        embedded.write_to(place)
    place.require_free()
    assert remote or list((tmp_path / "b").iterdir()) == []


def test_directory_as_a_target_gets_a_file_named_by_the_time(embedded: Any, tmp_path: Path) -> None:
    name = f"shipway-{NOW:%Y%m%dT%H%M%SZ}.tar"
    (tmp_path / "there").mkdir()
    for target in (str(tmp_path / "there"), f"{tmp_path}/new/", f"file://{tmp_path}/third/"):
        assert Path(embedded.back_up(target).place).name == name
    for target in ("s3://", "s3://bucket"):
        with pytest.raises(InvalidSpec):
            place_of(target, now=NOW, environment={})


# What a backup needs stays, and what is in the way is said.


def test_lease_is_seen_by_others_from_when_it_is_taken_until_it_ends(home: Any) -> None:
    one, two = home.place.artifacts(), home.place.artifacts()
    long_ago, to_come = NOW - timedelta(days=9000), NOW + timedelta(days=9000)
    with one.leases.taken() as renew:
        assert two.leases.any_since(long_ago)
        assert not two.leases.any_since(to_come), "left by the dead"
        assert one.digests() == {}
        if one.directory is not None:
            (lease,) = (one.directory / "leases").iterdir()
            os.utime(lease, (0, 0))
            assert not two.leases.any_since(long_ago)
            renew()
            assert two.leases.any_since(long_ago)
    assert not two.leases.any_since(long_ago)


# In a directory: times of S3 objects are whole seconds.
@pytest.mark.parametrize("place", [EMBEDDED], indirect=True)
def test_sweep_keeps_what_a_backup_under_way_still_has_to_copy(
    home: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    furnish(home)
    copied = _Contents._bundle

    def delete_and_sweep(self: Any, digest: str) -> Any:
        with opened(home) as database:
            registry = Registry(database, home.place.artifacts())
            registry.delete_version(parse_version("churn:1"), actor="ada", now=NOW)
            written_at = home.place.artifacts().digests()[digest]
            assert registry.sweep(unused_since=written_at + timedelta(microseconds=1)) == []
        return copied(self, digest)

    monkeypatch.setattr(_Contents, "_bundle", delete_and_sweep)
    made = home.back_up(str(tmp_path / "backup.tar")).manifest
    assert made.bundles.count == 1
    with opened(home) as database:
        artifacts = home.place.artifacts()
        (digest, written_at), *_ = artifacts.digests().items()
        swept = Registry(database, artifacts).sweep(unused_since=written_at + timedelta(seconds=1))
    assert swept == [digest]


def test_bundle_that_is_damaged_is_named_and_no_backup_is_made(
    embedded: Any, tmp_path: Path
) -> None:
    (path,) = (embedded.state_dir / "artifacts").rglob("model.bin")
    for damage in (path.read_bytes()[:-1] + b"!", path.read_bytes() + b"!", b""):
        path.write_bytes(damage)
        with pytest.raises(BundleCorrupt, match=r"model/model\.bin"):
            embedded.back_up(str(tmp_path / "backup.tar"))
    path.unlink()
    with pytest.raises(BundleCorrupt):
        embedded.back_up(str(tmp_path / "backup.tar"))
    assert not (tmp_path / "backup.tar").exists()


def test_restore_refuses_a_directory_and_a_database_that_hold_something(
    embedded: Any, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    backup = str(tmp_path / "backup.tar")
    embedded.back_up(backup)
    with pytest.raises(TargetTaken, match="has a table"):
        embedded.restore(backup)
    scaled = new_home(AT_SCALE)
    opened(scaled).__enter__().close()
    with pytest.raises(TargetTaken, match="has a table"):
        scaled.restore(backup)
    used = new_home(EMBEDDED)
    (used.state_dir / "logs").mkdir(parents=True)
    with pytest.raises(TargetTaken, match="holds `logs`"):
        used.restore(backup)
    other_key = new_home(EMBEDDED)
    (other_key.state_dir / "keys").mkdir(parents=True)
    (other_key.state_dir / "keys" / "admin").write_text("another")
    with pytest.raises(TargetTaken, match="keys/admin"):
        other_key.restore(backup)
    assert (other_key.state_dir / "keys" / "admin").read_text() == "another"


def test_state_that_is_not_there_is_not_made_by_a_backup(
    new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    home = new_home(EMBEDDED)
    with pytest.raises(StoreUnavailable, match="no database of Shipway"):
        home.back_up(str(tmp_path / "backup.tar"))
    assert not home.state_dir.joinpath("shipway.db").exists()
    assert not (tmp_path / "backup.tar").exists()


def test_backup_of_a_newer_schema_is_neither_made_nor_restored(
    embedded: Any, small: bytes, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b'"schema":"0', b'"schema":"9') if name == "manifest.json" else data

    (tmp_path / "newer.tar").write_bytes(resealed(small, change))
    target = new_home(EMBEDDED)
    with pytest.raises(SchemaTooNew):
        target.restore(str(tmp_path / "newer.tar"))
    assert not target.state_dir.joinpath("shipway.db").exists()
    with opened(embedded) as database, database._engine.begin() as connection:
        connection.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(SchemaTooNew):
        embedded.back_up(str(tmp_path / "backup.tar"))


def test_format_of_a_newer_release_is_refused_by_its_number(small: bytes) -> None:
    def change(name: str, data: bytes) -> bytes:
        return data.replace(b'"format":1', b'"format":2') if name == "manifest.json" else data

    with pytest.raises(SchemaTooNew, match="format 2"):
        seal_holds(resealed(small, change))


def test_rows_that_a_migration_begins_with_do_not_mix_with_those_restored(
    embedded: Any, new_home: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.back_up(str(tmp_path / "backup.tar"))
    upgrade_to = migration.upgrade_to

    def seeded(connection: sa.Connection, revision: str) -> None:
        upgrade_to(connection, revision)
        if revision != "head":
            row = "('churn', 1, '2026-01-01', 'seed')"
            connection.execute(sa.text(f"INSERT INTO models VALUES {row}"))

    monkeypatch.setattr(migration, "upgrade_to", seeded)
    target = new_home(EMBEDDED)
    target.restore(str(tmp_path / "backup.tar"))
    with opened(target) as database, opened(embedded) as source:
        assert world.contents(database) == world.contents(source)


def test_postgresql_does_not_end_a_restore_for_being_idle(
    embedded: Any, new_home: Callable[[str], Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded.back_up(str(tmp_path / "backup.tar"))
    target = new_home(AT_SCALE)
    engine = create_engine(target.place.database_url)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        name = connection.scalar(sa.text("SELECT current_database()"))
        setting = "SET idle_in_transaction_session_timeout = '1h'"
        connection.execute(sa.text(f"ALTER DATABASE {name} {setting}"))
    engine.dispose()
    seen = []
    restore_bundle = _Restore._restore_bundle

    def look(self: Any, *arguments: Any) -> None:
        query = sa.text("SHOW idle_in_transaction_session_timeout")
        seen.append(self._connection.scalar(query))
        restore_bundle(self, *arguments)

    monkeypatch.setattr(_Restore, "_restore_bundle", look)
    target.restore(str(tmp_path / "backup.tar"))
    assert seen == ["0"]


@pytest.mark.parametrize("place", [AT_SCALE], indirect=True)
def test_numbers_that_postgresql_gives_itself_go_on_after_those_restored(home: Any) -> None:
    with opened(home) as database, database._engine.begin() as connection:
        connection.execute(sa.text('CREATE TABLE "Numbered" (id SERIAL PRIMARY KEY, at TEXT)'))
        connection.execute(sa.text("INSERT INTO \"Numbered\" VALUES (1, 'a'), (7, 'b')"))
        _reset_sequences(connection)
        added = connection.scalar(
            sa.text("INSERT INTO \"Numbered\" (at) VALUES ('c') RETURNING id")
        )
    assert added == 8


@pytest.mark.parametrize("restoring", [False, True])
def test_memory_does_not_grow_with_the_rows(
    embedded: Any, *, restoring: bool, new_home: Callable[[str], Any], tmp_path: Path
) -> None:
    with opened(embedded) as database:
        world.long_chain(database, events=10_000)
    backup = str(tmp_path / "backup.tar")
    home = embedded
    if restoring:
        embedded.back_up(backup)
        home = new_home(EMBEDDED)
    assert os.path.getsize(embedded.state_dir / "shipway.db") > 40_000_000
    with child(home, backup, restore=restoring) as process:
        assert told(process)["grown_kb"] < 25_000
