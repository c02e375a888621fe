import numpy as np
import pandas as pd
import pytest

from shipway.client.answers import TensorInfo
from shipway.client.tables import inputs_of
from shipway.core.errors import InvalidRequest

COLUMNS = (
    TensorInfo(name="age", datatype="FP64"),
    TensorInfo(name="visits", datatype="INT64"),
    TensorInfo(name="city", datatype="BYTES"),
)
NUMBERS = (TensorInfo(name="a", datatype="FP32"), TensorInfo(name="b", datatype="FP32"))
MATRIX = (TensorInfo(name="X", datatype="FP32", shape=(-1, 3)),)

FRAME = pd.DataFrame({"age": [41, 17], "visits": [3, 4], "city": ["Bern", None]})
RECORDS = [{"age": 41, "visits": 3, "city": "Bern"}, {"age": 17, "visits": 4, "city": None}]
COLUMN_LISTS = {"age": [41, 17], "visits": [3, 4], "city": ["Bern", None]}


@pytest.mark.parametrize("data", [FRAME, RECORDS, COLUMN_LISTS], ids=["frame", "records", "dict"])
def test_all_kinds_of_tables_give_the_same_columns(data):
    inputs = inputs_of(data, COLUMNS)
    assert inputs["age"].dtype == np.float64
    assert inputs["age"].tolist() == [41.0, 17.0]
    assert inputs["visits"].dtype == np.int64
    assert inputs["city"].tolist() == ["Bern", None]


def test_a_missing_number_becomes_nan_and_a_missing_text_none():
    frame = pd.DataFrame({"age": [41.0, None], "city": pd.Categorical(["Bern", None])})
    inputs = inputs_of(frame, COLUMNS)
    assert np.isnan(inputs["age"][1])
    assert inputs["city"].tolist() == ["Bern", None]


def test_pandas_na_in_a_nullable_integer_column_becomes_nan():
    frame = pd.DataFrame({"age": pd.array([41, None], dtype="Int64")})
    inputs = inputs_of(frame, COLUMNS)
    assert inputs["age"][0] == 41
    assert np.isnan(inputs["age"][1])


def test_a_value_that_would_change_is_sent_as_it_is():
    inputs = inputs_of({"visits": [1.5]}, COLUMNS)
    assert inputs["visits"].tolist() == [1.5]


def test_one_record_of_scalars_is_one_row():
    assert inputs_of({"age": 41}, COLUMNS)["age"].tolist() == [41.0]


def test_an_array_feeds_the_only_tensor_and_a_vector_is_one_row_of_it():
    assert inputs_of(np.ones((2, 3)), MATRIX)["X"].shape == (2, 3)
    assert inputs_of(np.ones(3), MATRIX)["X"].shape == (1, 3)
    assert inputs_of([[1, 2, 3]], MATRIX)["X"].dtype == np.float32


def test_an_array_is_split_by_column_when_it_is_as_wide():
    inputs = inputs_of(np.array([[1.0, 2.0], [3.0, 4.0]]), NUMBERS)
    assert inputs["b"].tolist() == [2.0, 4.0]


def test_an_array_of_another_width_is_refused_with_the_inputs_named():
    with pytest.raises(InvalidRequest, match="3 inputs") as caught:
        inputs_of(np.ones((2, 5)), COLUMNS)
    assert "`visits`" in caught.value.next_step


@pytest.mark.parametrize("data", ["text", 7, [], object()])
def test_what_is_no_data_is_refused(data):
    with pytest.raises(InvalidRequest):
        inputs_of(data, COLUMNS)


def test_unknown_columns_are_sent_for_the_gateway_to_name():
    assert "aeg" in inputs_of({"aeg": [1]}, COLUMNS)
