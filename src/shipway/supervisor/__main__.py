"""`python -m shipway.supervisor`: a server configured by environment variables."""

from __future__ import annotations

import argparse
import sys

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.settings import read_settings
from shipway.supervisor.up import up

EXIT_FAILED = 3


def main() -> int:
    """Runs the server; a failure is one JSON line on stderr."""
    parser = argparse.ArgumentParser(prog="shipway up", description=__doc__)
    parser.add_argument("--gateways", type=int, default=1, help="gateway processes")
    options = parser.parse_args()
    try:
        up(read_settings(), gateways=options.gateways)
    except ShipwayError as exc:
        sys.stderr.write(msgspec.json.encode(LastWord.of(exc)).decode() + "\n")
        return EXIT_FAILED
    return 0


if __name__ == "__main__":
    sys.exit(main())
