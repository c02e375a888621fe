"""Data quality: what is found, and that samples of the same kind have nothing wrong with them."""

import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest

from shipway.core.drift.report import Verdict
from shipway.core.quality import Check, QualityRules, Share, checked
from shipway.core.volume import Hour, volume

sys.path.insert(0, str(Path(__file__).parent))

from drift_samples import baseline, counted

DRIFTED, STEADY, TOO_LITTLE = Verdict.DRIFTED, Verdict.STEADY, Verdict.TOO_LITTLE_DATA
NOW = datetime(2026, 3, 2, 9, tzinfo=UTC)


def bad(before, after, **more):
    ours = baseline(x=before)
    found = checked(ours, counted(ours, x=after), **more)
    return [one.check for one in found if one.verdict is DRIFTED]


def numbers(rows=1000, seed=1):
    return np.random.default_rng(seed).normal(size=rows)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda x: x, []),
        (lambda x: np.where(np.arange(len(x)) % 10 == 0, np.nan, x), [Check.MISSING]),
        (lambda x: np.where(np.arange(len(x)) % 10 == 0, np.inf, x), [Check.INFINITE]),
        (lambda x: np.where(np.arange(len(x)) % 10 == 0, 9e9, x), [Check.RANGE]),
        (lambda x: np.zeros(len(x)), [Check.CONSTANT]),
        (lambda x: x[:99], []),
    ],
)
def test_bad_numbers_are_found_and_named(change, expected):
    assert bad(numbers(), change(numbers(seed=2))) == expected


def test_new_category_is_found_and_one_that_the_sample_missed_by_chance_is_not():
    before = np.array(["a", "b"] * 500, dtype=object)
    assert bad(before, ["a", "b"] * 450 + ["c"] * 100) == [Check.NEW_CATEGORIES]
    once = np.array(["a", "b"] * 480 + [f"rare {at}" for at in range(40)], dtype=object)
    assert bad(once, ["a", "b"] * 480 + [f"rarer {at}" for at in range(40)]) == []


def test_finding_says_both_shares():
    ours = baseline(x=numbers())
    now = numbers(seed=2)
    now[:250] = np.nan
    found = next(one for one in checked(ours, counted(ours, x=now)) if one.check is Check.MISSING)
    assert found.words == "share of missing values: 25 %, before 0 %"
    assert found.numbers == {"before": 0.0, "now": 0.25}


def test_range_of_a_small_baseline_is_not_the_range_of_all_values():
    """Of 100 values, one in fifty of any others lies outside."""
    alarms = sum(bool(bad(numbers(100, seed), numbers(5000, 1000 + seed))) for seed in range(40))
    assert alarms == 0


def test_too_few_rows_are_said_to_be_too_few():
    ours = baseline(x=numbers())
    found = checked(ours, counted(ours, x=numbers(50)))
    assert {one.verdict for one in found} == {TOO_LITTLE}


@pytest.mark.parametrize(("now", "expected"), [(12, STEADY), (400, DRIFTED)])
def test_requests_refused_for_their_schema_are_compared_with_before(now, expected):
    ours = baseline(x=numbers())
    refused = (Share(part=100, whole=10_000), Share(part=now, whole=1000))
    found = checked(ours, counted(ours, x=numbers(seed=2)), refused=refused)
    assert [one.verdict for one in found if one.check is Check.SCHEMA] == [expected]


def history(weeks, seed=3):
    random = np.random.default_rng(seed)
    hours = [NOW - timedelta(hours=at) for at in range(1, weeks * 168 + 1)]
    return [Hour(at=at, requests=int(random.poisson(usual(at)))) for at in hours]


def usual(at):
    return (100 if at.weekday() > 4 else 1000) * (1 + at.hour / 24)


@pytest.mark.parametrize(
    ("share", "verdict"), [(0, DRIFTED), (0.3, DRIFTED), (0.8, STEADY), (1, STEADY), (5, DRIFTED)]
)
def test_volume_is_compared_with_the_same_hour_of_other_weeks(share, verdict):
    now = Hour(at=NOW, requests=int(usual(NOW) * share))
    assert volume(now, history(4)).verdict is verdict


def test_volume_of_a_quiet_hour_of_the_week_is_no_surprise():
    sunday = NOW - timedelta(days=1)
    past = [one for one in history(6) if one.at < sunday]
    assert volume(Hour(at=sunday, requests=int(usual(sunday))), past).verdict is STEADY


def test_volume_without_history_is_too_little_data():
    now = Hour(at=NOW, requests=5)
    assert volume(now, []).verdict is TOO_LITTLE
    assert volume(now, history(4)[:72]).verdict is TOO_LITTLE
    assert volume(now, history(4)[:100]).verdict is not TOO_LITTLE


def test_volume_rarely_cries_wolf():
    random = np.random.default_rng(4)
    past, alarms = history(4), 0
    for at in range(168):
        hour = NOW + timedelta(hours=at)
        now = Hour(at=hour, requests=int(random.poisson(usual(hour))))
        alarms += volume(now, past, rules=QualityRules(factor=1.1)).verdict is DRIFTED
    assert alarms == 0
