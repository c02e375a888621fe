"""Commands about monitors: `shipway monitors list`, `run`, `history` and `show`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from shipway.cli.options import TIME_FORMATS, EndpointName, Json, Server, StateDir

if TYPE_CHECKING:
    from shipway.client.monitoring import Form
    from shipway.client.synchronous import Client
    from shipway.core.monitor_runs import MonitorRun

MonitorName = Annotated[str, typer.Argument(help="The monitor's name, as `list` shows it.")]
HtmlFile = Annotated[
    Path | None, typer.Option("--html", help="Write the report as a page into this file.")
]
PngFile = Annotated[
    Path | None, typer.Option("--png", help="Write the first findings as a picture into this file.")
]

SvgFile = Annotated[Path | None, typer.Option("--svg", help="The same as an SVG.")]


def list_monitors(
    name: EndpointName, *, server: Server = None, state_dir: StateDir = None, as_json: Json = False
) -> None:
    """List an endpoint's monitors: when each runs next, and what it said last."""
    from shipway.cli.monitors import show_stands
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        stands = client.monitors(name)
    if as_json:
        return show_json(stands)
    return show_stands(name, stands)


def run(
    name: EndpointName,
    monitor: MonitorName,
    *,
    since: Annotated[
        datetime | None,
        typer.Option(formats=TIME_FORMATS, help="Judge predictions from then on (UTC)."),
    ] = None,
    until: Annotated[
        datetime | None,
        typer.Option(formats=TIME_FORMATS, help="Judge predictions before then (UTC)."),
    ] = None,
    html: HtmlFile = None,
    png: PngFile = None,
    svg: SvgFile = None,
    timeout_s: Annotated[
        float, typer.Option("--timeout", help="Seconds to wait until it is done.")
    ] = 900.0,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Judge the window up to now, or other times, and show what was found.

    With `--since` or `--until`, no alert is raised or resolved.
    The exit code is 0 whatever it found, and 6 when the run failed.
    """
    from shipway.cli.output import progress
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        with progress(f"Running {monitor} of {name}"):
            found = client.run_monitor(name, monitor, since=since, until=until, timeout_s=timeout_s)
        _write(client, found, {"html": html, "png": png, "svg": svg})
    _show(found, as_json=as_json)


def history(
    name: EndpointName,
    monitor: MonitorName,
    *,
    limit: Annotated[int, typer.Option(help="At most so many runs.")] = 20,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """List the runs of a monitor, the one that was due last first."""
    from shipway.cli.monitors import show_runs
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        runs = client.monitor_runs(name, monitor, limit=limit)
    if as_json:
        return show_json(runs)
    return show_runs(name, monitor, runs)


def show(
    name: EndpointName,
    run: Annotated[str, typer.Argument(help="A run's id, or a monitor's name for its last run.")],
    *,
    html: HtmlFile = None,
    png: PngFile = None,
    svg: SvgFile = None,
    server: Server = None,
    state_dir: StateDir = None,
    as_json: Json = False,
) -> None:
    """Show what a run found: what moved, how, and since when."""
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        lasts = {one.monitor.label: one.last for one in client.monitors(name)}
        last = lasts.get(run)
        found = client.monitor_run(name, run if last is None else last.id)
        _write(client, found, {"html": html, "png": png, "svg": svg})
    _show(found, as_json=as_json)


def _show(found: MonitorRun, *, as_json: bool) -> None:
    from shipway.cli.messages import Exit
    from shipway.cli.monitors import show_run
    from shipway.cli.output import show_json
    from shipway.core.monitor_runs import RunState

    if as_json:
        show_json(found)
    else:
        show_run(found)
    if found.state is RunState.ERROR:
        raise typer.Exit(Exit.UNAVAILABLE)


def _write(client: Client, found: MonitorRun, files: dict[Form, Path | None]) -> None:
    for form, file in files.items():
        if file is not None:
            file.write_bytes(client.monitor_report(found.endpoint, found.id, form))


def add_to(app: typer.Typer) -> None:
    """Adds the group `monitors` to the command line."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command("list")(list_monitors)
    for command in (run, history, show):
        group.command()(command)
    app.add_typer(group, name="monitors", help="See whether inputs and answers are as before.")
