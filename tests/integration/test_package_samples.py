"""What a sample file is read as, and what a broken one says."""

import json

import msgspec
import numpy as np
import pandas as pd
import pytest

from shipway.bundles.samples import example_rows, read_sample, sample_of
from shipway.core.errors import InvalidRequest


@pytest.fixture
def frame():
    return pd.DataFrame(
        {
            "age": [1, 2, 3],
            "rate": [1.5, None, 2.0],
            "plan": ["x", None, "z"],
            "vip": [True, False, True],
            "since": ["2020-01-01", "2020-01-02", "2020-01-03"],
            "visits": [1, None, 3],
        }
    )


WRITERS = {
    "csv with an index column": lambda frame, path: frame.to_csv(path),
    "csv with semicolons": lambda frame, path: frame.to_csv(path, sep=";", index=False),
    "parquet": lambda frame, path: frame.to_parquet(path),
    "records": lambda frame, path: frame.to_json(path, orient="records"),
    "lines": lambda frame, path: frame.to_json(path, orient="records", lines=True),
    "columns of indices": lambda frame, path: frame.to_json(path),
}


@pytest.mark.parametrize("kind", WRITERS)
def test_every_kind_of_table_is_read_alike_whatever_its_name(kind, frame, tmp_path):
    path = tmp_path / "sample"
    WRITERS[kind](frame, path)

    sample = read_sample(path)

    assert sample.is_table
    assert sample.rows == 3
    assert {name: str(array.dtype) for name, array in sample.inputs.items()} == {
        "age": "int64",
        "rate": "float64",
        "plan": "object",
        "vip": "bool",
        "since": "object",
        "visits": "float64",
    }
    assert sample.inputs["plan"].tolist() == ["x", None, "z"]
    assert sample.inputs["since"][0] == "2020-01-01"
    assert np.isnan(sample.inputs["visits"][1])


def test_arrays_keep_their_shapes(tmp_path):
    np.save(tmp_path / "a", np.arange(6.0).reshape(3, 2))
    np.savez(tmp_path / "b", pixels=np.zeros((2, 4, 4), np.float32), age=np.array([1, 2]))

    matrix, named = read_sample(tmp_path / "a.npy"), read_sample(tmp_path / "b.npz")

    assert matrix.inputs["X"].shape == (3, 2)
    assert named.inputs["pixels"].dtype == np.float32
    assert not named.is_table


def test_a_sample_knows_its_source_and_digest(frame, tmp_path):
    path = tmp_path / "sample.csv"
    frame.to_csv(path)

    sample = read_sample(path)

    assert sample.source == str(path)
    assert sample.sha256 is not None
    assert len(sample.sha256) == 64


BROKEN = {
    "is empty": b"",
    "Expected 2 columns, got 1": b"a,b\n1,2\n3\n",
    "has no rows": b"a,b\n",
    "Parquet": b"PAR1 and no more",
    "not a zip": b"PK\x03\x04 and no more",
    "truncated": b'[{"a": 1},',
    "binary file of no known kind": b"\x00\x01\x02",
    "no table of one type per column": b'[{"a": 1}, {"a": "x"}]',
    "no array of one type": b"[[1], [2, 3]]",
    "column `a` twice": b"a,a\n1,2\n",
    "different row counts": b'{"a": [1, 2], "b": [1]}',
}


@pytest.mark.parametrize("fact", BROKEN)
def test_a_broken_sample_is_refused_with_its_path_and_the_fact(fact, tmp_path):
    path = tmp_path / "sample.csv"
    path.write_bytes(BROKEN[fact])

    with pytest.raises(InvalidRequest, match=fact) as caught:
        read_sample(path)

    assert caught.value.next_step


def test_a_missing_sample_is_refused(tmp_path):
    with pytest.raises(InvalidRequest, match="No such file"):
        read_sample(tmp_path / "none.csv")


def test_the_target_is_dropped_and_an_unknown_one_is_named(frame):
    assert "visits" not in sample_of(frame, drop=["visits"]).inputs
    with pytest.raises(InvalidRequest, match="no column `churn` to drop"):
        sample_of(frame, drop=["churn"])


def test_values_in_memory_become_the_same_sample(frame):
    columns = {"a": [1, 2], "b": ["x", None]}
    from_dict = sample_of(columns)
    from_frame = sample_of(pd.DataFrame(columns))
    from_records = sample_of([{"a": 1, "b": "x"}, {"a": 2, "b": None}])

    for sample in (from_dict, from_frame, from_records):
        assert sample.is_table
        assert sample.inputs["a"].tolist() == [1, 2]
        assert sample.inputs["b"].tolist() == ["x", None]


def test_categories_of_pandas_are_text(frame):
    sample = sample_of(frame.astype({"plan": "category"}))

    assert sample.inputs["plan"].tolist() == ["x", None, "z"]


def test_what_is_no_sample_is_refused():
    with pytest.raises(InvalidRequest, match="cannot be read as rows"):
        sample_of(3)


def test_examples_are_few_and_finite():
    sample = sample_of({"a": [np.inf, *map(float, range(20))]})

    assert example_rows(sample)["a"].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]


def test_examples_of_large_rows_are_fewer():
    sample = sample_of(np.zeros((10, 100_000), np.float32))

    assert len(example_rows(sample)["X"]) == 2


def test_records_with_missing_keys_have_nulls(tmp_path):
    path = tmp_path / "r.json"
    path.write_text(json.dumps([{"a": 1.0}, {"a": 2.0, "b": "x"}]))

    assert read_sample(path).inputs["b"].tolist() == [None, "x"]
    assert msgspec.json.decode(path.read_bytes())
