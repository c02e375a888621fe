"""Starting and ending the server of a state directory."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from shipway.core.errors import InvalidSpec
from shipway.settings import Settings, read_settings
from shipway.store.api_keys import ADMIN, key_path

if TYPE_CHECKING:
    from shipway.supervisor.records import Running


def settings_of(**given: Any) -> Settings:
    """The settings of the environment, with the options that were given in front; None is not given."""
    return read_settings(**given)


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
        server = up.start(settings, gateways=gateways)
        show_running(server, is_guarded=settings.auth, detached=True)
        return
    show = partial(show_running, is_guarded=settings.auth)
    up.up(settings, gateways=gateways, on_ready=show)


def show_running(server: Running, *, is_guarded: bool, detached: bool = False) -> None:
    """Says where a server is, how to call it, and how to end it."""
    typer.echo(f"Shipway runs, state in {server.state_dir}")
    typer.echo(f"  gateway  {server.gateway_url}")
    typer.echo(f"  gRPC     {server.grpc_address}")
    typer.echo(f"  control  {server.control_url}/api/v1/docs")
    if is_guarded:
        key = os.path.relpath(key_path(Path(server.state_dir), ADMIN))
        typer.echo(f"  your key {key} (command line and SDK find it by themselves)")
        typer.echo(
            f'Call it  curl -H "Authorization: Bearer $(cat {key})" {server.gateway_url}/v2/models/NAME'
        )
    else:
        typer.echo("  access   everybody may do everything (--no-auth)")
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
    from shipway.bootstrap.control import run_control
    from shipway.engines.logs import log_to_stderr

    log_to_stderr()
    run_control(settings)


def gateway_arguments(settings: Settings) -> list[str]:
    """The command line of a gateway process with these settings."""
    from shipway.client.discovery import default_control_url
    from shipway.tls.files import tls_files

    tls = tls_files(settings)
    return [
        *("--state-dir", str(settings.state_dir.absolute())),
        *("--control-url", settings.control_url or default_control_url(tls)),
        *("--environment", settings.environment),
        *("--host", settings.host),
        *("--port", str(settings.gateway_port)),
        *("--grpc-port", str(settings.chosen_grpc_port)),
        *tls.as_arguments(),
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
