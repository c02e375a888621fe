"""The use cases of access: keys, granted roles, and who calls. Each change is one transaction with its audit record."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any

import msgspec

from shipway.core.access import (
    ANYBODY,
    RIGHTS_OF,
    Binding,
    Grant,
    Principal,
    Right,
    Role,
    checked_grant,
    matches,
    may_grant,
    permits_somewhere,
    permits_within,
)
from shipway.core.attempts import Attempts
from shipway.core.audit import Change
from shipway.core.errors import ConflictError, Forbidden, InvalidSpec, KeyNotFound, StoreUnavailable
from shipway.core.keys import Key, read_key, revoked, rotated
from shipway.core.rates import CallerLimits
from shipway.core.versions import checked_name
from shipway.store.api_keys import ADMIN, GATEWAY, new_key_text
from shipway.store.sql.database import Database, Transaction
from shipway.wire.credentials import KeyEntry, nobody, principal_of, principal_of_certificate
from shipway.wire.snapshot import OPEN, AccessList
from shipway.wire.tokens import TokenRules

_log = logging.getLogger(__name__)

MAX_GRANTS = 64
USED_WITHIN = timedelta(minutes=1)
"""How exactly a key's last use is known."""

LOCAL_KEYS: Mapping[str, tuple[Grant, ...]] = {
    ADMIN: (Grant(role=Role.ADMIN), Grant(role=Role.INVOKER)),
    GATEWAY: (Grant(role=Role.GATEWAY),),
}
"""The keys that are files of the state directory, and what they may do."""

_SUBJECTS = ("user:", "group:", "cert:")


class KeyView(msgspec.Struct, frozen=True, kw_only=True):
    """A key as lists show it."""

    id: str
    name: str
    grants: tuple[Grant, ...]
    created_at: datetime
    created_by: str
    is_good: bool
    expires_at: datetime | None = None
    revoked_at: datetime | None = None
    replaced_by: str = ""
    last_used_at: datetime | None = None
    limits: CallerLimits | None = None


class NewKey(KeyView, frozen=True, kw_only=True):
    """A key just made. `key` is the whole of it, which is shown this once."""

    key: str


class KeyRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A key that somebody wants. `expires_in_s` None: it does not expire."""

    name: str
    grants: tuple[Grant, ...]
    expires_in_s: int | None = None
    limits: CallerLimits | None = None


class ProjectView(msgspec.Struct, frozen=True, kw_only=True):
    """A tenant, and what it may use."""

    name: str
    limits: CallerLimits


class Directory:
    """Keys and grants as they are in the database now. See `wire.credentials.Directory`."""

    def __init__(self, tx: Transaction, tokens: TokenRules | None) -> None:
        self._tx = tx
        self.tokens = tokens

    def key(self, key_id: str) -> KeyEntry | None:
        """See Directory."""
        key = self._tx.keys.get(key_id)
        return None if key is None or key.revoked_at is not None else entry_of(key)

    def granted(self, subject: str) -> tuple[Grant, ...]:
        """See Directory."""
        binding = self._tx.bindings.get(subject)
        return () if binding is None else binding.grants


class Access:
    """Who may do what, over a database. Thread-safe; methods block, may raise StoreUnavailable.

    `tokens` are the rules of the identity provider's tokens, set again when their keys change. `poke`
    lets the gateways hear of a change at once.
    """

    def __init__(self, database: Database, *, environment: str, is_on: bool = True) -> None:
        self._database = database
        self._noted_at: dict[str, datetime] = {}
        self.poke: Callable[[], None] = lambda: None
        self.environment = environment
        self.is_on = is_on
        self.tokens: TokenRules | None = None
        self.attempts = Attempts()

    def identified(self, credential: bytes | None, certificate: str, now: datetime) -> Principal:
        """Who calls, by the credential in the headers, else by the certificate of the connection.

        Raises:
            Unauthenticated: neither proves anything.
        """
        if not self.is_on:
            return ANYBODY
        with self._database.reading() as tx:
            directory = Directory(tx, self.tokens)
            if credential is not None:
                principal = principal_of(credential, directory, now.timestamp())
            elif certificate:
                principal = principal_of_certificate(certificate, directory)
            else:
                raise nobody()
        if principal.id:
            self.note_used([principal.id], now)
        return principal

    def keys(self, asker: Principal, now: datetime) -> tuple[KeyView, ...]:
        """The keys that the asker administers, by name, the newest of a name first."""
        with self._database.reading() as tx:
            return tuple(_view(key, now) for key in tx.keys.list() if _administers(asker, key))

    def create(self, wanted: KeyRequest, asker: Principal, *, actor: str, now: datetime) -> NewKey:
        """Makes a key.

        Raises:
            InvalidSpec: its name, its scope or its lifetime is malformed, or it grants nothing.
            Forbidden: it would grant what the asker does not administer.
        """
        checked_name(wanted.name, kind="key")
        _require_grantable(asker, wanted.grants)
        if wanted.expires_in_s is not None and not 0 < wanted.expires_in_s < 10**10:
            raise InvalidSpec(
                "A key's lifetime is a positive number of seconds.", path="expires_in_s"
            )
        lifetime = None if wanted.expires_in_s is None else timedelta(seconds=wanted.expires_in_s)
        key, text = _new(wanted.name, wanted.grants, by=actor, now=now, lifetime=lifetime)
        key = msgspec.structs.replace(key, limits=wanted.limits)
        with self._database.transaction() as tx:
            tx.keys.put(key)
            _record(tx, "key.create", key.id, _facts(key), actor=actor, now=now)
        self.poke()
        return _shown(key, text, now)

    def rotate(
        self, key_id: str, asker: Principal, *, overlap: timedelta, actor: str, now: datetime
    ) -> NewKey:
        """Makes the next key of that name and rights; the old one is good for the overlap.

        Raises:
            KeyNotFound: there is none of that id, or it is none of the asker's.
            ConflictError: it is not good any more, was rotated already, or is of the state directory.
        """
        with self._database.transaction() as tx:
            old = _key_of(tx, key_id, asker)
            _require_not_local(old)
            lifetime = None if old.expires_at is None else old.expires_at - old.created_at
            key, text = _new(old.name, old.grants, by=actor, now=now, lifetime=lifetime)
            key = msgspec.structs.replace(key, limits=old.limits)
            ending = rotated(old, replaced_by=key.id, until=now + overlap, now=now)
            tx.keys.put(ending)
            tx.keys.put(key)
            facts = _facts(key) | {"replaces": old.id, "old_until": str(ending.expires_at)}
            _record(tx, "key.rotate", key.id, facts, actor=actor, now=now)
        self.poke()
        return _shown(key, text, now)

    def revoke(
        self, key_id: str, asker: Principal, *, actor: str, now: datetime, reason: str = ""
    ) -> KeyView:
        """Ends a key now, at control at once and at gateways within a second or two.

        Raises:
            KeyNotFound: there is none of that id, or it is none of the asker's.
            ConflictError: it is a key of the state directory.
        """
        with self._database.transaction() as tx:
            key = _key_of(tx, key_id, asker)
            _require_not_local(key)
            ended = revoked(key, now)
            if ended != key:
                tx.keys.put(ended)
                facts = {"name": key.name, "reason": reason}
                _record(tx, "key.revoke", key.id, facts, actor=actor, now=now)
        self.poke()
        return _view(ended, now)

    def bindings(self, asker: Principal) -> tuple[Binding, ...]:
        """What is granted to people, groups and certificates, as far as the asker administers it."""
        with self._database.reading() as tx:
            found = tx.bindings.list()
        return tuple(b for b in found if all(may_grant(asker, grant) for grant in b.grants))

    def bind(
        self,
        binding: Binding,
        asker: Principal,
        *,
        before: tuple[Grant, ...] | None = None,
        actor: str,
        now: datetime,
    ) -> Binding:
        """Makes a subject's grants these; none takes away what it had.

        With `before`, only where it has exactly these now: of two who change it at once, one is told.

        Raises:
            ConflictError: it has other grants than `before` says.
            InvalidSpec: the subject is none of `user:`, `group:`, `cert:`, or a scope is malformed.
            Forbidden: the asker does not administer what it grants, or what was granted before.
        """
        subject = binding.subject
        if not subject.startswith(_SUBJECTS) or not subject.isprintable() or len(subject) > 255:
            raise InvalidSpec(
                f"`{subject}` is nobody to whom roles are granted.",
                next_step="Write `user:NAME`, `group:NAME` or `cert:IDENTITY`.",
                path="subject",
            )
        _require_grantable(asker, binding.grants, may_be_empty=True)
        with self._database.transaction() as tx:
            known = tx.bindings.get(subject)
            had = () if known is None else known.grants
            _require_grantable(asker, had, may_be_empty=True)
            if before is not None and before != had:
                raise ConflictError(
                    f"What `{subject}` may do was changed meanwhile.",
                    next_step="Look with `shipway access list`, and repeat the change if it is still wanted.",
                )
            if had != binding.grants:
                tx.bindings.put(binding)
                facts = {"before": list(map(str, had)), "after": list(map(str, binding.grants))}
                _record(tx, "access.bind", subject, facts, actor=actor, now=now)
        self.poke()
        return binding

    def limit_key(
        self,
        key_id: str,
        limits: CallerLimits,
        asker: Principal,
        *,
        actor: str,
        now: datetime,
    ) -> KeyView:
        """Makes a key's limits these; such that bound nothing take them away.

        Raises:
            KeyNotFound: there is none of that id, or it is none of the asker's.
        """
        with self._database.transaction() as tx:
            before = _key_of(tx, key_id, asker)
            wanted = limits if limits.bounds_anything else None
            key = msgspec.structs.replace(before, limits=wanted)
            if key != before:
                tx.keys.put(key)
                facts = {"name": key.name, **_change(before.limits, wanted)}
                _record(tx, "key.limit", key.id, facts, actor=actor, now=now)
        self.poke()
        return _view(key, now)

    def projects(self, asker: Principal) -> tuple[ProjectView, ...]:
        """The projects that have limits, of those the asker administers, in the order of names."""
        with self._database.reading() as tx:
            found = tx.projects.all()
        return tuple(
            ProjectView(name=name, limits=limits)
            for name, limits in found.items()
            if permits_within(asker, Right.ADMINISTER, name)
        )

    def limit_project(
        self, name: str, limits: CallerLimits, *, actor: str, now: datetime
    ) -> ProjectView:
        """Makes a tenant's limits these; such that bound nothing take them away.

        Raises:
            InvalidSpec: the name is none of a project.
        """
        checked_name(name, kind="project")
        with self._database.transaction() as tx:
            before = tx.projects.all().get(name)
            if limits != before:
                tx.projects.put(name, limits)
                facts = _change(before, limits)
                _record(tx, "project.limit", name, facts, actor=actor, now=now)
        self.poke()
        return ProjectView(name=name, limits=limits)

    def ensure_local(
        self, texts: Mapping[str, tuple[str, tuple[Grant, ...]]], now: datetime
    ) -> None:
        """Makes the keys in the state directory's files good: by name the key, and what it may do.

        Keys that these replaced in the files are revoked; those of other environments on the same
        database are not. Doing it again changes nothing.
        """
        own = f"shipway in {self.environment}"
        with self._database.transaction() as tx:
            for name, (text, grants) in texts.items():
                read = read_key(text)
                assert read is not None, "the file was checked when it was read"
                for old in tx.keys.list():
                    is_before = old.is_local and old.created_by == own and old.name == name
                    if is_before and old.id != read.id:
                        tx.keys.put(revoked(old, now))
                if tx.keys.get(read.id) is None:
                    key = _key(read.id, read.digest, name, grants, by=own, now=now)
                    tx.keys.put(msgspec.structs.replace(key, is_local=True))
                    _record(tx, "key.create", key.id, _facts(key), actor="shipway", now=now)

    def note_used(self, key_ids: Iterable[str], now: datetime) -> None:
        """Notes that keys were used now; to the minute, so that it seldom writes.

        It is a convenience: where it cannot be written (a full disk), whoever calls is served all the same.
        """
        news = [
            key_id
            for key_id in key_ids
            if key_id not in self._noted_at or now - self._noted_at[key_id] > USED_WITHIN
        ]
        if news:
            self._noted_at |= dict.fromkeys(news, now)
            try:
                with self._database.transaction() as tx:
                    tx.keys.note_used((key_id, now) for key_id in sorted(news))
            except StoreUnavailable as exc:
                _log.warning("When keys were used cannot be noted: %s", exc)

    def listed(self, tx: Transaction, now: datetime) -> AccessList:
        """What gateways must know to let callers in by themselves."""
        if not self.is_on:
            return OPEN
        keys = (entry_of(key) for key in tx.keys.good(now))
        bindings = (
            Binding(subject=binding.subject, grants=self._for_gateways(binding.grants))
            for binding in tx.bindings.list()
        )
        return AccessList(
            environment=self.environment,
            # Those without a right here too: they are told so, and are no wrong credentials.
            keys=tuple(
                msgspec.structs.replace(key, grants=self._for_gateways(key.grants)) for key in keys
            ),
            bindings=tuple(binding for binding in bindings if binding.grants),
            tokens=self.tokens,
            projects=tx.projects.all(),
        )

    def _for_gateways(self, grants: Iterable[Grant]) -> tuple[Grant, ...]:
        return tuple(
            grant
            for grant in grants
            if RIGHTS_OF[grant.role] & {Right.READ, Right.INVOKE}
            and matches(grant.environment, self.environment)
        )


def entry_of(key: Key) -> KeyEntry:
    """What must be known of a key to recognise it."""
    return KeyEntry(
        id=key.id,
        name=key.name,
        digest=key.digest,
        grants=key.grants,
        expires_at_s=None if key.expires_at is None else key.expires_at.timestamp(),
        is_local=key.is_local,
        limits=key.limits,
    )


def _new(
    name: str, grants: tuple[Grant, ...], *, by: str, now: datetime, lifetime: timedelta | None
) -> tuple[Key, str]:
    text = new_key_text()
    read = read_key(text)
    assert read is not None
    key = _key(read.id, read.digest, name, grants, by=by, now=now)
    expires_at = None if lifetime is None else now + lifetime
    return msgspec.structs.replace(key, expires_at=expires_at), text


def _key(
    key_id: str, digest: str, name: str, grants: tuple[Grant, ...], *, by: str, now: datetime
) -> Key:
    return Key(id=key_id, name=name, grants=grants, created_at=now, created_by=by, digest=digest)


def _require_grantable(
    asker: Principal, grants: tuple[Grant, ...], *, may_be_empty: bool = False
) -> None:
    if not (grants or may_be_empty) or len(grants) > MAX_GRANTS:
        raise InvalidSpec(
            f"Between one and {MAX_GRANTS} roles are granted at once.",
            next_step="Name one, such as `--role developer`.",
            path="grants",
        )
    for grant in grants:
        if not may_grant(asker, checked_grant(grant)):
            raise Forbidden(
                f"`{asker.name}` does not administer what it would grant: {grant}.",
                next_step="Ask somebody who is `admin` of all of it.",
                right=Right.ADMINISTER.value,
            )


def _administers(asker: Principal, key: Key) -> bool:
    return permits_somewhere(asker, Right.ADMINISTER) and all(
        may_grant(asker, grant) for grant in key.grants
    )


def _key_of(tx: Transaction, key_id: str, asker: Principal) -> Key:
    key = tx.keys.get(key_id)
    if key is None or not _administers(asker, key):
        mine = [other.id for other in tx.keys.list() if _administers(asker, other)]
        raise KeyNotFound.named(key_id, mine, next_step="`shipway key list` shows the keys.")
    return key


def _require_not_local(key: Key) -> None:
    if key.is_local:
        raise ConflictError(
            f"Key `{key.id}` ({key.name}) is of the server's state directory.",
            next_step="Delete its file in `keys` and start the server again: that makes another one.",
        )


def _view(key: Key, now: datetime) -> KeyView:
    shown = {name: getattr(key, name) for name in KeyView.__struct_fields__ if name != "is_good"}
    return KeyView(**shown, is_good=key.is_good(now))


def _shown(key: Key, text: str, now: datetime) -> NewKey:
    return NewKey(**msgspec.structs.asdict(_view(key, now)), key=text)


def _change(before: CallerLimits | None, after: CallerLimits | None) -> dict[str, Any]:
    return {"before": msgspec.to_builtins(before), "after": msgspec.to_builtins(after)}


def _facts(key: Key) -> dict[str, Any]:
    expires = None if key.expires_at is None else str(key.expires_at)
    return {"name": key.name, "grants": list(map(str, key.grants)), "expires_at": expires}


def _record(
    tx: Transaction, action: str, subject: str, facts: dict[str, Any], *, actor: str, now: datetime
) -> None:
    tx.audit.append(Change(at=now, actor=actor, action=action, subject=subject, details=facts))
