"""Live performance from counts: named tables for the arithmetic."""

from __future__ import annotations

import pytest

from shipway.core import intervals
from shipway.core.bundles import ModelConfig
from shipway.core.evaluations import Task
from shipway.core.intervals import Estimate
from shipway.core.performance import (
    Bin,
    Errors,
    Slice,
    calibration_error,
    classification,
    regression,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.targets import Target, target_of
from shipway.core.tensors import DataType


def test_a_share_has_wilsons_interval():
    found = intervals.share(8, 10)
    assert (found.value, round(found.low, 4), round(found.high, 4)) == (0.8, 0.4902, 0.9433)


def test_a_mean_has_an_interval_from_two_values_on():
    found = intervals.mean(10, 4, 100)
    assert (round(found.low, 3), round(found.high, 3)) == (9.608, 10.392)
    assert intervals.mean(10, None, 1) == Estimate(value=10)


def test_an_area_has_hanley_and_mcneils_interval():
    found = intervals.area(0.8, 50, 50)
    assert (round(found.low, 4), round(found.high, 4)) == (0.7128, 0.8872)


def test_a_root_keeps_within_what_is_possible():
    assert intervals.root(Estimate(value=4, low=-1, high=9)) == Estimate(value=2, low=0, high=3)
    assert intervals.root(Estimate(value=4)) == Estimate(value=2)


def test_classes_that_were_never_true_or_never_predicted_score_nothing():
    found = classification(3, 6, {("a", "a"): 3, ("a", "b"): 1, ("c", "a"): 2})
    scores = {
        one.label: (one.support, one.predicted, one.precision, one.recall) for one in found.classes
    }
    assert scores == {"a": (4, 5, 0.6, 0.75), "c": (2, 0, 0.0, 0.0), "b": (0, 1, 0.0, 0.0)}
    assert [one.label for one in found.classes] == ["a", "c", "b"]
    assert found.macro.precision == pytest.approx(0.2)
    assert found.accuracy.value == 0.5


def test_calibration_error_is_the_weighted_gap():
    bins = [
        Bin(low=0.9, high=1, n=2, stated=0.9, came_true=0.5),
        Bin(low=0.1, high=0.2, n=2, stated=0.1, came_true=0),
    ]
    assert calibration_error(bins) == pytest.approx(0.25)
    assert calibration_error([]) == 0


def test_a_truth_that_never_varies_has_no_r2_and_zeros_no_mape():
    flat = Errors(n=1, mean=1, variance=None, size=1, size_variance=None, square=1,
                  square_variance=None, truth_variance=0)  # fmt: skip
    found = regression(flat)
    assert (found.r2, found.mape, found.bias) == (None, None, Estimate(value=1))


def test_what_is_not_labelled_is_said():
    one = Slice(version=1, role="primary", predictions=8, labelled=2)
    assert one.unlabelled_share == 0.75
    assert Slice(version=1, role="primary", predictions=0, labelled=0).unlabelled_share == 0


def signature(*outputs):
    fields = tuple(Field(name=name, dtype=dtype, shape=shape) for name, dtype, shape in outputs)
    return Signature(
        layout=Layout.COLUMNS, inputs=(Field(name="label", dtype=DataType.FP64),), outputs=fields
    )


CHANCES = ("probabilities", DataType.FP32, (-1, 2))


@pytest.mark.parametrize(
    ("outputs", "classes", "wanted"),
    [
        (
            [("label", DataType.INT64, (-1,)), CHANCES], (0, 1),
            Target(task=Task.CLASSIFICATION, label="out.label", probabilities="probabilities",
                   classes=("0", "1"), is_number=True),
        ),
        (
            [("label", DataType.BOOL, (-1,)), CHANCES], (False, True),
            Target(task=Task.CLASSIFICATION, label="out.label", probabilities="probabilities",
                   classes=("false", "true"), is_number=True, is_boolean=True),
        ),
        (
            [("label", DataType.STRING, (-1,)), CHANCES], None,
            Target(task=Task.CLASSIFICATION, label="out.label"),
        ),
        (
            [CHANCES], ("no", "yes"),
            Target(task=Task.CLASSIFICATION, probabilities="probabilities", classes=("no", "yes")),
        ),
        ([CHANCES], None, None),
        ([("y", DataType.FP64, (-1,))], None, Target(task=Task.REGRESSION, number="y")),
        ([("text", DataType.STRING, (-1,))], None, Target(task=Task.CLASSIFICATION, label="text")),
        ([("boxes", DataType.INT64, (-1, 4))], None, None),
    ],
)  # fmt: skip
def test_the_output_that_is_compared(outputs, classes, wanted):
    assert target_of(signature(*outputs), ModelConfig(), classes) == wanted


def test_renamed_outputs_are_found():
    names = ModelConfig(output_names={"label": "decision", "probabilities": "chances"})
    outputs = (("decision", DataType.INT64, (-1,)), ("chances", DataType.FP64, (-1, 2)))
    found = target_of(signature(*outputs), names, (0, 1))
    assert (found.label, found.probabilities) == ("decision", "chances")
