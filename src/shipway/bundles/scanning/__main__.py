"""The scanning process: bounds itself, then reads a bundle and prints what it found as JSON.

Run as `python -I -m shipway.bundles.scanning`, with the order as JSON on stdin.
"""

from __future__ import annotations

import resource
import sys
from pathlib import Path

import msgspec

from shipway.bundles.scanning.bundle import BundleScan, Rules
from shipway.engines.bundle import read_manifest

MEMORY_BYTES = 2 * 1024**3
MOST_FILES = 64


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to scan, and for how long at most."""

    directory: str
    rules: Rules
    cpu_s: int


def main() -> int:
    """Scans what the order names; the exit code is 0 when the report is whole."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    bind(order.cpu_s)
    directory = Path(order.directory)
    report = BundleScan(directory, read_manifest(directory), order.rules).run()
    sys.stdout.buffer.write(msgspec.json.encode(report))
    return 0


def bind(cpu_s: int) -> None:
    """Bounds this process for good: memory, processor time, files, and what it may write."""
    for name, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_CPU, cpu_s),
        (resource.RLIMIT_NOFILE, MOST_FILES),
        (resource.RLIMIT_FSIZE, 4 * 1024 * 1024),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(name)
        most = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(name, (most, most))


if __name__ == "__main__":
    sys.exit(main())
