"""`python -m shipway.monitoring.assess`: measures what the order on stdin says, and ends.

The answer is JSON on stdout; what went wrong is one JSON line there.
"""

from __future__ import annotations

import sys

import msgspec

from shipway.core.errors import ShipwayError
from shipway.core.failures import LastWord
from shipway.monitoring.assessment import Order, assessed
from shipway.monitoring.bounds import bind


def main() -> int:
    """Carries out one order; gives the exit code."""
    bind()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        found = msgspec.json.encode(assessed(order))
    except ShipwayError as exc:
        sys.stdout.write(msgspec.json.encode(LastWord.of(exc)).decode() + "\n")
        return 1
    sys.stdout.buffer.write(found)
    return 0


if __name__ == "__main__":
    sys.exit(main())
