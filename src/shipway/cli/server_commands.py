"""`up`, `down`, `status`, `demo`, `schema`, and the roles that `up` starts."""

from __future__ import annotations

from typing import Annotated

import typer

from shipway.cli.options import Json, Server, StateDir

Port = Annotated[
    int | None,
    typer.Option(help="Port of the gateway; 0 takes a free one.", min=0, max=65535),
]
GrpcPort = Annotated[
    int | None,
    typer.Option(
        help="Port of gRPC; 8081 by default, a free one for 0 or with `--port 0`.", min=0, max=65535
    ),
]
ControlPort = Annotated[
    int | None,
    typer.Option(help="Port of the control API; 0 takes a free one.", min=0, max=65535),
]
Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
NoAuth = Annotated[
    bool,
    typer.Option("--no-auth", help="Let everybody on this machine do everything; loopback only."),
]
Anyone = Annotated[
    bool,
    typer.Option(
        "--anyone-on-the-network",
        help="With `--no-auth` and another `--host`: let everybody who reaches it do everything.",
    ),
]


def up(
    *,
    state_dir: StateDir = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    control_port: ControlPort = None,
    host: Host = None,
    no_auth: NoAuth = False,
    anyone_on_the_network: Anyone = False,
    gateways: Annotated[int, typer.Option(help="Gateway processes.", min=1)] = 1,
    detach: Annotated[
        bool,
        typer.Option("--detach", "-d", help="Return once it runs; end it with `shipway down`."),
    ] = False,
) -> None:
    """Run Shipway on this machine: control, gateways and replicas."""
    from shipway.cli.serving import settings_of, start

    settings = settings_of(
        state_dir=state_dir,
        gateway_port=port,
        grpc_port=grpc_port,
        control_port=control_port,
        host=host,
        auth=False if no_auth else None,
        anyone_on_the_network=anyone_on_the_network or None,
    )
    start(settings, gateways=gateways, detach=detach)


def down(*, state_dir: StateDir = None) -> None:
    """End the server of a state directory, its gateways and its replicas."""
    from shipway.cli.serving import settings_of, stop

    stop(settings_of(state_dir=state_dir))


def status(*, server: Server = None, state_dir: StateDir = None, as_json: Json = False) -> None:
    """Show the server, its endpoints, and what runs where."""
    from shipway.cli.endpoints import show_status
    from shipway.cli.output import show_json
    from shipway.cli.sessions import client_of

    with client_of(server, state_dir) as client:
        found = client.status()
        if as_json:
            show_json(found)
        else:
            show_status(found, client)


def demo(
    *,
    stay: Annotated[
        bool | None,
        typer.Option("--stay/--no-stay", help="Stay up afterwards; asked on a terminal."),
    ] = None,
    rate: Annotated[int, typer.Option(help="Requests per second to aim at.", min=1)] = 400,
) -> None:
    """Take two real models to live endpoints, swap, break and roll back under load."""
    from shipway.cli.demo.story import tell

    raise typer.Exit(tell(stay=stay, rate=rate))


def schema(
    kind: Annotated[
        str, typer.Argument(help="`endpoint`, `environment` (its policy) or `model` (model.yaml).")
    ] = "endpoint",
) -> None:
    """Print the JSON Schema of an endpoint spec, of an environment's policy, or of model.yaml."""
    from shipway.cli.output import show_json
    from shipway.cli.serving import schema_of

    show_json(schema_of(kind))


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (up, down, status, demo, schema):
        app.command()(command)
