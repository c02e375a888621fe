"""How far apart two counted distributions are."""

from __future__ import annotations

from collections.abc import Mapping
from math import sqrt
from typing import TypeVar

_Key = TypeVar("_Key", int, str)


def total_variation(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """The largest difference of the shares of any set of labels; 0 where one is empty.

    Half the sum of differences: of {a: 7, b: 3} and {a: 5, b: 5} it is 0.2.
    """
    mine, others = sum(one.values()), sum(other.values())
    if not mine or not others:
        return 0.0
    labels = one.keys() | other.keys()
    return 0.5 * sum(
        abs(one.get(label, 0) / mine - other.get(label, 0) / others) for label in labels
    )


def kolmogorov(one: Mapping[int, int], other: Mapping[int, int]) -> float:
    """The largest difference of the shares up to any bucket (Kolmogorov-Smirnov); 0 where one is empty.

    Of {1: 1, 2: 3} and {1: 3, 2: 1} it is 0.5.
    """
    mine, others = sum(one.values()), sum(other.values())
    if not mine or not others:
        return 0.0
    distance = gap = 0.0
    for bucket in sorted(one.keys() | other.keys()):
        gap += one.get(bucket, 0) / mine - other.get(bucket, 0) / others
        distance = max(distance, abs(gap))
    return min(distance, 1.0)


def noise_of_labels(one: Mapping[str, int], other: Mapping[str, int]) -> float:
    """About the largest total variation that chance alone makes; 1 where one is empty.

    Half the sum of the labels' standard errors, which many rare labels add up to, and one more for
    a half of all. Of {a: 50, b: 50} twice it is 0.141.
    """
    mine, others = sum(one.values()), sum(other.values())
    if not mine or not others:
        return 1.0
    part, whole = 1 / mine + 1 / others, mine + others
    shares = (
        (one.get(label, 0) + other.get(label, 0)) / whole for label in one.keys() | other.keys()
    )
    return 0.5 * sum(sqrt(share * (1 - share) * part) for share in shares) + 0.5 * sqrt(part)


def noise_of_scores(totals: tuple[int, int]) -> float:
    """Two standard errors of the share below the median; 1 where one is empty. Of 100 twice it is 0.141."""
    return sqrt(1 / totals[0] + 1 / totals[1]) if all(totals) else 1.0


def grouped(buckets: Mapping[int, int], width: int) -> dict[int, int]:
    """The same counts in buckets that are `width` times as wide."""
    wide: dict[int, int] = {}
    for bucket, count in buckets.items():
        wide[bucket // width] = wide.get(bucket // width, 0) + count
    return wide


def cells(one: Mapping[_Key, int], other: Mapping[_Key, int]) -> list[tuple[int, int]]:
    """Both counts of each key, in no order."""
    return [(one.get(key, 0), other.get(key, 0)) for key in one.keys() | other.keys()]


def above(buckets: Mapping[int, int], bucket: int) -> int:
    """How many lie in higher buckets."""
    return sum(count for one, count in buckets.items() if one > bucket)


def less(buckets: Mapping[int, int], part: Mapping[int, int]) -> dict[int, int]:
    """The counts without a part of them."""
    rest = {bucket: count - part.get(bucket, 0) for bucket, count in buckets.items()}
    return {bucket: count for bucket, count in rest.items() if count > 0}
