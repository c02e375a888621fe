"""How soon drift is found where it is known to be, and how often where there is none.

    python benchmarks/drift_streams.py [--replays 200] [--directory DIR] [--write]

Streams are replayed as tables: a baseline first, kept as in a bundle, then a look each hour (each day for Elec2) at
the window that ends there, all at default rules. The controls are weeks of 168 hourly looks at rows in random order, which
cannot drift; every alarm is false, of drift or of data quality. `--write` puts the tables into
docs/explanation/drift.md. Exits with 1 when a claim fails. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np

from drift_data import Stream, controls, streams
from shipway.core.drift.report import Verdict
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.significance import chi_square_p, kolmogorov_smirnov_p, rise_p
from shipway.core.drift.summaries import Summary, edges_of, summary_of
from shipway.core.drift.verdicts import compare
from shipway.core.profile import Profile, column_profile
from shipway.core.quality import claims
from shipway.monitoring.tallies import NumberTally

PAGE = Path(__file__).parents[1] / "docs" / "explanation" / "drift.md"
START, HOUR = datetime(2026, 1, 1, tzinfo=UTC), timedelta(hours=1)
WEEK, WINDOW, PER_HOUR, BASELINE = 168, 24, 20, 2000
MOST_FALSE = 0.05


class Options(argparse.Namespace):
    replays: int
    directory: Path | None
    write: bool


@dataclass(frozen=True)
class Found:
    """The first look that named each column, in hours from the start, and when it said that the change began."""

    hours: dict[str, int]
    since: dict[str, int]
    looks: int


def summary(
    values: np.ndarray, edges: Sequence[Sequence[float]], names: Sequence[str], **when
) -> Summary:
    """The summary of rows in order of time, in 24 buckets."""
    buckets = np.arange(len(values)) * 24 // max(len(values), 1)
    columns = {}
    for at, name in enumerate(names):
        column = np.ascontiguousarray(values[:, at])
        tally = NumberTally(edges[at], is_single=column.dtype == np.float32, buckets=24)
        tally.add(buckets, column)
        columns[name] = tally.summary()
    return Summary(rows=len(values), columns=columns, **when)


def baseline_of(values: np.ndarray, names: Sequence[str]) -> Summary:
    """What the bundle of a model that was packaged with these rows knows of them."""
    columns = {name: column_profile(column) for name, column in zip(names, values.T, strict=True)}
    return summary_of(Profile(rows=len(values), columns=columns))


def rules_of(stream: Stream) -> DriftRules:
    return DriftRules(runs_per_week=WEEK / stream.looks_every)


def replayed(stream: Stream) -> Found:
    size = stream.baseline_hours * stream.per_hour
    baseline = baseline_of(stream.values[:size], stream.names)
    edges, rules = list(edges_of(baseline).values()), rules_of(stream)
    hours, since, looks = {}, {}, 0
    last = len(stream.values) // stream.per_hour
    for end in range(stream.baseline_hours + stream.window_hours, last + 1, stream.looks_every):
        begin, looks = end - stream.window_hours, looks + 1
        step = stream.window_hours / 24 * HOUR
        now = summary(
            stream.values[begin * stream.per_hour : end * stream.per_hour],
            edges,
            stream.names,
            starts=tuple(START + begin * HOUR + step * at for at in range(24)),
        )
        for one in compare(baseline, now, rules=rules).drifted:
            if one.column not in hours:
                hours[one.column] = end
                since[one.column] = int((one.since - START) / HOUR) if one.since else begin
    return Found(hours=hours, since=since, looks=looks)


def false_alarms(draw, features: int, replays: int) -> tuple[int, int]:
    """How many weeks had an alarm of drift, and how many one of drift or data quality."""
    drifted = either = 0
    for number in range(replays):
        rows = draw(
            np.random.default_rng([features, number]), BASELINE + (WEEK + WINDOW) * PER_HOUR
        )
        verdicts = list(_alarms(rows[:BASELINE], rows[BASELINE:]))
        drifted += any(drift for drift, _ in verdicts)
        either += any(drift or quality for drift, quality in verdicts)
    return drifted, either


def _alarms(before: np.ndarray, after: np.ndarray) -> Iterator[tuple[bool, bool]]:
    """The alarms of each look that could have any; all others are passed over."""
    names = [str(at) for at in range(before.shape[1])]
    baseline = baseline_of(before, names)
    edges = list(edges_of(baseline).values())
    ours, hourly = _cells(before, edges).sum(axis=0), _cells(after, edges)
    windows = np.lib.stride_tricks.sliding_window_view(hourly, WINDOW, axis=0).sum(axis=-1)
    for look in np.flatnonzero(_may_alarm(ours, windows[1:])):
        rows = after[(look + 1) * PER_HOUR : (look + 1 + WINDOW) * PER_HOUR]
        now = summary(rows, edges, names)
        quality = claims(baseline, now, rules=DriftRules())
        yield (
            compare(baseline, now).verdict is Verdict.DRIFTED,
            any(one.holds for one in quality),
        )


def _cells(values: np.ndarray, edges: Sequence[Sequence[float]]) -> np.ndarray:
    """The counts by hour, column and cell."""
    hours = np.arange(len(values)) // PER_HOUR
    counts = np.zeros((hours[-1] + 1, values.shape[1], 22), dtype=np.int64)
    for at, each in enumerate(edges):
        exact = np.asarray(each, dtype=values.dtype)
        cells = np.searchsorted(exact, values[:, at], side="right")
        cells[values[:, at] == exact[-1]] = len(exact) - 1
        # The cell above the last edge is the last one, whatever the number of edges.
        cells[cells == len(exact)] = 21
        counts[:, at] = np.bincount(hours * 22 + cells, minlength=counts[:, at].size).reshape(
            -1, 22
        )
    return counts


def _may_alarm(ours: np.ndarray, windows: np.ndarray) -> np.ndarray:
    """Which looks must be judged: those where any column is beyond the bound that comes first in Holm's order.

    Where none is, nothing is called drift. Nor is it with a Jensen-Shannon distance below the effect, which
    pooling of rare cells only makes smaller. Data quality tests at least two faults of each column.
    """
    before, after = ours / ours.sum(axis=-1, keepdims=True), windows / (WINDOW * PER_HOUR)
    gaps = np.abs(np.cumsum(after - before, axis=-1)).max(axis=-1)
    rules, size = DriftRules(), WINDOW * PER_HOUR
    least = next(
        d
        for d in np.arange(0, 1, 0.001)
        if kolmogorov_smirnov_p(d, BASELINE, size) <= rules.alpha / len(ours)
    )
    middle = (before + after) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        bits = np.nan_to_num(before * np.log2(before / middle)) + np.nan_to_num(
            after * np.log2(after / middle)
        )
    # Pooling makes both smaller, and with more degrees of freedom more is asked of chi-square.
    ratio, both = BASELINE / size, np.maximum(ours + windows, 1)
    squares = ((ours / ratio**0.5 - windows * ratio**0.5) ** 2 / both).sum(axis=-1)
    is_odd = (
        squares >= next(x for x in range(999) if chi_square_p(x, 1) <= rules.alpha / len(ours)) - 1
    )
    is_few = (ours > 0).sum(axis=-1) < 10
    is_moved = np.sqrt(bits.sum(axis=-1) / 2) >= rules.effect
    is_far = np.where(is_few, is_moved & is_odd, gaps >= least)
    alpha = rules.alpha / (2 * len(ours))
    most = next(c for c in range(size) if rise_p((c, size), (1, BASELINE)) <= alpha)
    outside = windows[..., 0] + windows[..., 21] >= most
    return (is_far | outside).any(axis=-1)


def stream_table(directory: Path) -> tuple[list[str], bool]:
    lines = [
        "| stream | features | known change | first found | delay | said to be since | named | before it |",
        "| --- | ---: | --- | --- | --- | --- | --- | ---: |",
    ]
    is_good = True
    for stream in streams(directory):
        found = replayed(stream)
        line, holds = _line(stream, found)
        lines.append(line)
        is_good &= holds
        print(lines[-1], flush=True)
    return lines, is_good


def _line(stream: Stream, found: Found) -> tuple[str, bool]:
    change = None if stream.change is None else stream.change // stream.per_hour
    named = [name for name in found.hours if not stream.expected or name in stream.expected]
    if change is None:
        return (
            f"| {stream.name} | {len(stream.names)} | none | {_time(stream, min(found.hours.values(), default=None))} | | | {len(found.hours)} | |",
            not named,
        )
    early = [name for name in named if found.hours[name] <= change]
    late = [name for name in named if found.hours[name] > change]
    if not late:
        return (
            f"| {stream.name} | {len(stream.names)} | {_time(stream, change)} | not found | | | 0 | {len(early)} |",
            False,
        )
    first = min(late, key=lambda name: found.hours[name])
    delay, since = found.hours[first] - change, found.since[first]
    cells = (
        stream.name, len(stream.names), _time(stream, change), _time(stream, found.hours[first]),
        f"{delay * stream.per_hour} rows", _time(stream, since), f"{len(late)} of {len(stream.expected) or len(stream.names)}", len(early),
    )  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |", not early


def _time(stream: Stream, hour: int | None) -> str:
    return "not found" if hour is None else f"row {hour * stream.per_hour:,}"


def control_table(directory: Path, replays: int) -> tuple[list[str], bool]:
    lines = [
        "| features | rows | weeks | looks | weeks with a false alarm of drift | of drift or data quality |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    is_good = True
    for features, (name, draw) in controls(directory).items():
        drifted, either = false_alarms(draw, features, replays)
        shares = (f"{each} ({100 * each / replays:.1f} %)" for each in (drifted, either))
        lines.append(
            f"| {features} | {name} | {replays} | {replays * WEEK:,} | {' | '.join(shares)} |"
        )
        is_good &= either / replays <= MOST_FALSE
        print(lines[-1], flush=True)
    return lines, is_good


def write(name: str, *tables: list[str]) -> None:
    """Puts tables in place of those that the page of the docs has under that name."""
    begin, end = f"<!-- {name}: begin -->", f"<!-- {name}: end -->"
    text = PAGE.read_text()
    before, after = text.split(begin)[0], text.split(end)[1]
    body = "\n\n".join("\n".join(lines) for lines in tables)
    PAGE.write_text(f"{before}{begin}\n{body}\n{end}{after}")


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--replays", type=int, default=200)
    parser.add_argument("--directory", type=Path, help="keep the data sets there, for the next run")
    parser.add_argument("--write", action="store_true", help="write the tables into the docs")
    options = parser.parse_args(namespace=Options())
    with tempfile.TemporaryDirectory(prefix="shipway-drift-") as scratch:
        directory = options.directory or Path(scratch)
        found, are_found = stream_table(directory)
        false, are_few = control_table(directory, options.replays)
    if options.write:
        write("drift-streams", found, false)
    return 0 if are_found and are_few else 1


if __name__ == "__main__":
    sys.exit(main())
