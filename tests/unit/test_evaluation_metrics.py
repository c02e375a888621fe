"""Metrics, intervals and tests of evaluations, against scikit-learn, textbooks and simulation."""

from itertools import pairwise

import numpy as np
import pytest
import sklearn.metrics as sk
from hypothesis import given, settings
from hypothesis import strategies as st

from shipway.client.evaluating.calibration import calibration_error
from shipway.client.evaluating.judged import Judged
from shipway.client.evaluating.judging import SliceColumn, verdict_of, verdict_on
from shipway.client.evaluating.metrics import values_of
from shipway.client.evaluating.resampling import (
    FEWEST_DRAWS,
    MOST_DRAWS,
    drawn,
    draws_for,
    interval,
    mcnemar_p_value,
    paired_p_value,
)
from shipway.client.evaluating.tallies import tally_of
from shipway.core.evaluations import Task


def classified(classes=2, rows=60, seed=1, *, skill=0.5):
    random = np.random.default_rng(seed)
    truth = random.integers(0, classes, rows)
    scores = random.dirichlet(np.ones(classes), rows)
    scores[np.arange(rows), truth] += skill
    # Rounded, so that there are ties.
    scores = np.round(scores / scores.sum(axis=1, keepdims=True), 1) + 0.01
    scores /= scores.sum(axis=1, keepdims=True)
    return Judged(
        task=Task.CLASSIFICATION,
        truth=truth,
        answers=scores.argmax(axis=1),
        classes=tuple("abcdefgh"[:classes]),
        probabilities=scores,
    )


def regressed(rows=60, seed=1, *, noise=1.0):
    random = np.random.default_rng(seed)
    truth = random.normal(50, 5, rows)
    answers = truth + random.normal(0, noise, rows)
    return Judged(task=Task.REGRESSION, truth=truth, answers=answers)


def weighted_by_sklearn(judged, counts):
    """Every metric as scikit-learn gives it with `sample_weight`."""
    truth, answers, scores = judged.truth, judged.answers, judged.probabilities
    if judged.task is Task.REGRESSION:
        return {
            "rmse": sk.mean_squared_error(truth, answers, sample_weight=counts) ** 0.5,
            "mae": sk.mean_absolute_error(truth, answers, sample_weight=counts),
            "r2": sk.r2_score(truth, answers, sample_weight=counts),
        }
    known = list(range(len(judged.classes)))
    binary = len(known) == 2
    drawn_rows = counts > 0
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth[drawn_rows],
        answers[drawn_rows],
        average="binary" if binary else "macro",
        sample_weight=counts[drawn_rows],
        zero_division=0.0,
    )
    how = {} if binary else {"multi_class": "ovr", "labels": known}
    return {
        "accuracy": sk.accuracy_score(truth, answers, sample_weight=counts),
        "balanced_accuracy": sk.balanced_accuracy_score(truth, answers, sample_weight=counts),
        "precision": precision,
        "recall": recall,
        "f1": f1,
        "roc_auc": sk.roc_auc_score(
            truth, scores[:, 1] if binary else scores, sample_weight=counts, **how
        ),
        "log_loss": sk.log_loss(truth, scores, labels=known, sample_weight=counts),
        "brier": sk.brier_score_loss(truth, scores, labels=known, sample_weight=counts),
    }


JUDGED = {
    "binary": classified(2),
    "three classes": classified(3),
    "eight classes": classified(8, rows=200),
    "regression": regressed(),
}


@pytest.mark.parametrize("judged", JUDGED.values(), ids=JUDGED)
def test_metrics_of_a_draw_are_scikit_learns_with_sample_weights(judged):
    random = np.random.default_rng(2)
    counts = random.integers(0, 4, judged.rows).astype(float)
    found = tally_of(judged)(counts)
    for name, expected in weighted_by_sklearn(judged, counts).items():
        assert found[name] == pytest.approx(expected, abs=1e-12), name


@pytest.mark.parametrize("judged", JUDGED.values(), ids=JUDGED)
def test_metrics_of_all_rows_are_scikit_learns_and_those_of_the_draw_of_each_row_once(judged):
    values, notes = values_of(judged)
    expected = weighted_by_sklearn(judged, np.ones(judged.rows))
    once = tally_of(judged)(np.ones(judged.rows))
    assert notes == ()
    assert set(values) == set(once)
    for name, value in values.items():
        assert value == pytest.approx(once[name], abs=1e-12), name
        assert value == pytest.approx(expected.get(name, value), abs=1e-12), name


