"""What the process that measures performance is told, and how it answers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shipway.core.performance import By, Performance
from shipway.core.targets import Target
from shipway.monitoring.matching import Range
from shipway.store.predictions.reading import LogFiles


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What to measure: of `files`, which hold all feedback and all predictions from `wanted.since` on.

    `targets` are by version number. What does not fit into memory goes to `temp_dir`.
    """

    endpoint: str
    files: LogFiles
    targets: dict[str, Target]
    wanted: Range
    temp_dir: str
    timeout_s: float
    by: By | None = None


def assessed(order: Order) -> Performance:
    """What was found.

    Raises:
        InvalidRequest: it would be too much.
        DeadlineExceeded: it took too long.
        StoreUnavailable: a file of the log is away or damaged.
    """
    from shipway.monitoring.performance import performance
    from shipway.store.predictions.reading import bounded, connected

    targets = {int(version): target for version, target in order.targets.items()}
    with (
        connected(order.files, temp_dir=Path(order.temp_dir)) as connection,
        bounded(connection, timeout_s=order.timeout_s),
    ):
        return performance(connection, order.endpoint, targets, order.wanted, by=order.by)
