"""Results as Markdown tables and a picture, and their place in the documentation."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from xml.sax.saxutils import escape

import catalogue
from claims import BATCHING_CONNECTIONS, Claim, Results, Spot
from measure import GRPC, REST, Run
from models import TITLES
from servers import SHIPWAY, Server

DOCS = Path(__file__).resolve().parents[1] / "docs"
_BEGIN, _END = "<!-- measured: begin -->", "<!-- measured: end -->"
_NOTHING = ""
_QUIET = 0.15
"""Cores that others may take before ratios of two servers begin to tell of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A whole run of the benchmarks: what it saw, where, and what went wrong."""

    date: str
    machine: str
    versions: Mapping[str, str]
    rounds: int
    seconds: int
    direct_p50_ms: float | None
    placements: Mapping[str, str]
    problems: Sequence[str]
    runs: Sequence[Run]

    def as_json(self) -> dict[str, object]:
        """All of it; `from_json` reads it back."""
        return asdict(self)

    @staticmethod
    def from_json(data: dict[str, object]) -> Benchmark:
        """The benchmark of an earlier run."""
        runs = [Run(**run) for run in data["runs"]]
        return Benchmark(**{**data, "runs": runs})


def markdown(benchmark: Benchmark, results: Results, claims: Iterable[Claim]) -> str:
    """Machine, claims and tables."""
    releases = ", ".join(f"{name} {version}" for name, version in benchmark.versions.items())
    parts = [
        f"Measured on {benchmark.date} on {benchmark.machine}: {benchmark.rounds} rounds of "
        f"{benchmark.seconds} s for each figure. {_disturbance(benchmark.runs)}",
        f"Releases: {releases}.",
        f"Shipway's own choice of a placement: {_placements(benchmark.placements)}.",
        "### Claims",
        claims_table(claims),
    ]
    for model, protocol, connections in _groups(results):
        parts += [_heading(model, protocol, connections)]
        parts += [table(results, model, protocol, connections)]
    if benchmark.problems:
        parts += ["### Problems", "\n".join(f"- {problem}" for problem in benchmark.problems)]
    return "\n\n".join(parts) + "\n"


def claims_table(claims: Iterable[Claim]) -> str:
    """Each claim with its target and its verdict."""
    lines = ["| claim | measured | target | |", "| --- | --- | --- | --- |"]
    for claim in claims:
        sign = "at least" if claim.holds(1, 0) else "at most"
        measured = _NOTHING if claim.measured is None else f"{claim.measured:.2f}{claim.unit}"
        target = f"{sign} {claim.target:.3g}{claim.unit}"
        lines.append(f"| {claim.text} | {measured} | {target} | {claim.verdict} |")
    return "\n".join(lines)


def table(results: Results, model: str, protocol: str, connections: int) -> str:
    """All servers at one load, in the order of servers.py."""
    lines = [
        "| server | req/s | of the floor | Shipway is | p50 ms | p99 ms | CPU µs/req | PSS MB | failed |",
        "| --- " * 9 + "|",
    ]
    for server in catalogue.ALL:
        spot = Spot(server=server.name, model=model, protocol=protocol, connections=connections)
        if results.rounds(spot):
            lines.append(_row(results, server, spot))
    return "\n".join(lines)


def write_docs(benchmark: Benchmark, results: Results, claims: Iterable[Claim]) -> None:
    """Puts the results between the marks of docs/benchmarks.md, and the picture beside it."""
    page = DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    text = markdown(benchmark, results, claims)
    page.write_text(f"{before}{_BEGIN}\n\n{text}\n{_END}{after}")
    (DOCS / "benchmarks.svg").write_text(picture(results))


def _placements(placements: Mapping[str, str]) -> str:
    listed = (f"{model} `{placement}`" for model, placement in placements.items())
    return ", ".join(listed) or "not measured"


def _disturbance(runs: Sequence[Run]) -> str:
    """How much of the machine others had: what disturbed the figures."""
    others = sorted(run.others for run in runs)
    if not others:
        return ""
    middle, worst = others[len(others) // 2], others[-1]
    said = f"Others on the machine took {middle:.2f} cores in the middle run, {worst:.2f} in the worst."
    return (
        said
        if middle < _QUIET
        else f"{said} **That is too much for these figures to be compared.**"
    )


def _groups(results: Results) -> list[tuple[str, str, int]]:
    found = {(run.model, run.protocol, run.connections) for run in results.runs}
    order = list(TITLES)
    return sorted(found, key=lambda group: (order.index(group[0]), group[1] == GRPC, group[2]))


def _heading(model: str, protocol: str, connections: int) -> str:
    if protocol == GRPC:
        return f"### {TITLES[model]} · gRPC, {connections} calls in flight"
    word = "connection" if connections == 1 else "connections"
    batching = ", batching" if connections == BATCHING_CONNECTIONS else ""
    return f"### {TITLES[model]} · REST, {connections} {word}{batching}"


def _row(results: Results, server: Server, spot: Spot) -> str:
    floor = Spot(
        server=catalogue.FLOOR, model=spot.model, protocol=REST, connections=spot.connections
    )
    ours = Spot(
        server=SHIPWAY, model=spot.model,
        protocol=spot.protocol, connections=spot.connections,
    )  # fmt: skip
    of_floor = results.ratio(spot, floor) if spot.protocol == REST else None
    faster = None if server.is_ours() else results.ratio(ours, spot)
    figures = {name: results.median(spot, name) for name in ("rps", "p50_ms", "p99_ms")}
    cost = {name: results.median(spot, name) for name in ("cpu_us", "pss_mb")}
    cells = [
        f"**{server.title}**" if server.is_ours() else server.title,
        f"{figures['rps']:,.0f}",
        _NOTHING if of_floor is None else f"{of_floor:.2f}",
        _NOTHING if faster is None else f"{faster:.2f}x",
        f"{figures['p50_ms']:.2f}",
        f"{figures['p99_ms']:.2f}",
        f"{cost['cpu_us']:,.0f}",
        f"{cost['pss_mb']:.0f}",
        str(results.failures(spot)),
    ]
    return f"| {' | '.join(cells)} |"


_WIDTH, _BAR_LEFT, _BAR_WIDTH, _LINE = 900, 270, 500, 22
_OURS, _THEIRS, _GROUND = "#d9480f", "#74a0c8", "#9aa0a6"


def picture(results: Results) -> str:
    """Bars of requests per second at 32 connections, as shares of the floor's, one group a model."""
    shapes: list[str] = []
    y = 30
    for model in dict.fromkeys(run.model for run in results.runs):
        bars = _bars(results, model)
        if not bars:
            continue
        title = f"{TITLES[model]}; REST, 32 connections, of the floor"
        shapes.append(_text(16, y, title, weight="bold"))
        y += _LINE
        longest = max(share for _, share, _ in bars)
        for server, share, rps in bars:
            shapes += _bar(y, server, share, longest=longest, rps=rps)
            y += _LINE
        y += _LINE
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{y}" '
        f'viewBox="0 0 {_WIDTH} {y}" font-family="sans-serif" font-size="13">'
    )
    ground = f'<rect width="{_WIDTH}" height="{y}" fill="white"/>'
    return "\n".join([head, ground, *shapes, "</svg>"]) + "\n"


