"""How good predictions were, from counts and moments of what they are compared with. No rows here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from shipway.core import intervals
from shipway.core.fairness import SegmentRate
from shipway.core.intervals import Estimate

BINS = 10
"""Bins of equal width over 0..1 of the probabilities that were stated; the last one holds 1 too."""

Confusion = Mapping[tuple[str, str], int]
"""How often a label was true (first) and another predicted (second)."""


class By(StrEnum):
    """What answers are parted by, beside version and role."""

    SEGMENT = "segment"
    HOUR = "hour"
    DAY = "day"


class ClassScore(msgspec.Struct, frozen=True, kw_only=True):
    """One class: how often it was true (`support`) and `predicted`. 0 where a share is of nothing."""

    label: str
    support: int
    predicted: int
    precision: float
    recall: float
    f1: float


class Macro(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the classes that were true or predicted, each counting the same."""

    precision: float
    recall: float
    f1: float


class Bin(msgspec.Struct, frozen=True, kw_only=True):
    """Probabilities from `low` to `high`: how many, the mean `stated`, and the share that `came_true`."""

    low: float
    high: float
    n: int
    stated: float
    came_true: float


class Calibration(msgspec.Struct, frozen=True, kw_only=True):
    """How good stated probabilities were, over `n` labelled answers that have them.

    Of two classes, bins and `roc_auc` are about the second one; of more, bins are about the class that was
    found most probable, and there is no `roc_auc`. `log_loss` and `brier` are of all classes, but that
    the Brier score of two is of the second one alone, as scikit-learn has it. `roc_auc` is exact, by ranks
    with ties counted half; None where only one class was true.
    """

    n: int
    log_loss: Estimate
    brier: Estimate
    calibration_error: float
    reliability: tuple[Bin, ...]
    roc_auc: Estimate | None = None


class Classification(msgspec.Struct, frozen=True, kw_only=True):
    """How often the label was right. `classes` are the most frequent first; rarer ones are one, `(other)`."""

    accuracy: Estimate
    macro: Macro
    classes: tuple[ClassScore, ...]
    calibration: Calibration | None = None


class Regression(msgspec.Struct, frozen=True, kw_only=True):
    """How far numbers were off. `bias` is the mean of predicted less true.

    `mape` is a share, over answers whose truth is not 0; None without any. `r2` is None where all truths
    are equal.
    """

    mae: Estimate
    rmse: Estimate
    bias: Estimate
    mape: Estimate | None = None
    r2: float | None = None


class Business(msgspec.Struct, frozen=True, kw_only=True):
    """A business metric: how many predictions have it, its mean and its sum."""

    metric: str
    n: int
    mean: Estimate
    total: float


class Delay(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds from the answer to its first truth, as quantiles (approximate, by t-digest)."""

    p50_s: float
    p90_s: float
    p99_s: float


class Slice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The answers of one version in one role, or a part of them.

    `part` is the segment; `at` the begin of the hour or day, UTC; both are None for all answers.
    `predictions` counts rows, `labelled` those whose truth is known.
    """

    version: int
    role: str
    predictions: int
    labelled: int
    part: str | None = None
    at: datetime | None = None
    delay: Delay | None = None
    classification: Classification | None = None
    regression: Regression | None = None
    outcomes: tuple[Business, ...] = ()

    @property
    def unlabelled_share(self) -> float:
        """The share whose truth is not known (yet)."""
        return 1 - self.labelled / self.predictions if self.predictions else 0.0


class Bias(msgspec.Struct, frozen=True, kw_only=True):
    """How a version treats segments, where it tells two classes apart; `positive` is the second one."""

    version: int
    role: str
    positive: str
    rates: tuple[SegmentRate, ...]


class Performance(msgspec.Struct, frozen=True, kw_only=True):
    """How an endpoint did. `slices` are whole versions, `parts` what they are parted into.

    `bias` is there for parts by segment. `notes` say what could not be measured, in words.
    """

    endpoint: str
    slices: tuple[Slice, ...]
    parts: tuple[Slice, ...] = ()
    bias: tuple[Bias, ...] = ()
    by: By | None = None
    version: int | None = None
    since: datetime | None = None
    until: datetime | None = None
    notes: tuple[str, ...] = ()


def classification(right: int, n: int, confusion: Confusion) -> Classification:
    """What a confusion of `n` answers comes to, of which `right` are right; `n` is not 0."""
    classes = class_scores(confusion)
    return Classification(accuracy=intervals.share(right, n), macro=macro(classes), classes=classes)


def class_scores(confusion: Confusion) -> tuple[ClassScore, ...]:
    """Each class that was true or predicted, the most frequent first."""
    support: dict[str, int] = {}
    predicted: dict[str, int] = {}
    for (truth, answer), n in confusion.items():
        support[truth] = support.get(truth, 0) + n
        predicted[answer] = predicted.get(answer, 0) + n
    labels = sorted(support.keys() | predicted.keys(), key=lambda one: (-support.get(one, 0), one))
    return tuple(
        _class_score(one, confusion.get((one, one), 0), support.get(one, 0), predicted.get(one, 0))
        for one in labels
    )


def _class_score(label: str, hits: int, support: int, predicted: int) -> ClassScore:
    return ClassScore(
        label=label,
        support=support,
        predicted=predicted,
        precision=hits / predicted if predicted else 0.0,
        recall=hits / support if support else 0.0,
        f1=2 * hits / (support + predicted),
    )


def macro(classes: Iterable[ClassScore]) -> Macro:
    """The means over classes; there is at least one."""
    listed = list(classes)
    return Macro(
        precision=sum(one.precision for one in listed) / len(listed),
        recall=sum(one.recall for one in listed) / len(listed),
        f1=sum(one.f1 for one in listed) / len(listed),
    )


def calibration_error(bins: Iterable[Bin]) -> float:
    """The expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015).

    The mean over bins, weighted by their answers, of how far what was stated is from what came true.
    Two answers that said 0.9, of which one came true, and two that said 0.1, of which none did: 0.25.
    """
    listed = list(bins)
    total = sum(one.n for one in listed)
    return sum(one.n * abs(one.stated - one.came_true) for one in listed) / total if total else 0.0


class Errors(msgspec.Struct, frozen=True, kw_only=True):
    """Moments of the errors of `n` numbers: predicted less true.

    Means and sample variances of the error itself, of its size, of its square, and of its size as a share of
    the truth (over `shares` answers whose truth is not 0). `truth_variance` is the truths' own, with n
    below. Variances are None of fewer than two.
    """

    n: int
    mean: float
    variance: float | None
    size: float
    size_variance: float | None
    square: float
    square_variance: float | None
    truth_variance: float
    shares: int = 0
    share: float | None = None
    share_variance: float | None = None


def regression(errors: Errors) -> Regression:
    """What errors come to; there is at least one."""
    n = errors.n
    mape = None
    if errors.share is not None:
        mape = intervals.mean(errors.share, errors.share_variance, errors.shares)
    spread = errors.truth_variance
    return Regression(
        mae=intervals.mean(errors.size, errors.size_variance, n),
        rmse=intervals.root(intervals.mean(errors.square, errors.square_variance, n)),
        bias=intervals.mean(errors.mean, errors.variance, n),
        mape=mape,
        r2=1 - errors.square / spread if spread > 0 else None,
    )