def test_calibration_error_of_the_worked_example_is_a_quarter():
    judged = Judged(
        task=Task.CLASSIFICATION,
        truth=np.array([1, 0, 0, 0]),
        answers=np.array([1, 1, 0, 0]),
        classes=("no", "yes"),
        probabilities=np.array([[0.1, 0.9], [0.1, 0.9], [0.9, 0.1], [0.9, 0.1]]),
    )
    assert calibration_error(judged) == pytest.approx(0.25)


def test_calibration_error_agrees_with_scikit_learns_curve():
    from sklearn.calibration import calibration_curve

    # On the edge of two bins the two round to different sides; there is nothing on an edge here.
    stated = np.random.default_rng(5).uniform(0, 1, 500)
    judged = Judged(
        task=Task.CLASSIFICATION,
        truth=(stated > 0.4).astype(int),
        answers=(stated > 0.5).astype(int),
        classes=("no", "yes"),
        probabilities=np.stack([1 - stated, stated], axis=1),
    )
    true, mean = calibration_curve(judged.truth, stated, n_bins=10)
    rows = np.bincount(np.minimum((stated * 10).astype(int), 9), minlength=10)
    expected = np.sum(np.abs(true - mean) * rows[rows > 0]) / judged.rows
    assert calibration_error(judged) == pytest.approx(expected)


def test_mcnemar_of_the_textbook_example():
    # Fagerland, Lydersen and Laake (2013), BMC Medical Research Methodology 13:91, table 1.
    assert mcnemar_p_value(1, 7) == pytest.approx(0.039, abs=5e-4)


def test_mcnemar_agrees_with_the_binomial_distribution():
    from scipy.stats import binom

    for first, second in ((0, 5), (5, 0), (3, 3), (86, 150), (1000, 1100)):
        fewer, total = min(first, second), first + second
        expected = min(1.0, 2 * binom.cdf(fewer, total, 0.5) - binom.pmf(fewer, total, 0.5))
        assert mcnemar_p_value(first, second) == pytest.approx(expected, rel=1e-9)
    assert mcnemar_p_value(0, 0) == 1.0


def test_mcnemar_finds_a_difference_between_equal_versions_in_at_most_one_of_twenty_cases():
    random = np.random.default_rng(3)
    found = 0
    for _ in range(2000):
        disagreeing = random.binomial(400, 0.1)
        first = random.binomial(disagreeing, 0.5)
        found += mcnemar_p_value(int(first), int(disagreeing - first)) < 0.05
    assert 0.03 < found / 2000 < 0.06


@pytest.mark.parametrize("name", ["accuracy", "rmse", "roc_auc"])
def test_intervals_hold_what_many_rows_show_in_about_95_of_100_samples(name):
    def make(rows, seed):
        is_regression = name == "rmse"
        return regressed(rows, seed, noise=4.0) if is_regression else classified(2, rows, seed)

    truth = values_of(make(100_000, 999))[0][name]
    held = 0
    for seed in range(100):
        judged = make(200, seed)
        (replicates,) = drawn([tally_of(judged)], judged.rows, draws=200)
        low, high = interval(replicates[name], values_of(judged)[0][name])
        held += low <= truth <= high
    # Three standard errors of 100 samples are 6.5 points.
    assert 0.885 <= held / 100 <= 0.995


def test_paired_bootstrap_finds_a_difference_of_equals_in_about_one_of_twenty_cases():
    random = np.random.default_rng(4)
    found = 0
    for _ in range(200):
        truth = random.normal(0, 1, 150)
        ours, theirs = (
            Judged(task=Task.REGRESSION, truth=truth, answers=truth + random.normal(0, 1, 150))
            for _ in range(2)
        )
        one, other = drawn([tally_of(ours), tally_of(theirs)], 150, draws=200)
        found += paired_p_value(one["mae"] - other["mae"]) < 0.05
    assert 0.005 <= found / 200 <= 0.1


