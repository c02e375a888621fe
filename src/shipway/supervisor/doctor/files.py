"""What lies in the state directory: certificates, keys, and records of processes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from shipway.backends.identity import ProcessIdentity, arguments_of
from shipway.backends.records import RecordDirectory, find_process
from shipway.core.health import (
    Diagnosis,
    Level,
    SecretFacts,
    certificate_diagnosis,
    secret_diagnosis,
)
from shipway.tls.facts import certificate_facts

_SECRET = {".key", ".pem"}


def key_diagnoses(state_dir: Path) -> Iterator[Diagnosis]:
    """Whether the keys can be read by their owner alone."""
    files = [path for path in (state_dir / "keys").rglob("*") if path.is_file()]
    keys = [path for path in files if path.suffix != ".pub"]  # public halves are for everybody
    keys += [path for path in _files_of_tls(state_dir) if _holds_a_key(path)]
    for path in sorted(keys):
        found = path.stat()
        is_ours = found.st_uid == os.geteuid()
        yield secret_diagnosis(
            SecretFacts(path=str(path), mode=found.st_mode & 0o777, is_ours=is_ours)
        )


def _files_of_tls(state_dir: Path) -> list[Path]:
    return [path for path in (state_dir / "tls").rglob("*") if path.is_file()]


def _holds_a_key(path: Path) -> bool:
    try:
        return path.suffix in _SECRET and b"PRIVATE KEY-----" in path.read_bytes()
    except OSError:
        return path.suffix == ".key"


def certificate_diagnoses(state_dir: Path, *, now: datetime) -> Iterator[Diagnosis]:
    """Whether the certificates can be shown now, and are their keys'."""
    for path in sorted(_files_of_tls(state_dir)):
        if path.suffix in {".crt", ".pem"} and not _holds_a_key(path):
            key = path.with_suffix(".key")
            facts = certificate_facts(path, key if key.is_file() else None)
            yield certificate_diagnosis(facts, now=now)


class _Record(msgspec.Struct):
    pid: int


def leftover_diagnoses(state_dir: Path) -> Iterator[Diagnosis]:
    """Processes that a server which is gone has left behind. For when none is up."""
    found = [*_roles_left(state_dir), *_replicas_left(state_dir)]
    for name, pid in found:
        yield Diagnosis(
            check="processes",
            level=Level.WARNING,
            message=f"{name} (pid {pid}) runs without its server.",
            next_step="`shipway down` ends it; `shipway up` takes replicas over.",
        )
    if not found:
        yield Diagnosis(check="processes", level=Level.OK, message="None was left behind.")


def _roles_left(state_dir: Path) -> Iterator[tuple[str, int]]:
    run = state_dir / "run"
    for path in sorted([*run.glob("control.json"), *run.glob("gateway-*.json")]):
        try:
            pid = msgspec.json.decode(path.read_bytes(), type=_Record).pid
        except (OSError, msgspec.MsgspecError):
            continue
        if str(state_dir) in arguments_of(pid) and ProcessIdentity.of(pid) is not None:
            yield path.stem, pid


def _replicas_left(state_dir: Path) -> Iterator[tuple[str, int]]:
    for record in RecordDirectory(state_dir).all():
        process = find_process(record)
        if process is not None:
            yield f"Replica {record.id}", process.pid
