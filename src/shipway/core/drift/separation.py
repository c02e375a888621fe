"""Whether a classifier can tell two samples apart: drift of all columns together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import hypot, sqrt
from statistics import fmean, stdev

import msgspec

from shipway.core.drift.report import Verdict
from shipway.core.drift.significance import normal_p

TOLD = 5


class SeparationRules(msgspec.Struct, frozen=True, kw_only=True):
    """What a verdict asks: `effect` is how far the area under the ROC curve has to be above 0.5.

    The others are as in `DriftRules`; `minimum_rows` is what either sample needs.
    """

    effect: float = 0.05
    false_alarms_per_week: float = 0.01
    runs_per_week: float = 168.0
    minimum_rows: int = 500

    @property
    def alpha(self) -> float:
        """The chance of a false alarm that one run may spend."""
        return self.false_alarms_per_week / max(1.0, self.runs_per_week)


class Fold(msgspec.Struct, frozen=True, kw_only=True):
    """How well rows that were held out were told apart: the area, and how many of either sample they were."""

    auc: float
    baseline_rows: int
    current_rows: int


class Separation(msgspec.Struct, frozen=True, kw_only=True):
    """The verdict. `auc` is the area under the ROC curve, 0.5 where the samples cannot be told apart.

    It has to reach `threshold`, and `p` to be at most `alpha`. `importance` is by how much the area falls when a column is
    shuffled, of the columns that matter most.
    """

    verdict: Verdict
    words: str
    auc: float = 0.5
    threshold: float = 0.5
    p: float = 1.0
    alpha: float = 0.0
    importance: Mapping[str, float] = {}


def separation(
    folds: Sequence[Fold], importance: Mapping[str, float], *, rules: SeparationRules
) -> Separation:
    """The verdict on what a classifier did on rows that it had not seen.

    Where both samples are alike, the area of a fold has the mean 0.5 and the variance (n + m + 1) / (12 n m), whatever the
    classifier (Mann and Whitney, 1947). Where the folds differ by more than that (rows that repeat), their own
    spread counts.
    """
    auc = fmean(fold.auc for fold in folds)
    error = max(_chance(folds), stdev(fold.auc for fold in folds) / sqrt(len(folds)))
    p = normal_p((auc - 0.5) / error)
    threshold = 0.5 + hypot(rules.effect, error)
    told_apart = auc >= threshold and p <= rules.alpha
    most = dict(sorted(importance.items(), key=lambda pair: -pair[1])[:TOLD])
    return Separation(
        verdict=Verdict.DRIFTED if told_apart else Verdict.STEADY,
        words=_words(auc, most) if told_apart else f"the rows cannot be told apart (AUC {auc:.2f})",
        auc=auc,
        threshold=threshold,
        p=p,
        alpha=rules.alpha,
        importance=most if told_apart else {},
    )


def _chance(folds: Sequence[Fold]) -> float:
    """The standard error of the mean area where both samples are alike."""
    variances = [
        (one.baseline_rows + one.current_rows + 1) / (12 * one.baseline_rows * one.current_rows)
        for one in folds
    ]
    return sqrt(sum(variances)) / len(folds)


def _words(auc: float, importance: Mapping[str, float]) -> str:
    named = ", ".join(f"`{name}`" for name, fall in importance.items() if fall > 0)
    told = f"a classifier tells the rows from the baseline's (AUC {auc:.2f})"
    return f"{told}, by {named}" if named else told
