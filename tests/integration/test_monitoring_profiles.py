"""Summaries of logged predictions, counted by DuckDB: exactly those that NumPy counts."""

from datetime import UTC, datetime, timedelta

import duckdb
import msgspec
import numpy as np
import pyarrow as pa
import pytest

from shipway.core.drift.separation import SeparationRules
from shipway.core.drift.summaries import categories_of, edges_of, summary_of
from shipway.core.drift.verdicts import compare
from shipway.core.profile import ColumnKind, Profile, column_profile
from shipway.core.signature import Field
from shipway.core.tensors import DataType
from shipway.monitoring.classifier import Rows, sampled, separated
from shipway.monitoring.columns import Column, columns_to_watch
from shipway.monitoring.profiles import (
    BUCKETS,
    Cells,
    cells_of,
    chosen_cells,
    strangers,
    summarised,
)
from shipway.monitoring.soundness import volume_finding

SINCE = datetime(2026, 1, 1, tzinfo=UTC)
UNTIL = SINCE + timedelta(days=1)
ROWS = 24_000
NUMERIC, CATEGORICAL, BOOLEAN = ColumnKind.NUMERIC, ColumnKind.CATEGORICAL, ColumnKind.BOOLEAN


def column(name, kind=NUMERIC, **more):
    return Column(name=name, source=more.pop("source", name), kind=kind, **more)


@pytest.fixture(scope="module")
def values():
    random = np.random.default_rng(1)
    numbers = random.normal(1e6, 5, ROWS)
    numbers[::7] = np.nan
    numbers[::11] = np.inf
    texts = random.choice(np.array(["it's", "", "web", None], dtype=object), ROWS)
    return {
        "single": random.choice([0.1, 0.7, 1.0, 2.5], ROWS).astype(np.float32),
        "double": numbers,
        "count": random.integers(0, 4, ROWS),
        'odd "name"': texts,
        "flag": random.random(ROWS) < 0.3,
        "scores": random.random((ROWS, 2)),
    }


@pytest.fixture
def connection(values):
    at = pa.array([SINCE + timedelta(days=1) * i / ROWS for i in range(ROWS)])
    table = {"_at": at.cast(pa.timestamp("us", tz="UTC"))}
    for name, held in values.items():
        table[name] = pa.array(list(held)) if held.ndim > 1 else pa.array(held)
    with duckdb.connect() as connection:
        connection.register("log", pa.table(table))
        # As the log has it: NaN was written as NULL.
        connection.execute(
            "CREATE TABLE predictions AS SELECT * REPLACE (nullif(double, 'NaN') AS double) FROM log"
        )
        yield connection


COLUMNS = (
    column("single"),
    column("double"),
    column("count"),
    column('odd "name"', CATEGORICAL),
    column("flag", BOOLEAN),
    column("scores[1]", source="scores", element=1),
)


def profiled(values, upto=ROWS):
    flat = {name: held for name, held in values.items() if name != "scores"}
    flat["scores[1]"] = values["scores"][:, 1]
    columns = {name: column_profile(held[:upto]) for name, held in flat.items()}
    return summary_of(Profile(rows=upto, columns=columns))


def test_summary_of_the_log_is_that_of_the_same_values_in_memory(connection, values):
    expected = profiled(values)
    found = summarised(connection, COLUMNS, cells_of(expected), since=SINCE, until=UNTIL)
    assert found.rows == ROWS
    assert found.columns.keys() == expected.columns.keys()
    for name, theirs in expected.columns.items():
        ours = found.columns[name]
        assert (ours.rows, ours.missing, ours.infinite) == (ROWS, theirs.missing, theirs.infinite)
        if theirs.numbers:
            assert ours.numbers.counts == theirs.numbers.counts, name
            for each in ("minimum", "maximum", "mean", "std"):
                wanted = pytest.approx(getattr(theirs.numbers, each), rel=1e-9)
                assert getattr(ours.numbers, each) == wanted, (name, each)
        else:
            assert ours.categories == theirs.categories


def test_parts_are_the_counts_of_each_hour(connection, values):
    cells = Cells(edges={"count": (0.0, 1.0, 2.0, 3.0, 3.0)}, categories={"flag": ("true",)})
    found = summarised(connection, COLUMNS, cells, since=SINCE, until=UNTIL)
    hours = values["count"].reshape(BUCKETS, -1)
    wanted = [(0, *np.bincount(hour, minlength=4), 0) for hour in hours]
    assert found.columns["count"].parts == tuple(map(tuple, np.array(wanted).tolist()))
    yes = values["flag"].reshape(BUCKETS, -1).sum(axis=1).tolist()
    assert found.columns["flag"].parts == tuple((each, 1000 - each) for each in yes)
    assert found.starts[5] == SINCE + timedelta(hours=5)


def test_only_the_window_is_counted(connection):
    cells = Cells(edges={"count": (0.0, 3.0)})
    window = {"since": SINCE + timedelta(hours=1), "until": SINCE + timedelta(hours=3)}
    assert summarised(connection, COLUMNS, cells, **window).rows == 2000


def test_single_precision_values_stay_in_the_bins_of_the_doubles_that_they_were(connection):
    """0.7 as a FLOAT is less than 0.7: compared as doubles, it would leave its bin."""
    profile = column_profile(np.array([0.1, 0.7, 1.0, 2.5] * 100))
    baseline = summary_of(Profile(rows=400, columns={"single": profile}))
    found = summarised(connection, COLUMNS, cells_of(baseline), since=SINCE, until=UNTIL)
    assert min(found.columns["single"].numbers.counts[1:-1]) > 0.2 * ROWS
    assert not compare(baseline, found).drifted


