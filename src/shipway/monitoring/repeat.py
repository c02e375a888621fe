"""`python -m shipway.monitoring.repeat`: counts repeated requests as the order on stdin says, and ends.

The answers are JSON on stdout.
"""

from __future__ import annotations

import resource
import sys

import msgspec

from shipway.monitoring.repetition import Order, counted

MOST_MEMORY_BYTES = 4 * 1024**3
"""Of addresses: what DuckDB counts, it bounds itself, and lower."""


def main() -> int:
    """Carries out one order; gives the exit code."""
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    sys.stdout.buffer.write(msgspec.json.encode(counted(order)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
