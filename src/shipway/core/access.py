"""Who may do what: rights, the roles that give them, and the scope in which a role was granted.

A model or an endpoint belongs to a project (a tenant): the part of its name before the first dot,
`default` when it has none. So `cards.fraud` is of project `cards`, wherever the name is written.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Protocol

import msgspec

from shipway.core.errors import Forbidden, InvalidSpec

DEFAULT_PROJECT = "default"
ALL = "*"
"""What a scope says for everything."""


class Right(StrEnum):
    """What can be permitted."""

    READ = "read"
    """See models, versions, endpoints, rollouts and their logs."""

    REGISTER = "register"
    """Register and delete versions, move aliases, keep evaluations."""

    DEPLOY = "deploy"
    """Put versions behind endpoints, change and delete them, lead rollouts, promote."""

    APPROVE = "approve"
    """Approve or reject a version for an environment."""

    AUDIT = "audit"
    """Read the audit record."""

    ADMINISTER = "administer"
    """Make and revoke keys, grant roles, change the policies of environments."""

    INSPECT = "inspect"
    """See single predictions of the log: what was asked and answered, by whom, and what became of it."""

    INVOKE = "invoke"
    """Ask an endpoint for predictions, and say what came of them."""

    SERVE = "serve"
    """Be a gateway: fetch the config snapshot, and report."""


class Role(StrEnum):
    """A set of rights with a name; see `RIGHTS_OF`."""

    VIEWER = "viewer"
    DEVELOPER = "developer"
    APPROVER = "approver"
    OPERATOR = "operator"
    ADMIN = "admin"
    INVOKER = "invoker"
    GATEWAY = "gateway"


RIGHTS_OF: Mapping[Role, frozenset[Right]] = {
    Role.VIEWER: frozenset({Right.READ}),
    Role.DEVELOPER: frozenset({Right.READ, Right.INSPECT, Right.REGISTER, Right.DEPLOY}),
    Role.APPROVER: frozenset({Right.READ, Right.APPROVE, Right.AUDIT}),
    Role.OPERATOR: frozenset({Right.READ, Right.INSPECT, Right.DEPLOY, Right.AUDIT}),
    Role.ADMIN: frozenset(
        {
            Right.READ,
            Right.INSPECT,
            Right.REGISTER,
            Right.DEPLOY,
            Right.APPROVE,
            Right.AUDIT,
            Right.ADMINISTER,
        }
    ),
    Role.INVOKER: frozenset({Right.INVOKE}),
    Role.GATEWAY: frozenset({Right.SERVE}),
}
"""What each role may do. Nothing but `invoker` may ask for predictions, not even `admin`."""


class Grant(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A role within a scope. Each part of the scope is a name, a beginning (`fraud-*`) or `*`.

    A grant for certain models says nothing about endpoints, and the other way round. Models are in no
    environment: `environment` matters for them only where they are promoted into one.
    """

    role: Role
    project: str = ALL
    environment: str = ALL
    model: str = ALL
    endpoint: str = ALL

    def __str__(self) -> str:
        parts = [
            f"{name}={value}"
            for name in ("project", "environment", "model", "endpoint")
            if (value := getattr(self, name)) != ALL
        ]
        return f"{self.role.value} ({', '.join(parts)})" if parts else self.role.value


class Kind(StrEnum):
    """What a resource is."""

    SERVER = "server"
    ENVIRONMENT = "environment"
    MODEL = "model"
    ENDPOINT = "endpoint"


class Resource(msgspec.Struct, frozen=True):
    """What a right is exercised on. `environment` is where: an endpoint's own, or a promotion's aim."""

    kind: Kind
    name: str = ""
    environment: str = ""

    @property
    def project(self) -> str:
        """The tenant to which it belongs; empty for what belongs to none."""
        return project_of(self.name) if self.kind in (Kind.MODEL, Kind.ENDPOINT) else ""


SERVER = Resource(Kind.SERVER)


class PrincipalKind(StrEnum):
    """How a principal proved who it is."""

    KEY = "key"
    TOKEN = "token"
    CERTIFICATE = "certificate"
    NOBODY = "nobody"
    """It did not have to: access control is off."""


class Principal(msgspec.Struct, frozen=True, kw_only=True):
    """Who calls. `id` is a key's public part; `is_local` marks the key of the state directory.

    `expires_at_s` is when the proof ends, in seconds since 1970; None when it does not.
    """

    name: str
    kind: PrincipalKind
    grants: tuple[Grant, ...]
    id: str = ""
    is_local: bool = False
    expires_at_s: float | None = None


ANYBODY = Principal(
    name="anonymous",
    kind=PrincipalKind.NOBODY,
    grants=tuple(Grant(role=role) for role in Role),
    is_local=True,
)
"""Every caller, where access control is off."""


