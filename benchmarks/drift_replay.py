"""Streams with known drift, replayed as traffic: does a monitor say of it what `drift_streams.py` says of tables?

    python benchmarks/drift_replay.py [--directory DIR] [--write]

A model is packaged with a stream's first rows as its sample, and served by a real server that keeps predictions. The
rows that follow are asked about over HTTP, window by window, and go the way of all traffic: gateway, spool, control,
Parquet. Then the endpoint's drift monitor judges each window. It must say the same of it as `core.drift` says of the
same rows in memory: the same columns, with the same numbers. So must it of the stream in random order, where nothing may be
found. `--write` puts the table into docs/explanation/drift.md. Exits with 1 when a claim fails. Seeds are fixed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from math import isclose
from pathlib import Path

import httpx
import msgspec
import numpy as np

from drift_data import Stream, cover, elec2
from drift_streams import baseline_of, rules_of, summary, write
from shipway.client.synchronous import Client
from shipway.core.drift.report import DriftReport
from shipway.core.drift.summaries import edges_of
from shipway.core.drift.verdicts import compare
from shipway.core.monitor_runs import MonitorRun, Period
from shipway.monitoring.findings import verdict_of
from shipway.testing.live import live_server
from shipway.wire.specs import spec_of

BUCKETS = 24
"""A window is split into so many parts of time; the rows of each are sent within its part."""

CALLERS = 3
STEP = timedelta(milliseconds=20)
MARGIN_S = 0.001
TRIES = 8
LOGGED_S = 60.0
MOST_WINDOWS = 24
SHUFFLED_WINDOWS = 12


class Options(argparse.Namespace):
    directory: Path | None
    write: bool


@dataclass(frozen=True)
class Judged:
    """A window: the row after its last, what the monitor said, and what is said of the same rows in memory."""

    end: int
    run: MonitorRun
    expected: DriftReport

    @property
    def named(self) -> set[str]:
        assert self.run.report is not None, self.run.message
        return {one.feature for one in self.run.report.firing}

    @property
    def is_as_in_memory(self) -> bool:
        """Whether all is the same: the verdict, the columns, their numbers, and since when."""
        assert self.run.report is not None, self.run.message
        said = {one.feature: one for one in self.run.report.findings}
        known = {one.column: one for one in self.expected.findings}
        return (
            self.run.verdict is verdict_of(self.expected.verdict)
            and self.named == {one.column for one in self.expected.drifted}
            and all(
                one.verdict is verdict_of(known[name].verdict)
                and one.since == known[name].since
                and isclose(one.numbers["effect"], known[name].effect, rel_tol=1e-9, abs_tol=1e-12)
                and isclose(one.numbers["p"], known[name].p, rel_tol=1e-9, abs_tol=1e-12)
                for name, one in said.items()
            )
        )


class Callers:
    """A few callers of an endpoint, each with a connection that stays."""

    def __init__(self, url: str, key: str, names: Sequence[str]) -> None:
        self._names = names
        self._pool = ThreadPoolExecutor(CALLERS)
        self._http = httpx.Client(
            base_url=url, headers={"authorization": f"Bearer {key}"}, timeout=40
        )
        self.rows = 0

    def __enter__(self) -> Callers:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()
        self._http.close()

    def send(self, endpoint: str, rows: np.ndarray) -> Period:
        """Asks about the rows of a window, a 24th of them in each 24th of its time, and gives its time.

        On a machine that cannot keep the pace they are sent again, slower: those before are outside of that time.
        """
        batches = [
            [self._body(part) for part in np.array_split(batch, CALLERS)]
            for batch in np.split(rows, BUCKETS)
        ]
        for step in (STEP * 2**tried for tried in range(TRIES)):
            since = self._sent_at_pace(f"/v2/models/{endpoint}/infer", batches, step)
            self.rows += len(rows)
            if since is not None:
                return Period(since=since, until=since + step * BUCKETS)
        raise TimeoutError(f"No {len(batches[0])} requests are answered within {step}")

    def _sent_at_pace(
        self, path: str, batches: list[list[bytes]], step: timedelta
    ) -> datetime | None:
        since = datetime.now(UTC)  # noqa: TID251 - the clock of the server, which notes the time
        began, step_s, in_time = time.monotonic(), step.total_seconds(), True
        for at, batch in enumerate(batches):
            time.sleep(max(0.0, began + at * step_s + MARGIN_S - time.monotonic()))
            for answer in self._pool.map(lambda body: self._http.post(path, content=body), batch):
                answer.raise_for_status()
            in_time &= time.monotonic() < began + (at + 1) * step_s - MARGIN_S
        time.sleep(max(0.0, began + BUCKETS * step_s - time.monotonic()))
        return since if in_time else None

    def _body(self, rows: np.ndarray) -> bytes:
        inputs = [
            {"name": name, "shape": [len(rows)], "datatype": "FP64", "data": column.tolist()}
            for name, column in zip(self._names, rows.T, strict=True)
        ]
        return msgspec.json.encode({"inputs": inputs})


class Traffic:
    """A server, whose endpoints streams are replayed to."""

    def __init__(self, client: Client, *, gateway_url: str, key: str) -> None:
        self._client = client
        self._gateway_url = gateway_url
        self._key = key

    def replay(self, endpoint: str, stream: Stream, ends: Sequence[int]) -> list[Judged]:
        """What the drift monitor says of the windows that end at these rows, in their order."""
        self._serve(endpoint, stream)
        size = stream.window_hours * stream.per_hour
        with Callers(self._gateway_url, self._key, stream.names) as callers:
            periods = [callers.send(endpoint, stream.values[end - size : end]) for end in ends]
            self._wait_until_logged(endpoint, callers.rows)
        return [
            self._judged(endpoint, stream, end, period)
            for end, period in zip(ends, periods, strict=True)
        ]

    def _serve(self, endpoint: str, stream: Stream) -> None:
        import pandas as pd
        from sklearn.linear_model import LinearRegression

        first = stream.values[: stream.baseline_hours * stream.per_hour]
        sample = pd.DataFrame(first, columns=list(stream.names))
        model = LinearRegression().fit(sample, first.mean(axis=1))
        version = self._client.register(model, name=endpoint, sample=sample)
        monitor = {"kind": "drift", "every": f"{stream.looks_every}h"}
        spec = {"name": endpoint, "model": f"{endpoint}:{version.number}", "capture": {}}
        self._client.apply(spec_of({**spec, "monitors": [monitor]}))

    def _wait_until_logged(self, endpoint: str, rows: int) -> None:
        deadline = time.monotonic() + LOGGED_S
        while sum(one.rows for one in self._client.prediction_stats(endpoint)) < rows:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{rows} predictions are not in the log after {LOGGED_S:g} s")
            time.sleep(0.1)

    def _judged(self, endpoint: str, stream: Stream, end: int, period: Period) -> Judged:
        run = self._client.run_monitor(endpoint, "drift", since=period.since, until=period.until)
        return Judged(end=end, run=run, expected=in_memory(stream, end, period))


def in_memory(stream: Stream, end: int, period: Period) -> DriftReport:
    """What `drift_streams.py` says of the window that ends at that row, were it of that time."""
    size = stream.window_hours * stream.per_hour
    first = stream.values[: stream.baseline_hours * stream.per_hour]
    baseline = baseline_of(first, stream.names)
    step = (period.until - period.since) / BUCKETS
    now = summary(
        stream.values[end - size : end],
        list(edges_of(baseline).values()),
        stream.names,
        starts=tuple(period.since + step * at for at in range(BUCKETS)),
    )
    return compare(baseline, now, rules=rules_of(stream))


def shuffled(stream: Stream) -> Stream:
    """Its rows in random order, so that those after the change are all over it."""
    values = np.random.default_rng(8).permutation(stream.values)
    return replace(stream, name="the same, shuffled", values=values, change=None)


def ends_of(stream: Stream, most: int) -> list[int]:
    """Where its windows end, one after the other: the last ones up to two after the change."""
    size = stream.window_hours * stream.per_hour
    first = stream.baseline_hours * stream.per_hour
    last = len(stream.values) if stream.change is None else stream.change + 3 * size
    return list(range(first + size, min(last, len(stream.values)) + 1, size))[-most:]


@contextmanager
def traffic(directory: Path) -> Iterator[Traffic]:
    with live_server(directory / "state") as server, Client(state_dir=server.state_dir) as client:
        yield Traffic(client, gateway_url=server.running.gateway_url, key=server.key)


def line(stream: Stream, judged: Sequence[Judged]) -> tuple[str, bool]:
    """The stream's row in the table, and whether its claims hold."""
    wanted = set(stream.expected) if stream.change else set(stream.names)
    hits = [one for one in judged if one.named & wanted]
    late = [one for one in hits if stream.change and one.end > stream.change]
    same = sum(one.is_as_in_memory for one in judged)
    found = late[0] if late else None
    cells = (
        stream.name, len(stream.names), len(judged),
        f"{len(judged) * stream.window_hours * stream.per_hour:,}",
        f"row {stream.change:,}" if stream.change else "none",
        f"row {found.end:,}" if found else "not found",
        f"{found.end - stream.change} rows" if found and stream.change else "",
        f"{len(found.named & wanted)} of {len(wanted)}" if found else "",
        len(hits) - len(late), f"{same} of {len(judged)}",
    )  # fmt: skip
    is_found = bool(found) == bool(stream.change)
    holds = is_found and len(hits) == len(late) and same == len(judged)
    return "| " + " | ".join(map(str, cells)) + " |", holds


