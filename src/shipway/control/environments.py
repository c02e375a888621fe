"""The use cases of environments' policies: each change is one transaction, its audit record included."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

from shipway.control.admission import untrusted_in
from shipway.control.signers import checked_signers
from shipway.core.audit import Change
from shipway.core.errors import EnvironmentNotFound, InvalidSpec
from shipway.core.policy import DeclaredPolicy, EnvironmentPolicy
from shipway.core.versions import checked_name
from shipway.store.sql.database import Database, Transaction
from shipway.wire.policies import policy_of


class PolicyChange(msgspec.Struct, frozen=True, kw_only=True):
    """What a change did, or with `dry_run` would do. `declared` is None once there is no policy."""

    name: str
    declared: DeclaredPolicy | None
    changes: tuple[str, ...]
    dry_run: bool


class Environments:
    """Environments' policies over a database. Thread-safe; methods block, may raise StoreUnavailable."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> tuple[DeclaredPolicy, ...]:
        """All policies, in the order of names."""
        with self._database.reading() as tx:
            return tuple(tx.policies.list())

    def get(self, name: str) -> DeclaredPolicy:
        """One environment's policy.

        Raises:
            EnvironmentNotFound: it has none.
        """
        with self._database.reading() as tx:
            return declared_in(tx, name)

    def apply(
        self, name: str, data: Any, *, actor: str, now: datetime, dry_run: bool
    ) -> PolicyChange:
        """Makes the environment's policy what the data (parsed YAML or JSON) says.

        Raises:
            InvalidSpec: the data breaks its schema, or names another environment.
        """
        checked_name(name, kind="environment")
        policy = policy_of({"name": name, **data} if isinstance(data, Mapping) else data)
        checked_signers(policy.checks)
        if policy.name != name:
            raise InvalidSpec(
                f"The policy is of environment `{policy.name}`, not of `{name}`.",
                next_step="Use the same name in both places.",
            )
        with self._database.transaction() as tx:
            before = tx.policies.get(name)
            changes = described(None if before is None else before.policy, policy)
            generation = 1 if before is None else before.generation + bool(changes)
            declared = DeclaredPolicy(policy=policy, generation=generation)
            if changes and not dry_run:
                tx.policies.put(declared)
                _record(tx, "environment.apply", (before, declared), actor=actor, now=now)
            remarks = untrusted_in(tx, policy) if changes else ()
        return PolicyChange(
            name=name, declared=declared, changes=(*changes, *remarks), dry_run=dry_run
        )

    def delete(self, name: str, *, actor: str, now: datetime, dry_run: bool) -> PolicyChange:
        """Forgets a policy: everything may enter the environment. Reviews and promotions are kept.

        Raises:
            EnvironmentNotFound: there is none.
        """
        with self._database.transaction() as tx:
            before = declared_in(tx, name)
            if not dry_run:
                tx.policies.remove(name)
                _record(tx, "environment.delete", (before, None), actor=actor, now=now)
        return PolicyChange(
            name=name, declared=None, changes=described(before.policy, None), dry_run=dry_run
        )


def declared_in(tx: Transaction, name: str) -> DeclaredPolicy:
    """The policy of an environment, inside a transaction.

    Raises:
        EnvironmentNotFound: it has none, with the nearest name that has one.
    """
    declared = tx.policies.get(name)
    if declared is None:
        known = [one.policy.name for one in tx.policies.list()]
        raise EnvironmentNotFound.named(
            name,
            known,
            next_step="`shipway environment get` lists those with a policy;"
            " `shipway environment apply -f FILE` makes one.",
        )
    return declared


def described(before: EnvironmentPolicy | None, after: EnvironmentPolicy | None) -> tuple[str, ...]:
    """What a change does, a line each, for people; empty when nothing changes."""
    old = {} if before is None else _flat(msgspec.to_builtins(before))
    new = {} if after is None else _flat(msgspec.to_builtins(after))
    if before is None or after is None:
        name, verb = (new | old).get("name"), "delete" if after is None else "create"
        return (f"{verb} the policy of `{name}`",)
    return tuple(
        f"{key}: {_text(old.get(key))} -> {_text(new.get(key))}"
        for key in dict.fromkeys([*old, *new])
        if old.get(key) != new.get(key)
    )


def _flat(value: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, item in value.items():
        flat |= _flat(item, f"{path}{key}.") if isinstance(item, dict) else {f"{path}{key}": item}
    return flat


def _text(value: Any) -> str:
    return "none" if value in (None, []) else msgspec.json.encode(value).decode()


def _record(
    tx: Transaction,
    action: str,
    policies: tuple[DeclaredPolicy | None, DeclaredPolicy | None],
    *,
    actor: str,
    now: datetime,
) -> None:
    before, after = policies
    subject = next(one.policy.name for one in policies if one is not None)
    details = {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}
    tx.audit.append(Change(at=now, actor=actor, action=action, subject=subject, details=details))
