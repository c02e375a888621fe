"""Whether data is sound: what is a fault, what is chance, and what reference and features have to do with it."""

import sys
from math import comb
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shipway.core.drift.rules import DriftRules
from shipway.core.drift.significance import rise_p
from shipway.core.quality import Fault, claims

sys.path.insert(0, str(Path(__file__).parent))

from drift_samples import baseline, counted


def found(reference, current, **rules):
    held = claims(reference, current, rules=DriftRules(**rules))
    return {(one.column, one.fault) for one in held if one.holds}


# What others are expected to be, whom the reference was not made of


@given(st.integers(2, 300), st.integers(1, 200), st.data())
def test_values_beyond_a_range_are_never_less_probable_than_they_are(reference, rows, data):
    beyond = data.draw(st.integers(0, rows))
    exact = sum(
        (k + 1) * comb(reference + rows - k - 2, reference - 2) for k in range(beyond, rows + 1)
    ) / comb(reference + rows, reference)
    assert rise_p((beyond, rows), (1, reference)) == pytest.approx(exact)
    assert rise_p((beyond, rows), (2, reference)) >= exact * (1 - 1e-9)


def test_range_ends_at_two_values_however_often_they_were_sent():
    rng = np.random.default_rng(4)
    values, now = rng.normal(size=2400), rng.normal(size=1000)
    like = baseline(x=values)
    once, often = (
        next(
            one
            for one in claims(counted(like, x=sent), counted(like, x=now), rules=DriftRules())
            if one.fault is Fault.OUT_OF_RANGE
        )
        for sent in (values, np.repeat(values, 10))
    )
    assert once.usual == pytest.approx(2 / 2400, rel=0.3)
    assert often.usual == pytest.approx(2 / 2400, rel=0.3)


@pytest.mark.parametrize(
    ("names", "rows"), [(60, 2000), (200, 2000), (1000, 2000), (1000, 100), (50, 100)]
)
def test_names_that_the_reference_had_by_chance_make_no_others_new(names, rows):
    """Of 200 that are alike, the 50 most frequent of a sample are less frequent in any other."""
    all_ = np.array([f"name {at}" for at in range(names)], dtype=object)
    for seed in range(30):
        rng = np.random.default_rng([names, rows, seed])
        reference = baseline(x=all_[rng.integers(0, names, rows)])
        now = counted(reference, x=all_[rng.integers(0, names, 480)])
        assert (("x", Fault.NEW_CATEGORY)) not in found(reference, now), seed


def test_new_names_are_found_where_others_are_clearly_frequent():
    rng = np.random.default_rng(5)
    all_ = np.array([f"name {at}" for at in range(300)], dtype=object)
    chance = 1 / np.arange(1, 301) ** 1.5
    reference = baseline(x=rng.choice(all_, 2000, p=chance / chance.sum()))
    values = rng.choice(all_, 480, p=chance / chance.sum())
    assert found(reference, counted(reference, x=values)) == set()
    values[240:] = "nobody knew"
    assert found(reference, counted(reference, x=values)) == {("x", Fault.NEW_CATEGORY)}
