import json
import math

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from shipway.core.accounts import (
    is_among_worst,
    is_refusal,
    keep_pair,
    note_answer,
    note_error,
    note_pair,
)
from shipway.core.bundles import ModelConfig
from shipway.core.errors import DeadlineExceeded, InvalidInput, ModelFailed, QueueFull
from shipway.core.evidence import (
    MOST_PAIRS,
    Account,
    Pair,
    Pairs,
    bucket_of,
    merged,
    merged_pairs,
)
from shipway.core.signature import Field, Layout, Signature
from shipway.core.summaries import Summary, compile_summary, difference, first_row
from shipway.core.tensors import DataType


def signature(*outputs):
    fields = tuple(Field(name=name, dtype=dtype, shape=shape) for name, dtype, shape in outputs)
    return Signature(layout=Layout.COLUMNS, inputs=(), outputs=fields)


CLASSIFIER = signature(("label", DataType.STRING, (-1,)), ("probabilities", DataType.FP32, (-1, 2)))
MANY = signature(("label", DataType.INT64, (-1,)), ("probabilities", DataType.FP32, (-1, 3)))
REGRESSOR = signature(("prediction", DataType.FP64, (-1,)))
GRAPH = signature(("logits", DataType.FP32, (-1, 4)), ("class", DataType.INT64, (-1, 1)))
RENAMED = signature(("stays", DataType.STRING, (-1,)), ("p", DataType.FP32, (-1, 2)))


@pytest.mark.parametrize(
    ("of", "config", "outputs", "summary"),
    [
        (CLASSIFIER, {}, {"label": np.array(["a", "b"], object),
                          "probabilities": np.array([[0.25, 0.75], [1, 0]])}, ("a", 0.75, 1.0)),
        (MANY, {}, {"label": np.array([2]), "probabilities": np.array([[0.1, 0.3, 0.6]])},
         ("2", 0.6, 1.0)),
        (REGRESSOR, {}, {"prediction": np.array([3.5, 9])}, (None, 3.5, 0.0)),
        (REGRESSOR, {}, {"prediction": np.array([[3.5], [9]])}, (None, 3.5, 0.0)),
        (GRAPH, {}, {"logits": np.array([[1, 7, 2, 3.0]]), "class": np.array([[1]])},
         ("1", 7.0, 0.0)),
        (RENAMED, {"label": "stays", "probabilities": "p"},
         {"stays": np.array([b"no"], object), "p": np.array([[0.5, 0.5]])}, ("no", 0.5, 1.0)),
        (CLASSIFIER, {}, {}, (None, None, 1.0)),
        (CLASSIFIER, {}, {"label": np.array([]), "probabilities": np.empty((0, 2))},
         (None, None, 1.0)),
        (CLASSIFIER, {}, {"label": np.array([None], object),
                          "probabilities": np.array([[None, "x"]], object)}, (None, None, 1.0)),
    ],
)  # fmt: skip
def test_summary_is_the_first_rows_label_and_number(of, config, outputs, summary):
    assert compile_summary(of, ModelConfig(output_names=config))(outputs) == summary


ODD = st.one_of(
    hnp.arrays(hnp.scalar_dtypes(), hnp.array_shapes(min_dims=0, min_side=0, max_dims=3)),
    hnp.arrays(object, hnp.array_shapes(min_dims=0, min_side=0), elements=st.none() | st.text()),
    st.just(np.array([[1], [1, 2]], object)),
    st.just(np.array([{}, object()], object)),
    st.just(np.array([10**400], object)),
)


@given(st.sampled_from([CLASSIFIER, REGRESSOR, GRAPH]), ODD, ODD)
@pytest.mark.filterwarnings("ignore")
def test_odd_outputs_are_summed_up_without_raising(of, one, other):
    names = of.output_names()
    outputs = {names[0]: one, names[-1]: other}
    summary = compile_summary(of, ModelConfig())(outputs)
    account = Account()
    note_answer(account, summary)
    assert account.answered == 1
    json.dumps(first_row(outputs), allow_nan=False)
    assert difference(summary, Summary()) in (0.0, 1.0)


