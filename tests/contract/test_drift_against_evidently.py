"""The statistics of drift agree with Evidently's on the same windows; it runs in an environment of its own.

What cannot agree exactly, and how far it may differ:
- Ours are of counts between 20 quantiles of the baseline, Evidently's of the values: the Wasserstein distance by
  0.03 or a tenth, the Kolmogorov-Smirnov statistic by 0.05 (the share of one bin), and downwards only.
- Evidently takes the reference for the truth in its chi-square, ours for a sample: with a reference a
  hundred times as large as the window, the statistics differ by less than a twentieth.
- PSI of the same cells is the same number, and so is Jensen-Shannon, but for the logarithm: natural there, of
  base 2 here, which makes ours sqrt(1 / ln 2) times theirs.
"""

import json
import subprocess
import sys

import numpy as np
import pytest
import uv
from scipy import stats

from shipway.core.drift.rules import DriftRules
from shipway.core.drift.summaries import summary_of
from shipway.core.drift.verdicts import compare
from shipway.core.profile import ColumnKind, Profile, column_profile
from shipway.monitoring.tallies import CategoryTally, NumberTally

EVIDENTLY = """
import json, sys, warnings
warnings.simplefilter("ignore")
import numpy as np, pandas as pd
from evidently.legacy.calculations import stattests as s
found = {}
held = np.load(sys.argv[1])
TESTS = {
    "num": {"wasserstein": s.wasserstein_stat_test, "ks_p": s.ks_stat_test},
    "cat": {"psi": s.psi_stat_test, "jensen_shannon": s.jensenshannon_stat_test, "chi_square_p": s.chi_stat_test},
}
for name in held.files:
    if not name.startswith("before "):
        continue
    kind = name.split()[1]
    pair = [pd.Series(held[each]) for each in (name, name.replace("before", "after"))]
    found[name.removeprefix("before ")] = {
        test: float(one.func(*pair, kind, 0.1)[0]) for test, one in TESTS[kind].items()
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def evidently(tmp_path_factory):
    """An interpreter with Evidently, whose dependencies (pandas below 3) are not ours."""
    directory = tmp_path_factory.mktemp("evidently") / "venv"
    tool = uv.find_uv_bin()
    subprocess.run([tool, "venv", "-q", "--python", sys.executable, directory], check=True)
    python = directory / "bin" / "python"
    packages = ["evidently>=0.7,<0.8", "pandas<3"]
    subprocess.run([tool, "pip", "install", "-q", "--python", python, *packages], check=True)
    return python


def windows():
    random = np.random.default_rng(11)
    found = {}
    for shift in (0.0, 0.05, 0.2, 1.0):
        for rows in (500, 5000):
            pair = random.normal(size=5000), random.normal(shift, 1 + shift / 2, size=rows)
            found[f"num normal {shift} {rows}"] = pair
    found["num skewed"] = random.gamma(3, size=5000), random.gamma(3, size=3000) * 1.3
    for share in (0.1, 0.15, 0.4):
        before = random.choice(4, 100_000, p=[0.4, 0.3, 0.2, 0.1])
        after = random.choice(4, 1000, p=[0.5 - share, 0.3, 0.2, share])
        found[f"cat {share}"] = before, after
    return found


@pytest.fixture(scope="module")
def theirs(evidently, tmp_path_factory):
    path = tmp_path_factory.mktemp("windows") / "windows.npz"
    held = {f"before {name}": before for name, (before, _) in windows().items()}
    held |= {f"after {name}": after for name, (_, after) in windows().items()}
    np.savez(path, **held)
    done = subprocess.run(
        [evidently, "-c", EVIDENTLY, path], check=True, capture_output=True, text=True
    )
    return json.loads(done.stdout)


def ours(before, after, *, is_number):
    values = before if is_number else before.astype(str).astype(object)
    baseline = summary_of(Profile(rows=len(before), columns={"x": column_profile(values)}))
    like = baseline.columns["x"]
    if is_number:
        tally = NumberTally(like.numbers.edges, is_single=False, buckets=1)
        tally.add(np.zeros(len(after), dtype=np.int64), after)
    else:
        names = list(like.categories.counts)
        codes = np.array([names.index(str(each)) + 1 for each in after])
        tally = CategoryTally(names, kind=ColumnKind.CATEGORICAL, buckets=1)
        tally.add(np.zeros(len(after), dtype=np.int64), codes)
    current = type(baseline)(rows=len(after), columns={"x": tally.summary()})
    (found,) = compare(baseline, current, rules=DriftRules()).findings
    return found


def test_statistics_agree_with_evidently_and_scipy_on_the_same_windows(theirs):
    assert theirs.keys() == windows().keys()
    for name, (before, after) in windows().items():
        is_number = name.startswith("num")
        found = ours(before, after, is_number=is_number)
        (_of_numbers if is_number else _of_categories)(name, found, theirs[name], before, after)


def _of_numbers(name, found, theirs, before, after):
    expected = stats.wasserstein_distance(before, after) / before.std()
    assert theirs["wasserstein"] == pytest.approx(expected, rel=1e-3), name
    near = pytest.approx(theirs["wasserstein"], rel=0.1, abs=0.03)
    assert found.statistics["wasserstein"] == near, name
    exact = stats.ks_2samp(before, after)
    assert theirs["ks_p"] == pytest.approx(exact.pvalue, rel=1e-6), name
    gap = found.statistics["kolmogorov_smirnov"]
    assert exact.statistic - 0.05 <= gap <= exact.statistic + 1e-9, name
    # A smaller distance is never less likely.
    assert found.p >= theirs["ks_p"] * 0.99, name


def _of_categories(name, found, theirs, before, after):
    assert found.statistics["psi"] == pytest.approx(theirs["psi"], abs=1e-6), name
    in_bits = theirs["jensen_shannon"] / np.sqrt(np.log(2))
    assert found.statistics["jensen_shannon"] == pytest.approx(in_bits, abs=1e-6), name
    counts = [np.bincount(each, minlength=4) for each in (before, after)]
    both = stats.chi2_contingency(np.array(counts), correction=False)
    assert found.statistics["chi_square"] == pytest.approx(both.statistic), name
    assert found.p == pytest.approx(both.pvalue, rel=1e-6), name
    one_sample = stats.chi2.isf(theirs["chi_square_p"], 3)
    if np.isfinite(one_sample):
        assert found.statistics["chi_square"] == pytest.approx(one_sample, rel=0.05), name
