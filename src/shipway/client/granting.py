"""The calls of keys and granted roles. No I/O."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

import msgspec

from shipway.client.answers import Key, NewKey, Project, Whoami
from shipway.client.exchange import Call, reading
from shipway.core.access import Binding, Grant
from shipway.core.rates import CallerLimits

_API = "/api/v1"


def whoami() -> Call[Whoami]:
    """Who calls, and what they may do."""
    return Call(method="GET", path=f"{_API}/whoami", read=reading(Whoami))


def keys() -> Call[tuple[Key, ...]]:
    """The keys that the caller administers."""
    return Call(method="GET", path=f"{_API}/keys", read=reading(tuple[Key, ...]))


def create_key(name: str, grants: Sequence[Grant], *, expires_in_s: int | None) -> Call[NewKey]:
    """Makes a key."""
    body = {"name": name, "grants": list(grants), "expires_in_s": expires_in_s}
    return Call(method="POST", path=f"{_API}/keys", read=reading(NewKey), **_json(body))


def rotate_key(key_id: str, *, overlap_s: int) -> Call[NewKey]:
    """Makes the next key in place of one."""
    return Call(
        method="POST",
        path=f"{_API}/keys/{quote(key_id, safe='')}/rotate",
        query={"overlap_s": str(overlap_s)},
        read=reading(NewKey),
    )


def revoke_key(key_id: str, *, reason: str) -> Call[Key]:
    """Ends a key."""
    return Call(
        method="DELETE",
        path=f"{_API}/keys/{quote(key_id, safe='')}",
        query={"reason": reason} if reason else {},
        read=reading(Key),
    )


def limit_key(key_id: str, limits: CallerLimits) -> Call[Key]:
    """Makes what a key may use this."""
    path = f"{_API}/keys/{quote(key_id, safe='')}/limits"
    return Call(method="PUT", path=path, read=reading(Key), **_json(limits))


def projects() -> Call[tuple[Project, ...]]:
    """The projects that have limits."""
    return Call(method="GET", path=f"{_API}/projects", read=reading(tuple[Project, ...]))


def limit_project(name: str, limits: CallerLimits) -> Call[Project]:
    """Makes what a project may use this."""
    path = f"{_API}/projects/{quote(name, safe='')}/limits"
    return Call(method="PUT", path=path, read=reading(Project), **_json(limits))


def bindings() -> Call[tuple[Binding, ...]]:
    """What is granted to people, groups and certificates."""
    return Call(method="GET", path=f"{_API}/access", read=reading(tuple[Binding, ...]))


def bind(subject: str, grants: Sequence[Grant], *, before: Sequence[Grant] | None) -> Call[Binding]:
    """Makes a subject's grants these, where it has those from before."""
    path = f"{_API}/access/{quote(subject, safe='')}"
    body = {"grants": list(grants), "before": None if before is None else list(before)}
    return Call(method="PUT", path=path, read=reading(Binding), **_json(body))


def _json(value: Any) -> dict[str, Any]:
    return {
        "body": msgspec.json.encode(value),
        "headers": {"content-type": "application/json"},
    }
