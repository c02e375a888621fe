"""A log of predictions as Parquet files, as the store keeps them, with a fault that somebody chose."""

from datetime import UTC, datetime, timedelta

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from shipway.core.monitors import MonitorKind, MonitorSpec
from shipway.core.profile import Profile, column_profile
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.monitoring.order import Order
from shipway.store.predictions.reading import LogFiles

END = datetime(2026, 5, 6, 7, tzinfo=UTC)
DAY = timedelta(days=1)
COUNTRIES = np.array(["de", "fr", "it"], dtype=object)
INPUTS = (
    Field(name="income", dtype=DataType.FP64, nullable=True),
    Field(name="age", dtype=DataType.FP64),
    Field(name="country", dtype=DataType.STRING),
)
OUTPUTS = (Field(name="score", dtype=DataType.FP64),)


def values(rows, rng):
    return {
        "income": rng.lognormal(10.5, 0.4, rows),
        "age": rng.normal(41, 9, rows),
        "country": COUNTRIES[rng.integers(0, 3, rows)],
        "score": rng.uniform(0, 1, rows),
    }


def profile(rows=5000, seed=1):
    columns = values(rows, np.random.default_rng(seed))
    return Profile(
        rows=rows, columns={one.name: column_profile(columns[one.name]) for one in INPUTS}
    )


def write_log(path, *, start, end, rows, broken=None, seed=2, role="primary"):
    """Rows evenly over the time; `broken` gets their times and columns, and may change these."""
    rng = np.random.default_rng(seed)
    at = np.array([start + (end - start) * (n / rows) for n in range(rows)])
    columns = values(rows, rng)
    if broken is not None:
        broken(at, columns)
    table = {
        "_request_id": [f"r{seed}-{n}" for n in range(rows)],
        "_row": np.zeros(rows, dtype=np.int32),
        "_at": pa.array(list(at), type=pa.timestamp("us", tz="UTC")),
        "_version": np.ones(rows, dtype=np.int32),
        "_role": [role] * rows,
        "income": pa.array(columns.pop("income"), from_pandas=True),
        **columns,
    }
    rows_of_log = pa.table(table)  # noqa: F841 - DuckDB finds it by this name
    duckdb.execute(f"COPY rows_of_log TO '{path}' (FORMAT parquet)")
    return str(path)


def files(*paths):
    return LogFiles(predictions=(paths,)) if paths else LogFiles()


def order(directory, path, *, kind=MonitorKind.DRIFT, **fields):
    directory.mkdir(parents=True, exist_ok=True)
    given = {
        "title": "drift of `churn`",
        "version": 1,
        "monitor": MonitorSpec(kind=kind),
        "files": files(path),
        "inputs": INPUTS,
        "outputs": OUTPUTS,
        "batchable": True,
        "start": END - DAY,
        "end": END,
        "reference": "the baseline of churn:1",
        "runs_per_week": 168.0,
        "directory": str(directory),
        "profile": profile(),
    }
    return Order(**{**given, **fields})


def write_labelled(directory, *, rows, start, end, wrong, segments=("",), positive=None):
    """Predictions of two classes, and the truth of each. `wrong` gives the chance of an error at a time,
    `positive` that of class 1 in a segment."""
    directory.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(7)
    at = [start + (end - start) * (n / rows) for n in range(rows)]
    segment = [segments[n % len(segments)] or None for n in range(rows)]
    said = np.array([rng.random() < (positive or (lambda s: 0.5))(s) for s in segment]).astype(int)
    is_wrong = np.array([rng.random() < wrong(moment) for moment in at])
    ids = [f"q{n}" for n in range(rows)]
    times = pa.array(at, type=pa.timestamp("us", tz="UTC"))
    predictions = pa.table(
        {
            "_request_id": ids, "_row": np.zeros(rows, dtype=np.int32), "_at": times,
            "_version": np.ones(rows, dtype=np.int32), "_role": ["primary"] * rows,
            "_segment": pa.array(segment, type=pa.string()),
            "_key": pa.array([None] * rows, type=pa.string()), "label": said,
        }
    )  # fmt: skip
    none = pa.array([None] * rows, type=pa.string())
    feedback = pa.table(
        {
            "_request_id": ids, "_row": pa.array([None] * rows, type=pa.int32()), "_key": none,
            "_at": times, "_id": none, "label": [str(n) for n in np.where(is_wrong, 1 - said, said)],
            "score": pa.array([None] * rows, type=pa.float64()),
            "outcomes": pa.array([[]] * rows, type=pa.map_(pa.string(), pa.float64())),
            "_principal": none,
        }
    )  # fmt: skip
    pq.write_table(predictions, directory / "predictions.parquet")
    pq.write_table(feedback, directory / "feedback.parquet")
    return LogFiles(
        predictions=((str(directory / "predictions.parquet"),),),
        feedback=(str(directory / "feedback.parquet"),),
    )
