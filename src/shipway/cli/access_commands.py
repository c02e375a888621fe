"""Commands about who may do what: `whoami`, `key …`, `access …`."""

from __future__ import annotations

from typing import Annotated

import typer

from shipway.cli.options import Json, Server, StateDir

Role = Annotated[
    list[str],
    typer.Option(
        "--role",
        help="`viewer`, `developer`, `approver`, `operator`, `admin`, `invoker` (asks for predictions)"
        " or `gateway`; may be given several times.",
    ),
]
Project = Annotated[
    str, typer.Option(help="Only in this project: what a name has before its first dot.")
]
Environment = Annotated[str, typer.Option(help="Only in this environment.")]
Model = Annotated[str, typer.Option(help="Only for this model; `fraud-*` for several.")]
Endpoint = Annotated[str, typer.Option(help="Only for this endpoint; `fraud-*` for several.")]
KeyId = Annotated[str, typer.Argument(help="The key's id, as `shipway key list` shows it.")]
Subject = Annotated[
    str, typer.Argument(help="`user:NAME`, `group:NAME` (of tokens) or `cert:IDENTITY`.")
]


def whoami(*, server: Server = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Say who you are to the server, and what you may do."""
    from shipway.cli.access import show_whoami
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.whoami()
    return show_json(found) if as_json else show_whoami(found)


def create(
    name: Annotated[str, typer.Argument(help="What the key is for; shown in lists and records.")],
    *,
    role: Role,
    project: Project = "*",
    environment: Environment = "*",
    model: Model = "*",
    endpoint: Endpoint = "*",
    expires: Annotated[
        str | None, typer.Option(help="Lifetime, such as `90d` or `12h`; for ever when left out.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Make an API key. It is shown this once: the server keeps only its hash."""
    from shipway.cli.access import grants_of, seconds_of, show_new_key
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    grants = grants_of(
        role, project=project, environment=environment, model=model, endpoint=endpoint
    )
    lifetime_s = None if expires is None else seconds_of(expires)
    with client_of(server, state_dir) as client:
        made = client.create_key(name, grants, expires_in_s=lifetime_s)
    return show_json(made) if as_json else show_new_key(made)


def list_keys(*, server: Server = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """List the keys that you administer."""
    from shipway.cli.access import show_keys
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.keys()
    return show_json(found) if as_json else show_keys(found)


def rotate(
    key: KeyId,
    *,
    overlap: Annotated[str, typer.Option(help="How long the old one stays good.")] = "1d",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Make the next key in place of one, which stays good for a while."""
    from shipway.cli.access import seconds_of, show_new_key
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        made = client.rotate_key(key, overlap_s=seconds_of(overlap))
    return show_json(made) if as_json else show_new_key(made)


def revoke(
    key: KeyId,
    *,
    reason: Annotated[str, typer.Option(help="Why, for the record.")] = "",
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """End a key now."""
    from shipway.cli.changes import confirmed
    from shipway.cli.output import show_json, show_note
    from shipway.cli.sessions import client_of

    if not (yes or confirmed(f"End key `{key}` for everybody who uses it?")):
        raise typer.Exit(1)
    with client_of(server, state_dir) as client:
        ended = client.revoke_key(key, reason=reason)
    if as_json:
        return show_json(ended)
    return show_note(f"Key `{ended.id}` ({ended.name}) opens nothing any more.")


def limit(
    *,
    key: Annotated[str, typer.Option(help="Of this key, by its id.")] = "",
    project: Annotated[
        str, typer.Option(help="Of this project: all callers of its endpoints.")
    ] = "",
    per_s: Annotated[float | None, typer.Option(help="Requests per second.")] = None,
    burst: Annotated[int | None, typer.Option(help="Requests at once after a pause.")] = None,
    max_concurrency: Annotated[int | None, typer.Option(help="Requests under way.")] = None,
    max_body_bytes: Annotated[int | None, typer.Option(help="Size of a body.")] = None,
    daily_requests: Annotated[int | None, typer.Option(help="Requests per day (UTC).")] = None,
    daily_budget: Annotated[
        int | None,
        typer.Option(help="Units per day; a request takes its endpoint's `limits.cost`."),
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say what a key or a project may use; without numbers, take its limits away."""
    from shipway.cli.access import limits_of, show_limits
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    if bool(key) == bool(project):
        raise typer.BadParameter("give either --key or --project")
    limits = limits_of(
        per_s,
        burst,
        max_concurrency=max_concurrency,
        max_body_bytes=max_body_bytes,
        daily_requests=daily_requests,
        daily_budget=daily_budget,
    )
    with client_of(server, state_dir) as client:
        found = client.limit_key(key, limits) if key else client.limit_project(project, limits)
    return show_json(found) if as_json else show_limits(found.name, found.limits)


def list_limits(
    *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """List what projects may use; `shipway key list` shows the keys'."""
    from shipway.cli.access import show_projects
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.projects()
    return show_json(found) if as_json else show_projects(found)


def grant(
    subject: Subject,
    *,
    role: Role,
    project: Project = "*",
    environment: Environment = "*",
    model: Model = "*",
    endpoint: Endpoint = "*",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Grant roles to a person, a group or a certificate, beside what they have."""
    from shipway.cli.access import grants_of, show_bindings
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    grants = grants_of(
        role, project=project, environment=environment, model=model, endpoint=endpoint
    )
    with client_of(server, state_dir) as client:
        had = [g for b in client.bindings() if b.subject == subject for g in b.grants]
        found = client.bind(subject, [*had, *(g for g in grants if g not in had)], before=had)
    return show_json(found) if as_json else show_bindings([found])


def ungrant(
    subject: Subject,
    *,
    role: Annotated[
        str | None, typer.Option("--role", help="Only this role; everything when left out.")
    ] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Take granted roles away again."""
    from shipway.cli.access import show_bindings
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        had = [g for b in client.bindings() if b.subject == subject for g in b.grants]
        kept = [] if role is None else [g for g in had if g.role.value != role]
        found = client.bind(subject, kept, before=had)
    return show_json(found) if as_json else show_bindings([found])


def list_grants(
    *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """List what is granted to people, groups and certificates."""
    from shipway.cli.access import show_bindings
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.bindings()
    return show_json(found) if as_json else show_bindings(found)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line: `shipway whoami`, `key …`, `access …`."""
    app.command()(whoami)
    keys = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    keys.command()(create)
    keys.command("list")(list_keys)
    keys.command()(rotate)
    keys.command()(revoke)
    app.add_typer(keys, name="key", help="API keys: who calls.")
    access = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    access.command()(grant)
    access.command("revoke")(ungrant)
    access.command("list")(list_grants)
    access.command("limit")(limit)
    access.command("limits")(list_limits)
    app.add_typer(access, name="access", help="What people, groups and certificates may do.")
