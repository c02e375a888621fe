"""`python -m shipway.monitoring.repeat`: counts repeated requests as the order on stdin says, and ends.

The answers are JSON on stdout.
"""

from __future__ import annotations

import sys

import msgspec

from shipway.monitoring.bounds import bind
from shipway.monitoring.repetition import Order, counted


def main() -> int:
    """Carries out one order; gives the exit code."""
    bind()
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(counted(order)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