def test_a_better_version_is_called_better_whichever_way_its_metrics_count():
    good, bad = classified(2, 800, skill=2.0), classified(2, 800, skill=0.2)
    differences = verdict_of(good, rival=("churn:1", bad)).against.differences
    assert all(one.verdict == "better" for one in differences if one.name != "calibration_error")
    back = verdict_of(bad, rival=("churn:2", good)).against.differences
    assert all(one.verdict == "worse" for one in back if one.name != "calibration_error")


def test_a_version_against_itself_is_the_same_in_everything():
    judged = classified(3)
    for one in verdict_of(judged, rival=("churn:1", judged)).against.differences:
        assert (one.value, one.p_value, one.verdict) == (0.0, 1.0, "same")


@pytest.mark.parametrize(
    ("name", "value", "p_value", "verdict"),
    [
        ("accuracy", 0.1, 0.04, "better"),
        ("accuracy", -0.1, 0.04, "worse"),
        ("log_loss", 0.1, 0.04, "worse"),
        ("log_loss", -0.1, 0.04, "better"),
        ("accuracy", 0.1, 0.05, "same"),
        ("accuracy", 0.0, 0.01, "same"),
    ],
)
def test_verdicts(name, value, p_value, verdict):
    assert verdict_on(name, value, p_value) == verdict


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 40), st.integers(2, 4), st.integers(0, 1000), st.randoms())
def test_shuffling_the_rows_changes_nothing(rows, classes, seed, random):
    ours, theirs = classified(classes, rows, seed), classified(classes, rows, seed + 1)
    theirs = Judged(
        task=ours.task,
        truth=ours.truth,
        answers=theirs.answers,
        classes=ours.classes,
        probabilities=theirs.probabilities,
    )
    codes = np.arange(rows) % 3
    values = ("x", "y", "z")[: codes.max() + 1]
    order = np.array(random.sample(range(rows), rows))
    found = [
        verdict_of(
            ours.taken(shown),
            columns=(SliceColumn(name="plan", values=values, codes=codes[shown]),),
            rival=("churn:1", theirs.taken(shown)),
            draws=20,
        )
        for shown in (np.arange(rows), order)
    ]
    assert found[0] == found[1]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(2, 5), st.integers(0, 1000))
def test_every_interval_holds_its_value_and_every_number_is_finite(rows, classes, seed):
    for judged in (classified(classes, rows, seed), regressed(rows, seed)):
        for one in verdict_of(judged, draws=20).measures:
            assert one.low <= one.value <= one.high
            assert np.isfinite([one.low, one.value, one.high]).all()


def test_one_class_alone_leaves_the_area_under_the_curve_out_and_says_so():
    judged = classified(2).taken(classified(2).truth == 1)
    values, notes = values_of(judged)
    assert "roc_auc" not in values
    assert notes == ("roc_auc is left out: it needs rows of every class, and `a` has none.",)
    assert {one.name for one in verdict_of(judged).measures} == set(values)


def test_a_constant_label_leaves_r2_out_and_says_so():
    judged = Judged(task=Task.REGRESSION, truth=np.ones(5), answers=np.arange(5.0))
    values, notes = values_of(judged)
    assert "r2" not in values
    assert notes == ("r2 is left out: the label is the same in all rows.",)


def test_slices_part_the_rows_and_small_ones_are_named():
    judged = classified(2, 100)
    codes = np.array([0] * 90 + [1] * 10)
    column = SliceColumn(name="plan", values=("free", "paid"), codes=codes)
    verdict = verdict_of(judged, columns=(column,))
    assert [(one.value, one.rows) for one in verdict.slices] == [("free", 90), ("paid", 10)]
    accuracy = next(one.value for one in verdict.slices[1].measures if one.name == "accuracy")
    assert accuracy == pytest.approx(np.mean((judged.truth == judged.answers)[90:]))
    assert "Under 30 rows, where intervals are too narrow: plan=paid." in verdict.notes


def test_more_rows_take_fewer_draws_within_bounds():
    draws = [draws_for(rows) for rows in (1, 100_000, 200_000, 10**9)]
    assert draws[0] == draws[1] == MOST_DRAWS
    assert draws[-1] == FEWEST_DRAWS
    assert all(fewer <= more for more, fewer in pairwise(draws))
