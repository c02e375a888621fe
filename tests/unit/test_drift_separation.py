"""The verdict on what a classifier told apart."""

import pytest

from shipway.core.drift.report import Verdict
from shipway.core.drift.separation import Fold, SeparationRules, separation

RULES = SeparationRules()


def judged(*areas, rows=200, **importance):
    folds = [Fold(auc=auc, baseline_rows=rows, current_rows=rows) for auc in areas]
    return separation(folds, importance, rules=RULES)


@pytest.mark.parametrize(
    ("areas", "rows", "verdict"),
    [
        ([0.5] * 10, 200, Verdict.STEADY),
        ([0.7] * 10, 200, Verdict.DRIFTED),
        ([0.54] * 10, 100_000, Verdict.STEADY),  # certain, and too little to matter
        ([0.6] * 10, 5, Verdict.STEADY),  # it may be chance
        ([0.9, 0.4] * 5, 200, Verdict.STEADY),  # rows that repeat: the blocks disagree
    ],
)
def test_separation_needs_an_effect_that_matters_and_that_chance_does_not_explain(
    areas, rows, verdict
):
    assert judged(*areas, rows=rows).verdict is verdict


def test_chance_of_an_area_is_mann_and_whitneys():
    """Ten blocks of 200 and 200 rows: sqrt(401 / (12 * 200 * 200) / 10) = 0.00914; 0.518 is 1.96 of it."""
    found = judged(*[0.5 + 1.96 * 0.00914] * 10)
    assert found.p == pytest.approx(0.025, rel=0.01)
    assert found.threshold == pytest.approx(0.5 + (0.05**2 + 0.00914**2) ** 0.5, rel=1e-4)


def test_words_name_the_columns_that_matter_most():
    found = judged(*[0.8] * 10, a=0.01, b=0.3, c=-0.01)
    told = "a classifier tells the rows from the baseline's (AUC 0.80), by `b`, `a`"
    assert found.words == told
