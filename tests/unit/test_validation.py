"""What the compiled validator accepts, casts and refuses, and how it says so."""

import contextlib

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.errors import InvalidInput, InvalidRequest
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import DataType as D
from shipway.core.validation import compile_validator


def table(*fields):
    return compile_validator(Signature(layout=Layout.COLUMNS, inputs=fields, outputs=()))


def tensors(*fields):
    return compile_validator(Signature(layout=Layout.TENSORS, inputs=fields, outputs=()))


def objects(*items):
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array


AGE = Field(name="age", dtype=D.FP64)
CITY = Field(name="city", dtype=D.STRING)
PEOPLE = table(AGE, CITY)
GOOD = {"age": np.array([31.0, 40.0]), "city": objects("Rome", "Oslo")}


def refusal(conform, inputs, kind=InvalidInput):
    with pytest.raises(kind) as caught:
        conform(inputs)
    return caught.value


def test_inputs_come_out_in_signature_order_and_dtype():
    conformed = PEOPLE({"city": GOOD["city"], "age": np.array([31, 40])})
    assert list(conformed) == ["age", "city"]
    assert conformed["age"].dtype == np.float64


def test_column_may_be_sent_as_one_wide_matrix():
    assert PEOPLE({**GOOD, "age": np.array([[31.0], [40.0]])})["age"].shape == (2,)


def test_missing_column_is_named():
    error = refusal(PEOPLE, {"age": GOOD["age"]})
    assert error.details == {"column": "city", "row": None, "rule": "required", "value": None}


def test_unknown_tensor_is_refused_with_the_nearest_name():
    error = refusal(PEOPLE, {"age": GOOD["age"], "cty": GOOD["city"]}, InvalidRequest)
    assert "Did you mean `city`?" in error.message


@pytest.mark.parametrize(
    ("field", "array", "row", "rule", "value"),
    [
        (AGE, objects(1.0, "x"), 1, "dtype FP64", "x"),
        (AGE, objects("41", "old", "7"), 1, "dtype FP64", "old"),
        (AGE, objects(1.0, "41"), 1, "dtype FP64", "41"),
        (AGE, objects(1.0, None), 1, "not null", None),
        (AGE, np.array([1.0, np.nan]), 1, "not null", None),
        (AGE, np.array([True, False]), 0, "dtype FP64", True),
        (AGE, objects(1.0, True), 1, "dtype FP64", True),
        (AGE, objects({"a": 1}), 0, "dtype FP64", {"a": 1}),
        (Field(name="n", dtype=D.INT64), np.array([1.0, 1.5]), 1, "dtype INT64", 1.5),
        (Field(name="n", dtype=D.INT64), np.array([1.0, np.nan]), 1, "not null", None),
        (Field(name="n", dtype=D.UINT8), np.array([1, 300]), 1, "dtype UINT8", 300),
        (Field(name="n", dtype=D.UINT8), np.array([1, -1]), 1, "dtype UINT8", -1),
        (Field(name="n", dtype=D.FP32), np.array([1.0, 1e300]), 1, "dtype FP32", 1e300),
        (Field(name="b", dtype=D.BOOL), np.array([1, 2]), 1, "dtype BOOL", 2),
        (CITY, objects("a", 3), 1, "dtype STRING", 3),
        (CITY, objects("a", None), 1, "not null", None),
        (CITY, objects(b"\xff"), 0, "dtype STRING", "\ufffd"),
        (
            Field(name="age", dtype=D.FP64, minimum=0, declared=("minimum",)),
            np.array([3.0, -1.0]),
            1,
            "minimum 0",
            -1.0,
        ),
        (
            Field(name="age", dtype=D.FP64, maximum=9, declared=("maximum",)),
            np.array([3.0, 10.0]),
            1,
            "maximum 9",
            10.0,
        ),
        (
            Field(name="c", dtype=D.STRING, categories=("a", "b"), declared=("categories",)),
            objects("a", "z"),
            1,
            "one of `a`, `b`",
            "z",
        ),
    ],
)
def test_broken_rule_names_column_row_rule_and_value(field, array, row, rule, value):
    error = refusal(table(field), {field.name: array})
    assert error.details == {"column": field.name, "row": row, "rule": rule, "value": value}
    assert f"row {row}" in error.message


def test_inferred_ranges_and_categories_do_not_stop_a_request():
    seen = Field(name="age", dtype=D.FP64, minimum=0, maximum=9)
    assert table(seen)({"age": np.array([50.0])})["age"][0] == 50.0
    known = Field(name="c", dtype=D.STRING, categories=("a",))
    assert table(known)({"c": objects("z")})["c"][0] == "z"


def test_nulls_pass_where_allowed_as_nan_and_none():
    conform = table(
        Field(name="x", dtype=D.FP32, nullable=True), Field(name="s", dtype=D.STRING, nullable=True)
    )
    conformed = conform({"x": objects(None, 2), "s": objects(None, "a")})
    assert np.isnan(conformed["x"][0])
    assert conformed["x"].dtype == np.float32
    assert conformed["s"].tolist() == [None, "a"]


def test_bytes_become_text_for_text_columns_and_text_becomes_bytes_for_bytes():
    assert table(CITY)({"city": objects(b"Rome")})["city"][0] == "Rome"
    raw = tensors(Field(name="image", dtype=D.BYTES))
    assert raw({"image": objects("abc")})["image"][0] == b"abc"


def test_columns_of_different_lengths_are_refused():
    refusal(PEOPLE, {"age": np.zeros(2), "city": objects("a")}, InvalidRequest)


@pytest.mark.parametrize("shape", [(4,), (1, 3), (1, 4, 1)])
def test_wrong_tensor_shape_is_a_matter_of_form(shape):
    conform = tensors(Field(name="X", dtype=D.FP32, shape=(-1, 4)))
    error = refusal(conform, {"X": np.zeros(shape)}, InvalidRequest)
    assert "[-1, 4]" in error.message


def test_numeric_table_may_be_sent_as_one_matrix():
    conform = table(Field(name="a", dtype=D.FP64), Field(name="b", dtype=D.INT64))
    conformed = conform({"input": np.array([[1.0, 2.0], [3.0, 4.0]])})
    assert conformed["b"].tolist() == [2, 4]
    refusal(conform, {"input": np.zeros((1, 3))}, InvalidRequest)


def test_infinity_is_a_number():
    assert np.isinf(table(AGE)({"age": np.array([np.inf, -np.inf])})["age"]).all()


@given(st.lists(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), min_size=1))
def test_any_column_is_conformed_or_refused_with_a_type(items):
    for field in (
        AGE,
        CITY,
        Field(name="n", dtype=D.INT32, nullable=True),
        Field(name="b", dtype=D.BOOL),
    ):
        with contextlib.suppress(InvalidInput):
            array = table(field)({field.name: objects(*items)})[field.name]
            assert array.shape == (len(items),)


def test_integer_beyond_every_dtype_is_refused_in_words_that_can_be_sent():
    with pytest.raises(InvalidInput, match="dtype FP64") as caught:
        table(AGE)({"age": objects(1, 10**400)})
    assert caught.value.details["row"] == 1
    assert isinstance(caught.value.details["value"], str)
