"""Truth, slices and answers, gathered batch by batch: only what the metrics need is kept."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from shipway.client.answers import Prediction
from shipway.client.evaluating.judged import Judged, Label
from shipway.client.evaluating.judging import SliceColumn
from shipway.client.evaluating.subjects import Subject
from shipway.core.errors import InvalidRequest, ModelFailed
from shipway.core.evaluations import Task
from shipway.core.tensors import Array, null_mask

MOST_CLASSES = 1000
MOST_SCORED_CLASSES = 50
MOST_SLICE_VALUES = 50
_MOST_TEXT = 100
_SUM_TOLERANCE = 1e-3


class Labels:
    """Classes as positions: the given ones, or those that turn up."""

    def __init__(self, classes: Sequence[Label] | None) -> None:
        self._codes = {label: code for code, label in enumerate(classes or ())}
        self._is_open = classes is None

    def encoded(self, column: Array, *, what: str) -> Array:
        """The positions of a column of labels, INT64.

        Raises:
            InvalidRequest: a label is not one of the classes, or there are too many.
        """
        found, inverse = np.unique(column, return_inverse=True)
        labels = found.tolist()
        unknown = [label for label in labels if label not in self._codes]
        if unknown and not self._is_open:
            raise InvalidRequest(
                f"{what} has {_said(unknown)}, which the model does not know.",
                next_step=f"Its classes are {_said(list(self._codes))}.",
            )
        for label in unknown:
            self._codes[label] = len(self._codes)
        if len(self._codes) > MOST_CLASSES:
            raise InvalidRequest(
                f"{what} has over {MOST_CLASSES} different values.",
                next_step="If they are numbers to be met, say `--task regression`.",
            )
        codes = np.array([self._codes[label] for label in labels], dtype=np.int64)
        return codes[inverse.reshape(-1)]

    def sorted(self) -> tuple[tuple[Label, ...], Array]:
        """The classes, and for each position so far its position among them.

        Those that turned up are sorted, so that the rows' order does not decide it.
        """
        known = list(self._codes)
        order = sorted(known, key=_sort_key) if self._is_open else known
        places = {label: place for place, label in enumerate(order)}
        return tuple(order), np.array([places[label] for label in known], dtype=np.int64)


class Truth:
    """The label column, and the columns to slice by."""

    def __init__(self, subject: Subject, *, label: str, slices: Sequence[str]) -> None:
        self.labels = Labels(subject.classes)
        self.task = subject.task
        self.rows = 0
        self._label = label
        self._chunks: list[Array] = []
        self._slices: dict[str, tuple[dict[str, int], list[Array]]] = {
            name: ({}, []) for name in slices
        }

    def add(self, batch: dict[str, Array]) -> None:
        """Takes the rows of a batch.

        Raises:
            InvalidRequest: a row has no label, or one that the model does not know; a number is
                wanted and it is none; a slice column has too many values.
        """
        column = batch[self._label]
        nulls = null_mask(column)
        if nulls.any():
            raise InvalidRequest(
                f"Column `{self._label}` has no value in row {self.rows + int(np.argmax(nulls)) + 1}.",
                next_step="Leave rows whose truth is not known out.",
                row=self.rows + int(np.argmax(nulls)),
            )
        what = f"Column `{self._label}`"
        if self.task is Task.CLASSIFICATION:
            self._chunks.append(self.labels.encoded(column, what=what))
        else:
            self._chunks.append(_numbers(column, what=what))
        for name in self._slices:
            self._add_slice(name, batch[name])
        self.rows += len(column)

    def _add_slice(self, name: str, column: Array) -> None:
        codes, chunks = self._slices[name]
        texts = [_text(value) for value in column.tolist()]
        for text in dict.fromkeys(texts):
            codes.setdefault(text, len(codes))
        if len(codes) > MOST_SLICE_VALUES:
            raise InvalidRequest(
                f"Column `{name}` has over {MOST_SLICE_VALUES} different values to slice by.",
                next_step="Slice by a column of groups, such as an age band in place of an age.",
                column=name,
            )
        chunks.append(np.array([codes[text] for text in texts], dtype=np.int32))

    def slices(self) -> tuple[SliceColumn, ...]:
        """The columns to slice by, whole."""
        return tuple(
            SliceColumn(name=name, values=tuple(codes), codes=np.concatenate(chunks))
            for name, (codes, chunks) in self._slices.items()
        )

    def column(self) -> Array:
        """The truth, whole."""
        return np.concatenate(self._chunks)


class Answers:
    """What one version answered."""

    def __init__(self, subject: Subject, truth: Truth) -> None:
        self.subject = subject
        self.notes: list[str] = []
        self._truth = truth
        self._chunks: list[Array] = []
        self._scores: list[Array] = []
        self._scored = subject.probabilities
        classes = subject.classes
        if self._scored and classes is None:
            self._leave_scores("the version does not say which class is which")
        elif self._scored and classes is not None and len(classes) > MOST_SCORED_CLASSES:
            self._leave_scores(f"there are more than {MOST_SCORED_CLASSES} classes")

    def add(self, prediction: Prediction, *, first_row: int, rows: int) -> None:
        """Takes the answers to a batch.

        Raises:
            ModelFailed: it answered with another number of rows, or with no number for one.
            InvalidRequest: it answered with a class that is not among its own.
        """
        name = self.subject.name
        column = prediction[self.subject.answer.name].reshape(-1)
        if len(column) != rows:
            raise ModelFailed(
                f"`{name}` answered {rows} rows with {len(column)} values.",
                next_step="Only models of one answer per row can be judged.",
            )
        if self.subject.task is Task.CLASSIFICATION:
            codes = self._truth.labels.encoded(column, what=f"What `{name}` answered")
            self._chunks.append(codes)
        else:
            self._chunks.append(_finite(column, name=name, first_row=first_row))
        if self._scored is not None:
            self._add_scores(prediction[self._scored], rows)

    def _add_scores(self, raw: Array, rows: int) -> None:
        scores = raw.astype(np.float64)
        if scores.size == rows:
            scores = np.stack([1 - scores.reshape(-1), scores.reshape(-1)], axis=1)
        sums = scores.sum(axis=1, keepdims=True)
        if scores.shape != (rows, len(self.subject.classes or ())):
            self._leave_scores("there is not one per class")
        elif not (np.abs(sums - 1) < _SUM_TOLERANCE).all() or (scores < 0).any():
            self._leave_scores("they do not sum to 1")
        else:
            self._scores.append(scores / sums)

    def _leave_scores(self, reason: str) -> None:
        self.notes.append(
            f"The output `{self._scored}` of {self.subject.name} is not judged: {reason}."
        )
        self._scored = None
        self._scores.clear()

    def judged(self) -> Judged:
        """The answers beside the truth."""
        truth, answers = self._truth.column(), np.concatenate(self._chunks)
        if self.subject.task is Task.REGRESSION:
            return Judged(task=Task.REGRESSION, truth=truth, answers=answers)
        classes, places = self._truth.labels.sorted()
        return Judged(
            task=Task.CLASSIFICATION,
            truth=places[truth],
            answers=places[answers],
            classes=classes,
            probabilities=np.concatenate(self._scores) if self._scored else None,
        )


def _numbers(column: Array, *, what: str) -> Array:
    if column.dtype == object:
        raise InvalidRequest(
            f"{what} holds text, and the model answers with numbers.",
            next_step="Name the column that holds the truth with `--label`.",
        )
    numbers: Array = column.reshape(len(column), -1)[:, 0].astype(np.float64)
    if not np.isfinite(numbers).all():
        raise InvalidRequest(f"{what} holds an infinite number.", next_step="Leave such rows out.")
    return numbers


def _finite(column: Array, *, name: str, first_row: int) -> Array:
    numbers = column.astype(np.float64)
    odd = ~np.isfinite(numbers)
    if odd.any():
        row = first_row + int(np.argmax(odd))
        raise ModelFailed(
            f"`{name}` answered row {row + 1} with {numbers[int(np.argmax(odd))]}.",
            next_step="Look at that row, or leave it out.",
            row=row,
        )
    return numbers


def _text(value: Any) -> str:
    if value is None or value != value:
        return "(none)"
    if isinstance(value, bool):
        return "true" if value else "false"
    return f"{value:g}" if isinstance(value, float) else str(value)[:_MOST_TEXT]


def _sort_key(label: Label) -> tuple[bool, Any]:
    return isinstance(label, str), label


def _said(labels: Sequence[Label], most: int = 10) -> str:
    shown = ", ".join(f"`{label}`" for label in labels[:most])
    return shown if len(labels) <= most else f"{shown} and {len(labels) - most} more"
