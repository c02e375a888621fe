"""Bias by segment: shown for all, judged where there are enough, and only what chance does not explain."""

from __future__ import annotations

import random

import pytest
import scipy.stats

from shipway.core.fairness import Measure, Rules, SegmentCounts, fairness, holm


def counts(segment, n, selected, **others):
    return SegmentCounts(segment=segment, n=n, selected=selected, **others)


def found(listed, **rules):
    return {(one.segment, one.measure): one for one in fairness(listed, Rules(**rules))}


def test_a_rate_below_four_fifths_of_the_best_is_unfair():
    rates = found([counts("a", 1000, 500), counts("b", 1000, 390), counts("c", 1000, 450)])
    b = rates["b", Measure.SELECTION_RATE]
    assert (b.rate.value, b.ratio, b.is_unfair) == (0.39, 0.78, True)
    c = rates["c", Measure.SELECTION_RATE]
    assert (c.ratio, c.is_unfair) == (0.9, False)
    assert rates["a", Measure.SELECTION_RATE].ratio == 1


def test_what_chance_explains_is_not_unfair():
    one = found([counts("a", 120, 30), counts("b", 120, 22)])["b", Measure.SELECTION_RATE]
    assert one.ratio < 0.8
    assert one.p_value > 0.05
    assert not one.is_unfair


def test_few_are_shown_and_not_judged():
    rates = found([counts("a", 1000, 500), counts("b", 99, 0), counts("c", 1000, 500)])
    few = rates["b", Measure.SELECTION_RATE]
    assert (few.rate.value, few.ratio, few.p_value, few.is_unfair) == (0, None, None, False)
    assert rates["a", Measure.SELECTION_RATE].p_value == 1


def test_one_segment_alone_is_compared_with_nothing():
    assert found([counts("a", 1000, 500)])["a", Measure.SELECTION_RATE].p_value is None


def test_the_lowest_rate_of_false_alarms_is_the_best():
    a = counts(
        "a",
        1000,
        0,
        false_positives=50,
        true_negatives=450,
        true_positives=400,
        false_negatives=100,
    )
    b = counts(
        "b",
        1000,
        0,
        false_positives=100,
        true_negatives=400,
        true_positives=300,
        false_negatives=200,
    )
    rates = found([a, b])
    wrong = rates["b", Measure.FALSE_POSITIVE_RATE]
    assert (wrong.ratio, wrong.is_unfair, wrong.n) == (0.5, True, 500)
    missed = rates["b", Measure.TRUE_POSITIVE_RATE]
    assert (missed.ratio, missed.is_unfair) == (pytest.approx(0.75), True)
    right = rates["b", Measure.ACCURACY]
    assert (right.rate.value, right.n) == (0.7, 1000)
    assert not any(rates["a", measure].is_unfair for measure in Measure)


def test_nobody_selected_is_nobody_treated_worse():
    one = found([counts("a", 1000, 0), counts("b", 1000, 0)])["b", Measure.SELECTION_RATE]
    assert (one.ratio, one.is_unfair) == (None, False)


def test_equal_segments_are_seldom_called_unfair_however_many():
    dice, alarms = random.Random(5), 0
    for _ in range(200):
        listed = [
            counts(str(n), 150, sum(dice.random() < 0.3 for _ in range(150))) for n in range(20)
        ]
        alarms += any(one.is_unfair for one in fairness(listed))
    assert alarms <= 0.05 * 200 + 5


def test_p_values_are_corrected_step_by_step_and_stay_in_order():
    assert holm([0.01, 0.04, 0.03]) == [0.03, 0.06, 0.06]
    assert holm([0.001, 0.9, 0.9]) == [0.003, 1.0, 1.0]
    assert holm([]) == []


def test_the_p_value_is_of_the_two_proportion_test():
    one = found([counts("a", 400, 120), counts("b", 500, 100)])["b", Measure.SELECTION_RATE]
    table = [[100, 400], [120, 280]]
    wanted = scipy.stats.chi2_contingency(table, correction=False).pvalue
    assert one.p_value == pytest.approx(2 * wanted)
