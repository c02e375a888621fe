"""Edge rows follow the signature."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.edges import UNSEEN_TEXT, edge_rows
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import NUMPY_OF, DataType, null_mask


def table(*fields):
    return Signature(layout=Layout.COLUMNS, inputs=fields, outputs=())


AGE = Field(name="age", dtype=DataType.FP64, minimum=18, maximum=80, nullable=True)
CITY = Field(name="city", dtype=DataType.STRING, categories=("Oslo", "Rome"), nullable=True)


def values_of(rows, name):
    return rows.inputs[name].tolist()


def test_extremes_zero_far_values_and_nulls_are_there():
    values = np.array(values_of(edge_rows(table(AGE)), "age"))
    assert {18.0, 80.0, 0.0, -602.0, 700.0, -1e9, 1e9} <= set(values)
    assert np.isnan(values).any()


def test_every_category_an_unseen_one_empty_text_and_null_are_there():
    values = values_of(edge_rows(table(CITY)), "city")
    assert {"Oslo", "Rome", UNSEEN_TEXT, "", None} <= set(values)


def test_what_is_not_nullable_is_never_null():
    fields = (
        Field(name="a", dtype=DataType.FP32, minimum=0, maximum=1),
        Field(name="b", dtype=DataType.STRING, categories=("x",)),
    )
    rows = edge_rows(table(*fields))
    assert not any(null_mask(array).any() for array in rows.inputs.values())


def test_declared_ranges_and_categories_are_kept():
    age = Field(
        name="age",
        dtype=DataType.FP64,
        minimum=18,
        maximum=80,
        declared=("minimum", "maximum"),
    )
    city = Field(
        name="city",
        dtype=DataType.STRING,
        categories=("Oslo", "Rome"),
        declared=("categories",),
    )
    rows = edge_rows(table(age, city))
    assert set(values_of(rows, "city")) == {"Oslo", "Rome"}
    assert min(values_of(rows, "age")) == 18
    assert max(values_of(rows, "age")) == 80


def test_one_value_is_varied_at_a_time_and_then_all_together():
    rows = edge_rows(table(AGE, CITY))
    assert rows.labels[0] == "a usual row"
    alone = rows.labels.index("null in `age`")
    assert np.isnan(rows.inputs["age"][alone])
    assert rows.inputs["city"][alone] is not None
    together = rows.labels.index("null in all columns")
    assert np.isnan(rows.inputs["age"][together])
    assert rows.inputs["city"][together] is None


def test_usual_row_comes_from_the_sample():
    seen = {"age": np.array([20.0, 30.0, np.nan]), "city": np.array(["Rome", None, "Rome"], object)}
    first = edge_rows(table(AGE, CITY), seen).row(0)
    assert first["age"][0] in (20.0, 30.0)
    assert first["city"][0] == "Rome"


def test_wide_tables_are_varied_in_part():
    fields = [Field(name=f"c{i}", dtype=DataType.FP32, minimum=0, maximum=1) for i in range(1000)]
    assert len(edge_rows(table(*fields)).labels) < 600


def test_matrix_is_varied_column_by_column():
    signature = Signature(
        layout=Layout.TENSORS,
        inputs=(Field(name="X", dtype=DataType.FP32, shape=(-1, 3)),),
        outputs=(),
    )
    rows = edge_rows(signature, {"X": np.ones((4, 3), dtype=np.float32)})
    assert rows.inputs["X"].shape == (len(rows.labels), 3)
    assert rows.inputs["X"].dtype == np.float32
    assert "zero in `X[1]`" in rows.labels


def test_other_tensors_are_filled_whole():
    signature = Signature(
        layout=Layout.TENSORS,
        inputs=(
            Field(name="image", dtype=DataType.UINT8, shape=(-1, 2, 2)),
            Field(name="scale", dtype=DataType.FP32, shape=(-1, 1)),
        ),
        outputs=(),
    )
    rows = edge_rows(signature)
    assert rows.inputs["image"].shape == (2, 2, 2)
    assert rows.inputs["scale"].shape == (2, 1)


NUMBERS = st.sampled_from([t for t in DataType if t.is_numeric])


@given(NUMBERS, st.floats(-1e6, 1e6), st.floats(0, 1e6), st.booleans())
def test_every_edge_value_fits_its_type(dtype, low, span, nullable):
    field = Field(name="a", dtype=dtype, minimum=low, maximum=low + span, nullable=nullable)
    with np.errstate(all="raise"):
        rows = edge_rows(table(field))
    assert rows.inputs["a"].dtype == NUMPY_OF[dtype]
    assert len(rows.inputs["a"]) == len(rows.labels)
