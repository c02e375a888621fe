"""Commands about rollouts: `shipway rollout status`, `watch`, `pause` and so on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import DryRun, EndpointName, Json, Server, StateDir

Reason = Annotated[str, typer.Option(help="Why, for the audit record.")]
RolloutId = Annotated[
    str | None, typer.Option("--id", help="An earlier rollout, by its id in `history`.")
]


def status(
    name: EndpointName,
    *,
    rollout_id: RolloutId = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show the rollout under way, or the last one.

    Its steps, what was seen of both versions, what the guards say, and what happened.
    """
    from shipway.cli.output import show, show_json
    from shipway.cli.rollouts import picture_of
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        rollout = client.rollout(name, rollout_id)
    if as_json:
        show_json(rollout)
    else:
        show(picture_of(rollout))


def watch(
    name: EndpointName,
    *,
    rollout_id: RolloutId = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON whenever it changed.")
    ] = False,
) -> None:
    """Follow a rollout until it ends.

    The exit code is 0 once it is promoted, and 7 when it was rolled back, aborted or superseded, or its
    version could not be started. Ctrl-C looks away (130); the rollout goes on.
    """
    from shipway.cli.messages import Exit
    from shipway.cli.output import show_note
    from shipway.cli.sessions import client_of
    from shipway.cli.watching import watched
    from shipway.client.releasing import not_promoted
    from shipway.core.rollouts import RolloutPhase

    try:
        with client_of(server, state_dir) as client:
            rollout = watched(client, name, rollout_id=rollout_id, as_json=as_json)
    except KeyboardInterrupt:
        show_note(f"You look away; the rollout goes on. See `shipway rollout status {name}`.")
        raise typer.Exit(Exit.INTERRUPTED) from None
    if rollout.phase is not RolloutPhase.PROMOTED:
        raise not_promoted(rollout)


def pause(
    name: EndpointName,
    *,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Keep the rollout at its step; guards still watch."""
    from shipway.cli.rollouts import show_word
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        rollout = client.pause_rollout(name, reason=reason, dry_run=dry_run)
    show_word(rollout, dry_run=dry_run, as_json=as_json)


def resume(
    name: EndpointName,
    *,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Let a paused rollout go on."""
    from shipway.cli.rollouts import show_word
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        rollout = client.resume_rollout(name, reason=reason, dry_run=dry_run)
    show_word(rollout, dry_run=dry_run, as_json=as_json)


def promote(
    name: EndpointName,
    *,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Give the candidate all traffic now, whatever the guards say."""
    from shipway.cli.rollouts import show_word
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        rollout = client.promote_rollout(name, reason=reason, dry_run=dry_run)
    show_word(rollout, dry_run=dry_run, as_json=as_json)


def abort(
    name: EndpointName,
    *,
    reason: Reason = "",
    dry_run: DryRun = False,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Give the primary all traffic again, and end the rollout."""
    from shipway.cli.rollouts import show_word
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        rollout = client.abort_rollout(name, reason=reason, dry_run=dry_run)
    show_word(rollout, dry_run=dry_run, as_json=as_json)


def history(
    name: EndpointName,
    *,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 20,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List the endpoint's rollouts, newest first."""
    from shipway.cli.output import show_json
    from shipway.cli.rollouts import show_history
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.rollouts(name, limit=limit)
    if as_json:
        show_json(found)
    else:
        show_history(found, name)


def pairs(
    name: EndpointName,
    *,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List the mirrored requests on which the two versions differed most."""
    from shipway.cli.output import show_json
    from shipway.cli.rollouts import show_pairs
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.rollout_pairs(name)
    if as_json:
        show_json(found)
    else:
        show_pairs(found, name)


def outcomes(
    name: EndpointName,
    *,
    file: Annotated[
        Path, typer.Option("--file", "-f", help="A JSON object per line; `-` reads stdin.")
    ] = Path("-"),
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Post what came of predictions, for A/B tests and guards on metrics.

    An outcome has a `metric`, a `value`, the `version` that answered or the caller's sticky `key`, and an
    `id`, so that one that is posted twice counts once.
    """
    from shipway.cli.outcomes import outcomes_in
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        counted = client.post_outcomes(name, outcomes_in(file))
    if as_json:
        show_json(counted)
    else:
        typer.echo(
            f"{counted.counted} counted, {counted.known} known already,"
            f" {counted.unmatched} of neither version."
        )


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line, as `shipway rollout …`."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    for command in (status, watch, pause, resume, promote, abort, history, pairs, outcomes):
        group.command()(command)
    app.add_typer(group, name="rollout", help="Look at an endpoint's rollout, and intervene.")
