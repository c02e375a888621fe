"""Commands about models: `package`, `register`, `models`, `show`, `diff`, `alias`, `where`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import Json, Server, StateDir

Artifact = Annotated[
    Path, typer.Argument(help="The trained model: a file, a directory, or a finished bundle.")
]
SampleFile = Annotated[
    Path | None,
    typer.Option(
        "--sample", help="Example inputs (CSV, Parquet, JSON, npy): signature, parity, profile."
    ),
]
Drop = Annotated[
    list[str] | None,
    typer.Option("--drop", help="A column of the sample that is no input, such as the target."),
]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="model.yaml: declared signature rules, threshold, output names."),
]
Entry = Annotated[
    str | None,
    typer.Option("--class", help="`module:Class` of a Python model in its code directory."),
]

Code = Annotated[
    Path | None,
    typer.Option("--code", help="Directory of your own modules that a pickled model needs."),
]


def package(
    path: Artifact,
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Directory below which the bundle is written.")
    ] = Path("bundles"),
    sample: SampleFile = None,
    drop: Drop = None,
    config: Config = None,
    entry: Entry = None,
    code: Code = None,
    as_json: Json = False,
) -> None:
    """Turn a trained model into a bundle: signature, environment, ONNX form, parity report."""
    from shipway.cli.manifests import show_packaged
    from shipway.cli.output import progress, show_json
    from shipway.client.packing import options_of, pack
    from shipway.engines.bundle import read_manifest

    options = options_of(sample=sample, drop=drop, config=config, entry=entry, code=code)
    with progress(f"Packaging {path.name}") as on_progress:
        directory = pack(path, out, on_progress=on_progress, options=options)
    manifest = read_manifest(directory)
    if as_json:
        show_json({"directory": str(directory), "manifest": manifest})
    else:
        show_packaged(manifest, directory)


def register(
    path: Artifact,
    *,
    name: Annotated[
        str | None, typer.Option("--name", "-n", help="Model name; the file's when left out.")
    ] = None,
    sample: SampleFile = None,
    drop: Drop = None,
    config: Config = None,
    entry: Entry = None,
    code: Code = None,
    alias: Annotated[str | None, typer.Option(help="An alias to point at the version.")] = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Package a model (unless it is a bundle already) and register it as a new version."""
    from shipway.cli.manifests import show_registered
    from shipway.cli.output import progress, show_json
    from shipway.cli.sessions import client_of
    from shipway.client.packing import name_of, options_of
    from shipway.core.versions import checked_name

    options = options_of(sample=sample, drop=drop, config=config, entry=entry, code=code)
    # Packaging takes a while: what would be refused after it is refused before it.
    model = checked_name(name or name_of(path), kind="model")
    if alias is not None:
        checked_name(alias, kind="alias")
    with client_of(server, state_dir) as client:
        client.models()
        with progress(f"Registering {model}") as on_progress:
            version = client.register(path, name=model, on_progress=on_progress, **options)
        if alias is not None:
            client.alias(str(version), alias, reason="set when registered")
        version_with_manifest = client.show(str(version))
    if as_json:
        show_json(version)
    else:
        show_registered(version, version_with_manifest)


def models(*, server: Server = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """List the registered models, their versions and aliases."""
    from shipway.cli.output import age_of, show_json, show_table
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.models()
    if as_json:
        return show_json(found)
    rows = [
        (
            version,
            version.format,
            version.served,
            version.aliases,
            version.digest[:19],
            age_of(version.created_at),
            version.created_by,
        )
        for model in found
        for version in model.versions
    ]
    return show_table(
        ["version", "format", "serves", "aliases", "digest", "#age", "by"],
        rows,
        empty="No model is registered. Register one with `shipway register FILE --name NAME`.",
    )


def show(
    version: Annotated[str, typer.Argument(help="`churn:2`, `churn@champion` or `churn`.")],
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show one version: signature, environment, parity report, profile, evaluations, lineage, trust."""
    from shipway.cli.evaluations import show_evaluations
    from shipway.cli.manifests import show_version
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of
    from shipway.cli.trust import show_trust

    with client_of(server, state_dir) as client:
        found = client.show(version)
        if as_json:
            return show_json(found)
        show_version(found, client.profile(version))
        if evaluated := client.evaluations(version):
            typer.echo("\nEvaluations")
            show_evaluations(version, evaluated)
        show_trust(client.trust(version))
        return None


def diff(
    before: Annotated[str, typer.Argument(help="The older version, such as `churn:1`.")],
    after: Annotated[str, typer.Argument(help="The newer version, such as `churn:2`.")],
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say what changed between two versions: dependencies, signature, config, metrics, files."""
    from shipway.cli.manifests import compared
    from shipway.cli.output import show_json, show_table
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.diff(before, after)
    if as_json:
        return show_json(found)
    rows = [
        (
            line.section,
            line.name,
            *(compared(line.section, value) for value in (line.before, line.after)),
        )
        for line in found.changes
    ]
    return show_table(
        ["section", "name", before, after],
        rows,
        empty=f"`{before}` and `{after}` do not differ.",
    )


def alias(
    version: Annotated[str, typer.Argument(help="The version, such as `churn:2`.")],
    name: Annotated[str, typer.Argument(help="The alias, such as `champion`.")],
    *,
    delete: Annotated[bool, typer.Option("--delete", help="Forget the alias instead.")] = False,
    reason: Annotated[str, typer.Option(help="Why; kept in the audit record.")] = "",
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Point an alias at a version. The move is put on record."""
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of
    from shipway.core.versions import parse_version

    model = parse_version(version).model
    with client_of(server, state_dir) as client:
        if delete:
            client.delete_alias(model, name)
            return typer.echo(f"`{model}@{name}` is gone.")
        moved = client.alias(version, name, reason=reason)
    if as_json:
        return show_json(moved)
    if moved.previous == moved.version:
        return typer.echo(f"`{model}@{name}` is {model}:{moved.version} already.")
    came_from = f" (was {model}:{moved.previous})" if moved.previous else ""
    return typer.echo(f"`{model}@{name}` is now {model}:{moved.version}{came_from}.")


def where(
    model: Annotated[str, typer.Argument(help="The model's name.")],
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Say which endpoints run which versions of a model."""
    from shipway.cli.output import show_json, show_table
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        places = client.where(model)
    if as_json:
        return show_json(places)
    rows = [
        (
            place.endpoint,
            place.environment,
            place.version,
            place.role,
            len(place.replicas) or "inline",
        )
        for place in places
    ]
    return show_table(
        ["endpoint", "environment", "version", "role", "#replicas"],
        rows,
        empty=f"`{model}` serves nowhere. Deploy it with `shipway deploy {model}`.",
    )


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (package, register, models, show, diff, alias, where):
        app.command()(command)
