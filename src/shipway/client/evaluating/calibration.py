"""The calibration error: by how much stated probabilities miss what then happened."""

from __future__ import annotations

import numpy as np

from shipway.client.evaluating.judged import Judged
from shipway.core.tensors import Array

BINS = 10
"""Bins of equal width over 0..1, as scikit-learn's `calibration_curve` has them by default."""


def stated_and_true(judged: Judged) -> tuple[Array, Array]:
    """For each row the probability that was stated, and whether (1, 0) it came true.

    With two classes: of the second class. With more: of the class that was found most probable.
    """
    probabilities = judged.probabilities
    assert probabilities is not None
    if len(judged.classes) == 2:
        return probabilities[:, 1], (judged.truth == 1).astype(float)
    top = np.argmax(probabilities, axis=1)
    return probabilities[np.arange(judged.rows), top], (judged.truth == top).astype(float)


def bin_of(stated: Array) -> Array:
    """The bin of each probability; the last one holds 1 too."""
    return np.minimum((stated * BINS).astype(np.int64), BINS - 1)


def calibration_error(judged: Judged) -> float:
    """The expected calibration error (Naeini, Cooper and Hauskrecht, 2015).

    The mean over bins, weighted by their rows, of |mean stated - mean true|. Two rows that said 0.9,
    of which one came true, and two that said 0.1, of which none did:
    (2 * |0.9 - 0.5| + 2 * |0.1 - 0|) / 4 = 0.25.
    """
    stated, true = stated_and_true(judged)
    gaps = np.bincount(bin_of(stated), weights=stated - true, minlength=BINS)
    return float(np.abs(gaps).sum() / judged.rows)
