"""The roles that `shipway up` starts, each to be run alone: `control`, `gateway`, `replica`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from shipway.cli.options import StateDir
from shipway.cli.server_commands import Anyone, NoAuth

Host = Annotated[str | None, typer.Option(help="Address to listen on.")]
Port = Annotated[
    int | None, typer.Option(help="Port to listen on; 0 takes a free one.", min=0, max=65535)
]

GrpcPort = Annotated[
    int | None,
    typer.Option(
        help="Port of gRPC; 8081 by default, a free one for 0, with `--port 0` or with `--as`.",
        min=0,
        max=65535,
    ),
]


def control(
    *,
    state_dir: StateDir = None,
    host: Host = None,
    port: Port = None,
    no_auth: NoAuth = False,
    anyone_on_the_network: Anyone = False,
) -> None:
    """Run control alone: the API and the reconciler, with the replicas of this machine."""
    from shipway.cli.serving import run_control_here, settings_of

    settings = settings_of(
        state_dir=state_dir,
        host=host,
        control_port=port,
        auth=False if no_auth else None,
        anyone_on_the_network=anyone_on_the_network or None,
    )
    run_control_here(settings)


def gateway(
    *,
    control_url: Annotated[str | None, typer.Option(help="Where control listens.")] = None,
    environment: Annotated[str | None, typer.Option(help="Whose endpoints to serve.")] = None,
    state_dir: StateDir = None,
    host: Host = None,
    port: Port = None,
    grpc_port: GrpcPort = None,
    dialect: Annotated[
        str | None,
        typer.Option(
            "--as",
            help="Answer for one endpoint as `sagemaker`, `vertex`, `mlflow`, `torchserve`,"
            " `tfserving` or `kserve` would, on its port and routes, beside the ordinary routes.",
        ),
    ] = None,
    endpoint: Annotated[str, typer.Option(help="The endpoint, with `--as`.")] = "",
    platform_checks_callers: Annotated[
        bool,
        typer.Option(
            "--platform-checks-callers",
            help="With `--as`: ask no key on the dialect's own route, because the platform in front of"
            " it has checked the caller (as SageMaker and Vertex AI do).",
        ),
    ] = False,
) -> None:
    """Run one gateway alone. It needs control only for news of the config."""
    from shipway.cli.serving import front_arguments, gateway_arguments, settings_of
    from shipway.gateway.main import main

    front: list[str] = []
    if dialect is not None:
        port, front = front_arguments(dialect, endpoint, port)
        front += ["--platform-checks-callers"] if platform_checks_callers else []
    settings = settings_of(state_dir=state_dir, host=host, gateway_port=port, grpc_port=grpc_port)
    given: dict[str, str | int | None] = {"control_url": control_url, "environment": environment}
    if front and settings.grpc_port is None:
        given["grpc_port"] = 0  # a platform asks for its own port alone: no other may stop it
    settings = settings.model_copy(
        update={key: value for key, value in given.items() if value is not None and value != ""}
    )
    arguments = [*gateway_arguments(settings), *front]
    urls = {"cache_url": settings.cache_url, "limits_url": settings.limits_url}
    raise typer.Exit(main(arguments, **urls, api_key=settings.api_key))


def replica(
    bundle: Annotated[Path, typer.Argument(help="The directory of a bundle.")],
    *,
    address: Annotated[str, typer.Option(help="`unix:/path` or `tcp:host:port` to listen on.")],
    name: Annotated[str, typer.Option(help="Name of this replica.")] = "replica",
    max_batch_rows: Annotated[int, typer.Option(help="Rows per model call.")] = 64,
    max_batch_delay_ms: Annotated[float, typer.Option(help="Longest wait for company.")] = 5.0,
) -> None:
    """Run one replica alone, for a bundle of this machine."""
    from shipway.engines.bundle import read_manifest
    from shipway.replica.start import start

    digest = read_manifest(bundle).digest
    options = ["--bundle", str(bundle), "--digest", digest, "--address", address, "--id", name]
    options += ["--max-batch-rows", str(max_batch_rows)]
    raise typer.Exit(start([*options, "--max-batch-delay-ms", str(max_batch_delay_ms)]))


def add_to(app: typer.Typer) -> None:
    """Adds these commands to the command line."""
    for command in (control, gateway, replica):
        app.command()(command)
