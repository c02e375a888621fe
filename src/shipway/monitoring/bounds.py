"""What a process of this package may take of the machine."""

from __future__ import annotations

import resource

MEMORY_BYTES = 4 * 1024**3
"""Of addresses, which is more than what is used: what DuckDB counts, it bounds itself, and lower."""


def bind() -> None:
    """Bounds this process for good. A bound that it has already is never raised."""
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    most = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
