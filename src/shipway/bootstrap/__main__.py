"""`python -m shipway.bootstrap control` runs control alone, from the environment's settings."""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from shipway.bootstrap.control import run_control
from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.engines.logs import log_to_stderr
from shipway.settings import (
    read_settings,
)

EXIT_FAILED = 3
"""Control could not start; the reason is one JSON line on stderr."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one process from the environment's settings; gives the exit code."""
    parser = argparse.ArgumentParser(prog="shipway.bootstrap", description=__doc__)
    parser.add_argument("role", choices=["control"])
    parser.add_argument("--state-dir", type=Path)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    parser.add_argument("--shared-port", action="store_true", help="the port is reserved for us")
    options = parser.parse_args(arguments)
    log_to_stderr()
    logging.getLogger("alembic").setLevel(logging.WARNING)
    try:
        settings = read_settings(
            state_dir=options.state_dir, host=options.host, control_port=options.port
        )
        run_control(settings, shared_port=options.shared_port)
    except ShipwayError as exc:
        sys.stderr.write(msgspec.json.encode(LastWord.of(exc)).decode() + "\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
