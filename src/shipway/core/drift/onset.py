"""When a change began inside a window, from counts by bucket of time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from shipway.core.tensors import Array


def onset(hits: Sequence[float], trials: Sequence[float], usual: float) -> int | None:
    """The bucket in which the share of hits left `usual`; None where no bucket has trials.

    The split of the largest likelihood: before it the usual share, from it on another. It is the same as
    the last zero of Page's cumulative sum ("Continuous inspection schemes", 1954) where the later share is known; here it
    is estimated for each split. It is a bucket with trials. Bucket 0 means that the change is older than the window. With a usual
    share of 0.1, of hits [1, 1, 8, 9] in [10, 10, 10, 10] it is 2.
    """
    ours, all_ = np.asarray(hits, dtype=np.float64), np.asarray(trials, dtype=np.float64)
    if not all_.sum():
        return None
    usual = min(max(usual, 1e-6), 1 - 1e-6)
    # Sums over the buckets from each split on.
    late_hits, late = np.cumsum(ours[::-1])[::-1], np.cumsum(all_[::-1])[::-1]
    share = np.divide(late_hits, late, out=np.full(len(late), usual), where=late > 0)
    gain = _log_likelihood(late_hits, late, share) - _log_likelihood(late_hits, late, usual)
    # Nothing says that a change began while nobody asked: it began with the next bucket.
    return int(np.argmax(np.where(all_ > 0, gain, -np.inf)))


def _log_likelihood(hits: Array, trials: Array, share: Array | float) -> Array:
    safe = np.clip(share, 1e-12, 1 - 1e-12)
    found: Array = hits * np.log(safe) + (trials - hits) * np.log1p(-safe)
    return found
