"""What the prediction log takes: rows a second into Parquet, bytes a row on the disk, time of a query.

`make prediction-log`. `filled_log` makes a log of any size at once, for other benchmarks.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import perf_counter, process_time
from uuid import UUID

import numpy as np
import pyarrow as pa

from shipway.control.predictions import Predictions
from shipway.control.queries import Queries, Wanted
from shipway.control.upkeep import Upkeep
from shipway.core.captures import Prediction, Role, Shape
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.monitoring.questions import Format
from shipway.store.objects.artifacts import ArtifactStore
from shipway.store.predictions.parts import hash_of, partition_of
from shipway.store.predictions.reading import connected
from shipway.store.predictions.tables import Rows, schema_of
from shipway.store.predictions.writing import write_table
from shipway.store.sql.database import Database, sqlite_url
from shipway.wire.spool import (
    end_payload,
    frame,
    prediction_payload,
    segment_head,
    shape_payload,
)

MOST_BYTES = 60.0
"""A row of a ten-feature model may take so much."""

NOON = datetime(2026, 5, 6, 12, tzinfo=UTC)
_FILE_ROWS = 500_000
_KINDS = ("digits", "full")


def shape_of(features: int, *, version: int = 1, endpoint: str = "bench") -> Shape:
    """A model of so many float64 features that gives one float64."""
    return Shape(
        environment="dev",
        endpoint=endpoint,
        model="bench",
        version=version,
        inputs=tuple(Field(name=f"f{i}", dtype=DataType.FP64) for i in range(features)),
        outputs=(Field(name="score", dtype=DataType.FP64),),
    )


def feature(place: int, rows: int, rng: np.random.Generator, kind: str) -> np.ndarray:
    """Values of a feature: `digits` as people's data has them, `full` with all 52 bits at random.

    Of ten with digits, three are counts, three are amounts in cents, and four are measured to three
    or four digits.
    """
    if kind == "full":
        return rng.normal(50, 15, rows)
    match place % 10:
        case 0 | 1 | 2:
            return rng.poisson(20, rows).astype(np.float64)
        case 3 | 4 | 5:
            return np.round(rng.lognormal(4, 1, rows), 2)
        case _:
            return np.round(rng.normal(50, 15, rows), 1)


def request_ids(rows: int, rng: np.random.Generator) -> pa.Array:
    """Random ids of 32 hexadecimal digits, as gateways make them."""
    digits = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)[rng.integers(0, 16, 32 * rows)]
    offsets = np.arange(0, 32 * rows + 1, 32, dtype=np.int32)
    return pa.StringArray.from_buffers(rows, pa.py_buffer(offsets), pa.py_buffer(digits.tobytes()))


def table_of(
    shape: Shape, rows: int, rng: np.random.Generator, *, start: datetime, kind: str
) -> pa.Table:
    """So many requests of one row, a millisecond apart on average."""
    gaps = rng.exponential(1000, rows)
    first = int(start.timestamp() * 1_000_000)
    schema = schema_of(shape)
    nothing = pa.nulls(rows, pa.string())
    columns = {
        "_request_id": request_ids(rows, rng),
        "_row": pa.array(np.zeros(rows, dtype=np.int32)),
        "_at": pa.array((first + np.cumsum(gaps)).astype(np.int64)).cast(schema.field("_at").type),
        "_version": pa.array(np.full(rows, shape.version, dtype=np.int32)),
        "_role": pa.array([Role.PRIMARY.name.lower()]).take(
            pa.array(np.zeros(rows, dtype=np.int32))
        ),
        "_latency_ms": pa.array((rng.gamma(3, 0.5, rows).round(3)).astype(np.float32)),
        "_principal": nothing,
        "_segment": nothing,
        "_key": nothing,
        **{f.name: pa.array(feature(i, rows, rng, kind)) for i, f in enumerate(shape.inputs)},
        "score": pa.array(
            rng.beta(2, 5, rows)
            if kind == "full"
            else rng.beta(2, 5, rows).astype("f4").astype("f8")
        ),
    }
    return pa.Table.from_arrays([columns[name] for name in schema.names], schema=schema)


def filled_log(
    state_dir: Path, *, rows: int, features: int, kind: str = "digits", seed: int = 0
) -> Predictions:
    """A log of the endpoint `bench` with so many rows of version 1, from `NOON` on, in `state_dir`.

    Written as compaction would leave it. The caller closes its database: `log._database.close()`.
    """
    database = Database.open(sqlite_url(state_dir))
    artifacts = ArtifactStore(str(state_dir / "artifacts"))
    shape, rng = shape_of(features), np.random.default_rng(seed)
    start, draft = NOON, state_dir / "draft.parquet"
    for number, count in enumerate(_parts(rows)):
        table = table_of(shape, count, rng, start=start, kind=kind)
        write_table(table, draft)
        part = Rows(environment="dev", endpoint="bench", shape=shape, table=table)
        name = UUID(int=number).hex
        partition = partition_of(part, start.date(), name, draft.stat().st_size)
        artifacts.log.put(partition.path, draft)
        with database.transaction() as tx:
            tx.partitions.add([partition], dict([hash_of(shape)]))
        start = partition.until + timedelta(milliseconds=1)
    draft.unlink()
    return Predictions(database, artifacts, environment="dev", state_dir=state_dir)


def _parts(rows: int) -> Iterator[int]:
    while rows > 0:
        yield min(rows, _FILE_ROWS)
        rows -= _FILE_ROWS


def segments(shape: Shape, kind: str, *, requests: int, rows: int, count: int) -> Iterator[bytes]:
    """Segments of so many requests of so many rows each."""
    rng = np.random.default_rng(1)
    at_us = int(NOON.timestamp() * 1_000_000)
    for _ in range(count):
        yield _segment(shape, kind, rng, requests=requests, rows=rows, at_us=at_us)
        at_us += requests * 1000


def _segment(
    shape: Shape, kind: str, rng: np.random.Generator, *, requests: int, rows: int, at_us: int
) -> bytes:
    total = requests * rows
    columns = [feature(i, total, rng, kind) for i in range(len(shape.inputs))]
    scores = rng.beta(2, 5, total)
    if kind == "digits":
        scores = scores.astype("f4").astype("f8")
    payloads = [shape_payload(0, shape)]
    ids = request_ids(requests, rng).to_pylist()
    gaps = np.cumsum(rng.exponential(1000, requests)).astype(int)
    latencies = (rng.gamma(3, 500, requests)).astype(int)
    for i in range(requests):
        own = slice(i * rows, (i + 1) * rows)
        one = Prediction(
            shape=shape,
            at_us=at_us + int(gaps[i]),
            request_id=ids[i],
            latency_us=int(latencies[i]),
            inputs={f.name: columns[place][own] for place, f in enumerate(shape.inputs)},
            outputs={"score": scores[own]},
        )
        payloads.append(prediction_payload(0, one))
    payloads.append(end_payload(len(payloads)))
    return segment_head(rng.bytes(16)) + b"".join(map(frame, payloads))


def measure_ingest(
    kind: str, *, requests: int, rows: int, count: int
) -> tuple[float, float, float, float]:
    """Rows a second, the same by processor time, and bytes a row before and after compaction."""
    parts = list(segments(shape_of(10), kind, requests=requests, rows=rows, count=count))
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        database = Database.open(sqlite_url(state))
        artifacts = ArtifactStore(str(state / "artifacts"))
        log = Predictions(database, artifacts, environment="dev", state_dir=state)
        log.ingest(parts[0], gateway="bench", now=NOON)  # loads pyarrow
        started, cpu = perf_counter(), process_time()
        for part in parts[1:]:
            log.ingest(part, gateway="bench", now=NOON)
        wall_s, cpu_s = perf_counter() - started, process_time() - cpu
        total = requests * rows * len(parts)
        small = _size(database) / total
        Upkeep(database, artifacts, environment="dev", state_dir=state).compact(
            NOON + timedelta(days=2)
        )
        large = _size(database) / total
        database.close()
    fresh = total - requests * rows
    return fresh / wall_s, fresh / cpu_s, small, large


def _size(database: Database) -> int:
    with database.reading() as tx:
        return sum(one.size_bytes for one in tx.partitions.all_of("dev"))


def measure_query(rows: int) -> tuple[float, float, float]:
    """Seconds to fill a log, to query it in a process of its own, and to find one request."""
    with tempfile.TemporaryDirectory() as name:
        state = Path(name)
        started = perf_counter()
        log = filled_log(state, rows=rows, features=10)
        filled_s = perf_counter() - started
        queries = Queries(log._database, log, state_dir=state)
        started = perf_counter()
        wanted = Wanted(where="f0 > 35 AND score < 0.1", limit=100)
        with queries.rows("bench", wanted, Format.JSON):
            query_s = perf_counter() - started
        with (
            log.files("bench") as files,
            connected(files, temp_dir=state / "spilled") as connection,
        ):
            (request_id,) = connection.execute(
                "SELECT _request_id FROM predictions USING SAMPLE 1"
            ).fetchone()
        started = perf_counter()
        queries.explain("bench", request_id)
        explain_s = perf_counter() - started
        log._database.close()
    return filled_s, query_s, explain_s


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=20_000, help="of one row, in a segment")
    parser.add_argument("--segments", type=int, default=10)
    parser.add_argument("--query-rows", type=int, default=2_000_000)
    options = parser.parse_args(arguments)
    is_met = True
    print("ten float64 features and a float64 score\n")
    print(f"{'':42}{'rows/s':>12}{'rows/CPU s':>12}{'B/row fresh':>13}{'B/row merged':>14}")
    for kind in _KINDS:
        for requests, rows in ((options.requests, 1), (max(1, options.requests // 64), 64)):
            name = f"{'few digits' if kind == 'digits' else 'full entropy'}, {rows} row{'s' * (rows > 1)} a request"
            found = measure_ingest(kind, requests=requests, rows=rows, count=options.segments)
            print(f"{name:42}{found[0]:12,.0f}{found[1]:12,.0f}{found[2]:13.1f}{found[3]:14.1f}")
            if kind == "digits":
                is_met = is_met and found[3] < MOST_BYTES
    print(
        f"\nfew digits, merged, below {MOST_BYTES:g} bytes a row: {'met' if is_met else 'MISSED'}"
    )
    filled_s, query_s, explain_s = measure_query(options.query_rows)
    print(
        f"{options.query_rows:,} rows: made in {filled_s:.1f} s,"
        f" a query {query_s:.2f} s, one request found in {explain_s:.2f} s"
    )
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
