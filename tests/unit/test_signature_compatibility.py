"""What callers of one version may rely on with another, checked against what validation really takes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.compatibility import incompatibilities
from shipway.core.signature import Field, Layout, Signature
from shipway.core.tensors import NUMPY_OF, DataType
from shipway.core.validation import compile_validator

D = DataType


def signature(*inputs: Field, outputs: tuple[Field, ...] = (), **fields: object) -> Signature:
    values: dict[str, object] = {"layout": Layout.COLUMNS, "batchable": True} | fields
    return Signature(inputs=inputs, outputs=outputs, **values)  # type: ignore[arg-type]


def field(name: str = "x", dtype: DataType = D.FP64, **fields: object) -> Field:
    return Field(name=name, dtype=dtype, **fields)  # type: ignore[arg-type]


LOW = {"minimum": 0.0, "declared": ("minimum",)}
COLOURS = {"categories": ("red", "blue"), "declared": ("categories",)}


@pytest.mark.parametrize(
    ("live", "new", "line"),
    [
        (field(), field(), None),
        (field(), field(nullable=True), None),
        (field(nullable=True), field(), "input `x` took null, and does not"),
        (field(dtype=D.FP32), field(dtype=D.FP64), None),
        (field(dtype=D.FP64), field(dtype=D.FP32), "input `x` was FP64, and is FP32"),
        (field(dtype=D.INT32), field(dtype=D.FP64), None),
        (field(dtype=D.FP64), field(dtype=D.INT64), "input `x` was FP64, and is INT64"),
        (field(dtype=D.BOOL), field(dtype=D.INT64), "input `x` was BOOL, and is INT64"),
        (field(dtype=D.STRING), field(dtype=D.BYTES), "input `x` was STRING, and is BYTES"),
        (field(minimum=1.0), field(minimum=5.0), None),
        (field(), field(**LOW), "input `x` must now be at least 0"),
        (field(**LOW), field(), None),
        (field(**LOW), field(**LOW), None),
        (
            field(maximum=9.0, declared=("maximum",)),
            field(maximum=8.0, declared=("maximum",)),
            "input `x` must now be at most 8",
        ),
        (
            field(dtype=D.STRING, **COLOURS),
            field(dtype=D.STRING, categories=("red",), declared=("categories",)),
            "input `x` no longer takes `blue`",
        ),
        (
            field(dtype=D.STRING),
            field(dtype=D.STRING, **COLOURS),
            "input `x` must now be one of 2 categories",
        ),
        (field(shape=(-1, 4)), field(shape=(-1, -1)), None),
        (
            field(shape=(-1, -1)),
            field(shape=(-1, 4)),
            "input `x` had shape [-1, -1], and has [-1, 4]",
        ),
        (field(shape=(-1, 4)), field(shape=(-1,)), "input `x` had shape [-1, 4], and has [-1]"),
    ],
)
def test_input_must_take_all_that_it_took(live: Field, new: Field, line: str | None) -> None:
    assert incompatibilities(signature(live), signature(new)) == (() if line is None else (line,))


def test_inputs_must_be_the_same_ones_in_the_same_order() -> None:
    a, b, c = field("a"), field("b"), field("c")
    assert incompatibilities(signature(a, b), signature(b, a)) == (
        "inputs are in another order, by which rows without names are read",
    )
    assert incompatibilities(signature(a, b), signature(a, c)) == (
        "input `b` is no longer taken",
        "input `c` is new, and required",
    )


@pytest.mark.parametrize(
    ("live", "new", "line"),
    [
        ((field("y"),), (field("y"), field("z")), None),
        ((field("y"), field("z")), (field("y"),), "output `z` is no longer given"),
        ((field("y"),), (field("y", D.FP32),), "output `y` was FP64, and is FP32"),
        ((field("y"),), (field("y", nullable=True),), "output `y` may now be null"),
        ((field("y", shape=(-1, -1)),), (field("y", shape=(-1, 3)),), None),
        (
            (field("y", shape=(-1, 3)),),
            (field("y", shape=(-1, -1)),),
            "output `y` had shape [-1, 3], and has [-1, -1]",
        ),
    ],
)
def test_output_must_be_given_as_it_was(
    live: tuple[Field, ...], new: tuple[Field, ...], line: str | None
) -> None:
    found = incompatibilities(signature(outputs=live), signature(outputs=new))
    assert found == (() if line is None else (line,))


def test_layout_and_rows_in_one_request_are_part_of_the_promise() -> None:
    tensors = signature(layout=Layout.TENSORS)
    assert incompatibilities(signature(), tensors) == ("inputs were columns, and are tensors",)
    single = signature(batchable=False)
    assert incompatibilities(single, signature()) == ()
    assert incompatibilities(signature(), single) == (
        "several rows in one request are no longer taken",
    )


numbers = st.sampled_from([kind for kind in DataType if kind.is_numeric])


@given(live=numbers, new=numbers, value=st.sampled_from(["least", "most", "one"]))
def test_dtype_called_compatible_takes_every_value_of_the_live_one(
    live: DataType, new: DataType, value: str
) -> None:
    if incompatibilities(signature(field(dtype=live)), signature(field(dtype=new))):
        return
    kind = NUMPY_OF[live]
    if live is DataType.BOOL:
        limits = {"least": False, "most": True, "one": True}
    else:
        info = np.iinfo(kind) if live.is_integer else np.finfo(kind)
        limits = {"least": info.min, "most": info.max, "one": 1}
    sent = {"x": np.array([limits[value]], dtype=kind)}
    compile_validator(signature(field(dtype=live)))(sent)
    compile_validator(signature(field(dtype=new)))(sent)