def _bars(results: Results, model: str) -> list[tuple[Server, float, float]]:
    """The servers with their share of the floor and their requests per second, best first."""
    floor, bars = Spot(server=catalogue.FLOOR, model=model), []
    for server in catalogue.ALL:
        spot = Spot(server=server.name, model=model)
        share, rps = results.ratio(spot, floor), results.median(spot, "rps")
        if share is not None and rps is not None:
            bars.append((server, share, rps))
    return sorted(bars, key=lambda bar: -bar[1])


def _bar(y: int, server: Server, share: float, *, longest: float, rps: float) -> Sequence[str]:
    width = max(1.0, _BAR_WIDTH * share / longest)
    is_floor = server.name.startswith(catalogue.FLOOR)
    colour = _OURS if server.is_ours() else _GROUND if is_floor else _THEIRS
    top = y - 13
    return [
        _text(_BAR_LEFT - 8, y, server.title, anchor="end"),
        f'<rect x="{_BAR_LEFT}" y="{top}" width="{width:.1f}" height="16" fill="{colour}"/>',
        _text(round(_BAR_LEFT + width + 6), y, f"{share:.2f} ({rps:,.0f}/s)"),
    ]


def _text(x: int, y: int, text: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'text-anchor="{anchor}" font-weight="{weight}"'
    return f'<text x="{x}" y="{y}" fill="#222" {style}>{escape(text)}</text>'
