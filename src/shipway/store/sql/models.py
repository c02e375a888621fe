"""Models, versions and aliases as rows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.bundles import Manifest
from shipway.core.registry import ModelRecord, VersionRecord
from shipway.core.versions import VersionRef
from shipway.store.sql.tables import aliases, models, versions


class ModelRows:
    """The models of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def names(self) -> list[str]:
        """All names, sorted."""
        return list(self._connection.scalars(sa.select(models.c.name).order_by(models.c.name)))

    def get(self, name: str) -> ModelRecord | None:
        """One model with its versions and aliases."""
        row = self._connection.execute(sa.select(models).where(models.c.name == name)).first()
        if row is None:
            return None
        records = VersionRows(self._connection).all_of(name)
        return ModelRecord(
            name=row.name,
            created_at=row.created_at,
            created_by=row.created_by,
            versions=tuple(record.summary() for record in records),
            aliases=AliasRows(self._connection).all_of(name),
        )

    def take_number(self, name: str, *, at: datetime, by: str) -> int:
        """The next version number, never given out before; makes the model when it is new."""
        mine = models.c.name == name
        raised = sa.update(models).where(mine).values(last_number=models.c.last_number + 1)
        number = self._connection.scalar(raised.returning(models.c.last_number))
        if number is not None:
            return int(number)
        row = {"name": name, "last_number": 1, "created_at": at, "created_by": by}
        self._connection.execute(sa.insert(models).values(row))
        return 1


class VersionRows:
    """The versions of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all_of(self, model: str) -> list[VersionRecord]:
        """The versions of a model, oldest first."""
        return self._records(versions.c.model == model)

    def numbers(self, model: str) -> list[int]:
        """The version numbers of a model, oldest first; cheaper than the versions."""
        mine = versions.c.model == model
        query = sa.select(versions.c.number).where(mine).order_by(versions.c.number)
        return list(self._connection.scalars(query))

    def get(self, ref: VersionRef) -> VersionRecord | None:
        """One version."""
        found = self._records(versions.c.model == ref.model, versions.c.number == ref.number)
        return next(iter(found), None)

    def with_digest(self, model: str, digest: str) -> VersionRecord | None:
        """The model's version of that bundle; there is at most one."""
        found = self._records(versions.c.model == model, versions.c.digest == digest)
        return next(iter(found), None)

    def add(self, ref: VersionRef, manifest: Manifest, *, at: datetime, by: str) -> VersionRecord:
        """The new version; its number comes from `ModelRows.take_number`."""
        text = msgspec.json.encode(manifest, order="deterministic")
        row = {
            "model": ref.model,
            "number": ref.number,
            "digest": manifest.digest,
            "manifest": text.decode(),
            "manifest_sha256": sha256(text).hexdigest(),
            "size_bytes": sum(file.size_bytes for file in manifest.content.files),
            "created_at": at,
            "created_by": by,
        }
        self._connection.execute(sa.insert(versions).values(row))
        return _record(row, aliases_of=())

    def remove(self, ref: VersionRef) -> None:
        """Forgets a version; nothing when there is none."""
        mine = (versions.c.model == ref.model) & (versions.c.number == ref.number)
        self._connection.execute(sa.delete(versions).where(mine))

    def digests(self) -> set[str]:
        """The bundles that any version points at."""
        return set(self._connection.scalars(sa.select(versions.c.digest).distinct()))

    def _records(self, *conditions: sa.ColumnElement[bool]) -> list[VersionRecord]:
        query = sa.select(versions).where(*conditions).order_by(versions.c.number)
        rows = self._connection.execute(query).mappings().all()
        names = AliasRows(self._connection).by_version(row["model"] for row in rows)
        return [
            _record(row, aliases_of=names.get(VersionRef(row["model"], row["number"]), ()))
            for row in rows
        ]


class AliasRows:
    """The aliases of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all_of(self, model: str) -> dict[str, int]:
        """The version number behind each alias of a model, in alias order."""
        query = sa.select(aliases).where(aliases.c.model == model).order_by(aliases.c.alias)
        return {row.alias: row.number for row in self._connection.execute(query)}

    def by_version(self, of_models: Iterable[str]) -> dict[VersionRef, Sequence[str]]:
        """The aliases that point at each version of some models; versions without are absent."""
        found: dict[VersionRef, list[str]] = {}
        for model in set(of_models):
            for alias, number in self.all_of(model).items():
                found.setdefault(VersionRef(model, number), []).append(alias)
        return dict(found)

    def point(self, alias: str, ref: VersionRef) -> None:
        """Makes an alias, or moves it."""
        self.remove(ref.model, alias)
        row = {"model": ref.model, "alias": alias, "number": ref.number}
        self._connection.execute(sa.insert(aliases).values(row))

    def remove(self, model: str, alias: str) -> None:
        """Forgets an alias; nothing when there is none."""
        mine = (aliases.c.model == model) & (aliases.c.alias == alias)
        self._connection.execute(sa.delete(aliases).where(mine))


def _record(row: Any, *, aliases_of: Sequence[str]) -> VersionRecord:
    manifest = msgspec.json.decode(row["manifest"], type=Manifest)
    return VersionRecord(
        model=row["model"],
        number=row["number"],
        digest=row["digest"],
        format=manifest.content.format,
        served=manifest.content.served,
        size_bytes=row["size_bytes"],
        created_at=row["created_at"],
        created_by=row["created_by"],
        metrics=manifest.provenance.metrics,
        aliases=tuple(aliases_of),
        manifest=manifest,
        manifest_sha256=row["manifest_sha256"],
    )
