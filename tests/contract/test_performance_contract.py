"""Live performance is what scikit-learn computes from the same rows, and intervals what SciPy gives."""

import sys
from datetime import UTC, datetime, timedelta
from math import sqrt
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import sklearn.metrics as sk

from shipway.client.evaluating.calibration import calibration_error
from shipway.client.evaluating.judged import Judged
from shipway.core import intervals
from shipway.core.evaluations import Task
from shipway.core.performance import By
from shipway.core.targets import Target
from shipway.monitoring.matching import Range
from shipway.monitoring.performance import performance

sys.path.insert(0, str(Path(__file__).parents[1] / "integration"))
from prediction_views import opened

ROWS = 600
HOUR_US = 3_600_000_000


def graded(target, fields, outputs, truths, *, part="label", **options):
    """What is found where row `n` gave `outputs[n]` and the truth was `truths[n]`."""
    predictions = [
        {"_request_id": str(n), "at_us": n * HOUR_US, "_segment": f"s{n % 3}", **row}
        for n, row in enumerate(outputs)
    ]
    feedback = [
        {"_request_id": str(n), "at_us": (ROWS + n) * HOUR_US, part: one}
        for n, one in enumerate(truths)
    ]
    with opened(fields, predictions, feedback) as connection:
        return performance(connection, "e", {1: target}, Range(), **options)


@pytest.mark.parametrize("names", [("no", "yes"), ("a", "b", "c"), ("0", "1"), ("false", "true")])
@pytest.mark.parametrize("seed", [1, 2])
def test_classification(names, seed):  # noqa: PLR0915 - each metric once
    dice = np.random.default_rng(seed)
    count = len(names)
    truth = dice.integers(0, count, ROWS)
    chances = dice.dirichlet(np.ones(count), ROWS) * 0.6
    chances[np.arange(ROWS), truth] += 0.4
    chances = np.round(chances, 2)  # with ties
    chances[:, -1] = 1 - chances[:, :-1].sum(axis=1)
    answers = chances.argmax(axis=1)
    is_boolean, is_number = names[0] == "false", names[0] in ("0", "false")
    of = {"0": 0, "1": 1, "false": False, "true": True}
    target = Target(
        task=Task.CLASSIFICATION, label="label", probabilities="p", classes=names,
        is_number=is_number, is_boolean=is_boolean,
    )  # fmt: skip
    kind = "BOOLEAN" if is_boolean else "BIGINT" if is_number else "VARCHAR"
    outputs = [
        {"label": of.get(names[one], names[one]), "p": list(map(float, row))}
        for one, row in zip(answers, chances, strict=True)
    ]
    found = graded(target, {"label": kind, "p": "DOUBLE[]"}, outputs, [names[t] for t in truth])
    (one,) = found.slices
    scores, calibration = one.classification, one.classification.calibration
    near = pytest.approx
    assert scores.accuracy.value == near(sk.accuracy_score(truth, answers))
    precision, recall, f1, support = sk.precision_recall_fscore_support(
        truth, answers, zero_division=0.0
    )
    by_name = {score.label: score for score in scores.classes}
    assert set(by_name) == set(names)
    for place, name in enumerate(names):
        score = by_name[name]
        assert (score.precision, score.recall, score.f1, score.support) == near(
            (precision[place], recall[place], f1[place], support[place])
        )
    assert (scores.macro.precision, scores.macro.recall, scores.macro.f1) == near(
        (precision.mean(), recall.mean(), f1.mean())
    )
    labels = list(range(count))
    assert calibration.log_loss.value == near(sk.log_loss(truth, chances, labels=labels))
    hits = np.eye(count)[truth]
    whole = np.mean(np.sum((chances - hits) ** 2, axis=1))
    if count == 2:
        assert calibration.brier.value == near(sk.brier_score_loss(truth, chances[:, 1]))
        assert calibration.roc_auc.value == near(sk.roc_auc_score(truth, chances[:, 1]))
    else:
        assert calibration.brier.value == near(whole)
        assert calibration.roc_auc is None
    judged = Judged(
        task=Task.CLASSIFICATION, truth=truth, answers=answers, classes=names, probabilities=chances
    )
    assert calibration.calibration_error == near(calibration_error(judged))
    assert sum(one.n for one in calibration.reliability) == calibration.n == ROWS


