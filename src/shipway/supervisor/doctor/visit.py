"""One visit of the doctor: every check, whatever the others find."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.health import Diagnosis, Level, database_diagnosis
from shipway.settings import Settings, provider_variables
from shipway.store.backups.snapshot import existing_engine, is_there
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.sql.database import sqlite_url
from shipway.store.sql.examination import Examination
from shipway.supervisor import records
from shipway.supervisor.doctor.files import (
    certificate_diagnoses,
    key_diagnoses,
    leftover_diagnoses,
)
from shipway.supervisor.doctor.machine import disk_diagnoses, port_diagnoses
from shipway.supervisor.doctor.server import server_diagnoses
from shipway.supervisor.doctor.state import state_diagnoses
from shipway.supervisor.records import Running

Check = Callable[[], Iterator[Diagnosis]]


def diagnoses(settings: Settings, *, deep: bool, now: datetime) -> Iterator[Diagnosis]:
    """Everything that was found, check by check. Blocks; changes nothing.

    `deep` reads every bundle and every audit event, which takes as long as reading them takes.
    """
    state_dir = settings.state_dir.absolute()
    settings = settings.model_copy(update={"state_dir": state_dir})
    server = records.running(state_dir) or _control_alone(state_dir)
    checks: dict[str, Check] = {
        "ports": lambda: port_diagnoses(settings, server),
        "disk": lambda: disk_diagnoses(settings, _local(settings)),
        "keys": lambda: key_diagnoses(state_dir),
        "certificates": lambda: certificate_diagnoses(state_dir, now=now),
        "database": lambda: _database(settings, deep=deep, now=now),
    }
    if server is not None:
        checks["server"] = lambda: server_diagnoses(server, now=now)
    else:
        checks["server"] = lambda: _no_server(state_dir)
    for name, check in checks.items():
        yield from _whatever_happens(name, check)


class _ControlRecord(msgspec.Struct):
    pid: int
    url: str


def _control_alone(state_dir: Path) -> Running | None:
    """Control that was started by itself, without `shipway up`."""
    if not records.is_held(state_dir, "control"):
        return None
    try:
        text = (state_dir / "run" / "control.json").read_bytes()
        record = msgspec.json.decode(text, type=_ControlRecord)
    except (OSError, msgspec.MsgspecError):
        return None
    return Running(
        pid=record.pid,
        start="",
        control_url=record.url,
        gateway_url="",
        state_dir=str(state_dir),
    )


def _whatever_happens(name: str, check: Check) -> Iterator[Diagnosis]:
    """A check's findings; one that cannot be made is a finding itself."""
    try:
        yield from check()
    except ShipwayError as exc:
        yield Diagnosis(
            check=name, level=Level.PROBLEM, message=exc.message, next_step=exc.next_step
        )
    except OSError as exc:
        yield Diagnosis(
            check=name,
            level=Level.PROBLEM,
            message=f"This cannot be looked at: {exc}.",
            next_step="Run the doctor as the user that runs the server.",
        )


def _local(settings: Settings) -> Path | None:
    """The directory of the artifacts, where it is on this machine."""
    url = settings.artifacts_url
    if url is None:
        return settings.state_dir / "artifacts"
    return Path(url.removeprefix("file://")) if url.startswith(("file://", "/")) else None


def _database(settings: Settings, *, deep: bool, now: datetime) -> Iterator[Diagnosis]:
    url = settings.database_url or sqlite_url(settings.state_dir)
    if not is_there(url):
        yield Diagnosis(
            check="database",
            level=Level.WARNING,
            message=f"`{settings.state_dir}` holds no database: no server has run on it.",
            next_step="Start one with `shipway up`, or name another directory with `--dir`.",
        )
        return
    engine = existing_engine(url)
    try:
        yield from _examined(Examination(engine), settings, deep=deep, now=now)
    finally:
        engine.dispose()


def _examined(
    examination: Examination, settings: Settings, *, deep: bool, now: datetime
) -> Iterator[Diagnosis]:
    facts = examination.facts(deep=deep)
    yield database_diagnosis(facts)
    if facts.schema == facts.known_schema and not facts.faults:
        url = settings.artifacts_url or str(settings.state_dir / "artifacts")
        artifacts = ArtifactStore(url, environment=provider_variables())
        yield from state_diagnoses(examination, artifacts, deep=deep, now=now)


def _no_server(state_dir: Path) -> Iterator[Diagnosis]:
    yield Diagnosis(check="server", level=Level.OK, message=f"None is up on `{state_dir}`.")
    if (state_dir / "run").is_dir():
        yield from leftover_diagnoses(state_dir)