class Binding(msgspec.Struct, frozen=True, kw_only=True):
    """What is granted to a `user:NAME`, a `group:NAME` of tokens, or a `cert:IDENTITY`."""

    subject: str
    grants: tuple[Grant, ...]


class Holder(Protocol):
    """What has grants."""

    @property
    def grants(self) -> tuple[Grant, ...]:
        """What it may do."""
        ...


def project_of(name: str) -> str:
    """The project of a model or an endpoint.

    >>> project_of("cards.fraud"), project_of("churn")
    ('cards', 'default')
    """
    project, dot, _ = name.partition(".")
    return project if dot else DEFAULT_PROJECT


def siblings(name: str, names: Iterable[str]) -> list[str]:
    """Those of the `names` that are of the same project as `name`: what an error may suggest."""
    project = project_of(name)
    return [other for other in names if project_of(other) == project]


def permits(holder: Holder, right: Right, resource: Resource) -> bool:
    """Whether one of the holder's grants gives the right on the resource."""
    return any(
        right in RIGHTS_OF[grant.role] and _covers(grant, resource) for grant in holder.grants
    )


def permits_somewhere(holder: Holder, right: Right) -> bool:
    """Whether the holder has the right on anything at all."""
    return any(right in RIGHTS_OF[grant.role] for grant in holder.grants)


def permits_within(holder: Holder, right: Right, project: str) -> bool:
    """Whether the holder has the right on a whole project."""
    return any(
        right in RIGHTS_OF[grant.role]
        and matches(grant.project, project)
        and grant.model == grant.endpoint == ALL
        for grant in holder.grants
    )


def sees(holder: Holder, resource: Resource) -> bool:
    """Whether the holder may know that the resource exists: it has any grant in its project.

    Everybody may know of what belongs to no project.
    """
    project = resource.project
    return not project or any(matches(grant.project, project) for grant in holder.grants)


def lacking(principal: Principal, right: Right, resource: Resource) -> Forbidden:
    """The error for a principal without a right on a resource."""
    what = f"{resource.kind.value} `{resource.name}`" if resource.name else "the whole server"
    where = f" in environment `{resource.environment}`" if resource.environment else ""
    return Forbidden(
        f"`{principal.name}` lacks the right `{right.value}` on {what}{where}.",
        next_step="An admin can grant it: `shipway access grant`, or another key.",
        right=right.value,
    )


def may_grant(holder: Holder, wanted: Grant) -> bool:
    """Whether the holder may give `wanted` to somebody: it administers all that `wanted` covers.

    A gateway sees every endpoint's config, so only who administers everything makes one.
    """
    if wanted.role is Role.GATEWAY:
        wanted = Grant(role=wanted.role)
    return any(
        Right.ADMINISTER in RIGHTS_OF[grant.role]
        and _contains(grant.project, wanted.project)
        and _contains(grant.environment, wanted.environment)
        and _contains(grant.model, wanted.model)
        and _contains(grant.endpoint, wanted.endpoint)
        for grant in holder.grants
    )


def checked_grant(grant: Grant) -> Grant:
    """The grant itself, once its scope is well formed.

    Raises:
        InvalidSpec: a part of it is empty, or has a `*` elsewhere than at its end.
    """
    for name in ("project", "environment", "model", "endpoint"):
        pattern = getattr(grant, name)
        if not pattern or ALL in pattern[:-1] or len(pattern) > 63 or not pattern.isprintable():
            raise InvalidSpec(
                f"`{pattern}` is no scope for {name}.",
                next_step="Use a name, the beginning of names and `*`, or `*` for all.",
                path=name,
            )
    return grant


def _covers(grant: Grant, resource: Resource) -> bool:
    match resource.kind:
        case Kind.SERVER:
            return grant.project == grant.environment == grant.model == grant.endpoint == ALL
        case Kind.ENVIRONMENT:
            return grant.project == grant.model == grant.endpoint == ALL and matches(
                grant.environment, resource.name
            )
        case Kind.MODEL:
            return (
                grant.endpoint == ALL
                and matches(grant.project, resource.project)
                and matches(grant.model, resource.name)
                and (not resource.environment or matches(grant.environment, resource.environment))
            )
        case Kind.ENDPOINT:
            return (
                grant.model == ALL
                and matches(grant.project, resource.project)
                and matches(grant.endpoint, resource.name)
                and matches(grant.environment, resource.environment)
            )


def matches(pattern: str, name: str) -> bool:
    """Whether a part of a scope covers a name."""
    if pattern.endswith(ALL):
        return name.startswith(pattern[:-1])
    return pattern == name


def _contains(outer: str, inner: str) -> bool:
    """Whether every name that `inner` matches is matched by `outer`."""
    return matches(outer, inner.removesuffix(ALL)) if outer.endswith(ALL) else outer == inner
