"""The command line. Commands import what they need when they run, so that `--help` answers at once."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from shipway.cli import (
    access_commands,
    alert_commands,
    audit_commands,
    backup_commands,
    ca_commands,
    cost_commands,
    doctor_commands,
    endpoint_commands,
    environment_commands,
    evaluation_commands,
    export_commands,
    feedback_commands,
    metric_commands,
    model_commands,
    monitor_commands,
    prediction_commands,
    promotion_commands,
    role_commands,
    rollout_commands,
    server_commands,
    trust_commands,
)

if TYPE_CHECKING:
    from shipway.core.errors import Bug

app = typer.Typer(
    name="shipway",
    help="Takes a trained model to production and keeps it healthy there.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
server_commands.add_to(app)
model_commands.add_to(app)
endpoint_commands.add_to(app)
rollout_commands.add_to(app)
prediction_commands.add_to(app)
promotion_commands.add_to(app)
environment_commands.add_to(app)
evaluation_commands.add_to(app)
monitor_commands.add_to(app)
feedback_commands.add_to(app)
trust_commands.add_to(app)
metric_commands.add_to(app)
export_commands.add_to(app)
role_commands.add_to(app)
access_commands.add_to(app)
alert_commands.add_to(app)
audit_commands.add_to(app)
cost_commands.add_to(app)
ca_commands.add_to(app)
backup_commands.add_to(app)
doctor_commands.add_to(app)


def _print_version(wanted: bool) -> None:
    if wanted:
        from shipway.core.release import VERSION

        typer.echo(f"shipway {VERSION}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Takes a trained model to production and keeps it healthy there."""


def run() -> None:
    """Runs the command line, and ends the process with the exit code of `cli.messages`."""
    from shipway.cli.messages import Exit, message_of, words_of
    from shipway.core.errors import ShipwayError

    try:
        app()
    except ShipwayError as error:
        typer.echo(message_of(error), err=True)
        sys.exit(words_of(error).exit_code)
    except KeyboardInterrupt:
        sys.exit(Exit.INTERRUPTED)
    except BrokenPipeError:
        # The reader (`| head`) has seen enough; stdout must not be flushed again at exit.
        sys.stderr.close()
        sys.exit(Exit.OK)
    # The outermost frame: what nobody foresaw is told in words, and kept whole in a file.
    except Exception as error:  # noqa: BLE001
        typer.echo(message_of(_unforeseen(error)), err=True)
        sys.exit(Exit.BUG)


def _unforeseen(error: Exception) -> Bug:
    """The error for an exception that no part of Shipway translated; its traceback is in a file."""
    import traceback
    from tempfile import NamedTemporaryFile

    from shipway.core.errors import Bug

    with NamedTemporaryFile("w", prefix="shipway-", suffix=".log", delete=False) as file:
        file.write("".join(traceback.format_exception(error)))
    last = traceback.format_exception_only(error)[-1].strip()
    return Bug(
        f"The command ended with an error that it does not know: {last}",
        next_step=f"Report it, with the traceback in `{file.name}`.",
    )
