"""Errors that become others are found where they do, and nothing is found where they do not."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import scipy.stats

from shipway.core.evaluations import Task
from shipway.core.evidence import Moments
from shipway.core.fairness import SegmentCounts
from shipway.core.targets import Target
from shipway.monitoring import concept
from shipway.monitoring.bias import segment_counts
from shipway.monitoring.concept import (
    Block,
    Quantity,
    Watch,
    changes,
    compared,
    error_stream,
    recent_against_baseline,
)
from shipway.monitoring.grading import graded
from shipway.monitoring.matching import Range, matched

sys.path.insert(0, str(Path(__file__).parent))
from prediction_views import opened

START = datetime(2026, 3, 1, tzinfo=UTC)
START_US = int(START.timestamp()) * 1_000_000
LABEL = Target(task=Task.CLASSIFICATION, label="label", is_number=True, classes=("0", "1"))


def blocks(errors):
    return [
        Block(START_US + place, Moments(n=1, total=float(e), squares=float(e) ** 2))
        for place, e in enumerate(errors)
    ]


def place_of(change):
    return (change.since - START) // timedelta(microseconds=1)


@pytest.mark.parametrize("seed", range(3))
def test_a_change_is_found_where_it_is_and_named(seed):
    dice = np.random.default_rng(seed)
    wrong = np.concatenate([dice.random(3000) < 0.1, dice.random(2000) < 0.25])
    off = np.abs(np.concatenate([dice.normal(0, 1, 3000), dice.normal(1.0, 1, 2000)]))
    for what, errors in ((Quantity.ERROR_RATE, wrong), (Quantity.ABSOLUTE_ERROR, off)):
        (one,) = changes(what, blocks(errors), Watch())
        assert abs(place_of(one) - 3000) < 250, what
        assert one.p_value < 1e-6
        assert one.effect == pytest.approx(errors[3000:].mean() - errors[:3000].mean(), abs=0.05)
        assert one.n_before + one.n_after == 5000


def test_shuffled_errors_are_no_news():
    alarms = 0
    for seed in range(40):
        dice = np.random.default_rng(seed)
        alarms += bool(changes(Quantity.ERROR_RATE, blocks(dice.random(2000) < 0.2), Watch()))
        heavy = np.abs(dice.standard_t(3, 2000))
        alarms += bool(changes(Quantity.ABSOLUTE_ERROR, blocks(heavy), Watch()))
    assert alarms <= 2


def test_a_change_too_small_or_of_too_few_is_none():
    dice = np.random.default_rng(1)
    wrong = np.concatenate([dice.random(3000) < 0.1, dice.random(2000) < 0.3])
    assert changes(Quantity.ERROR_RATE, blocks(wrong), Watch())
    assert not changes(Quantity.ERROR_RATE, blocks(wrong), Watch(least_effect=0.5))
    assert not changes(Quantity.ERROR_RATE, blocks(wrong), Watch(min_samples=3500))
    assert not changes(Quantity.ERROR_RATE, [], Watch())


def test_two_changes_are_two():
    dice = np.random.default_rng(2)
    wrong = np.concatenate([dice.random(2000) < share for share in (0.1, 0.4, 0.1)])
    first, second = changes(Quantity.ERROR_RATE, blocks(wrong), Watch())
    assert abs(place_of(first) - 2000) < 150
    assert abs(place_of(second) - 4000) < 150
    assert first.effect > 0 > second.effect


def moments(values):
    return Moments(n=len(values), total=float(values.sum()), squares=float((values**2).sum()))


def test_p_values_are_scipys():
    dice = np.random.default_rng(4)
    a, b = dice.normal(0, 1, 40), dice.normal(0.5, 3, 70)
    found = compared(Quantity.ABSOLUTE_ERROR, moments(a), moments(b), since=START)
    assert found.p_value == pytest.approx(scipy.stats.ttest_ind(a, b, equal_var=False).pvalue)
    c, d = (dice.random(200) < 0.2) * 1.0, (dice.random(300) < 0.3) * 1.0
    table = [[c.sum(), 200 - c.sum()], [d.sum(), 300 - d.sum()]]
    found = compared(Quantity.ERROR_RATE, moments(c), moments(d), since=START)
    assert found.p_value == pytest.approx(
        scipy.stats.chi2_contingency(table, correction=False).pvalue
    )
    more = compared(Quantity.ERROR_RATE, moments(c), moments(d), since=START, looks=3)
    assert more.p_value == pytest.approx(min(1, 3 * found.p_value))
    assert compared(Quantity.ERROR_RATE, Moments(), moments(d), since=START).p_value == 1


def logged(wrong, *, rows=1):
    """Requests of so many rows each, an error of the label where `wrong` says so."""
    predictions = [
        {"_request_id": str(n // rows), "_row": n % rows, "at_us": START_US + n // rows, "label": 1,
         "_segment": "even" if n % 2 == 0 else "odd"}
        for n in range(len(wrong))
    ]  # fmt: skip
    feedback = [
        {
            "_request_id": str(n // rows),
            "_row": n % rows,
            "at_us": START_US + 10**9,
            "label": str(1 - int(is_wrong)),
        }
        for n, is_wrong in enumerate(wrong)
    ]
    connection = opened({"label": "BIGINT"}, predictions, feedback[::-1])
    matched(connection, {1: LABEL}, Range())
    graded(connection, {1: LABEL})
    return connection


def test_errors_come_in_the_order_of_predictions_and_rows_whatever_that_of_feedback():
    wrong = np.random.default_rng(5).random(600) < 0.3
    with logged(wrong, rows=3) as connection:
        what, stream = error_stream(connection, 1)
        assert what is Quantity.ERROR_RATE
        assert [block.moments.total for block in stream] == [float(one) for one in wrong]


def test_longer_streams_come_in_blocks_that_add_up(monkeypatch):
    monkeypatch.setattr(concept, "MOST_BLOCKS", 100)
    wrong = np.random.default_rng(6).random(951) < 0.3
    with logged(wrong) as connection:
        found = list(error_stream(connection, 1)[1])
    assert len(found) == 96
    assert sum(block.moments.n for block in found) == 951
    assert sum(block.moments.total for block in found) == wrong.sum()
    assert found[1].moments.total == wrong[10:20].sum()


def test_the_recent_is_compared_with_what_was_before():
    wrong = np.arange(1000) % 10 == 0
    wrong[600:] = np.arange(400) % 4 == 0
    with logged(wrong) as connection:
        found = recent_against_baseline(connection, 1, START + timedelta(microseconds=600))
    assert (found.before, found.after) == (0.1, 0.25)
    assert (found.n_before, found.n_after) == (600, 400)
    assert found.p_value < 1e-9


def test_segments_are_counted_over_all_predictions_and_over_labelled_ones():
    wrong = np.arange(100) % 10 == 0
    with logged(wrong) as connection:
        connection.execute(
            "UPDATE kept SET label = 0 WHERE _segment = 'odd' AND _request_id < '50'"
        )
        connection.execute("DELETE FROM said_raw WHERE _request_id IN ('0', '1')")
        matched(connection, {1: LABEL}, Range())
        even, odd = segment_counts(connection, 1, LABEL)
    assert even == SegmentCounts(
        segment="even", n=50, selected=50, true_positives=40, false_positives=9
    )
    assert (odd.n, odd.true_positives + odd.false_negatives, odd.true_negatives) == (50, 49, 0)
    assert odd.selected == odd.true_positives < 50
