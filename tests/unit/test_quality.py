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
from shipway.core.drift.summaries import Categories, ColumnSummary, Numbers, Summary
from shipway.core.profile import ColumnKind
from shipway.core.quality import Fault, Volume, claims, overall_volume

sys.path.insert(0, str(Path(__file__).parent))

from drift_samples import baseline, counted

EDGES = tuple(float(edge) for edge in range(11))


def numbers(rows, *, missing=0, infinite=0, outside=0, constant=False):
    """A column of numbers from 0 to 10, `outside` of them greater."""
    values = rows - missing - infinite
    inside = (values - outside) // 10
    bins = [inside] * 9 + [values - outside - 9 * inside]
    if constant:
        bins = [0] * 5 + [values] + [0] * 4
    return ColumnSummary(
        kind=ColumnKind.NUMERIC,
        rows=rows,
        missing=missing,
        infinite=infinite,
        numbers=Numbers(
            edges=EDGES,
            counts=(0, *bins, outside),
            minimum=5.0 if constant else 0.0,
            maximum=5.0 if constant else 10.0 + outside,
        ),
    )


def texts(rows, *, other=0, missing=0, constant=False):
    """A column of `de` and `fr`, and of `other` texts that the reference has no name for."""
    values = rows - missing - other
    counts = (
        {"de": values, "fr": 0} if constant else {"de": values - values // 3, "fr": values // 3}
    )
    return ColumnSummary(
        kind=ColumnKind.CATEGORICAL,
        rows=rows,
        missing=missing,
        categories=Categories(counts=counts, other=other),
    )


def summary(*columns):
    named = {f"c{at}": column for at, column in enumerate(columns)}
    return Summary(rows=columns[0].rows, columns=named)


def found(reference, current, *, least_share=0.01, **rules):
    held = claims(reference, current, rules=DriftRules(**rules), least_share=least_share)
    return {(one.column, one.fault) for one in held if one.holds}


NUMBERS, TEXTS = numbers(1000), texts(1000)
ONCE_A_WEEK = {"runs_per_week": 1}


@pytest.mark.parametrize(
    ("reference", "current", "rules", "fault"),
    [
        (numbers(1000, missing=20), numbers(1000, missing=500), {}, Fault.MISSING),
        (numbers(1000, missing=20), numbers(1000, missing=29), {}, None),
        (numbers(1000, missing=20), numbers(1000, missing=29), {"least_share": 0.0}, None),
        (numbers(1000, missing=500), numbers(1000, missing=20), {}, None),
        (texts(1000, missing=20), texts(1000, missing=500), {}, Fault.MISSING),
        (NUMBERS, numbers(1000, missing=1000), {}, Fault.MISSING),
        (NUMBERS, numbers(1000, infinite=40), {}, Fault.INFINITE),
        (numbers(1000, infinite=40), numbers(1000, infinite=40), {}, None),
        # About two in a hundred others lie beyond the range of a hundred, and ten where these were a lucky hundred.
        (numbers(100), numbers(1000, outside=20), {}, None),
        (numbers(100), numbers(1000, outside=100), {}, None),
        (numbers(100), numbers(1000, outside=100), ONCE_A_WEEK, Fault.OUT_OF_RANGE),
        (numbers(100), numbers(1000, outside=20), ONCE_A_WEEK, None),
        (numbers(100), numbers(1000, outside=200), {}, Fault.OUT_OF_RANGE),
        (NUMBERS, numbers(1000, outside=20), {}, Fault.OUT_OF_RANGE),
        (numbers(10**6), numbers(10**6, outside=9000), {}, None),
        (numbers(10**6), numbers(10**6, outside=9000), {"least_share": 0.001}, Fault.OUT_OF_RANGE),
        (TEXTS, texts(1000, other=50), {}, Fault.NEW_CATEGORY),
        (texts(1000, other=50), texts(1000, other=50), {}, None),
        (TEXTS, texts(1000, other=5), {}, None),
        (NUMBERS, numbers(1000, constant=True), {}, Fault.CONSTANT),
        (numbers(1000, constant=True), numbers(1000, constant=True), {}, None),
        (numbers(1000, constant=True), NUMBERS, {}, None),
        (TEXTS, texts(1000, constant=True), {}, Fault.CONSTANT),
        (texts(1000, constant=True), texts(1000, constant=True), {}, None),
        (texts(1000, constant=True), TEXTS, {}, None),
    ],
)  # fmt: skip
def test_faults(reference, current, rules, fault):
    assert found(summary(reference), summary(current), **rules) == (
        set() if fault is None else {("c0", fault)}
    )


@pytest.mark.parametrize(("before", "now"), [(99, 1000), (1000, 99)])
def test_too_few_rows_say_nothing(before, now):
    assert claims(summary(numbers(before)), summary(numbers(now)), rules=DriftRules()) == ()
    assert claims(summary(numbers(100)), summary(numbers(100)), rules=DriftRules()) != ()


def test_columns_that_one_side_lacks_are_left_out():
    reference, current = summary(NUMBERS, TEXTS), summary(numbers(1000, missing=900))
    assert found(reference, current) == {("c0", Fault.MISSING)}
    assert found(summary(NUMBERS), summary(NUMBERS, texts(1000, other=900))) == set()


# Rows and features

FAULTS = {
    Fault.MISSING: lambda rows, part: numbers(rows, missing=part),
    Fault.INFINITE: lambda rows, part: numbers(rows, infinite=part),
    Fault.OUT_OF_RANGE: lambda rows, part: numbers(rows, outside=part),
    Fault.NEW_CATEGORY: lambda rows, part: texts(rows, other=part),
}
COUNTS = st.tuples(st.integers(100, 2000), st.floats(0, 0.95)).map(
    lambda pair: (pair[0], int(pair[0] * pair[1]))
)


@given(st.sampled_from(list(FAULTS)), COUNTS, st.integers(100, 5000), st.integers(2, 50))
def test_more_rows_of_the_same_share_never_weaken_a_verdict(fault, now, before, times):
    made = FAULTS[fault]
    reference = summary(made(before, 0))
    few = found(reference, summary(made(*now)))
    many = found(reference, summary(made(now[0] * times, now[1] * times)))
    assert few <= many
    assert few <= found(summary(made(before * times, 0)), summary(made(*now)))


@given(st.sampled_from(list(FAULTS)), COUNTS, st.integers(100, 5000), st.integers(1, 60))
def test_what_holds_among_many_features_holds_alone(fault, now, before, others):
    made = FAULTS[fault]
    alone = found(summary(made(before, 0)), summary(made(*now)))
    among = found(
        summary(made(before, 0), *[NUMBERS] * others), summary(made(*now), *[NUMBERS] * others)
    )
    assert among <= alone


def test_number_of_features_corrects_the_verdict():
    reference, current = numbers(1000, missing=20), numbers(1000, missing=60)
    assert found(summary(reference), summary(current)) == {("c0", Fault.MISSING)}
    many = summary(current, *[NUMBERS] * 500)
    assert found(summary(reference, *[NUMBERS] * 500), many) == set()
    tested = claims(summary(reference, *[NUMBERS] * 500), many, rules=DriftRules())
    assert len(tested) >= 2 * 500
    assert min(one.alpha for one in tested) == DriftRules().alpha / len(tested)


# Volume


@pytest.mark.parametrize(
    ("earlier", "odd", "usual"),
    [
        ((50, 60, 70), (0, 24, 141), (25, 60, 140)),
        ((1000,) * 7, (499, 2001), (500, 2000)),
        # Days that differ fivefold among each other are no measure of what twice as many means.
        ((200, 1000, 500), (0, 39, 5001), (40, 99, 2001, 5000)),
    ],
)
def test_volume_is_odd_beyond_twice_or_as_much_as_earlier_ones_differ(earlier, odd, usual):
    assert [rows for rows in odd if not Volume(rows=rows, earlier=earlier).is_odd] == []
    assert [rows for rows in usual if Volume(rows=rows, earlier=earlier).is_odd] == []


@pytest.mark.parametrize("spread", [0.2, 0.5, 1.0])
def test_volume_of_days_that_vary_is_rarely_odd(spread):
    """Whatever the days' log-normal spread, about one week in twenty has an odd one at the most."""
    days = 1000 * np.exp(np.random.default_rng(8).normal(0, spread, (2000, 14)))
    weeks = sum(
        any(
            Volume(rows=int(week[day]), earlier=tuple(map(int, week[day - 7 : day]))).is_odd
            for day in range(7, 14)
        )
        for week in days
    )
    assert weeks / len(days) < 0.07


def test_volume_is_known_after_enough_windows_with_enough_rows():
    volume = overall_volume(5, (0, 0, 120, 0, 110, 130))
    assert volume.earlier == (120, 0, 110, 130)
    assert not volume.can_judge(least_windows=4, least_rows=100)
    volume = overall_volume(5, (0, 0, 120, 100, 110))
    assert volume.can_judge(least_windows=3, least_rows=100)
    assert not volume.can_judge(least_windows=4, least_rows=100)
    assert not volume.can_judge(least_windows=3, least_rows=101)


# What others are expected to be, whom the reference was not made of


@given(st.integers(2, 300), st.integers(1, 200), st.data())
def test_chance_of_values_beyond_a_range_is_that_of_one_of_its_own(reference, rows, data):
    beyond = data.draw(st.integers(0, rows))
    exact = sum(
        (k + 1) * comb(reference + rows - k - 2, reference - 2) for k in range(beyond, rows + 1)
    ) / comb(reference + rows, reference)
    assert rise_p((beyond, rows), (1, reference)) == pytest.approx(exact)


def test_range_ends_at_values_that_are_one_however_often_they_were_sent():
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
    assert once.usual == pytest.approx(1 / 2400, rel=0.3)
    assert often.usual == pytest.approx(1 / 2400, rel=0.3)


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
