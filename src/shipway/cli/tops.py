"""`shipway top` as a table, once or again and again."""

from __future__ import annotations

from collections.abc import Iterator
from time import monotonic, sleep

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from shipway.cli.charts import number_of, sparkline
from shipway.cli.output import table_of
from shipway.client.measuring import Top, TopRow
from shipway.client.releasing import AWAY
from shipway.client.synchronous import Client
from shipway.core.measures import MEASURES

_POLL_S = 2.0
_PATIENCE_S = 300.0
_COLUMNS = (
    *("endpoint", "phase", "#req", "#err", "#p50", "#p95", "#p99", "#inside", "#ready"),
    *("#cpu", "#memory", "versions", "last 5 min"),
)
_SHOWN = (
    *("requests_per_s", "error_rate", "p50_ms", "p95_ms", "p99_ms"),
    *("in_flight", "replicas_ready", "cpu_cores", "memory_mb"),
)


def picture_of(top: Top, *, note: str = "") -> RenderableType:
    """The endpoints as a table, below what Shipway's own processes take."""
    parts: list[RenderableType] = [Text(_head(top), style="dim")]
    if note:
        parts.append(Text(note, style="yellow"))
    if top.endpoints:
        parts.append(table_of(_COLUMNS, [_cells(row) for row in top.endpoints]))
    else:
        parts.append(Text("No endpoint yet."))
    return Group(*parts)


def watch(client: Client) -> None:
    """Shows it until interrupted. Control may be away for five minutes.

    Raises:
        ServerUnreachable, StoreUnavailable: control was away for longer, or at the start.
    """
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:
        for top, note in _news(client):
            live.update(picture_of(top, note=note), refresh=True)


def _news(client: Client) -> Iterator[tuple[Top, str]]:
    top, heard_s = client.top(), monotonic()
    while True:
        yield top, "" if monotonic() - heard_s < _POLL_S else "Control does not answer."
        sleep(_POLL_S)
        try:
            top, heard_s = client.top(), monotonic()
        except AWAY:
            if monotonic() - heard_s > _PATIENCE_S:
                raise


def _head(top: Top) -> str:
    words = [f"{top.period_s} s until {top.at:%H:%M:%S} UTC"]
    for name, label in (("control", "control"), ("gateway", "gateways")):
        cpu, memory = (top.server.get(f"{name}_{what}") for what in ("cpu_cores", "memory_mb"))
        if cpu is not None:
            words.append(f"{label} {number_of(cpu, 'cores')}, {number_of(memory, 'MB')}")
    gpu = top.server.get("gpu_pct")
    if gpu is not None:
        words.append(f"GPU {gpu:.0f} %")
    return "  ·  ".join(words)


def _cells(row: TopRow) -> list[object]:
    values: list[object] = [
        number_of(row.measures.get(name), MEASURES[name].unit) for name in _SHOWN
    ]
    is_bad = (row.measures.get("error_rate") or 0.0) > 0
    values[1] = Text(str(values[1]), style="bold red" if is_bad else "")
    weights = ", ".join(f"{version} {pct} %" for version, pct in row.weights.items())
    return [row.endpoint, row.phase.value, *values, weights, Text(sparkline(row.requests))]
