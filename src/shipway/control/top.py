"""What all endpoints do now, for `shipway top`: from the finest windows of the last minutes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta

import msgspec

from shipway.control.gauges import SERVER
from shipway.control.history import History
from shipway.control.views import EndpointView
from shipway.core.endpoints import Phase
from shipway.core.measures import OF_SERVER, value_of
from shipway.core.resolutions import FINE
from shipway.core.tallies import Tally, added

PERIOD_S = 60
"""The measures are of the last minute that is in the history."""

PICTURE_S = 300
"""The picture has a place for each 10 s of so long."""

SHOWN = (
    *("requests_per_s", "error_rate", "shed_rate", "p50_ms", "p95_ms", "p99_ms"),
    *("in_flight", "replicas_ready", "cpu_cores", "memory_mb"),
)

_Windows = Mapping[str, Sequence[tuple[datetime, Tally]]]


class TopRow(msgspec.Struct, frozen=True, kw_only=True):
    """One endpoint. `requests` are requests per second, each 10 s of the last 5 minutes, oldest first."""

    endpoint: str
    phase: Phase
    measures: dict[str, float | None]
    weights: dict[str, int]
    requests: tuple[float, ...]


class TopView(msgspec.Struct, frozen=True, kw_only=True):
    """The endpoints, busiest first, and Shipway's own processes: over `period_s` until `at`."""

    at: datetime
    period_s: int
    endpoints: tuple[TopRow, ...]
    server: dict[str, float | None] = {}


class Top:
    """Reads what is shown. Thread-safe; blocks."""

    def __init__(self, history: History) -> None:
        self._history = history

    def view(
        self, endpoints: Iterable[EndpointView], *, with_server: bool, now: datetime
    ) -> TopView:
        """The endpoints as they do now; without `with_server` nothing of the processes.

        Raises:
            StoreUnavailable: the database is away.
        """
        windows: dict[str, list[tuple[datetime, Tally]]] = {}
        for (endpoint, _), at, tally in self._history.recent(PICTURE_S):
            windows.setdefault(endpoint, []).append((at, tally))
        until = FINE.start_of(now)
        rows = [_row(one, windows.get(one.name, ()), until) for one in endpoints]
        rows.sort(key=lambda row: (-(row.measures["requests_per_s"] or 0.0), row.endpoint))
        last = _last(windows.get(SERVER[0], ()), until)
        server = {name: value_of(name, last, PERIOD_S) for name in sorted(OF_SERVER)}
        return TopView(
            at=until,
            period_s=PERIOD_S,
            endpoints=tuple(rows),
            server=server if with_server else {},
        )


def _row(one: EndpointView, windows: Sequence[tuple[datetime, Tally]], until: datetime) -> TopRow:
    last = _last(windows, until)
    return TopRow(
        endpoint=one.name,
        phase=one.phase,
        measures={name: value_of(name, last, PERIOD_S) for name in SHOWN},
        weights={v.version: v.weight_pct for v in one.variants if v.weight_pct},
        requests=tuple(_picture(windows, until)),
    )


def _last(windows: Iterable[tuple[datetime, Tally]], until: datetime) -> dict[str, float]:
    since = until - timedelta(seconds=PERIOD_S)
    return added(tally for at, tally in windows if since <= at < until)


def _picture(windows: Iterable[tuple[datetime, Tally]], until: datetime) -> Iterable[float]:
    places: list[list[Tally]] = [[] for _ in range(PICTURE_S // FINE.step_s)]
    for at, tally in windows:
        place = int((at - until).total_seconds()) // FINE.step_s
        if -len(places) <= place < 0:
            places[place].append(tally)
    for parts in places:
        yield value_of("requests_per_s", added(parts), FINE.step_s) or 0.0
