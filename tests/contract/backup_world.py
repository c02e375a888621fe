"""States to back up: every table filled, and writers that never rest."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event, Thread
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.control.registry import Registry
from shipway.core.audit import AuditEvent, Change, first_broken_link
from shipway.core.backups import BackupManifest
from shipway.core.endpoints import EndpointSpec, EndpointState, Phase
from shipway.core.rollouts import begun
from shipway.core.strategies import Canary, RolloutPlan
from shipway.core.versions import VersionQuery, VersionRef
from shipway.store.backups.places import BackupPlace, place_of
from shipway.store.backups.restoring import Target, checked_backup, restore_backup
from shipway.store.backups.snapshot import existing_engine
from shipway.store.backups.vacancy import require_vacant
from shipway.store.backups.writing import Backup, Source, write_backup
from shipway.store.sql.database import Database
from shipway.store.sql.tables import Instant, metadata
from shipway.testing.bundles import write_bundle

NOW = datetime(2026, 5, 6, 7, 8, 9, 123456, tzinfo=UTC)
FLOATS = (0.1, -1e-7, 5e-324, 1.7976931348623157e308)
TEXTS = ('{"a": 1}', "ä\n\t'\"\\ \u2028", "🚢 \u0001", "")


def nobody(step: str, done: int, total: int) -> None:
    """Watches no progress."""


@dataclass(frozen=True, kw_only=True)
class Home:
    """One server's state: database, artifacts and state directory."""

    place: Any
    state_dir: Path

    def back_up(self, backup: str, *, with_keys: bool = True) -> Backup:
        place = place_of(backup, now=NOW, environment=self.place.environment)
        return self.write_to(place, with_keys=with_keys)

    def write_to(self, place: BackupPlace, *, with_keys: bool = True) -> Backup:
        engine = existing_engine(self.place.database_url)
        source = Source(engine, self.place.artifacts(), self.state_dir)
        try:
            return write_backup(source, place, with_keys=with_keys, now=NOW, on_progress=nobody)
        finally:
            engine.dispose()

    def restore(self, backup: str, environment: dict[str, str] | None = None) -> BackupManifest:
        place = place_of(backup, now=NOW, environment=environment or {})
        manifest = checked_backup(place, on_progress=nobody)
        require_vacant(manifest, self.place.database_url, self.state_dir)
        assert self.restored(backup, environment) is None
        return manifest

    def restored(self, backup: str, environment: dict[str, str] | None = None) -> Any:
        """Restores, and gives where the chain is broken."""
        place = place_of(backup, now=NOW, environment=environment or {})
        manifest = checked_backup(place, on_progress=nobody)
        target = Target(self.place.database_url, self.place.artifacts(), self.state_dir)
        return restore_backup(place, target, manifest, on_progress=nobody)


def contents(database: Database) -> dict[str, list[tuple[Any, ...]]]:
    """Every row of every table, read by the code's own tables and without any of backup's code."""
    with database._engine.connect() as connection:
        return {
            table.name: sorted(
                (tuple(row) for row in connection.execute(sa.select(table))), key=repr
            )
            for table in metadata.sorted_tables
        }


def fill(database: Database, *, rows: int = 4) -> None:
    """Puts rows with difficult values into every table that has none, but the audit chain."""
    with database.transaction() as tx:
        for number in range(rows):
            change = Change(
                at=NOW + timedelta(hours=number), actor=TEXTS[number % 4] or "ada",
                action="test.fill", subject=f"s:{number}",
                details={"z": FLOATS[number % 4], "a": [None, "ü"]},
            )  # fmt: skip
            tx.audit.append(change)
    with database._engine.begin() as connection:
        for table in metadata.sorted_tables:
            if connection.scalar(sa.select(sa.func.count()).select_from(table)) == 0:
                made = [_row(connection, table, number) for number in range(rows)]
                connection.execute(sa.insert(table), made)


def _row(connection: sa.Connection, table: sa.Table, number: int) -> dict[str, Any]:
    row = {column.name: _value(column, number) for column in table.columns}
    for key in table.foreign_key_constraints:
        parents = connection.execute(sa.select(key.referred_table)).mappings().all()
        parent = parents[number % len(parents)]
        for element in key.elements:
            row[element.parent.name] = parent[element.column.name]
    return row


