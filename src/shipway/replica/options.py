"""The command line of a replica process, read before anything but the standard library is there."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path


class Options(argparse.Namespace):
    """The command line of a replica process."""

    bundle: Path
    digest: str
    address: str
    id: str
    max_batch_rows: int
    max_batch_delay_ms: float
    confinement: str


def options_of(arguments: Sequence[str]) -> Options:
    """The options in these arguments; ends the process when they cannot be read."""
    parser = argparse.ArgumentParser(prog="shipway replica", description="Runs one replica.")
    parser.add_argument("--bundle", type=Path, required=True, help="bundle directory")
    parser.add_argument("--digest", required=True, help="digest that the bundle must have")
    parser.add_argument("--address", required=True, help="unix:/path or tcp:host:port to listen on")
    parser.add_argument("--id", required=True, help="name of this replica")
    parser.add_argument("--max-batch-rows", type=int, default=64, help="rows per model call")
    parser.add_argument(
        "--max-batch-delay-ms", type=float, default=5.0, help="longest wait for company"
    )
    parser.add_argument("--confinement", default="", help="what to confine the process to, as JSON")
    return parser.parse_args(arguments, namespace=Options())
