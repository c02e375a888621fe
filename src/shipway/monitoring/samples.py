"""The two samples that a run compares, counted alike."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import duckdb

from shipway.core.drift.summaries import Summary, summary_of
from shipway.core.monitors import MonitorKind
from shipway.monitoring.columns import Column, columns_to_watch
from shipway.monitoring.order import Order
from shipway.monitoring.profiles import cells_of, chosen_cells, summarised


class Samples(NamedTuple):
    """Both samples, and the columns of the log that they were counted from."""

    columns: tuple[Column, ...]
    reference: Summary
    current: Summary


def samples_of(
    order: Order, connection: duckdb.DuckDBPyConnection, reference: duckdb.DuckDBPyConnection
) -> Samples:
    """The window of the log of `connection`, and what it is compared with, which may be in the other one."""
    columns = watched(order)
    usual = _reference(order, columns, reference)
    window = order.start, order.end
    cells = cells_of(usual)
    current = summarised(connection, columns, cells, since=window[0], until=window[1])
    return Samples(columns=columns, reference=usual, current=current)


def watched(order: Order) -> tuple[Column, ...]:
    """The columns that the monitor looks at."""
    wants_outputs = order.monitor.kind is MonitorKind.PREDICTION_DRIFT
    columns = columns_to_watch(order.inputs, order.outputs, is_batchable=order.batchable)
    features = order.monitor.features
    return tuple(
        one
        for one in columns
        if one.is_input is not wants_outputs and (features is None or one.name in features)
    )


def _reference(
    order: Order, columns: Sequence[Column], connection: duckdb.DuckDBPyConnection
) -> Summary:
    if order.profile is not None:
        whole = summary_of(order.profile)
        wanted = {one.name for one in columns}
        return Summary(
            rows=whole.rows,
            columns={name: one for name, one in whole.columns.items() if name in wanted},
        )
    since, until = reference_bounds(order)
    cells = chosen_cells(connection, columns, since=since, until=until)
    return summarised(connection, columns, cells, since=since, until=until)


def reference_bounds(order: Order) -> tuple[datetime, datetime]:
    """From when until when the rows are that the window is compared with, where it is rows."""
    since, until = order.reference_start, order.reference_end
    assert since is not None
    assert until is not None
    return since, until
