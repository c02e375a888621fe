"""Verdicts of drift: what is caught, what is let be, and how often nothing is called something."""

import sys
from datetime import timedelta
from pathlib import Path

import msgspec
import numpy as np
import pytest

from shipway.core.drift.report import Verdict
from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import Categories, ColumnSummary, Summary
from shipway.core.drift.verdicts import compare
from shipway.core.profile import ColumnKind

sys.path.insert(0, str(Path(__file__).parent))

from drift_samples import SINCE, baseline, counted

DRIFTED, STEADY, TOO_LITTLE = Verdict.DRIFTED, Verdict.STEADY, Verdict.TOO_LITTLE_DATA
RANDOM = np.random.default_rng


def only(report):
    (finding,) = report.findings
    return finding


def judged(before, after, **rules):
    ours = baseline(x=before)
    return only(compare(ours, counted(ours, x=after), rules=DriftRules(**rules)))


def test_share_of_a_run_is_the_week_s_over_its_runs():
    assert DriftRules().alpha == pytest.approx(0.0000595, abs=1e-7)


@pytest.mark.parametrize("kind", ["normal", "lognormal", "exponential"])
def test_unit_change_of_one_among_50_features_is_caught_with_300_rows(kind):
    random = RANDOM(1)
    before = {f"x{at}": getattr(random, kind)(size=1000) for at in range(50)}
    after = {f"x{at}": getattr(random, kind)(size=300) for at in range(50)}
    after["x7"] = after["x7"] * 1000
    ours = baseline(**before)
    report = compare(ours, counted(ours, **after))
    assert [one.column for one in report.drifted] == ["x7"]
    assert report.verdict is DRIFTED


@pytest.mark.parametrize(
    ("shift", "rows", "verdict"),
    [
        (0.05, 10_000, STEADY),  # real, and too small to matter
        (0.05, 1_000_000, STEADY),  # so many rows that any p-value is 0
        (0.2, 10_000, DRIFTED),
        (0.2, 100, STEADY),  # it may be chance
        (1.0, 100, DRIFTED),
        (1.0, 99, TOO_LITTLE),
    ],
)
def test_drift_needs_an_effect_that_matters_and_that_chance_does_not_explain(shift, rows, verdict):
    random = RANDOM(2)
    found = judged(random.normal(size=20_000), random.normal(shift, size=rows))
    assert found.verdict is verdict, found


def test_tiny_effect_on_a_million_rows_is_significant_and_still_steady():
    random = RANDOM(3)
    found = judged(random.normal(size=200_000), random.normal(0.05, size=1_000_000))
    assert found.p < found.alpha
    assert found.effect < found.threshold
    assert found.verdict is STEADY


def test_effect_threshold_grows_for_small_samples():
    random = RANDOM(4)
    few, many = (judged(random.normal(size=5000), random.normal(size=n)) for n in (100, 10_000))
    assert few.threshold > many.threshold > 0.1


def test_mix_of_categories_and_a_new_one_are_told_in_words():
    before = np.array(["web"] * 600 + ["app"] * 400, dtype=object)
    found = judged(before, ["web"] * 200 + ["app"] * 800)
    assert (found.verdict, found.words) == (DRIFTED, "share of `web` fell from 60 % to 20 %")
    assert (found.statistic, found.test) == ("jensen_shannon", "chi_square")
    new = judged(before, ["web"] * 600 + ["tv"] * 400)
    assert new.verdict is DRIFTED
    assert judged(before, ["web"] * 610 + ["app"] * 390).verdict is STEADY


def test_identifiers_that_never_repeat_do_not_drift():
    before = np.array([f"id{at}" for at in range(1000)], dtype=object)
    assert judged(before, [f"id{at}" for at in range(1000, 3000)]).verdict is STEADY


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 1.0, 2.0, 5.0], [3.0]])
def test_numbers_of_few_values_are_compared_as_categories(values):
    random = RANDOM(5)
    before, after = random.choice(values, 1000), random.choice(values, 1000)
    assert judged(before, after).test == "chi_square"
    assert judged(before, after).verdict is STEADY
    other = np.where(random.random(1000) < 0.5, values[0], values[-1] + (len(values) == 1))
    other[:400] = values[-1] + (len(values) == 1)
    assert judged(before, other).verdict is DRIFTED