@pytest.mark.parametrize("seed", [1, 2])
def test_regression(seed):
    dice = np.random.default_rng(seed)
    truth = np.round(dice.normal(5, 3, ROWS), 1)
    answers = truth + dice.normal(0.3, 1, ROWS)
    target = Target(task=Task.REGRESSION, number="y")
    outputs = [{"y": float(one)} for one in answers]
    (one,) = graded(target, {"y": "DOUBLE"}, outputs, list(map(float, truth)), part="score").slices
    found = one.regression
    assert found.mae.value == pytest.approx(sk.mean_absolute_error(truth, answers))
    assert found.rmse.value == pytest.approx(sqrt(sk.mean_squared_error(truth, answers)))
    assert found.r2 == pytest.approx(sk.r2_score(truth, answers))
    assert found.bias.value == pytest.approx(float(np.mean(answers - truth)))
    is_some = truth != 0
    assert found.mape.value == pytest.approx(
        sk.mean_absolute_percentage_error(truth[is_some], answers[is_some])
    )
    half = 1.959963984540054 * scipy.stats.sem(np.abs(answers - truth))
    assert found.mae.high - found.mae.value == pytest.approx(half)


@pytest.mark.parametrize(
    ("answer", "truth", "part", "mae"),
    [
        (1.0, "1e300", "label", 0.5),
        (1e200, 1.0, "score", 0.5),
        (1e60, -1e60, "score", 2e60 / 3),
        (1.0, 1e-320, "score", 2 / 3),
        (float("nan"), 1.0, "score", 0.5),
        (1.0, "-inf", "label", 0.5),
    ],
)
def test_one_number_breaks_no_endpoints_performance(answer, truth, part, mae):
    target = Target(task=Task.REGRESSION, number="y")
    truths = [one if part == "score" else str(one) for one in (1.0, 2.0, truth)]
    outputs = [{"y": one} for one in (1.5, 2.5, answer)]
    (one,) = graded(target, {"y": "DOUBLE"}, outputs, truths, part=part).slices
    found = one.regression
    assert found.mae.value == pytest.approx(mae)
    assert np.isfinite([found.rmse.value, found.bias.high, found.mape.value, found.mape.high]).all()


@pytest.mark.parametrize(
    ("chances", "stated"),
    [([1e10, 0.0], 2), ([-1e10, 1.0], 2), ([0.0, float("nan")], 2), ([0.0, 1.00001], 3)],
)
def test_what_are_no_probabilities_is_not_stated(chances, stated):
    target = Target(task=Task.CLASSIFICATION, label="label", probabilities="p", classes=("a", "b"))
    outputs = [{"label": "a", "p": one} for one in ([0.5, 0.5], [1.0, 0.0], chances)]
    (one,) = graded(target, {"label": "VARCHAR", "p": "DOUBLE[]"}, outputs, ["a", "b", "b"]).slices
    assert one.labelled == 3
    assert one.classification.calibration.n == stated


def test_the_parts_of_a_regression_have_their_own_rows():
    truth = np.arange(ROWS) % 7.0
    answers = truth + np.arange(ROWS) / 100
    target = Target(task=Task.REGRESSION, number="y")
    outputs, given = [{"y": float(a)} for a in answers], [str(t) for t in truth]
    by_segment = graded(target, {"y": "FLOAT"}, outputs, given, by=By.SEGMENT).parts
    assert [part.part for part in by_segment] == ["s0", "s1", "s2"]
    for place, part in enumerate(by_segment):
        mae = sk.mean_absolute_error(truth[place::3], answers[place::3])
        assert part.regression.mae.value == pytest.approx(mae, rel=1e-5)
    by_day = graded(target, {"y": "FLOAT"}, outputs, given, by=By.DAY).parts
    assert [part.at for part in by_day[:2]] == [
        datetime(1970, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in (0, 1)
    ]
    assert [part.predictions for part in by_day] == [24] * (ROWS // 24)
    for day, part in enumerate(by_day):
        mae = sk.mean_absolute_error(
            truth[day * 24 : day * 24 + 24], answers[day * 24 : day * 24 + 24]
        )
        assert part.regression.mae.value == pytest.approx(mae, rel=1e-5)


@pytest.mark.parametrize(("hits", "n"), [(8, 10), (0, 5), (5, 5), (500, 1000), (1, 3)])
def test_intervals_of_shares_are_scipys(hits, n):
    found = intervals.share(hits, n)
    wanted = scipy.stats.binomtest(hits, n).proportion_ci(method="wilson")
    assert (found.low, found.high) == pytest.approx((wanted.low, wanted.high))


def test_intervals_of_areas_cover():
    """Hanley and McNeil's, over 400 samples of 50 positives and 50 negatives one deviation apart."""
    dice = np.random.default_rng(3)
    true_area = scipy.stats.norm.cdf(1 / sqrt(2))
    covered = 0
    for _ in range(400):
        scores = np.concatenate([dice.normal(1, 1, 50), dice.normal(0, 1, 50)])
        area = sk.roc_auc_score([1] * 50 + [0] * 50, scores)
        found = intervals.area(area, 50, 50)
        covered += found.low <= true_area <= found.high
    assert 0.92 < covered / 400 < 0.98
