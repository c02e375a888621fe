"""The metrics, as scikit-learn defines them: the one place that imports it for evaluations."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from shipway.client.evaluating.calibration import calibration_error
from shipway.client.evaluating.judged import Judged
from shipway.core.errors import MissingDependency
from shipway.core.evaluations import Task

BETTER = {
    "accuracy": "higher",
    "balanced_accuracy": "higher",
    "precision": "higher",
    "recall": "higher",
    "f1": "higher",
    "roc_auc": "higher",
    "log_loss": "lower",
    "calibration_error": "lower",
    "brier": "lower",
    "rmse": "lower",
    "mae": "lower",
    "r2": "higher",
}
"""Every metric, in the order in which they are shown, and which way is better."""

AUC_NEEDS_ALL = "roc_auc is left out: it needs rows of every class, and `{missing}` has none."
R2_NEEDS_SPREAD = "r2 is left out: the label is the same in all rows."


def require_sklearn() -> None:
    """Passes when scikit-learn can be imported.

    Raises:
        MissingDependency: it is not installed.
    """
    try:
        import sklearn.metrics  # noqa: F401 - whether it is there
    except ImportError as exc:
        raise MissingDependency(
            "Evaluations are computed with scikit-learn, which is not installed here.",
            next_step='Install it: `pip install "shipway[sklearn]"`.',
            package="scikit-learn",
        ) from exc


def values_of(judged: Judged) -> tuple[dict[str, float], tuple[str, ...]]:
    """Each metric of these rows, and what could not be measured, in words.

    With two classes, precision, recall and F1 are of the second one, `classes[1]`; with more they are
    the mean over the classes that occur. The ROC-AUC of more than two is the mean of one against the rest.

    Raises:
        MissingDependency: scikit-learn is not installed.
    """
    require_sklearn()
    with warnings.catch_warnings():
        # What cannot be defined (no row was predicted as a class) counts as 0, and is no news.
        warnings.simplefilter("ignore")
        if judged.task is Task.REGRESSION:
            return _regression(judged)
        values = _labels(judged)
        if judged.probabilities is None:
            return values, ()
        scored, notes = _scores(judged)
        return values | scored, notes


def _regression(judged: Judged) -> tuple[dict[str, float], tuple[str, ...]]:
    import sklearn.metrics as sk

    truth, answers = judged.truth, judged.answers
    values = {
        "rmse": float(np.sqrt(sk.mean_squared_error(truth, answers))),
        "mae": float(sk.mean_absolute_error(truth, answers)),
    }
    if np.ptp(truth) == 0:
        return values, (R2_NEEDS_SPREAD,)
    return values | {"r2": float(sk.r2_score(truth, answers))}, ()


def _labels(judged: Judged) -> dict[str, float]:
    import sklearn.metrics as sk

    truth, answers = judged.truth, judged.answers
    how: dict[str, Any] = {"average": "binary" if len(judged.classes) == 2 else "macro"}
    precision, recall, f1, _ = sk.precision_recall_fscore_support(
        truth, answers, zero_division=0.0, **how
    )
    return {
        "accuracy": float(sk.accuracy_score(truth, answers)),
        "balanced_accuracy": float(sk.balanced_accuracy_score(truth, answers)),
        "precision": float(precision),
        "recall": float(recall),
        "f1": float(f1),
    }


def _scores(judged: Judged) -> tuple[dict[str, float], tuple[str, ...]]:
    import sklearn.metrics as sk

    truth, probabilities = judged.truth, judged.probabilities
    assert probabilities is not None
    known = list(range(len(judged.classes)))
    values = {
        "log_loss": float(sk.log_loss(truth, probabilities, labels=known)),
        "calibration_error": calibration_error(judged),
        "brier": _brier(judged),
    }
    missing = [name for code, name in enumerate(judged.classes) if not (truth == code).any()]
    if missing:
        return values, (AUC_NEEDS_ALL.format(missing=missing[0]),)
    scores = probabilities[:, 1] if len(known) == 2 else probabilities
    how: dict[str, Any] = {} if len(known) == 2 else {"multi_class": "ovr", "labels": known}
    return values | {"roc_auc": float(sk.roc_auc_score(truth, scores, **how))}, ()


def _brier(judged: Judged) -> float:
    import sklearn.metrics as sk

    probabilities = judged.probabilities
    assert probabilities is not None
    if len(judged.classes) == 2:
        return float(sk.brier_score_loss(judged.truth, probabilities[:, 1], pos_label=1))
    # Brier's own definition for several classes, which scikit-learn has since 1.7 only.
    hits = np.eye(len(judged.classes))[judged.truth]
    return float(np.mean(np.sum((probabilities - hits) ** 2, axis=1)))