def _value(column: sa.Column[Any], number: int) -> Any:
    kind = column.type
    if isinstance(kind, Instant):
        return NOW + timedelta(microseconds=number)
    if isinstance(kind, sa.Boolean):
        return number % 2 == 0
    if isinstance(kind, sa.Integer):
        return number + (2**40 if isinstance(kind, sa.BigInteger) else 1)
    if isinstance(kind, sa.Float):
        return FLOATS[number % 4]
    if isinstance(kind, sa.LargeBinary):
        return bytes([number, 0, 255])
    text = TEXTS[number % 4]
    # In this order bytes and every locale disagree.
    name = ("b", "A", "a", "é")[number % 4]
    return f"{name}{number}"[: getattr(kind, "length", None) or 99] if column.primary_key else text


@contextmanager
def writers(home: Home, bundles: Path, *, count: int = 3) -> Iterator[None]:
    """Threads with connections of their own that register, alias, deploy and delete without rest."""
    stop, failures = Event(), []

    def write(name: str) -> None:
        database = home.place.database()
        try:
            number = 0
            while not stop.is_set():
                number += 1
                one_round(database, home, bundles / f"{name}-{number}", name)
        except Exception as exc:  # noqa: BLE001
            failures.append(exc)
        finally:
            database.close()

    threads = [Thread(target=write, args=(f"model-{n}",)) for n in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        assert not failures


def one_round(database: Database, home: Home, bundle: Path, model: str) -> None:
    """Registers a version, moves `champion` to it, and deploys it: three transactions with audit."""
    registry = Registry(database, home.place.artifacts())
    write_bundle(bundle, files={"model/model.bin": str(bundle).encode() * 500})
    made, _ = registry.register(model, bundle, actor="ada", now=NOW)
    registry.set_alias(VersionQuery(model, made.number), "champion", actor="ada", now=NOW)
    ref = VersionRef(model, made.number)
    spec = EndpointSpec(name=model, model=str(ref), environment="dev")
    with database.transaction() as tx:
        before = tx.endpoints.get("dev", model)
        generation = before.generation if before else None
        state = EndpointState(
            spec=spec, generation=(generation or 0) + 1, phase=Phase.LIVE, active=ref
        )
        tx.endpoints.put(state, expected_generation=generation)
        rollout = begun(
            RolloutPlan(stages=(Canary(),)), ref, ref,
            id=f"{model}-{made.number}", place=("dev", model), actor="ada", now=NOW,
        )  # fmt: skip
        tx.rollouts.put(rollout)
        details = {"after": {"model": str(ref)}}
        tx.audit.append(
            Change(at=NOW, actor="ada", action="test.deploy", subject=model, details=details)
        )


def require_one_moment(database: Database) -> None:
    """Passes when tables agree with the audit chain, which only those of one moment do."""
    with database.reading() as tx:
        chain = list(tx.audit.chain())
        assert first_broken_link(chain) is None
        for name in tx.models.names():
            model = tx.models.get(name)
            assert model is not None
            assert len(model.versions) == count(chain, "version.register", name)
            pointed = [
                e for e in chain if e.action == "alias.set" and e.subject == f"{name}@champion"
            ]
            aliases = {"champion": pointed[-1].details["after"]} if pointed else {}
            assert model.aliases == aliases
            deployed = [e for e in chain if e.action == "test.deploy" and e.subject == name]
            endpoint = tx.endpoints.get("dev", name)
            assert (endpoint.generation if endpoint else 0) == len(deployed)
            assert len(tx.rollouts.of("dev", name, limit=10_000)) == len(deployed)


def count(chain: list[AuditEvent], action: str, model: str) -> int:
    return sum(e.action == action and e.subject.split(":")[0] == model for e in chain)


def state_of(database: Database) -> bytes:
    return msgspec.json.encode(contents(database), order="sorted")


def long_chain(database: Database, *, events: int) -> None:
    """An audit record of so many events, of which each takes four kilobytes."""
    from shipway.core.audit import next_event
    from shipway.store.sql.tables import audit

    with database.transaction() as tx:
        newest = tx.audit.newest(limit=1)[0]
    with database._engine.begin() as connection:
        for start in range(0, events, 1000):
            rows = []
            for number in range(start, start + 1000):
                details = {"number": number, "reason": f"{number:08}" * 500}
                change = Change(
                    at=NOW, actor="ada", action="test.fill", subject=f"s:{number}", details=details
                )
                newest = next_event(change, newest)
                row = msgspec.structs.asdict(newest)
                row["details"] = msgspec.json.encode(details, order="deterministic").decode()
                rows.append(row)
            connection.execute(sa.insert(audit), rows)