def table_of(
    replay: Callable[[str, Stream, Sequence[int]], list[Judged]], streams: Sequence[Stream]
) -> tuple[list[str], bool]:
    lines = [
        "| traffic | features | windows | predictions | known change | first found | delay | named | found without a change | as in memory |",
        "| --- | ---: | ---: | ---: | --- | --- | --- | --- | ---: | ---: |",
    ]
    is_good = True
    for number, stream in enumerate(streams):
        for kind, one, most in (
            ("stream", stream, MOST_WINDOWS),
            ("shuffled", shuffled(stream), SHUFFLED_WINDOWS),
        ):
            began = time.monotonic()
            found, holds = line(one, replay(f"{kind}-{number}", one, ends_of(one, most)))
            lines.append(found)
            is_good &= holds
            print(f"{found} {time.monotonic() - began:.0f} s", flush=True)
    return lines, is_good


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--directory", type=Path, help="keep the data sets there, for the next run")
    parser.add_argument("--write", action="store_true", help="write the table into the docs")
    options = parser.parse_args(namespace=Options())
    with tempfile.TemporaryDirectory(prefix="shipway-drift-") as scratch:
        directory = options.directory or Path(scratch)
        streams = [elec2(directory), cover(directory)]
        with traffic(Path(scratch)) as one:
            table, is_good = table_of(one.replay, streams)
    if options.write:
        write("drift-replay", table)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main())