def test_chosen_cells_split_the_values_evenly_and_name_the_categories(connection):
    cells = chosen_cells(connection, COLUMNS, since=SINCE, until=UNTIL)
    assert set(cells.categories['odd "name"']) == {"it's", "", "web"}
    assert cells.edges["count"] == (0.0, 1.0, 2.0, 3.0, 3.0)
    found = summarised(connection, COLUMNS, cells, since=SINCE, until=UNTIL)
    counts = found.columns["scores[1]"].numbers.counts[1:-1]
    assert len(counts) == 20
    assert max(counts) < 2 * min(counts)


def test_columns_that_the_log_lacks_are_left_out(connection):
    unknown = (column("gone"), column("scores"), column("single", element=0))
    cells = Cells(edges=dict.fromkeys(("gone", "scores", "single"), (0.0, 1.0)))
    assert summarised(connection, unknown, cells, since=SINCE, until=UNTIL).columns == {}


def test_strangers_are_the_frequent_values_that_are_not_known(connection):
    window = {"since": SINCE, "until": UNTIL}
    assert set(strangers(connection, COLUMNS[3], ["web"], **window)) == {"it's", ""}
    assert strangers(connection, column("gone", CATEGORICAL), [], **window) == ()


def test_columns_are_named_as_baseline_profiles_name_them():
    inputs = [
        Field(name="age", dtype=DataType.INT64),
        Field(name="X", dtype=DataType.FP32, shape=(-1, 2)),
        Field(name="image", dtype=DataType.FP32, shape=(-1, 8, 8)),
        Field(name="raw", dtype=DataType.BYTES),
        Field(name="_at", dtype=DataType.BOOL),
    ]
    outputs = [
        Field(name="age", dtype=DataType.FP64),
        Field(name="label", dtype=DataType.STRING),
    ]
    found = columns_to_watch(inputs, outputs)
    assert [(one.name, one.source, one.element, one.is_input) for one in found] == [
        ("age", "age", None, True),
        ("X[0]", "X", 0, True),
        ("X[1]", "X", 1, True),
        ("_at", "in._at", None, True),
        ("out.age", "out.age", None, False),
        ("label", "label", None, False),
    ]
    assert [one.kind for one in found[-3:]] == [BOOLEAN, NUMERIC, CATEGORICAL]


def test_broken_correlation_is_seen_by_the_classifier_alone():
    random = np.random.default_rng(2)
    x, y = random.normal(size=(2, 4000))
    # y follows x in the first half only; each of them is the same in both.
    y[:2000] = 0.9 * x[:2000] + np.sqrt(1 - 0.81) * y[:2000]
    kind = random.choice(np.array(["a", "b", None], dtype=object), 4000)
    at = pa.array([SINCE + timedelta(seconds=43) * i for i in range(4000)])
    log = pa.table({"_at": at, "x": x, "y": y, "kind": kind})
    columns = [column("x"), column("y"), column("kind", CATEGORICAL)]
    middle, until = SINCE + timedelta(seconds=86_000), SINCE + timedelta(seconds=172_000)
    windows = [(SINCE, middle), (middle, until)]
    with duckdb.connect() as connection:
        connection.register("predictions", log)
        cells = chosen_cells(connection, columns, since=SINCE, until=middle)
        summaries = [
            summarised(connection, columns, cells, since=since, until=end) for since, end in windows
        ]
        named = dict(cells.categories)
        rows = [sampled(connection, columns, categories=named, window=window) for window in windows]
    assert not compare(*summaries).drifted
    found = separated(*rows)
    assert found.verdict == "drifted"
    assert set(list(found.importance)[:2]) == {"x", "y"}
    assert separated(part(rows[0], 0), part(rows[0], 1)).verdict == "steady"
    assert separated(part(rows[0], 0, every=40), rows[1]).verdict == "too_little_data"


@pytest.mark.parametrize(
    ("rows", "verdict"), [(2, "too_little_data"), (19, "too_little_data"), (20, "steady")]
)
def test_fewer_rows_than_blocks_are_too_few_whatever_the_minimum(rows, verdict):
    few = Rows(
        values=np.random.default_rng(3).normal(size=(rows, 1)), names=("x",), is_category=(False,)
    )
    found = separated(few, few, rules=SeparationRules(minimum_rows=2))
    assert found.verdict == verdict
    assert verdict == "steady" or "it needs 20" in found.words


def part(rows, first, *, every=2):
    return msgspec.structs.replace(rows, values=rows.values[first::every])


def test_cells_of_a_summary_are_its_edges_and_names(values):
    summary = profiled(values)
    cells = cells_of(summary)
    assert cells.edges == edges_of(summary)
    assert cells.categories == categories_of(summary)


@pytest.mark.parametrize(
    ("length", "windows", "is_known"),
    [(1, 3, False), (1, 6, False), (1, 7, True), (7, 2, False), (7, 3, True)],
)
def test_volume_is_known_after_a_whole_week_and_three_windows(length, windows, is_known):
    ages = [age + 0.5 for age in range(1, length * (windows + 1)) for _ in range(200)]
    with duckdb.connect() as connection:
        log = pa.table({"_at": [UNTIL - timedelta(days=age) for age in ages]})
        connection.register("log", log)
        connection.execute("CREATE TABLE predictions AS SELECT * FROM log")
        since = UNTIL - timedelta(days=length)
        found = volume_finding(connection, start=since, end=UNTIL, least_rows=100)
    assert (found is not None) is is_known
