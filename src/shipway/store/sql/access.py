"""API keys, and the roles granted to people, groups and certificates, as rows."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from shipway.core.access import Binding, Grant
from shipway.core.keys import Key
from shipway.core.rates import CallerLimits
from shipway.store.sql.tables import bindings, keys, projects

_limits = msgspec.json.Decoder(CallerLimits)
_grants = msgspec.json.Decoder(tuple[Grant, ...])


class KeyRows:
    """The API keys of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, key_id: str) -> Key | None:
        """The key of that id, good or not; None when there is none."""
        row = self._connection.execute(sa.select(keys).where(keys.c.id == key_id)).mappings()
        return next(map(_key, row), None)

    def good(self, now: datetime) -> list[Key]:
        """The keys that open something now, in the order of ids."""
        is_good = keys.c.revoked_at.is_(None) & (
            keys.c.expires_at.is_(None) | (keys.c.expires_at > now)
        )
        query = sa.select(keys).where(is_good).order_by(keys.c.id)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def list(self) -> list[Key]:
        """All keys, in the order of names, the newest of a name first."""
        query = sa.select(keys).order_by(keys.c.name, keys.c.created_at.desc(), keys.c.id)
        return [_key(row) for row in self._connection.execute(query).mappings()]

    def put(self, key: Key) -> None:
        """Keeps a key, in place of the one with its id."""
        row = msgspec.structs.asdict(key) | {
            "grants": msgspec.json.encode(key.grants).decode(),
            "limits": None if key.limits is None else msgspec.json.encode(key.limits).decode(),
        }
        self._connection.execute(sa.delete(keys).where(keys.c.id == key.id))
        self._connection.execute(sa.insert(keys).values(row))

    def note_used(self, used: Iterable[tuple[str, datetime]]) -> None:
        """Notes when keys were used last; an earlier time than is known changes nothing."""
        for key_id, at in used:
            is_news = keys.c.last_used_at.is_(None) | (keys.c.last_used_at < at)
            change = sa.update(keys).where((keys.c.id == key_id) & is_news)
            self._connection.execute(change.values(last_used_at=at))


class BindingRows:
    """The granted roles of one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def get(self, subject: str) -> Binding | None:
        """What was granted to a subject; None when nothing."""
        query = sa.select(bindings).where(bindings.c.subject == subject)
        return next(map(_binding, self._connection.execute(query).mappings()), None)

    def list(self) -> list[Binding]:
        """Everything that was granted, in the order of subjects."""
        query = sa.select(bindings).order_by(bindings.c.subject)
        return [_binding(row) for row in self._connection.execute(query).mappings()]

    def put(self, binding: Binding) -> None:
        """Keeps what is granted to a subject, in place of what was; without grants, nothing is kept."""
        self._connection.execute(sa.delete(bindings).where(bindings.c.subject == binding.subject))
        if binding.grants:
            row = {
                "subject": binding.subject,
                "grants": msgspec.json.encode(binding.grants).decode(),
            }
            self._connection.execute(sa.insert(bindings).values(row))


class ProjectRows:
    """The limits of tenants in one transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection

    def all(self) -> dict[str, CallerLimits]:
        """What is bounded, by the name of the project, in the order of names."""
        query = sa.select(projects).order_by(projects.c.name)
        return {row.name: _limits.decode(row.limits) for row in self._connection.execute(query)}

    def put(self, name: str, limits: CallerLimits) -> None:
        """Keeps a project's limits in place of those it had; limits that bound nothing are not kept."""
        self._connection.execute(sa.delete(projects).where(projects.c.name == name))
        if limits.bounds_anything:
            row = {"name": name, "limits": msgspec.json.encode(limits).decode()}
            self._connection.execute(sa.insert(projects).values(row))


def _key(row: Any) -> Key:
    limits = None if row["limits"] is None else _limits.decode(row["limits"])
    return Key(**{**row, "grants": _grants.decode(row["grants"]), "limits": limits})


def _binding(row: Any) -> Binding:
    return Binding(subject=row["subject"], grants=_grants.decode(row["grants"]))
