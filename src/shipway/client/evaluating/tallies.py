"""The metrics of the same rows drawn again and again: what is the same in each draw is prepared once.

A draw is how often each row came, and every value here is scikit-learn's with these as
`sample_weight`; tests hold that they agree. scikit-learn itself would take minutes for a thousand.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from shipway.client.evaluating.calibration import BINS, bin_of, stated_and_true
from shipway.client.evaluating.judged import Judged
from shipway.core.evaluations import Task
from shipway.core.tensors import Array

Tally = Callable[[Array], dict[str, float]]
"""From how often each row came to the metrics; NaN where one is not defined."""


def tally_of(judged: Judged) -> Tally:
    """The metrics of draws of these rows."""
    if judged.task is Task.REGRESSION:
        return _regression(judged)
    labels = _labels(judged)
    if judged.probabilities is None:
        return labels
    scores = _scores(judged)
    return lambda counts: labels(counts) | scores(counts)


def _regression(judged: Judged) -> Tally:
    truth, errors = judged.truth, judged.truth - judged.answers
    squares, distances = errors**2, np.abs(errors)

    def tally(counts: Array) -> dict[str, float]:
        total = counts.sum()
        missed = counts @ squares
        spread = counts @ (truth - (counts @ truth) / total) ** 2
        return {
            "rmse": float(np.sqrt(missed / total)),
            "mae": float(counts @ distances / total),
            "r2": float(1 - missed / spread) if spread > 0 else np.nan,
        }

    return tally


def _labels(judged: Judged) -> Tally:
    size = len(judged.classes)
    truth, answers = judged.truth, judged.answers
    right = truth == answers
    right_class = truth[right]

    def tally(counts: Array) -> dict[str, float]:
        hits = np.bincount(right_class, weights=counts[right], minlength=size)
        were = np.bincount(truth, weights=counts, minlength=size)
        said = np.bincount(answers, weights=counts, minlength=size)
        recalls, precisions = _shares(hits, were), _shares(hits, said)
        f1s = _shares(2 * hits, were + said)
        # With two classes, of the second; else the mean over those that occur in this draw.
        chosen = np.array([1]) if size == 2 else np.flatnonzero(were + said)
        return {
            "accuracy": float(hits.sum() / counts.sum()),
            "balanced_accuracy": float(recalls[were > 0].mean()),
            "precision": float(precisions[chosen].mean()),
            "recall": float(recalls[chosen].mean()),
            "f1": float(f1s[chosen].mean()),
        }

    return tally


def _shares(part: Array, whole: Array) -> Array:
    """`part / whole`, and 0 where there is nothing to divide by."""
    shares: Array = np.divide(part, whole, out=np.zeros(len(part)), where=whole > 0)
    return shares


def _scores(judged: Judged) -> Tally:
    probabilities, truth = judged.probabilities, judged.truth
    assert probabilities is not None
    losses = -np.log(np.clip(probabilities[np.arange(judged.rows), truth], _EPSILON, 1 - _EPSILON))
    squares = _squares(judged)
    stated, true = stated_and_true(judged)
    bins, gaps = bin_of(stated), stated - true
    size = len(judged.classes)
    ranked = [_Ranked(probabilities[:, code], truth == code) for code in _ranked_classes(size)]

    def tally(counts: Array) -> dict[str, float]:
        total = counts.sum()
        missed = np.bincount(bins, weights=gaps * counts, minlength=BINS)
        return {
            "roc_auc": float(np.mean([one.area(counts) for one in ranked])),
            "log_loss": float(counts @ losses / total),
            "calibration_error": float(np.abs(missed).sum() / total),
            "brier": float(counts @ squares / total),
        }

    return tally


_EPSILON = float(np.finfo(np.float64).eps)
"""Where scikit-learn's log loss clips probabilities of 0."""


def _ranked_classes(size: int) -> range:
    return range(1, 2) if size == 2 else range(size)


def _squares(judged: Judged) -> Array:
    probabilities = judged.probabilities
    assert probabilities is not None
    if len(judged.classes) == 2:
        misses: Array = probabilities[:, 1] - judged.truth
        return misses**2
    of_truth = probabilities[np.arange(judged.rows), judged.truth]
    squares: Array = np.sum(probabilities**2, axis=1) - 2 * of_truth + 1
    return squares


class _Ranked:
    """Rows in the order of a score, so that the area under each draw's ROC curve takes no sorting."""

    def __init__(self, scores: Array, is_true: Array) -> None:
        order = np.argsort(scores, kind="stable")
        ranked = scores[order]
        self._tie = np.concatenate(([0], np.cumsum(ranked[1:] != ranked[:-1])))
        self._true_rows = order[is_true[order]]
        self._other_rows = order[~is_true[order]]
        self._true_ties = self._tie[is_true[order]]
        self._other_ties = self._tie[~is_true[order]]

    def area(self, counts: Array) -> float:
        """The share of pairs of a true and another row that are ranked rightly; ties count half.

        Scores 0.1, 0.4, 0.35, 0.8 of which the last two are true: 3 of 4 pairs, 0.75.
        """
        size = self._tie[-1] + 1
        true = np.bincount(self._true_ties, weights=counts[self._true_rows], minlength=size)
        other = np.bincount(self._other_ties, weights=counts[self._other_rows], minlength=size)
        pairs = true.sum() * other.sum()
        below = np.cumsum(other) - other / 2
        return float(true @ below / pairs) if pairs else np.nan