@pytest.mark.parametrize(
    ("one", "other", "apart"),
    [
        ((0.30, 1.0), (0.33, 1.0), 0.03),
        ((0.30, 0.0), (0.33, 0.0), 0.03 / 0.33),
        ((0.30, 1.0), (0.33, 0.0), 0.03 / 0.33),
        ((0.0, 0.0), (0.0, 0.0), 0.0),
        ((1e308, 0.0), (-1e308, 0.0), 2.0),
        ((math.nan, 0.0), (math.nan, 0.0), 0.0),
        ((math.nan, 0.0), (1.0, 0.0), 1.0),
        ((math.inf, 0.0), (math.inf, 0.0), 0.0),
        ((math.inf, 0.0), (1.0, 0.0), 1.0),
        ((None, 0.0), (None, 0.0), 0.0),
        ((None, 0.0), (1.0, 0.0), 1.0),
    ],
)
def test_difference_is_of_one_for_probabilities_and_relative_for_values(one, other, apart):
    one, other = Summary(None, *one), Summary(None, *other)
    assert difference(one, other) == pytest.approx(apart)
    assert difference(other, one) == pytest.approx(apart)


def test_errors_are_counted_by_whose_fault_they_are():
    account = Account()
    for error in (ModelFailed("m"), DeadlineExceeded("d"), InvalidInput("i"), QueueFull("q")):
        note_error(account, error)
    assert (account.failed, account.rejected, account.shed) == (2, 1, 1)
    assert account.last_error == "invalid_input: i"
    assert is_refusal(InvalidInput("i"))
    assert not is_refusal(DeadlineExceeded("d"))


def test_pairs_agree_by_label_and_within_the_tolerance():
    pairs = Pairs()
    same, near, far, other = (
        Summary("a", 0.5, 1.0), Summary("a", 0.55, 1.0), Summary("a", 0.56, 1.0), Summary("b", 0.5, 1.0),
    )  # fmt: skip
    distances = [
        note_pair(pairs, same, candidate, tolerance=0.0500001, delay_s=-0.01)
        for candidate in (same, near, far, other)
    ]
    assert distances == pytest.approx([0, 0.05, 0.06, 1])
    assert (pairs.compared, pairs.agreed) == (4, 2)
    assert pairs.delays == {bucket_of(-0.01): 4}
    assert sum(pairs.distances.values()) == 4
    note_pair(pairs, same, same, tolerance=0, delay_s=None)
    assert sum(pairs.delays.values()) == 4


def pair(distance):
    return Pair(distance=distance, request_id="", inputs={}, primary={}, candidate={})


@given(st.lists(st.floats(0, 3)))
def test_worst_pairs_are_those_that_are_farthest_apart(distances):
    pairs = Pairs()
    for distance in distances:
        if is_among_worst(pairs, distance):
            keep_pair(pairs, pair(distance))
    kept = [one.distance for one in pairs.worst]
    assert kept == sorted((d for d in distances if d > 0), reverse=True)[:MOST_PAIRS]


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 10), st.sampled_from("abc"))), st.data())
def test_accounts_of_several_gateways_add_up_to_that_of_one(answers, data):
    whole, parts = Account(), [Account(), Account()]
    for is_ok, number, label in answers:
        for account in (whole, data.draw(st.sampled_from(parts))):
            if is_ok:
                note_answer(account, Summary(label, number))
            else:
                note_error(account, ModelFailed("m"))
    assert merged(parts) == merged([whole])
    assert merged_pairs([Pairs(), Pairs()]) == Pairs()


def test_first_row_is_short_and_has_json_values_alone():
    row = first_row(
        {
            "text": np.array(["x" * 1000], object),
            "bytes": np.array([b"\xff" * 1000], object),
            "image": np.zeros((1, 64, 64)),
            "nan": np.array([math.nan]),
            "nothing": np.array([]),
            "scalar": np.array(3),
            "odd": np.array([{"a": 1}], object),
            "when": np.array(["2026-01-01"], "datetime64[D]"),
        }
    )
    assert (len(row["text"]), len(row["bytes"]), len(row["image"])) == (200, 200, 20)
    assert (row["nan"], row["nothing"], row["scalar"]) == (None, None, 3)
    assert msgspec.json.decode(msgspec.json.encode(row)) == row
    assert len(first_row({str(n): np.zeros(1) for n in range(1000)})) == 100
