"""Keys and grants as people read and write them."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec
import typer

from shipway.cli.output import age_of, show_note, show_table
from shipway.client.answers import Key, NewKey, Project, Whoami
from shipway.core.access import Binding, Grant, Role, checked_grant
from shipway.core.errors import InvalidSpec
from shipway.core.rates import CallerLimits

_DURATION = re.compile(r"(\d{1,6})([smhdw])")
_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def grants_of(
    roles: Sequence[str], *, project: str, environment: str, model: str, endpoint: str
) -> list[Grant]:
    """The grants that the options ask for: each role in the same scope.

    Raises:
        InvalidSpec: a role does not exist, or the scope is malformed.
    """
    unknown = [role for role in roles if role not in [*Role]]
    if unknown:
        raise InvalidSpec(
            f"There is no role `{unknown[0]}`.", next_step=f"Use one of: {', '.join(Role)}."
        )
    return [
        checked_grant(
            Grant(
                role=Role(role),
                project=project,
                environment=environment,
                model=model,
                endpoint=endpoint,
            )
        )
        for role in roles
    ]


def seconds_of(text: str) -> int:
    """The seconds that `90d`, `12h`, `30m`, `45s` or `2w` mean.

    Raises:
        InvalidSpec: it is none of these.
    """
    found = _DURATION.fullmatch(text.strip())
    if found is None:
        raise InvalidSpec(
            f"`{text}` is no duration.", next_step="Write a number and a unit: `90d`, `12h`, `30m`."
        )
    return int(found[1]) * _UNIT_S[found[2]]


def show_new_key(made: NewKey) -> None:
    """The key on stdout, alone; what to know about it on stderr."""
    typer.echo(made.key)
    until = (
        "does not expire"
        if made.expires_at is None
        else f"expires {made.expires_at:%Y-%m-%d %H:%M} UTC"
    )
    show_note(f"Key `{made.id}` ({made.name}): {_words(made.grants)}; {until}.")
    show_note("Keep it now: it is not shown again. Send it as `Authorization: Bearer KEY`,")
    show_note("or set SHIPWAY_API_KEY for the command line and the SDK.")


def show_keys(keys: Sequence[Key]) -> None:
    """Keys, a line each."""
    rows = [
        (
            key.id,
            key.name,
            _words(key.grants),
            _limit_words(key.limits),
            _state(key),
            age_of(key.created_at),
            age_of(key.last_used_at),
            key.created_by,
        )
        for key in keys
    ]
    show_table(
        ["id", "name", "may", "limits", "state", "age", "last used", "made by"],
        rows,
        empty="There are no keys that you administer.",
    )


def show_bindings(bindings: Sequence[Binding]) -> None:
    """Who has which roles, a line each."""
    rows = [(binding.subject, _words(binding.grants)) for binding in bindings]
    show_table(
        ["subject", "may"],
        rows,
        empty="Nothing is granted to people, groups or certificates; keys carry their own grants.",
    )


def show_whoami(found: Whoami) -> None:
    """Who somebody is, and what they may do."""
    key = f", key `{found.key}`" if found.key else ""
    typer.echo(f"{found.name} ({found.kind.value}{key})")
    for grant in found.grants:
        typer.echo(f"  {grant}")
    if not found.grants:
        typer.echo("  may do nothing: ask an admin for `shipway access grant`")


def limits_of(per_s: float | None, burst: int | None, **bounds: int | None) -> CallerLimits:
    """The limits that the options ask for.

    Raises:
        InvalidSpec: a number is out of its range.
    """
    rate = None if per_s is None else {"per_s": per_s, "burst": burst}
    try:
        return msgspec.convert({"rate": rate, **bounds}, CallerLimits)
    except msgspec.ValidationError as exc:
        raise InvalidSpec(f"These are no limits: {exc}.") from exc


def show_limits(name: str, limits: CallerLimits | None) -> None:
    """What somebody may use, in a line."""
    typer.echo(f"{name}: {_limit_words(limits) or 'no limits of its own'}")


def show_projects(projects: Sequence[Project]) -> None:
    """Projects with their limits, a line each."""
    show_table(
        ["project", "may use"],
        [(project.name, _limit_words(project.limits)) for project in projects],
        empty="No project has limits. Set some with `shipway access limit --project NAME --per-s 100`.",
    )


def _limit_words(limits: CallerLimits | None) -> str:
    if limits is None:
        return ""
    rate = limits.rate
    words = [] if rate is None else [f"{rate.per_s:g}/s, {rate.capacity} at once"]
    counted = {
        "requests under way": limits.max_concurrency,
        "bytes a body": limits.max_body_bytes,
        "requests a day": limits.daily_requests,
        "units a day": limits.daily_budget,
    }
    return "; ".join(words + [f"{n:,} {what}" for what, n in counted.items() if n is not None])


def _words(grants: Sequence[Grant]) -> str:
    return ", ".join(map(str, grants))


def _state(key: Key) -> str:
    if key.revoked_at is not None:
        return "revoked"
    if not key.is_good:
        return "expired"
    if key.expires_at is None:
        return "good"
    return f"good until {key.expires_at:%Y-%m-%d %H:%M}"
