"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

EndpointName = Annotated[str, typer.Argument(help="The endpoint's name.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for machines.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would change; change nothing.")]
Reason = Annotated[str, typer.Option("--reason", help="Why; kept on the audit record.")]
Server = Annotated[
    str | None,
    typer.Option("--server", metavar="URL", help="Control's URL; found by itself when left out."),
]
StateDir = Annotated[
    Path | None,
    typer.Option("--dir", help="State directory of the server.", show_default="./.shipway"),
]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Do not wait until it is live or its rollout has begun.")
]
TimeoutS = Annotated[
    float,
    typer.Option("--timeout", help="Seconds to wait until it is live or its rollout has begun."),
]
TIME_FORMATS = ["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M:%S%z"]
"""How times are written on the command line; one without a zone is meant as UTC."""
