"""Starting and ending the server of a state directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shipway.core.errors import InvalidSpec
from shipway.settings import Settings, read_settings

if TYPE_CHECKING:
    from shipway.supervisor.records import Running


def settings_of(
    *,
    state_dir: Path | None = None,
    gateway_port: int | None = None,
    grpc_port: int | None = None,
    control_port: int | None = None,
    host: str | None = None,
) -> Settings:
    """The settings of the environment, with the options that were given in front."""
    return read_settings(
        state_dir=state_dir,
        gateway_port=gateway_port,
        grpc_port=grpc_port,
        control_port=control_port,
        host=host,
    )


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON Schema of `endpoint` specs, of an `environment`'s policy or of `model` (model.yaml).

    Raises:
        InvalidSpec: the kind is none of these.
    """
    from shipway.bundles.overrides import overrides_schema
    from shipway.wire.policies import policy_schema
    from shipway.wire.specs import spec_schema

    schemas = {"endpoint": spec_schema, "environment": policy_schema, "model": overrides_schema}
    if kind not in schemas:
        raise InvalidSpec(
            f"There is no schema `{kind}`.", next_step="Use `endpoint`, `environment` or `model`."
        )
    return schemas[kind]()


def start(settings: Settings, *, gateways: int, detach: bool) -> None:
    """Runs the server until it is told to end; with `detach`, returns once it is ready."""
    from shipway.supervisor import up

    if detach:
        show_running(up.start(settings, gateways=gateways), detached=True)
        return
    up.up(settings, gateways=gateways, on_ready=show_running)


def show_running(server: Running, *, detached: bool = False) -> None:
    """Says where a server is, and how to end it."""
    typer.echo(f"Shipway runs, state in {server.state_dir}")
    typer.echo(f"  gateway  {server.gateway_url}")
    typer.echo(f"  gRPC     {server.grpc_address}")
    typer.echo(f"  control  {server.control_url}/api/v1/docs")
    typer.echo("End it with " + ("`shipway down`." if detached else "Ctrl-C."))


def stop(settings: Settings) -> None:
    """Ends the server of a state directory, and says what there was."""
    from shipway.supervisor.down import down

    stopped = down(settings.state_dir)
    if stopped.was_running:
        typer.echo(f"The server of `{settings.state_dir}` has ended.")
    else:
        typer.echo(f"No server runs on `{settings.state_dir}`.")
    if stopped.leftovers:
        typer.echo(f"{stopped.leftovers} processes that an earlier one left behind were ended.")


def run_control_here(settings: Settings) -> None:
    """Runs control alone until it is told to end."""
    from shipway.bootstrap import run_control
    from shipway.engines.logs import log_to_stderr

    log_to_stderr("%(asctime)s %(levelname)s %(message)s")
    run_control(settings)


def gateway_arguments(settings: Settings) -> list[str]:
    """The command line of a gateway process with these settings."""
    from shipway.client.discovery import DEFAULT_CONTROL_URL

    return [
        *("--state-dir", str(settings.state_dir.absolute())),
        *("--control-url", settings.control_url or DEFAULT_CONTROL_URL),
        *("--environment", settings.environment),
        *("--host", settings.host),
        *("--port", str(settings.gateway_port)),
        *("--grpc-port", str(settings.chosen_grpc_port)),
    ]


def front_arguments(dialect: str, endpoint: str, port: int | None) -> tuple[int | None, list[str]]:
    """The port and the arguments of a gateway that answers for one endpoint in a dialect.

    A given port comes first, then the platform's variable, `SHIPWAY_GATEWAY_PORT`, the dialect's own;
    None leaves it to the settings.

    Raises:
        InvalidSpec: no such dialect, no endpoint, or a platform variable that cannot be used.
    """
    from shipway.gateway.fronts import Dialect, default_port, front_of, platform_port
    from shipway.settings import platform_variables

    if dialect not in [*Dialect]:
        raise InvalidSpec(
            f"There is no dialect `{dialect}`.", next_step=f"Use one of: {', '.join(Dialect)}."
        )
    if not endpoint:
        raise InvalidSpec("`--as` answers for one endpoint.", next_step="Add `--endpoint NAME`.")
    kind, variables = Dialect(dialect), platform_variables()
    if port is None:
        port = platform_port(kind, variables)
    if port is None and "gateway_port" not in read_settings().model_fields_set:
        port = default_port(kind)
    front = front_of(kind, endpoint, variables)
    arguments = ["--as", kind.value, "--endpoint", endpoint]
    if front.predict_path:
        arguments += ["--predict-path", front.predict_path]
    if front.health_paths:
        arguments += ["--health-paths", *front.health_paths]
    return port, arguments