def test_words_name_the_moment_that_moved():
    random = RANDOM(6)
    before = random.normal(41, 10, 5000)
    assert judged(before, random.normal(74, 10, 5000)).words.startswith("mean rose from 4")
    wider = judged(before, random.normal(41, 30, 5000))
    assert (wider.verdict, wider.words[:23]) == (DRIFTED, "standard deviation rose")


def test_few_wild_values_do_not_hide_drift_of_all_others():
    random = RANDOM(7)
    before = random.normal(50, 10, 2000)
    before[:3] = 1e12
    assert judged(before, random.normal(50, 10, 2000) * 1000).verdict is DRIFTED
    inside = random.normal(50, 10, 2000)
    inside[(inside > 38) & (inside < 50)] += 12
    assert judged(before, inside).verdict is DRIFTED
    assert judged(before, random.normal(50, 10, 2000)).verdict is STEADY


@pytest.mark.parametrize("bucket", [0, 6, 18])
def test_drift_says_since_when(bucket):
    random = RANDOM(8)
    after = random.normal(size=4800)
    after[bucket * 200 :] += 2
    found = judged(random.normal(size=5000), after)
    assert found.since == SINCE + timedelta(hours=bucket)


def test_drift_of_a_sample_without_times_has_no_since():
    ours = baseline(x=RANDOM(13).normal(size=500))
    now = msgspec.structs.replace(counted(ours, x=RANDOM(14).normal(3, size=500)), starts=())
    assert only(compare(ours, now)).since is None


def test_callers_who_repeat_themselves_do_not_make_drift():
    """Forty customers, each sent a hundred times in a row: forty independent rows."""
    random, alarms, naive = RANDOM(9), 0, 0
    ours = baseline(x=random.normal(size=5000))
    for _ in range(20):
        now = counted(ours, x=np.repeat(random.normal(size=240), 100))
        report = only(compare(ours, now, rules=DriftRules()))
        assert report.independent[1] < 2000
        alarms += report.verdict is DRIFTED
        careless = DriftRules(allow_for_repeats=False)
        naive += only(compare(ours, now, rules=careless)).verdict is DRIFTED
    assert alarms == 0
    assert naive >= 1


def test_change_inside_the_window_is_not_taken_for_repeats():
    random = RANDOM(10)
    after = random.normal(size=4800)
    after[2400:] += 6
    assert judged(random.normal(size=5000), after).independent[1] > 3000


def test_missing_column_and_other_edges_are_not_compared():
    random = RANDOM(11)
    ours = baseline(x=random.normal(size=500), y=random.normal(size=500))
    report = compare(ours, counted(ours, x=random.normal(size=500)))
    assert (report.unknown, len(report.findings)) == (("y",), 1)
    other = baseline(x=random.normal(size=500))
    with pytest.raises(ValueError, match="edges"):
        compare(ours, other)


def test_column_without_a_value_is_too_little_data():
    ours = baseline(x=RANDOM(12).normal(size=500))
    empty = ColumnSummary(kind=ColumnKind.NUMERIC, rows=500, missing=500)
    report = compare(ours, Summary(rows=500, columns={"x": empty}))
    assert report.verdict is TOO_LITTLE


def test_categories_named_otherwise_are_still_compared():
    ours = baseline(x=np.array(["a"] * 500 + ["b"] * 500, dtype=object))
    held = Categories(counts={"b": 500, "c": 500})
    theirs = ColumnSummary(kind=ColumnKind.CATEGORICAL, rows=1000, categories=held)
    assert only(compare(ours, Summary(rows=1000, columns={"x": theirs}))).verdict is DRIFTED


@pytest.mark.parametrize("rows", [100, 480, 5000])
def test_false_alarms_stay_within_what_the_rules_spend(rows):
    """300 runs at a hundred times the default share: a chance of 1.2 % each."""
    random, alarms = RANDOM(rows), 0
    rules = DriftRules(false_alarms_per_week=2.0)
    for _ in range(20):
        ours = baseline(**_columns(random, 1000))
        for _ in range(15):
            report = compare(ours, counted(ours, **_columns(random, rows)), rules=rules)
            alarms += report.verdict is DRIFTED
    assert alarms <= 300 * rules.alpha + 4


def _columns(random, rows):
    return {
        "normal": random.normal(size=rows),
        "skewed": random.lognormal(size=rows),
        "zeros": random.normal(size=rows) * (random.random(rows) < 0.4),
        "count": random.poisson(1.5, rows).astype(float),
        "rare": (random.random(rows) < 0.02).astype(float),
        "text": np.array([f"k{v}" for v in random.geometric(0.2, rows)], dtype=object),
    }
