"""Several processes, processes that die, and disks that fill up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from shipway.control.audit import AuditLog
from shipway.control.registry import Registry
from shipway.core.bundles import Manifest
from shipway.core.versions import parse_version
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import Database
from shipway.testing.bundles import CREATED_AT, write_bundle

if TYPE_CHECKING:
    from collections.abc import Iterator

SCRIPT = Path(__file__).parent / "registering.py"


def make_bundle(directory: Path, data: bytes = b"one") -> Manifest:
    return write_bundle(directory, files={"model/model.bin": data, "examples.json": b"{}"})


@contextmanager
def child(
    place: Any, bundle: Path, *, die_at: str = "", file_limit: int = 0
) -> Iterator[subprocess.Popen[str]]:
    """A process that has opened the place and waits for a line before it registers."""
    order = {
        "database_url": place.database_url,
        "artifacts_url": place.artifacts_url,
        "environment": place.environment,
        "bundle": str(bundle),
        "die_at": die_at,
        "file_limit": file_limit,
    }
    pipe = subprocess.PIPE
    command = [sys.executable, str(SCRIPT), json.dumps(order)]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def told(process: subprocess.Popen[str]) -> dict[str, Any]:
    output, _ = process.communicate("go\n", timeout=60)
    answer: dict[str, Any] = json.loads(output.splitlines()[-1])
    return answer


def wait_ready(process: subprocess.Popen[str]) -> None:
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"


def test_two_processes_that_register_one_bundle_at_once_make_one_version(
    place: Any, tmp_path: Path
) -> None:
    make_bundle(tmp_path / "bundle")
    # Both also find the database empty and bring its schema up at once.
    with child(place, tmp_path / "bundle") as one, child(place, tmp_path / "bundle") as two:
        wait_ready(one)
        wait_ready(two)
        for process in (one, two):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        answers = [json.loads(process.communicate(timeout=60)[0]) for process in (one, two)]
    assert [answer["number"] for answer in answers] == [1, 1]
    assert sorted(answer["created"] for answer in answers) == [False, True]
    database = place.database()
    assert AuditLog(database).first_broken_link() is None
    database.close()


@pytest.mark.parametrize("moment", ["first file stored", "bytes stored", "row written"])
def test_kill_9_in_the_middle_of_register_leaves_the_registry_unchanged(
    place: Any,
    registry: Registry,
    database: Database,
    artifacts: ArtifactStore,
    tmp_path: Path,
    moment: str,
) -> None:
    manifest = make_bundle(tmp_path / "bundle")
    with child(place, tmp_path / "bundle", die_at=moment) as process:
        wait_ready(process)
        process.communicate("go\n", timeout=60)
        assert process.returncode == -signal.SIGKILL
    assert registry.models() == []
    assert AuditLog(database).newest() == []
    later = max(artifacts.digests().values()) + timedelta(seconds=5)
    assert registry.sweep(unused_since=later) == [manifest.digest]
    assert artifacts.digests() == {}
    with child(place, tmp_path / "bundle") as process:
        wait_ready(process)
        assert told(process) == {"number": 1, "created": True}
    assert artifacts.holds(registry.version(parse_version("churn:1")).manifest)


@pytest.mark.parametrize("place", ["sqlite+directory"], indirect=True)
def test_full_disk_while_bytes_are_written_leaves_the_registry_unchanged(
    place: Any, registry: Registry, artifacts: ArtifactStore, tmp_path: Path
) -> None:
    manifest = make_bundle(tmp_path / "bundle", b"x" * 1_000_000)
    with child(place, tmp_path / "bundle", file_limit=500_000) as process:
        wait_ready(process)
        answer = told(process)
    assert answer["code"] == "store_unavailable"
    assert "Free some space" in answer["next_step"]
    assert registry.models() == []
    assert not artifacts.has(manifest.digest)


@pytest.mark.parametrize("place", ["sqlite+directory"], indirect=True)
def test_full_disk_while_the_row_is_written_leaves_the_registry_unchanged(
    place: Any, registry: Registry, database: Database, tmp_path: Path
) -> None:
    files = {f"model/{n:04}.bin": b"x" for n in range(200)}
    write_bundle(tmp_path / "bundle", files=files)
    manifest_bytes = (tmp_path / "bundle" / "shipway.json").stat().st_size
    with child(place, tmp_path / "bundle", file_limit=manifest_bytes + 100) as process:
        wait_ready(process)
        answer = told(process)
    assert answer["code"] == "store_unavailable"
    assert answer["message"].startswith("The database cannot be used")
    assert "space" in answer["next_step"]
    assert registry.models() == []
    assert AuditLog(database).newest() == []
    record, created = registry.register("churn", tmp_path / "bundle", actor="ada", now=CREATED_AT)
    assert (record.number, created) == (1, True)
