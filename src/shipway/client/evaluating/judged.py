"""A version's answers beside the truth, as the metrics take them."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np

from shipway.core.evaluations import Task
from shipway.core.tensors import Array

Label = str | int | float | bool


class Judged(msgspec.Struct, frozen=True, kw_only=True):
    """What was true and what was answered, row by row.

    Of a regression, `truth` and `answers` are FP64 [rows]. Of a classification they are positions in
    `classes`, INT64 [rows], and `probabilities` is FP64 [rows, classes], each row summing to 1; None
    when the version gives none.
    """

    task: Task
    truth: Array
    answers: Array
    classes: tuple[Label, ...] = ()
    probabilities: Array | None = None

    @property
    def rows(self) -> int:
        """How many rows there are."""
        return len(self.truth)

    def taken(self, rows: Array) -> Judged:
        """These rows alone: positions, or a mask."""
        probabilities = self.probabilities
        return msgspec.structs.replace(
            self,
            truth=self.truth[rows],
            answers=self.answers[rows],
            probabilities=None if probabilities is None else probabilities[rows],
        )


def canonical_order(judged: Sequence[Judged]) -> Array:
    """The positions that sort rows by what they hold.

    What follows then depends on which rows there are, not on their order in the file: rows that are
    equal in all of it are interchangeable.
    """
    keys: list[Array] = []
    for one in judged:
        keys += [one.truth, one.answers]
        if one.probabilities is not None:
            keys += list(one.probabilities.T)
    return np.lexsort(keys)
