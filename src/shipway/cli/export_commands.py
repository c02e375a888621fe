"""`shipway export`: what Grafana and Prometheus read."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from shipway.cli.options import Server, StateDir

Output = Annotated[
    Path | None, typer.Option("--output", "-o", help="The file to write; stdout when left out.")
]


def grafana(
    *,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The directory to write them to.")
    ] = Path(),
) -> None:
    """Write dashboards that Grafana 10 and later import: all endpoints, and one."""
    import msgspec

    from shipway.cli.exports.grafana import dashboards

    output.mkdir(parents=True, exist_ok=True)
    for name, dashboard in dashboards().items():
        written = msgspec.json.format(msgspec.json.encode(dashboard), indent=2)
        (output / name).write_bytes(written + b"\n")
        typer.echo(output / name)


def prometheus_rules(
    *,
    output: Output = None,
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="Where the pages of docs/runbooks are.")
    ] = "docs/runbooks",
    error_rate: Annotated[float, typer.Option(help="Share of failing requests.")] = 0.05,
    p99_ms: Annotated[float, typer.Option(help="99th percentile of good answers.")] = 1000.0,
    shed_rate: Annotated[float, typer.Option(help="Share of refused requests.")] = 0.05,
    objective: Annotated[
        float, typer.Option(help="Share of requests that shall not fail, for burn rates.")
    ] = 0.999,
    window: Annotated[str, typer.Option(help="Over what the rules look.")] = "5m",
    lasting: Annotated[str, typer.Option("--for", help="How long a line must be crossed.")] = "5m",
) -> None:
    """Write alert rules: errors, latency, replicas, overload, burn rates, rollouts, gateways."""
    from shipway.cli.exports.rules import Thresholds, document

    thresholds = Thresholds(
        error_rate=error_rate,
        p99_ms=p99_ms,
        shed_rate=shed_rate,
        objective=objective,
        window=window,
        lasting=lasting,
    )
    _write(document(thresholds, runbooks), output)


def prometheus_config(
    *,
    output: Output = None,
    key_file: Annotated[
        str, typer.Option(help="The file on Prometheus' machine that holds its key.")
    ] = "/etc/prometheus/shipway.key",
    ca_file: Annotated[
        str | None, typer.Option(help="The CA there of the servers' certificates.")
    ] = None,
    rule_file: Annotated[
        str, typer.Option(help="Where the exported rules are there.")
    ] = "shipway-rules.yml",
    interval: Annotated[str, typer.Option(help="How often it scrapes.")] = "10s",
    server: Server = None,
    state_dir: StateDir = None,
) -> None:
    """Write how Prometheus scrapes the gateways and control of this server."""
    from shipway.cli.exports.scrape import document
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        status = client.status()
    gateways = sorted({one.address for one in status.gateways if one.address})
    _write(
        document(
            gateways,
            status.control_url,
            key_file=key_file,
            ca_file=ca_file,
            rule_file=rule_file,
            interval=interval,
        ),
        output,
    )


def _write(document: dict[str, Any], output: Path | None) -> None:
    import yaml

    text = yaml.safe_dump(document, sort_keys=False, width=1000, allow_unicode=True)
    if output is None:
        typer.echo(text, nl=False)
        return
    output.write_text(text)
    typer.echo(output)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    group = typer.Typer(no_args_is_help=True, rich_markup_mode=None)
    group.command()(grafana)
    group.command(name="prometheus-rules")(prometheus_rules)
    group.command(name="prometheus-config")(prometheus_config)
    app.add_typer(group, name="export", help="Dashboards, alert rules and scrape configuration.")
