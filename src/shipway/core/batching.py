"""Which waiting requests a replica runs together.

Requests queue while the model is busy; when it is free, the longest-waiting request and those that
can be stacked onto it run as one call. Nothing waits for company, so batching never adds delay.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from shipway.core.tensors import Array

StackKey = tuple[tuple[str, str, tuple[int, ...]], ...]


class Waiting(msgspec.Struct, frozen=True):
    """One queued request: its ticket, its rows, and what it can be stacked with (None: nothing)."""

    ticket: int
    rows: int
    stack_key: StackKey | None


def stack_key(inputs: Mapping[str, Array]) -> StackKey | None:
    """Equal for requests whose inputs can be stacked along the first dimension.

    None when an input has no rows to stack or the inputs disagree on how many.
    """
    rows = {array.shape[0] if array.ndim else -1 for array in inputs.values()}
    if len(rows) != 1 or rows == {-1}:
        return None
    return tuple((name, array.dtype.str, array.shape[1:]) for name, array in inputs.items())


def next_batch(queue: Iterable[Waiting], *, max_rows: int) -> tuple[int, ...]:
    """The tickets to run together now, oldest first.

    The oldest request is always among them. Others join while their stack key equals the oldest's
    and the sum of rows stays within `max_rows`. A request larger than `max_rows` runs alone.
    """
    chosen: list[int] = []
    rows = 0
    key: StackKey | None = None
    for waiting in queue:
        if not chosen:
            chosen, rows, key = [waiting.ticket], waiting.rows, waiting.stack_key
        elif key is not None and waiting.stack_key == key and rows + waiting.rows <= max_rows:
            chosen.append(waiting.ticket)
            rows += waiting.rows
        if key is None or rows >= max_rows:
            break
    return tuple(chosen)


def stacked(batch: list[Mapping[str, Array]]) -> dict[str, Array]:
    """The inputs of several requests with an equal stack key, as one."""
    return {name: np.concatenate([inputs[name] for inputs in batch]) for name in batch[0]}


def split(outputs: Mapping[str, Array], rows: list[int]) -> list[dict[str, Any]] | None:
    """Each request's part of a batch's outputs, in order.

    None when an output's first dimension is not the batch's number of rows, so that nobody is given
    another's rows.
    """
    total = sum(rows)
    if any(array.ndim == 0 or array.shape[0] != total for array in outputs.values()):
        return None
    bounds = np.cumsum([0, *rows])
    return [
        {name: array[start:stop] for name, array in outputs.items()}
        for start, stop in pairwise(bounds)
    ]
